"""Do our classical curves on Kodak agree with the published ones? Rate at equal PSNR, with our settings and with theirs.

    python benchmarks/published.py KODAK [--kodak results/kodak.json] [--out results/published.json]

Where our settings differ from the published ones on purpose (full-resolution colour, tables fitted to the image), the codec is
run once more as published; those rows are kept in published/rows.json beside OUT, so that a second run measures nothing.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flowcodec.benchmark.bdrate import Curve, bd_rate, overlap
from flowcodec.benchmark.classical import Jpeg, Jpeg2000, PillowCodec, WebP
from flowcodec.benchmark.environment import environment
from flowcodec.benchmark.metrics import METRICS
from flowcodec.benchmark.run import run_benchmark
from flowcodec.benchmark.summary import read_anchors
from flowcodec.errors import InputError

RESULTS = Path(__file__).parents[1] / "results"
BAR_PERCENT = 3.0
WINDOW_DB = (28.0, 38.0)
"""Where all the published curves have points close together, cut to what two curves share."""


class JpegAsPublished(Jpeg):
    name = "JPEG, as published"
    fixed = {}  # noqa: RUF012  (Pillow's defaults: 4:2:0 colour, baseline, standard tables)
    settings = (10, 20, 30, 45, 60, 75, 85, 92)


class WebPAsPublished(WebP):
    name = "WebP, as published"
    fixed = {}  # noqa: RUF012  (Pillow's defaults: method 4)
    settings = (5, 20, 40, 60, 80, 90, 95)


class Jpeg2000Decibel(Jpeg2000):
    """Every image gets the same PSNR instead of the same rate."""

    name = "JPEG 2000, equal PSNR"
    fixed = {"irreversible": True, "mct": 1, "quality_mode": "dB"}  # noqa: RUF012
    setting_name = "decibel"
    settings = (26, 29, 32, 35, 38, 41)


class Jpeg2000ShortWavelet(Jpeg2000):
    """The 5/3 wavelet, which OpenJPEG's command line takes where it is not told otherwise, cut off at the same ratios."""

    name = "JPEG 2000, 5/3 wavelet"
    fixed = {"irreversible": False, "mct": 1, "quality_mode": "rates", "no_jp2": True}  # noqa: RUF012
    settings = (120, 72, 36, 24, 15, 9.6)


VARIANTS: tuple[PillowCodec, ...] = (JpegAsPublished(), WebPAsPublished(), Jpeg2000Decibel(), Jpeg2000ShortWavelet())
PAIRS = (
    ("JPEG", "JPEG", "4:4:4 colour and optimised progressive tables, against 4:2:0 and standard tables"),
    ("JPEG, as published", "JPEG", "the published settings: Pillow's defaults"),
    ("JPEG, as published", "JPEG 4:2:0 (TFC)", "Pillow's defaults; the settings of that curve are not given"),
    ("WebP", "WebP", "method 6, against Pillow's default 4"),
    ("WebP, as published", "WebP", "the published settings: Pillow's defaults"),
    ("JPEG 2000", "JPEG 2000 (OpenJPEG)", "9/7 wavelet, equal rate for every image"),
    ("JPEG 2000, 5/3 wavelet", "JPEG 2000 (OpenJPEG)", "the same with the 5/3 wavelet, the default of OpenJPEG's command line"),
    ("JPEG 2000, equal PSNR", "JPEG 2000 (OpenJPEG)", "9/7 wavelet, equal PSNR for every image"),
)


def compare(ours: Curve, published: Curve) -> dict[str, Any]:
    """Rate of ``ours`` over that of ``published`` at equal PSNR, per cent: mean over the common window, and extremes."""
    common = overlap(ours, published)
    window = max(common[0], WINDOW_DB[0]), min(common[1], WINDOW_DB[1])
    if window[0] >= window[1]:
        raise InputError(f"{ours.name} and {published.name}: no common PSNR between {WINDOW_DB[0]:g} and {WINDOW_DB[1]:g} dB")
    at = np.linspace(*window, 41)
    difference = 100 * (ours.bpp_at(at) / published.bpp_at(at) - 1)
    mean = bd_rate(published, ours, window)
    return {
        "window": f"{window[0]:.1f} to {window[1]:.1f} dB",
        "rate, mean %": mean,
        "least %": float(difference.min()),
        "most %": float(difference.max()),
        "within 3 %": "yes" if np.abs(difference).max() <= BAR_PERCENT else "no",
    }


def curves_of(document: Mapping[str, Any]) -> dict[str, Curve]:
    measured = [curve for curve in document["curves"] if curve["kind"] == "measured"]
    return {curve["name"]: Curve.from_points(curve["name"], curve["bpp"], curve["psnr_db"]) for curve in measured}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--kodak", type=Path, default=RESULTS / "kodak.json")
    parser.add_argument("--out", type=Path, default=RESULTS / "published.json")
    arguments = parser.parse_args()
    try:
        ours = json.loads(arguments.kodak.read_text())
        anchors = read_anchors(RESULTS / "anchors" / "kodak_anchors.json")
        rows_file = arguments.out.parent / "published" / "rows.json"
        again = run_benchmark([arguments.data], VARIANTS, rows_file, metrics=[METRICS["psnr"]], timing=False)
        if again["images"] != ours["images"]:
            raise InputError(f"{arguments.kodak}: holds results of other images than {arguments.data}")
        found = curves_of(ours) | curves_of(again)
        rows = []
        for name, anchor, why in PAIRS:
            published = Curve.from_points(anchor, anchors[anchor]["bpp"], anchors[anchor]["psnr_rgb"])
            rows.append({"codec": name, "published": anchor, **compare(found[name], published), "settings": why})
    except (OSError, InputError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    document = {
        "kind": "study",
        "title": "Measured against published curves",
        "description": f"Kodak, mean curves, rate at equal PSNR; positive: ours needs more. Bar: {BAR_PERCENT:g} % everywhere.",
        "columns": list(rows[0]),
        "rows": rows,
        **environment(),
    }
    arguments.out.write_text(json.dumps(document, indent=1) + "\n")
    for row in rows:
        least, most = row["least %"], row["most %"]
        print(f"{row['codec']:24} {row['published']:24} {row['rate, mean %']:+7.2f} %  ({least:+.2f} to {most:+.2f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
