"""Lossless size: bits per subpixel of FlowCodec, PNG, WebP and (if Pillow has a plug-in for it) JPEG XL on whole files.

    python benchmarks/lossless.py FOLDER [--out results/lossless.json] [--check N] [--rival NAME ...]

Every file counts whole, container and all. Goes on with what OUT holds of the same pixel model. The first N files of FlowCodec
(all by default) are decoded and compared pixel by pixel. Times are of processor, all threads together.
"""

import argparse
import importlib.util
import io
import json
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from PIL import Image

import flowcodec
from flowcodec.benchmark.environment import environment
from flowcodec.runtime.pixel_model import pixel_model

RESULTS = Path(__file__).parents[1] / "results"
RIVALS: dict[str, dict[str, Any]] = {
    "PNG": {"format": "PNG", "optimize": True},
    "WebP lossless": {"format": "WEBP", "lossless": True, "quality": 100, "method": 6},
}
JPEG_XL: dict[str, Any] = {"format": "JXL", "lossless": True, "effort": 7}


def rivals() -> dict[str, dict[str, Any]]:
    """Name -> arguments of Pillow's save, of those that this machine has."""
    if importlib.util.find_spec("pillow_jxl") is None:
        return RIVALS
    importlib.import_module("pillow_jxl")
    return RIVALS | {"JPEG XL effort 7": JPEG_XL}


def ours(path: Path, check: bool) -> dict[str, Any]:
    pixels = np.asarray(opened(path))
    begin = process_time()
    data = flowcodec.encode(pixels, lossless=True)
    row: dict[str, Any] = {
        "image": path.stem,
        "subpixels": pixels.size,
        "size_bytes": {"FlowCodec": len(data)},
        "box": flowcodec.info(data)["boxes"][0]["kind"],
        "encode_cpu_s": process_time() - begin,
    }
    if check:
        begin = process_time()
        if not np.array_equal(flowcodec.decode(data), pixels):
            raise SystemExit(f"{path}: other pixels came back")
        row |= {"decode_cpu_s": process_time() - begin, "exact": True}
    return row


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def size_bytes(path: Path, settings: dict[str, Any]) -> int:
    stream = io.BytesIO()
    opened(path).save(stream, **settings)
    return len(stream.getvalue())


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Bits per subpixel of all images together, of the codecs that have measured all of them."""
    names = [name for name in rows[0]["size_bytes"] if all(name in row["size_bytes"] for row in rows)]
    subpixels = sum(row["subpixels"] for row in rows)
    return {name: 8 * sum(row["size_bytes"][name] for row in rows) / subpixels for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS / "lossless.json")
    parser.add_argument("--check", type=int, help="How many files to decode.")
    parser.add_argument("--rival", action="append", choices=("none", *rivals()), help="Only this one; may be repeated.")
    arguments = parser.parse_args()
    paths = sorted(path for path in arguments.folder.iterdir() if path.suffix.lower() in (".png", ".webp"))
    model = pixel_model().id.hex()
    rows: list[dict[str, Any]] = []
    if arguments.out.exists() and (known := json.loads(arguments.out.read_text()))["pixel_model"] == model:
        rows = known["images"]
    for number, path in enumerate(paths):
        row = next((row for row in rows if row["image"] == path.stem), None)
        if row is None:
            row = ours(path, arguments.check is None or number < arguments.check)
            rows.append(row)
        for name, settings in rivals().items():
            if name not in row["size_bytes"] and name in (arguments.rival or rivals()):
                row["size_bytes"][name] = size_bytes(path, settings)
        document: dict[str, Any] = {
            "environment": environment(),
            "pixel_model": model,
            "data": f"{arguments.folder.name}, {len(rows)} of {len(paths)} images",
            "settings": rivals(),
            "bits_per_subpixel": summary(rows),
            "checked_exact": sum("exact" in row for row in rows),
            "images": rows,
        }
        arguments.out.write_text(json.dumps(document, indent=1) + "\n")
        print(path.stem, {name: round(value, 3) for name, value in document["bits_per_subpixel"].items()}, flush=True)


if __name__ == "__main__":
    main()
