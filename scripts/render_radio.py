"""Fills the tables and draws the figures of docs/radio.md from the files under results/radio/.

    python scripts/render_radio.py [--document docs/radio.md] [--results results/radio] [--figures docs/figures]

A table replaces what stands between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``; NAME is that of a result file, blocks or
recordings.
"""

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flowcodec.benchmark.bdrate import Curve
from flowcodec.errors import InputError
from flowcodec.radio.capacity import awgn_capacity, bits_per_pixel
from flowcodec.radio.digital import BLOCK_FILE, MODES, threshold_db
from flowcodec.radio.figures import draw

ROOT = Path(__file__).parents[1]
ANCHORS = ROOT / "results" / "anchors" / "kodak_anchors.json"
RECORDINGS = ROOT / "results" / "radio_recordings.json"
PUBLISHED = ("VTM (CompressAI)", "BPG 4:4:4")


def published_lines(cbr: float, csnr_db: list[float]) -> list[dict[str, Any]]:
    """PSNR that published rate curves of all of Kodak would have behind an ideal code of AWGN's capacity."""
    anchors = json.loads(ANCHORS.read_text())
    lines = []
    for name in PUBLISHED:
        curve = Curve.from_points(name, anchors[name]["bpp"], anchors[name]["psnr_rgb"])
        inside = []
        for value in csnr_db:
            rate = bits_per_pixel(cbr, awgn_capacity(10 ** (value / 10)))
            try:
                inside.append((value, float(curve.psnr_at(np.array([rate]))[0])))
            except InputError:
                continue  # beyond the published rates
        lines.append(
            {
                "name": f"{name} + capacity, derived from published rates (24 images)",
                "csnr_db": [value for value, _ in inside],
                "psnr_db": [psnr for _, psnr in inside],
            }
        )
    return lines


def curve_table(document: Mapping[str, Any], lines: list[dict[str, Any]]) -> str:
    """PSNR of each system by CSNR, with the standard error of the draws."""
    snrs = document["experiment"]["csnr_db"]
    rows = [["system", *(f"{value:g} dB" for value in snrs)], ["---", *("---:" for _ in snrs)]]
    for curve in document["curves"]:
        cells = []
        for point in curve["points"]:
            error = point["standard_error_db"]
            cells.append(f"{point['psnr_db']:.2f}" + (f" ± {error:.2f}" if error and error >= 0.005 else ""))
        rows.append([curve["system"], *cells])
    for line in lines:
        known = dict(zip(line["csnr_db"], line["psnr_db"], strict=True))
        rows.append([line["name"], *(f"{known[value]:.2f}" if value in known else "-" for value in snrs)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def block_table() -> str:
    """Threshold of each measured mode."""
    measured = json.loads(BLOCK_FILE.read_text())["modes"]
    rows = ["| mode | bit / use | capacity of that rate, dB | BLER 1e-4 from, dB |", "| --- | ---: | ---: | ---: |"]
    for mode in MODES:
        if mode.name in measured:
            limit = 10 * np.log10(2**mode.efficiency - 1)
            rows.append(f"| {mode.name} | {mode.efficiency:.2f} | {limit:.2f} | {threshold_db(mode):.2f} |")
    return "\n".join(rows)


def recordings_line() -> str:
    """How many of the impaired recordings decoded."""
    document = json.loads(RECORDINGS.read_text())
    rows = [row for row in document["rows"] if "estimated_csnr_db" in row]
    csnr = max(abs(row["estimated_csnr_db"] - row["csnr_db"]) for row in rows)
    offset = max(abs(row["estimated_offset"] - row["offset"]) for row in rows)
    return (
        f"{document['decoded']} of {document['count']} decode to exactly the sent picture; of those found, noise was estimated "
        f"to {csnr:.2f} dB and the carrier offset to {100 * offset:.4f} % of the symbol rate at worst."
    )


def unknown_tables(document: Mapping[str, Any]) -> str:
    """Certified rates of the channel-noise flows, thresholds of the code with their LLRs, and the constellation shaped by one."""
    rows = [
        "| link | CSNR, dB | true I(S; Y) | flow, mean | flow, certified | Gaussian, mean |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, entry in document["links"].items():
        for row in entry["rates"]:
            flow, gaussian = row["flow_certificate"], row["gaussian_certificate"]
            cells = [f"{row['true_bits']:.3f}", f"{flow['mean']:.3f}", f"{flow['lower']:.3f}", f"{gaussian['mean']:.3f}"]
            rows.append(f"| {name} | {row['csnr_db']:g} | {' | '.join(cells)} |")
    bler = document["settings"]["bler"]
    rows += ["", f"| link | {document['settings']['mode']}, BLER {bler:g} from: true LLRs | flow LLRs | Gaussian LLRs |"]
    rows.append("| --- | ---: | ---: | ---: |")
    for name, entry in document["links"].items():
        if "thresholds" in entry:
            values = " | ".join(f"{entry['thresholds'][kind]['csnr_db']:.2f} dB" for kind in ("true", "flow", "gaussian"))
            rows.append(f"| {name} | {values} |")
    for entry in document["links"].values():
        if "shaping" in entry:
            shaping = entry["shaping"]
            before, after = shaping["qam"], shaping["shaped"]
            rows += [
                "",
                f"Trained through the flow of the link `{shaping['link']}` at {shaping['csnr_db']:g} dB, 16 points carry "
                f"{after['mean']:.3f} ± {after['standard_error']:.3f} bits a use on the true link, 16-QAM "
                f"{before['mean']:.3f} ± {before['standard_error']:.3f}, both by the flow's certificate.",
            ]
    return "\n".join(rows)


def cifar_table(document: Mapping[str, Any]) -> str:
    """PSNR of the analog mode and of Deep JSCC on CIFAR-10, and their difference picture by picture."""
    snrs = list(next(iter(document["systems"].values())))
    rows = [f"| {document['images']} pictures | {' | '.join(f'{snr} dB' for snr in snrs)} |"]
    rows.append(f"| --- |{' ---: |' * len(snrs)}")
    for name, at in document["systems"].items():
        cells = [f"{value['psnr_db']:.2f} ± {value['standard_error_db']:.2f}" for value in at.values()]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    gain, facts = document["difference_at_10_db"], document["deep_jscc"]
    rows += [
        "",
        f"At 10 dB the analog mode is {gain['mean_db']:.2f} ± {gain['standard_error_db']:.2f} dB better, on "
        f"{100 * gain['share_of_pictures_better']:.0f} % of the pictures. Deep JSCC was trained for {facts['steps']} steps of "
        f"{facts['batch']} thumbnails, {facts['training_core_seconds']} seconds of one core; "
        f"its PSNR on held-out thumbnails is {facts['held_out_psnr_db']:.2f} dB. Mean power of the analog mode: "
        f"{10 * np.log10(document['mean_power']):.2f} dB.",
    ]
    return "\n".join(rows)


LEARNED = {"unknown": unknown_tables, "cifar": cifar_table}
"""Results that are no curves of ``radio simulate``."""


def replace(text: str, name: str, table: str) -> str:
    """Raises InputError where the marks are missing."""
    pattern = re.compile(rf"(<!-- {re.escape(name)}:begin -->\n).*?(<!-- {re.escape(name)}:end -->)", re.DOTALL)
    if not pattern.search(text):
        raise InputError(f"expected the marks <!-- {name}:begin --> and <!-- {name}:end -->, found none")
    return pattern.sub(lambda found: f"{found[1]}{table}\n{found[2]}", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "radio.md")
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "radio")
    parser.add_argument("--figures", type=Path, default=ROOT / "docs" / "figures")
    options = parser.parse_args()
    text = replace(options.document.read_text(), "blocks", block_table())
    if RECORDINGS.exists():
        text = replace(text, "recordings", recordings_line())
    for path in sorted(options.results.glob("*.json")):
        document = json.loads(path.read_text())
        if path.stem in LEARNED:
            text = replace(text, path.stem, LEARNED[path.stem](document))
            continue
        experiment = document["experiment"]
        # Published curves are means over all of Kodak: beside fewer images they would say nothing.
        whole = len(document["images"]) == 24 and experiment["link"] == "awgn"
        lines = published_lines(experiment["cbr"], experiment["csnr_db"]) if whole else []
        text = replace(text, path.stem, curve_table(document, lines))
        draw(document, options.figures / f"radio_{path.stem}.png", lines)
    options.document.write_text(text)


if __name__ == "__main__":
    main()
