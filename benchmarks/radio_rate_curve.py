"""The rate curve of training photographs, by which layers for fading links are chosen: src/flowcodec/radio/rate_curve.json.

    python benchmarks/radio_rate_curve.py --data TRAIN_FOLDER [--photographs 6]

About a minute of one core. Photographs: every so many-th file of the folder by name, their top left 512x512 pixels. ``share``:
the part of a file's squared error that lies in its strongest coefficients, one a pixel (the dimensions of CBR 1/6), as sender and
receiver rank them.
"""

import argparse
import json
from pathlib import Path
from statistics import fmean

import numpy as np

from flowcodec.benchmark.environment import environment
from flowcodec.progress import over
from flowcodec.radio import picture
from flowcodec.radio.ladder import Ladder
from flowcodec.radio.layering import RATE_CURVE_FILE
from flowcodec.runtime.bundle import load_model
from flowcodec.runtime.image import read_picture
from flowcodec.runtime.quality import psnr_db
from flowcodec.runtime.step import step_index

SIDE = 512
STEPS = (4.0, 8.0, 16.0, 24.0, 40.0, 70.0, 120.0, 200.0)
RATES = (0.03, 0.06, 0.125, 0.25, 0.5, 1.0, 2.0, 3.0)
SHARE_STEP = 40.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photographs", type=int, default=6)
    options = parser.parse_args()
    files = sorted(path for path in options.data.iterdir() if path.suffix != ".tsv")
    files = files[:: len(files) // options.photographs][: options.photographs]
    curves, shares = [], []
    with over(files, "encoding") as (counted, _):
        for path in counted:
            image = read_picture(path).pixels[:SIDE, :SIDE]
            pixels = image.shape[0] * image.shape[1]
            ladder = Ladder(image)
            points = []
            for step in STEPS:
                data = ladder.file(step_index(step))
                points.append((8 * len(data) / pixels, psnr_db(image, ladder.pixels(data))))
            rates, values = np.array(sorted(points)).T
            curves.append(np.interp(np.log2(RATES), np.log2(rates), values))
            quantised = picture.read(ladder.file(step_index(SHARE_STEP)))
            errors = quantised.errors(image)
            order = np.argsort(-quantised.levels(quantised.corrections(errors)), kind="stable")
            energy = np.cumsum(errors[order] ** 2)
            shares.append(float(energy[pixels - 1] / energy[-1]))
    document = {
        "what": f"mean PSNR (RGB) by rate of {len(files)} training photographs, {SIDE}x{SIDE}",
        "command": "python benchmarks/radio_rate_curve.py --data TRAIN_FOLDER",
        "environment": environment(),
        "model": load_model().id.hex(),
        "photographs": [path.name for path in files],
        "bpp": list(RATES),
        "psnr_db": [round(float(value), 3) for value in np.mean(curves, axis=0)],
        "share": round(fmean(shares), 4),
    }
    RATE_CURVE_FILE.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
