"""Turns results/films.json into a table for the documents and a figure of rate-distortion curves and PSNR over the frames.

python scripts/render_films.py [--results results/films.json] [--figure docs/figures/films.png]
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from flowcodec.benchmark.film_codecs import ANCHOR
from flowcodec.benchmark.film_summary import curve

ROOT = Path(__file__).parents[1]
_OVER_FRAMES = ("FlowCodec", ANCHOR, "x265 medium B-frames")


def table(document: dict[str, Any], quality: str = "psnr_yuv_db") -> str:
    """BD-rate of every codec against the anchor, a line each, a column for each film."""
    values = document["summary"][f"bd_rate_percent_against_{ANCHOR}"][quality]
    films = list(document["films"])
    lines = [f"| codec | {' | '.join(films)} | mean |", "|---|" + "---|" * (len(films) + 1)]
    for codec, row in sorted(values.items(), key=lambda item: item[1]["mean"]):
        cells = [f"{row[name]:+.1f} %" if name in row else "" for name in [*films, "mean"]]
        lines.append(f"| {codec} | {' | '.join(cells)} |")
    return "\n".join(lines)


def middle_row(rows: Sequence[dict[str, Any]], codec: str, film: str) -> dict[str, Any] | None:
    """The row of a codec's middle setting."""
    found = sorted((row for row in rows if row["codec"] == codec and row["film"] == film), key=lambda row: row["kbps"])
    return found[len(found) // 2] if found else None


def draw(document: dict[str, Any], path: Path) -> None:
    films, rows = list(document["films"]), document["rows"]
    figure, axes = pyplot.subplots(len(films), 2, figsize=(11, 3.2 * len(films)), squeeze=False)
    for film, (curves, frames) in zip(films, axes, strict=True):
        for codec in document["codecs"]:
            points = curve(rows, codec, film)
            if points is not None:
                width = 2.4 if codec.startswith("FlowCodec") else 1.2
                curves.semilogx(points.bpp, points.psnr_db, marker=".", linewidth=width, label=codec)
        for codec in _OVER_FRAMES:
            row = middle_row(rows, codec, film)
            if row is not None:
                frames.plot(row["frames_psnr_yuv_db"], label=f"{codec}, {row['kbps']:.0f} kbit/s")
        curves.set(title=film, xlabel="kbit/s", ylabel="PSNR YUV 6:1:1, dB")
        frames.set(title=f"{film}: over the frames", xlabel="frame", ylabel="PSNR YUV, dB")
        for axis in (curves, frames):
            axis.grid(alpha=0.3)
            axis.legend(fontsize=6)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "films.json")
    parser.add_argument("--figure", type=Path, default=ROOT / "docs" / "figures" / "films.png")
    arguments = parser.parse_args()
    document = json.loads(arguments.results.read_text())
    draw(document, arguments.figure)
    print(table(document))


if __name__ == "__main__":
    main()
