"""The plot of a simulation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flowcodec.errors import InputError


def draw(document: Mapping[str, Any], path: Path, published: Sequence[Mapping[str, Any]] = ()) -> None:
    """PSNR over CSNR of the systems of a simulation; ``published``: {"name", "csnr_db", "psnr_db"}, dashed. Raises InputError."""
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise InputError("plots need matplotlib: pip install 'flowcodec[radio]'") from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 5.0), dpi=130)
    if any("quantiles_db" in point for curve in document["curves"] for point in curve["points"]):
        _draw_distribution(document, axes)
    else:
        _draw_curves(document, axes, published)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    figure.savefig(path, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def _title(document: Mapping[str, Any], *details: str) -> str:
    experiment = document["experiment"]
    cbr = f"CBR {experiment['cbr']:.4g} complex = {2 * experiment['cbr']:.4g} real"
    return ", ".join(["simulated", experiment["link"], cbr, *details, f"{len(document['images'])} images"])


def _draw_curves(document: Mapping[str, Any], axes: Any, published: Sequence[Mapping[str, Any]]) -> None:
    for curve in document["curves"]:
        points = curve["points"]
        ours = "FlowCodec" in curve["system"] or curve["system"] == "hybrid"
        axes.errorbar(
            [point["csnr_db"] for point in points],
            [point["psnr_db"] for point in points],
            yerr=[point["standard_error_db"] or 0 for point in points],
            marker="o",
            markersize=3,
            linewidth=2.2 if ours else 1.2,
            linestyle=":" if "fixed" in curve["system"] else "-",
            label=curve["system"],
        )
    for line in published:
        axes.plot(line["csnr_db"], line["psnr_db"], linestyle="--", linewidth=1, label=line["name"])
    axes.set_title(_title(document, f"design {document['experiment']['design_db']:g} dB"), fontsize=9)
    axes.set(xlabel="CSNR (dB)", ylabel="PSNR (dB, RGB), mean over images and draws")


def _draw_distribution(document: Mapping[str, Any], axes: Any) -> None:
    """P(PSNR <= x) over images and fades, at the CSNR nearest to the design."""
    experiment = document["experiment"]
    at = min(experiment["csnr_db"], key=lambda value: abs(value - experiment["design_db"]))
    for curve in document["curves"]:
        point = next(point for point in curve["points"] if point["csnr_db"] == at)
        ours = curve["system"] in ("layered", "hybrid")
        axes.plot(
            point["quantiles_db"],
            [share / 100 for share in range(101)],
            linewidth=2.2 if ours else 1.0,
            label=f"{curve['system']}, mean {point['psnr_db']:.2f} dB",
        )
    axes.set_title(_title(document, f"mean CSNR {at:g} dB"), fontsize=9)
    axes.set(xlabel="PSNR (dB, RGB)", ylabel="share of pictures at or below")
