"""The rate curve of training photographs, by which layers for fading links are chosen: src/flowcodec/radio/rate_curve.json.

    python benchmarks/radio_rate_curve.py --data TRAIN_FOLDER [--photographs 6]

About two minutes of one core. Photographs: every so many-th file of the folder by name, their top left 512x512 pixels. ``share``:
the part of a file's squared error that lies in its strongest coefficients, one a pixel (the dimensions of CBR 1/6), as sender and
receiver rank them. ``bases``: what a base layer costs, as a file of its own and as the first boxes of the main file.
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
from flowcodec.radio.layering import BASE_PSNR_DB, RATE_CURVE_FILE
from flowcodec.runtime import container
from flowcodec.runtime.bundle import load_model
from flowcodec.runtime.image import read_picture
from flowcodec.runtime.progressive import decode_prefix
from flowcodec.runtime.quality import psnr_db
from flowcodec.runtime.step import step_index

SIDE = 512
STEPS = (4.0, 8.0, 16.0, 24.0, 40.0, 70.0, 120.0, 200.0)
RATES = (0.03, 0.06, 0.125, 0.25, 0.5, 1.0, 2.0, 3.0)
SHARE_STEP = 40.0


def base_costs(image: np.ndarray, ladder: Ladder, index: int) -> dict[str, float]:
    """Of the file of a step: its bytes, those of a base layer, those saved where the receiver has it, and the first two boxes."""
    main, base = ladder.file(index), ladder.of_psnr(BASE_PSNR_DB)
    finer = ladder.above(base)
    finer_main = finer.file(index)
    boxes = container.read(main).latents[:2]
    return {
        "main_bytes": len(main),
        "main_psnr_db": round(psnr_db(image, ladder.pixels(main)), 2),
        "base_bytes": len(base),
        "base_psnr_db": round(psnr_db(image, ladder.pixels(base)), 2),
        "saved_bytes": len(main) - len(finer_main),
        "finer_psnr_db": round(psnr_db(image, finer.pixels(finer_main)), 2),
        "two_boxes_bytes": sum(map(len, boxes)),
        "two_boxes_psnr_db": round(psnr_db(image, of_first_boxes(main, 2)), 2),
    }


def of_first_boxes(data: bytes, count: int) -> np.ndarray:
    """uint8 (H, W, C): the partial picture of the first boxes of a file."""
    file = container.read(data)
    end = data.index(file.latents[count]) - 1
    return decode_prefix(data[:end], 1, partial=True).pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photographs", type=int, default=6)
    options = parser.parse_args()
    files = sorted(path for path in options.data.iterdir() if path.suffix != ".tsv")
    files = files[:: len(files) // options.photographs][: options.photographs]
    curves, shares, bases = [], [], []
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
            bases.append({"photograph": path.name} | base_costs(image, ladder, step_index(SHARE_STEP)))
    document = {
        "what": f"mean PSNR (RGB) by rate of {len(files)} training photographs, {SIDE}x{SIDE}",
        "command": "python benchmarks/radio_rate_curve.py --data TRAIN_FOLDER",
        "environment": environment(),
        "model": load_model().id.hex(),
        "photographs": [path.name for path in files],
        "bpp": list(RATES),
        "psnr_db": [round(float(value), 3) for value in np.mean(curves, axis=0)],
        "share": round(fmean(shares), 4),
        "bases": bases,
    }
    RATE_CURVE_FILE.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
