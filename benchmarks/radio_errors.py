"""How large the quantisation errors of the codec's files are, by what their receivers know: src/flowcodec/radio/errors.json.

    python benchmarks/radio_errors.py --data TRAIN_FOLDER

About a minute of one core. Centres of photographs that are not held out, as files for receivers that have a coarse picture. By
kind, scale index and cell the mean of e^2, as a multiple of 1 / (1 / s^2 + 12) smoothed over the scales, counts as weights.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from flowcodec.benchmark.environment import environment
from flowcodec.progress import over
from flowcodec.radio import cells, material, picture
from flowcodec.radio.conditional import Coarse
from flowcodec.radio.ladder import Ladder
from flowcodec.runtime.bundle import load_model
from flowcodec.runtime.channel import SCALE_BITS, SCALE_COUNT, SCALE_LOG2_FIRST
from flowcodec.runtime.image import read_picture
from flowcodec.runtime.step import step_index

PHOTOGRAPHS, SIDE = 32, 320
STEPS = (6.0, 12.0, 24.0, 48.0)
COARSE_STEP = 130.0
_WIDTH, _WIDE, _WIDE_WEIGHT = 1.5, 24.0, 1e-5
"""In scale indices: of the smoothing, and of the one that fills gaps."""


def tally(image: np.ndarray, step: float, totals: np.ndarray, counts: np.ndarray) -> None:
    """Adds e^2 in squared steps and the number of coefficients of one file, by state."""
    ladder = Ladder(image)
    base = ladder.file(step_index(COARSE_STEP))
    data = ladder.above(base).file(step_index(step))
    quantised = picture.read(data, Coarse(ladder.pixels(base), step_index(COARSE_STEP)))
    begin, errors = 0, quantised.errors(image)
    for level, states in quantised.states.items():
        own = errors[begin : begin + states.size].reshape(states.shape) / quantised.band_steps(level)
        begin += states.size
        totals += np.bincount(states.reshape(-1), own.reshape(-1) ** 2, minlength=len(totals))
        counts += np.bincount(states.reshape(-1), minlength=len(counts))


def smoothed(totals: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(KINDS, SCALE_COUNT, CELL_COUNT) log2 of the variances."""
    scales = np.arange(SCALE_COUNT)
    reference = 1 / (1 / np.exp2(2 * (scales / (1 << SCALE_BITS) + SCALE_LOG2_FIRST)) + 12)
    distances = (scales[:, None] - scales) ** 2
    kernel = np.exp(-distances / (2 * _WIDTH**2)) + _WIDE_WEIGHT * np.exp(-distances / (2 * _WIDE**2))
    ratios = totals / reference[:, None]
    # Of a cell that never occurs the reference is left.
    found = (np.einsum("st,ktc->ksc", kernel, ratios) + 1e-9) / (np.einsum("st,ktc->ksc", kernel, counts) + 1e-9)
    return np.log2(found * reference[:, None])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    paths = material.photographs([options.data], held_out=False)
    paths = [paths[i] for i in np.linspace(0, len(paths) - 1, PHOTOGRAPHS).astype(int)]
    totals, counts = np.zeros(cells.NOWHERE + 1), np.zeros(cells.NOWHERE + 1)
    with over(list(enumerate(paths)), "encoding") as (counted, _):
        for number, path in counted:
            image = read_picture(path).pixels
            top, left = ((extent - SIDE) // 2 for extent in image.shape[:2])
            tally(image[top : top + SIDE, left : left + SIDE], STEPS[number % len(STEPS)], totals, counts)
    shape = (cells.KINDS, SCALE_COUNT, cells.CELL_COUNT)
    octaves = smoothed(totals[:-1].reshape(shape), counts[:-1].reshape(shape))
    document = {
        "what": f"log2 of E[e^2] in squared steps by kind, scale index and cell, {len(paths)} photographs, {SIDE}x{SIDE}",
        "command": "python benchmarks/radio_errors.py --data TRAIN_FOLDER",
        "environment": environment(),
        "model": load_model().id.hex(),
        "photographs": [path.name for path in paths],
        "steps": list(STEPS),
        "log2_variances": np.round(octaves, 2).tolist(),
    }
    cells.ERROR_FILE.write_text(json.dumps(document, indent=None) + "\n")


if __name__ == "__main__":
    main()
