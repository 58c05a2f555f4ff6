"""Fills the tables of docs/evidence.md that come from studies, rivals, generations and data sets, and draws their figures.

    python scripts/render_studies.py [--document docs/evidence.md] [--results results] [--figures docs/figures]

A table replaces what stands between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``; a block whose results are not there stays
as it is.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from flowcodec.benchmark.bdrate import Curve
from flowcodec.errors import InputError
from flowcodec.model.objective import BIT_PRICE
from flowcodec.report.markdown import markdown_table, replace_block

ROOT = Path(__file__).parents[1]
SMALL = "FlowCodec, small"
BESIDE = {"rivals": "rivals/lossy.json", "rivals_lossless": "rivals/lossless.json", "kodak_quick": "quick/kodak.json"}
"""In a folder of their own: a page of ``flowcodec report results/*.json`` is about whole sets of images."""
STUDIES = ("noise", "bottleneck", "beta")
SHOWN_IMAGES = 4
SPEED_STEP = 40.0
"""Delta whose price of a bit weighs rate against error where speeds of training are compared."""
DASH = "\N{EN DASH}"


def number(value: float | None, form: str, unit: str = "") -> str:
    return DASH if value is None else format(value, form) + unit


def study_table(document: Mapping[str, Any]) -> str:
    """Rows of a study, columns as its file names them."""
    columns = document["columns"]

    def text(value: Any) -> str:
        return number(value, ".3f") if value is None or isinstance(value, float) else str(value)

    rows = [[text(row[column]) for column in columns] for row in document["rows"]]
    return f"{markdown_table(columns, rows)}\n\n{document['description']}"


def loss(point: Mapping[str, float]) -> float:
    """Error in squared steps and bits at their price, per pixel."""
    return point["squared_error"] / SPEED_STEP**2 + BIT_PRICE * point["bpp"]


def ways(rivals: Mapping[str, Any]) -> dict[str, tuple[float, list[dict[str, float]]]]:
    """Name of each trained model -> (pixels seen, its tests on held-out crops on the way)."""
    found: dict[str, tuple[float, list[dict[str, float]]]] = {}
    for name, codec in rivals["codecs"].items():
        training = codec["training"]
        for setting, model, way in zip(training["settings"], training["models"], training["way"].values(), strict=True):
            size = ", ".join(f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in model.items())
            found[f"{name} {setting:g} ({size})"] = training["pixels_seen_by_each_model"], way
    return found


def training_table(rivals: Mapping[str, Any]) -> str:
    """Where each model ended, and when the small FlowCodec with noise was as good as it in the end."""
    found = ways(rivals)
    reference = next(way for name, (_, way) in found.items() if name.startswith(SMALL))
    rows = []
    for name, (pixels, way) in found.items():
        target = loss(way[-1])
        reached = next((point for point in reference if loss(point) <= target), None)
        own = next(point for point in way if loss(point) <= 1.05 * target)
        rows.append(
            [
                name,
                number(pixels / 1e6, ".1f"),
                number(way[-1]["cpu_s"], ".0f"),
                number(way[-1]["bpp"], ".3f"),
                number(10 * np.log10(3 * 255**2 / way[-1]["squared_error"]), ".2f"),
                number(target, ".4f"),
                f"{own['step']}",
                number(own["cpu_s"], ".0f"),
                DASH if reached is None else f"{reached['step']}",
                number(None if reached is None else reached["cpu_s"], ".0f"),
            ]
        )
    of_itself = ["model", "Mpx seen", "CPU s in all", "bpp", "dB", "loss", "steps to within 5 %", "CPU s"]
    header = [*of_itself, "FlowCodec's steps to that loss", "CPU s"]
    note = (
        f"8 held-out crops; loss is squared error over {SPEED_STEP:g}² plus the theory's price of the bits there, bits by "
        f"the networks' own estimate, FlowCodec by rounding at a step of {SPEED_STEP:g}. CPU seconds are of a busy machine."
    )
    return f"{markdown_table(header, rows)}\n\n{note}"


def rivals_table(rivals: Mapping[str, Any]) -> str:
    """Real files on Kodak: each point, and FlowCodec's rate at its PSNR."""
    curves = {curve["name"]: curve for curve in rivals["curves"]}
    ours = Curve.from_points(SMALL, curves[SMALL]["bpp"], curves[SMALL]["psnr_db"])
    rows = []
    for name, codec in rivals["codecs"].items():
        parameters = max(codec["training"]["parameters"].values())
        seen = codec["training"]["pixels_seen_by_each_model"]
        for bpp, psnr in zip(curves[name]["bpp"], curves[name]["psnr_db"], strict=True):
            try:
                same = f"{float(ours.bpp_at(np.array(psnr))):.3f}"
            except InputError:
                low, high = ours.psnr_db[0], ours.psnr_db[-1]
                same = f"< {ours.bpp[0]:.3f}" if psnr < low else f"> {ours.bpp[-1]:.3f}" if psnr > high else DASH
            rows.append(
                [
                    name,
                    f"{parameters / 1e3:.0f} k",
                    f"{seen / 1e6:.1f}",
                    f"{bpp:.3f}",
                    f"{psnr:.2f}",
                    DASH if name == SMALL else same,
                ]
            )
    header = ["codec", "parameters", "Mpx seen by each model", "bpp", "PSNR dB", f"bpp of {SMALL} at that PSNR"]
    images = len(rivals["images"])
    note = f"Kodak, mean of {images} images, whole files, really decoded."
    return f"{markdown_table(header, rows)}\n\n{note}"


def dataset_table(document: Mapping[str, Any]) -> str:
    """Ours against each codec image by image, and whether it is anywhere worse than the rival of the check."""
    rows = []
    for rival, values in document["image_by_image"]["bd_rate_percent_against"].items():
        if rival != document["image_by_image"]["codec"]:
            interval = values.get("mean_interval")
            rows.append(
                [
                    rival,
                    number(values["mean"], "+.1f", " %"),
                    DASH if interval is None else f"{interval[0]:+.1f} to {interval[1]:+.1f} %",
                    number(values["best"], "+.1f", " %"),
                    number(values["worst"], "+.1f", " %"),
                    str(values["images"]),
                ]
            )
    header = ["FlowCodec against", "bits at equal PSNR, mean of images", "95 % interval", "best image", "worst image", "images"]
    check = document["checks"]["every_image"]
    note = ""
    if "least" in check:
        least = check["least"]
        names = [*check["below"]]
        others = f" and {len(names) - SHOWN_IMAGES} others" if len(names) > SHOWN_IMAGES else ""
        below = (", ".join(names[:SHOWN_IMAGES]) or "none") + others
        note = (
            f"\n\nWorse than {check['rival']} somewhere at equal rate: {len(check['below'])} of {check['images']} images "
            f"({below}). "
            f"Least margin {least['margin_db']:+.2f} dB, on {least['image']} at {least['at_bpp']:.2f} bpp."
        )
    return markdown_table(header, rows) + note


def runs_table(document: Mapping[str, Any], quick: Mapping[str, Any]) -> str:
    """How long the runs took that the rows of a benchmark are of, and those of a quick one."""
    runs = [("", run) for run in document["runs"]] + [("`--quick`: ", run) for run in quick.get("runs", ())]
    rows = [
        [
            name + ", ".join(run["codecs"]),
            f"{run['rows']} of {run['of']}",
            f"{run['workers']}, {'times of an idle machine' if run['timed'] else 'busy machine'}",
            number(run["seconds"] / 60, ".1f"),
            f"{run['machine']['cpu']}, {run['machine']['cores']} cores",
        ]
        for name, run in runs
    ]
    return markdown_table(["codecs", "rows", "workers", "minutes", "machine"], rows)


def generations_table(document: Mapping[str, Any]) -> str:
    rows = [
        [name, f"{means['psnr_db'][0]:.2f}", f"{means['lost_after_first_db']:.2f}", f"{means['relative_size'][-1]:.3f}"]
        for name, means in document["means"].items()
    ]
    crop = f", {document['crop']}x{document['crop']} crops" if document.get("crop") else ""
    note = f"{len(document['images'])} images{crop}, first files of about {document['bpp']:g} bpp."
    header = ["codec", "dB of the first", f"dB lost in the {document['count'] - 1} after it", "size, last over first"]
    return f"{markdown_table(header, rows)}\n\n{note}"


def graphics_table(document: Mapping[str, Any]) -> str:
    rows = []
    for row in document["rows"]:
        added = row.get("added_percent", {"ours": None, "webp": None})
        cells = [number(added[codec], "+.1f", " %") for codec in ("ours", "webp")]
        rows.append([row["graphics"], *cells, f"{row['against_webp_percent']:+.1f} %"])
    header = ["graphics", "bits more, FlowCodec", "bits more, WebP", "FlowCodec against WebP"]
    return f"{markdown_table(header, rows)}\n\n{document['data'][0].upper()}{document['data'][1:]}; at equal PSNR, mean curves."


def draw_studies(found: Mapping[str, Any], path: Path) -> None:
    """Slope against beta; rate and error against beta; loss over the steps of training."""
    figure, axes = plt.subplots(1, 3, figsize=(13.5, 3.9), dpi=130, layout="constrained")
    if "study_beta" in found:
        rows = [row for row in found["study_beta"]["rows"] if row["-dD/dR over theory"] is not None]
        betas = [row["beta"] for row in rows]
        axes[0].loglog(betas, betas, color="grey", linestyle="--", label="theory: equal")
        axes[0].loglog(betas, [row["-dD/dR over theory"] for row in rows], "o-", label="between steps, at this beta")
        pairs = [(row["theory of that"], row["-dD/dR to the next beta"]) for row in rows if row.get("-dD/dR to the next beta")]
        axes[0].loglog([x for x, _ in pairs], [y for _, y in pairs], "s-", label="between betas, at equal steps")
        axes[0].set(xlabel="beta (price of a bit over the theory's)", ylabel="-dD/dR over the theory's price")
        axes[0].legend(fontsize=8)
        rate = next(key for key in rows[0] if key.startswith("bpp at"))
        quality = next(key for key in rows[0] if key.startswith("dB at"))
        axes[1].semilogx(betas, [row[rate] for row in rows], "o-", label=rate)
        twin = axes[1].twinx()
        twin.semilogx(betas, [row[quality] for row in rows], "s--", color="tab:red", label=quality)
        twin.set_ylabel(quality)
        axes[1].set(xlabel="beta", ylabel=rate)
        axes[1].legend(fontsize=8, loc="lower left")
        twin.legend(fontsize=8, loc="upper right")
    if "rivals" in found:
        for name, (_, way) in ways(found["rivals"]).items():
            axes[2].loglog([point["step"] for point in way], [loss(point) for point in way], label=name)
        axes[2].set(xlabel="steps of training", ylabel=f"loss at a step of {SPEED_STEP:g}")
        axes[2].legend(fontsize=6)
    for axis in axes:
        axis.grid(alpha=0.3, which="both")
    for axis in (axes[0].xaxis, axes[0].yaxis, axes[1].xaxis):
        axis.set_major_locator(FixedLocator([0.25, 0.5, 1, 2, 4]))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    _save(figure, path)


def draw_rivals(rivals: Mapping[str, Any], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(6.4, 4.2), dpi=130)
    for curve in rivals["curves"]:
        if curve["kind"] == "measured":
            axes.plot(curve["bpp"], curve["psnr_db"], "o-", label=curve["name"])
    axes.set(xlabel="bits per pixel (whole files)", ylabel="PSNR (dB, RGB)", xscale="log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    _save(figure, path)


def draw_generations(document: Mapping[str, Any], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(6.4, 4.2), dpi=130)
    for name, means in document["means"].items():
        axes.plot(range(1, document["count"] + 1), np.array(means["psnr_db"]) - means["psnr_db"][0], "o-", label=name)
    axes.set(xlabel="generation", ylabel="PSNR less that of the first (dB)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def blocks(found: Mapping[str, Any]) -> dict[str, str]:
    """Marker -> table, of the results that are there."""
    result = {f"study_{name}": study_table(found[f"study_{name}"]) for name in STUDIES if f"study_{name}" in found}
    if "rivals" in found:
        result |= {"rivals": rivals_table(found["rivals"]), "training_speed": training_table(found["rivals"])}
    if "rivals_lossless" in found:
        result["rivals_lossless"] = study_table(found["rivals_lossless"])
    if found.get("kodak", {}).get("runs"):
        result["kodak_runs"] = runs_table(found["kodak"], found.get("kodak_quick", {}))
    for name in ("cifar10", "imagenet"):
        if name in found:
            result[name] = dataset_table(found[name])
    if "graphics" in found:
        result["graphics"] = graphics_table(found["graphics"])
    if "generations" in found:
        result["generations"] = generations_table(found["generations"])
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--document", type=Path, default=ROOT / "docs/evidence.md")
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--figures", type=Path, default=ROOT / "docs/figures")
    arguments = parser.parse_args()
    paths = {path.stem: path for path in arguments.results.glob("*.json")}
    paths |= {name: arguments.results / file for name, file in BESIDE.items() if (arguments.results / file).exists()}
    found = {name: json.loads(path.read_text()) for name, path in paths.items()}
    try:
        text = arguments.document.read_text()
        for name, body in blocks(found).items():
            text = replace_block(text, name, body)
    except (OSError, InputError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if "study_beta" in found or "rivals" in found:
        draw_studies(found, arguments.figures / "studies.png")
    if "rivals" in found:
        draw_rivals(found["rivals"], arguments.figures / "rivals.png")
    if "generations" in found:
        draw_generations(found["generations"], arguments.figures / "generations.png")
    arguments.document.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
