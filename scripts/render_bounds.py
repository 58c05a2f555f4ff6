"""Draws docs/figures/bounds.png and fills the tables of docs/bounds.md from results/bounds.json.

    python scripts/render_bounds.py [--results results/bounds.json] [--page docs/bounds.md] [--figure docs/figures/bounds.png]

A table replaces what stands between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``; a section that the file lacks says so.
"""

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from flowcodec.errors import InputError

ROOT = Path(__file__).parents[1]
NOT_MEASURED = "*Not measured yet.*"


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [headings, ["---"] * len(headings), *[[str(cell) for cell in row] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def certificates(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [
        [r["pictures"], r["channel"], r["quality"], r["files"], r["violations"], r["slack_bytes_max"], r["beyond_the_bar"]]
        for r in rows
    ]
    headings = ["pictures", "channel", "quality", "files", "violations", "largest slack, bytes", "slack over 1 % + 128 bytes"]
    return table(headings, cells)


def certified(measured: Mapping[str, Any]) -> str:
    rows = measured["certified"]
    names = list(rows[0]["certified_bpp"])
    cells = [
        [f"{r['step']:.1f}", f"{r['psnr_db']:.2f}", f"{r['kl_bpp']:.3f}", f"{r['upper_bpp']['betting']:.3f}"]
        + [f"{r['certified_bpp'][name]:.3f} ({sum(r['correction_bpp'][name].values()):.3f})" for name in names]
        for r in rows
    ]
    headings = ["step", "PSNR dB", "KL, mean (estimate)", "R* at most", *(f"I at most, by {name} (taken off)" for name in names)]
    return f"{measured['certified_crops']} crops; bits per pixel.\n\n" + table(headings, cells)


def divergence(m: Mapping[str, Any]) -> str:
    shares = [f"{m[name]:.3f}" for name in ("min", "median", "max")]
    headings = ["KL, nats", "seeds", "above the truth", "below 80 % of it", "least share", "median", "largest"]
    return table(headings, [[f"{m['kl_nats']:.3f}", m["seeds"], m["above"], m["below_80_percent"], *shares]])


def confidence(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [[r["n"], r["method"], r["repeats"], f"{r['coverage']:.3f}", f"{r['slack_bpp']:.3f}"] for r in rows]
    return table(["n", "method", "repeats", "coverage", "slack, bpp"], cells)


def channel(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [
        [
            *(f"{r['scale_steps']:.2f}", r["blocks"], f"{r['kl_bits']:.2f}", f"{r['bits']:.2f}", f"{r['bound_bits']:.2f}"),
            *(f"{r['mean_error']:+.3f}", f"{r['variance']:.3f}", f"{r['ks_sqrt_n']:.2f}", r["inexact"]),
        ]
        for r in rows
    ]
    headings = ["scale, steps", "blocks", "KL a block", "bits", "bound", "mean of y - z", "variance", "KS √n", "inexact"]
    return table(headings, cells)


def sources(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [
        [
            *(r["source"], f"{r['distortion']:.3f}", f"{r['lower_bits']:.4f}", f"{r['rate_bits']:.4f}"),
            *((f"{r['upper_bits']:.4f}", f"{r['upper_excess']:.2%}") if "upper_bits" in r else ("", "")),
            f"{r['held']} of {r['seeds']}",
        ]
        for r in rows
    ]
    headings = ["source", "distortion", "lower", "R(D), bits", "upper", "worst excess of upper", "lower ≤ R ≤ upper"]
    return table(headings, cells)


def draw_crops(axes: Any, measured: Mapping[str, Any]) -> None:
    """Crops of the test pictures through every channel, and the certified bounds on held-out crops."""
    names = {"kl": "KL (no file)", "round": "round, files", "dither": "dither, files", "gaussian": "gaussian, files"}
    for name, label in names.items():
        rows = [row for row in measured["files"] if row["name"] == name]
        style: dict[str, Any] = {"linestyle": "--", "color": "black"} if name == "kl" else {"marker": "o", "markersize": 3}
        axes.plot([r["bpp"] for r in rows], [r["psnr_db"] for r in rows], label=label, **style)
    rows = measured["certified"]
    psnr = [row["psnr_db"] for row in rows]
    axes.plot([row["upper_bpp"]["betting"] for row in rows], psnr, "^", label="R* at most, held-out crops")
    axes.plot([row["certified_bpp"]["kl"] for row in rows], psnr, "v", label="I at most, held-out crops")
    axes.set(xlabel="bits per pixel", ylabel="PSNR, dB", title="64x64 crops")


def draw_sources(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Sources whose R(D) is known, with both bounds."""
    marks = {"upper_bits": ("^", "upper"), "rate_bits": ("-", "R(D)"), "lower_bits": ("v", "lower")}
    for index, name in enumerate(("iid", "AR(1) field")):
        points = [row for row in rows if row["source"] == name]
        for key, (mark, label) in marks.items():
            values = [row[key] for row in points]
            axes.plot([row["distortion"] for row in points], values, mark, color=f"C{index}", label=f"{name}: {label}")
    axes.set(xscale="log", xlabel="squared error a sample", ylabel="bits a sample", title="Gaussian sources")


def draw(document: Mapping[str, Any], path: Path) -> None:
    """A panel for each of the two sections that the file has."""
    panels: dict[str, Callable[[Any, Any], None]] = {"rates": draw_crops, "sources": draw_sources}
    chosen = [name for name in panels if name in document]
    if not chosen:
        return
    figure, grid = plt.subplots(1, len(chosen), figsize=(5.5 * len(chosen), 4.6), dpi=130, squeeze=False)
    for axes, name in zip(grid[0], chosen, strict=True):
        panels[name](axes, document[name]["measured"])
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "bounds.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "bounds.md")
    parser.add_argument("--figure", type=Path, default=ROOT / "docs" / "figures" / "bounds.png")
    options = parser.parse_args()
    document = json.loads(options.results.read_text())
    page = options.page.read_text()
    tables: dict[str, Callable[[Any], str]] = {
        "certificates": certificates,
        "divergence": divergence,
        "confidence": confidence,
        "channel": channel,
        "sources": sources,
    }
    texts = {name: render(document[name]["measured"]) if name in document else NOT_MEASURED for name, render in tables.items()}
    texts["certified"] = certified(document["rates"]["measured"]) if "rates" in document else NOT_MEASURED
    for name, text in texts.items():
        marks = re.search(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", page, re.DOTALL)
        if marks is None:
            raise InputError(f"{options.page}: expected the marks of {name}")
        page = page[: marks.end(1)] + text + "\n" + page[marks.start(2) :]
    options.page.write_text(page)
    draw(document, options.figure)


if __name__ == "__main__":
    main()
