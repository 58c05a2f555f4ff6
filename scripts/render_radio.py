"""Fills the tables and draws the figures of docs/radio.md from the files under results/radio/.

    python scripts/render_radio.py [--document docs/radio.md] [--results results/radio] [--figures docs/figures]

A table replaces what stands between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``; NAME is that of a result file, blocks or
recordings.
"""

import argparse
import json
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from flowcodec.benchmark.bdrate import Curve
from flowcodec.errors import InputError
from flowcodec.radio.capacity import awgn_capacity, bits_per_pixel
from flowcodec.radio.denoiser import WEIGHTS_FILE as DENOISER_FILE
from flowcodec.radio.digital import MEASURED_MODES, capacity_db, threshold_db
from flowcodec.radio.figures import draw
from flowcodec.radio.layering import RATE_CURVE_FILE

ROOT = Path(__file__).parents[1]
ANCHORS = ROOT / "results" / "anchors" / "kodak_anchors.json"
RECORDINGS = ROOT / "results" / "radio_recordings.json"
PUBLISHED = ("VTM (CompressAI)", "BPG 4:4:4")
SIMULATIONS = ("digital_1_12", "digital_1_6", "hybrid_1_6", "hybrid_1_12", "layered_1_6", "analog", "analog_mismatch")


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
    rows = ["| mode | bit / use | capacity of that rate, dB | BLER 1e-4 from, dB |", "| --- | ---: | ---: | ---: |"]
    for mode in MEASURED_MODES:
        limit = capacity_db(mode.efficiency)
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


MEASUREMENTS = {"unknown": unknown_tables, "cifar": cifar_table}
"""Results that are no curves of ``radio simulate``."""


def values(document: Mapping[str, Any], system: str) -> dict[float, float]:
    """Mean PSNR by CSNR."""
    points = next(curve["points"] for curve in document["curves"] if curve["system"] == system)
    return {point["csnr_db"]: point["psnr_db"] for point in points}


def digital_lines(document: Mapping[str, Any]) -> list[str]:
    """The least lead over each rival's envelope."""
    ours = values(document, "FlowCodec, envelope")
    lines = []
    for curve in document["curves"]:
        if curve["system"].endswith(", envelope") and not curve["system"].startswith("FlowCodec"):
            leads = {point["csnr_db"]: ours[point["csnr_db"]] - point["psnr_db"] for point in curve["points"]}
            at = min(leads, key=lambda value: leads[value])
            lines.append(f"over {curve['system'].split(',')[0]} at least {leads[at]:.2f} dB (at {at:g} dB)")
    return [f"Lead of the envelope: {', '.join(lines)}."]


def hybrid_lines(document: Mapping[str, Any]) -> list[str]:
    """What is gained and lost against the digital system of the same design, and the images' lowest values."""
    hybrid, digital = values(document, "hybrid"), values(document, "FlowCodec, fixed")
    gains = ", ".join(f"{hybrid[value] - digital[value]:+.2f} dB at {value:g} dB" for value in (10.0, 16.0, 20.0))
    by_image: dict[str, list[tuple[float, float]]] = {}
    for row in document["rows"]:
        if row["system"] == "hybrid":
            by_image.setdefault(row["image"], []).append((row["csnr_db"], row["psnr_db"]))
    arrived = hybrid[10.0] - digital[max(digital)]
    monotone = sum(all(left[1] <= right[1] for left, right in pairwise(sorted(points))) for points in by_image.values())
    lowest = min(dict(points)[4.0] for points in by_image.values())
    return [
        f"Hybrid against digital of the same design and uses: {gains}; at 10 dB {arrived:+.2f} dB against "
        f"digital pictures that all arrive. At 4 dB the worst image has {lowest:.2f} dB; {monotone} of {len(by_image)} "
        "images never fall as the CSNR rises."
    ]


def layered_lines(document: Mapping[str, Any]) -> list[str]:
    """The lead over the mode that training photographs chose, and over the best of all tried, chosen afterwards."""
    names = [curve["system"] for curve in document["curves"] if curve["system"] != "layered"]
    lines = []
    for csnr_db, psnr in values(document, "layered").items():
        others = {name: values(document, name)[csnr_db] for name in names}
        lines.append(
            f"At a mean of {csnr_db:g} dB: {psnr - others['FlowCodec, single mode']:+.2f} dB over the single mode, "
            f"{psnr - max(others.values()):+.2f} dB over the best of the {len(others)} single modes tried (best on these images, "
            "found afterwards)."
        )
    return lines


def analog_lines(document: Mapping[str, Any]) -> list[str]:
    """The lead over linear coding, what a mismatch costs, and how the power is spread."""
    analog, lines = values(document, "analog"), []
    for curve in document["curves"]:
        if curve["system"] not in ("analog", "analog, matched"):
            dct = values(document, curve["system"])
            leads = ", ".join(f"{analog[at] - dct[at]:+.2f} dB at {at:g} dB" for at in analog)
            lines.append(f"Lead over {curve['system']}: {leads}.")
    if any(curve["system"] == "analog, matched" for curve in document["curves"]):
        matched = values(document, "analog, matched")
        lines.append(
            f"Against the matched design: {', '.join(f'{analog[at] - matched[at]:+.2f} dB at {at:g} dB' for at in analog)}."
        )
    rows = [row for row in document["rows"] if row["system"] == "analog"]
    layers = [row["layer_plans"][0] for row in rows]
    sizes, modes = [layer["bytes"] for layer in layers], sorted({layer["mode"] for layer in layers})
    peak = max(row["peak_to_average_db"] for row in rows)
    power = max(abs(row["power"] - 1) for row in rows)
    lines.append(
        f"The coarse picture has {min(sizes)} to {max(sizes)} bytes in {' and '.join(modes)}. Power of an image: 1 within "
        f"{power:.0e}; peak-to-average at most {peak:.1f} dB."
    )
    return lines


def denoiser_line() -> str:
    """How the denoiser of the analog mode was trained, by its own file."""
    with np.load(DENOISER_FILE) as file:
        facts = json.loads(str(file["facts"]))
    return (
        f"Trained for {facts['steps']} steps of {facts['batch']} crops of {facts['crop']}x{facts['crop']} pixels from "
        f"{facts['receptions']} receptions, {facts['training_core_seconds']} seconds of one core. The mean PSNR of "
        f"{facts['held_out_receptions']} receptions of held-out photographs rises from {facts['held_out_linear_psnr_db']:.2f} to "
        f"{facts['held_out_psnr_db']:.2f} dB; the linear pictures are without the codec's restoration there."
    )


def bases_line() -> str:
    """What a base layer costs, of training photographs."""
    rows = json.loads(RATE_CURVE_FILE.read_text())["bases"]

    def between(numbers: list[float], digits: int = 0) -> str:
        return f"{min(numbers):.{digits}f} to {max(numbers):.{digits}f}"

    def psnr(name: str) -> str:
        return between([row[f"{name}_psnr_db"] for row in rows], 1)

    def share(name: str) -> str:
        return between([100 * row[f"{name}_bytes"] / row["main_bytes"] for row in rows])

    saved = 100 * sum(row["saved_bytes"] for row in rows) / sum(row["base_bytes"] for row in rows)
    change = [row["finer_psnr_db"] - row["main_psnr_db"] for row in rows]
    return (
        f"Of {len(rows)} training photographs at step 40 ({psnr('main')} dB): the first two boxes are {share('two_boxes')} % of "
        f"a file and a picture of {psnr('two_boxes')} dB; a file of {psnr('base')} dB is {share('base')} %. A receiver that has "
        f"the coarse file saves {saved:.0f} % of its bytes in the main one, whose PSNR changes by {between(change, 2)} dB."
    )


SUMMARIES = {"digital": digital_lines, "hybrid": hybrid_lines, "layered": layered_lines, "analog": analog_lines}


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
    text = replace(text, "bases", bases_line())
    text = replace(text, "denoiser", denoiser_line())
    if RECORDINGS.exists():
        text = replace(text, "recordings", recordings_line())
    for name, measured in MEASUREMENTS.items():
        if (options.results / f"{name}.json").exists():
            text = replace(text, name, measured(json.loads((options.results / f"{name}.json").read_text())))
    for path in (options.results / f"{name}.json" for name in SIMULATIONS):
        if not path.exists():
            continue
        document = json.loads(path.read_text())
        experiment = document["experiment"]
        # Published curves are means over all of Kodak: beside fewer images they would say nothing.
        whole = len(document["images"]) == 24 and experiment["mode"] == "digital"
        lines = published_lines(experiment["cbr"], experiment["csnr_db"]) if whole else []
        table = curve_table(document, lines)
        if experiment["mode"] in SUMMARIES:
            where = f"{len(document['images'])} images, model `{document['model']}`."
            table += "\n\n" + " ".join([*SUMMARIES[experiment["mode"]](document), where])
        text = replace(text, path.stem, table)
        figure = options.figures / f"radio_{path.stem}.png"
        # Of a single CSNR a table says it all, and the page shows no figure.
        if figure.name in text:
            draw(document, figure, lines)
    options.document.write_text(text)


if __name__ == "__main__":
    main()
