"""The radio results on Kodak: results/radio/*.json.

    python benchmarks/radio_kodak.py KODAK_FOLDER [--digital]       with --digital the digital curves alone, in seconds
    python benchmarks/radio_kodak.py KODAK_FOLDER --part I/N        every Nth image, for several processes; then
    python benchmarks/radio_kodak.py KODAK_FOLDER --merge           makes results of the parts there are

About 15 CPU seconds an image for hybrid and layered transmission and as many for the analog mode, in one process or in N. The
digital curves need no encoding: sizes and qualities of whole files are those of results/kodak.json, interpolated in the logarithm
of the size.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flowcodec.benchmark.datasets import find_images
from flowcodec.benchmark.environment import environment
from flowcodec.errors import InputError
from flowcodec.progress import CountReport
from flowcodec.radio.simulate import DRAWN, Experiment, curves, simulate
from flowcodec.radio.systems import RateTable

ROOT = Path(__file__).parents[1]
RATES = ROOT / "results" / "kodak.json"
CODECS = ("FlowCodec", "JPEG", "WebP", "JPEG 2000", "AVIF")
CSNR_DIGITAL = (1.0, 4.0, 7.0, 10.0, 13.0, 16.0, 19.0)
CSNR_HYBRID = (-2.0, 0.0, 2.0, 4.0, 6.0, 8.0, 9.0, 10.0, 11.0, 13.0, 16.0, 20.0)
DIGITAL = {
    f"digital_{name}": Experiment("digital", cbr, csnr_db=CSNR_DIGITAL, draws=200)
    for name, cbr in (("1_12", 1 / 12), ("1_6", 1 / 6))
}
CODED = {
    "hybrid_1_6": Experiment("hybrid", 1 / 6, csnr_db=CSNR_HYBRID, draws=100, similarity=False),
    "analog": Experiment("analog", 1 / 6, csnr_db=(10.0,), draws=1, similarity=False),
    "layered_1_6": Experiment("layered", 1 / 6, csnr_db=(10.0,), link="rayleigh-slow", draws=400, similarity=False),
}


def rate_tables() -> list[RateTable]:
    """Files measured before, ours first."""
    rows = json.loads(RATES.read_text())["rows"]
    tables = []
    for codec in CODECS:
        points: dict[str, list[tuple[int, float, float]]] = {}
        for row in rows:
            if row["codec"] == codec:
                points.setdefault(row["image"], []).append((row["size_bytes"], row["psnr_db"], row["ms_ssim"]))
        tables.append(RateTable(codec, {image: sorted(found) for image, found in points.items()}))
    return tables


def write(path: Path, document: dict[str, Any], command: str) -> None:
    document = document | {"command": command, "environment": environment()}
    path.write_text(json.dumps(document, indent=1) + "\n")


def merged(paths: Sequence[Path]) -> dict[str, Any]:
    """The document of all images from those of parts. Raises InputError where they are of different experiments or models."""
    parts = [json.loads(path.read_text()) for path in paths]
    for path, part in zip(paths, parts, strict=True):
        if (part["experiment"], part["model"]) != (parts[0]["experiment"], parts[0]["model"]):
            raise InputError(f"{path}: expected the experiment and the model of {paths[0]}; run all parts again")
    rows = sorted((row for part in parts for row in part["rows"]), key=lambda row: row["image"])
    images = {name: size for part in parts for name, size in part["images"].items()}
    return parts[0] | {"images": dict(sorted(images.items())), "rows": rows}


def finished(document: dict[str, Any]) -> dict[str, Any]:
    """Curves of all rows; the rows without the draws."""
    rows = [{key: value for key, value in row.items() if key != DRAWN} for row in document["rows"]]
    return document | {"curves": curves(document["rows"]), "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kodak", type=Path)
    parser.add_argument("--part", metavar="I/N", help="only every Nth image, from the Ith on, to be merged")
    parser.add_argument("--merge", action="store_true", help="make results of the parts")
    parser.add_argument("--digital", action="store_true", help="only the digital curves")
    parser.add_argument("--only", choices=sorted(CODED), action="append", help="only this experiment of the others")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "radio")
    options = parser.parse_args()
    command = "python benchmarks/radio_kodak.py KODAK_FOLDER"
    if options.merge:
        for name in CODED:
            parts = sorted(options.out.glob(f"{name}.part*"))
            if parts:
                write(options.out / f"{name}.json", finished(merged(parts)), command)
        return
    found = find_images([options.kodak])
    tables = rate_tables()
    if not options.part:
        images = {image.name: image.pixels() for image in found}
        with CountReport("digital") as progress:
            for name, document in zip(DIGITAL, simulate(images, list(DIGITAL.values()), tables, progress), strict=True):
                write(options.out / f"{name}.json", finished(document), command + " --digital")
    if options.digital:
        return
    number, count = (int(value) for value in options.part.split("/")) if options.part else (1, 1)
    chosen = {image.name: image.pixels() for index, image in enumerate(found) if index % count == number - 1}
    coded = {name: CODED[name] for name in options.only or CODED}
    with CountReport("hybrid and layered") as progress:
        documents = simulate(chosen, list(coded.values()), tables[:1], progress)
    for name, document in zip(coded, documents, strict=True):
        path = options.out / f"{name}.json"
        if options.part:
            path.with_suffix(f".part{number}").write_text(json.dumps(document))
        else:
            write(path, finished(document), command)


if __name__ == "__main__":
    main()
