"""The restoration network after the synthesis, in strips; off where the model has none."""

import numpy as np

from flowcodec.runtime.bundle import Model
from flowcodec.runtime.context import (
    RESTORATION_GAIN_BITS,
    condition_planes,
    contrast_rows,
    in_steps,
    pad_even,
    to_pixels,
    two_ranges,
)
from flowcodec.runtime.integer import CORRECTION_BITS, STRIP_SITES, Runner
from flowcodec.runtime.step import step_fixed

GRAPH = "restoration"


def _unshuffle(planes: np.ndarray) -> np.ndarray:
    """(C, H, W) -> (4C, H/2, W/2), channel order of torch's pixel_unshuffle."""
    count, height, width = planes.shape
    return (
        planes.reshape(count, height // 2, 2, width // 2, 2).transpose(0, 2, 4, 1, 3).reshape(4 * count, height // 2, width // 2)
    )


def restore(
    model: Model, runner: Runner, planes: np.ndarray, step_index: int, prediction: np.ndarray | None = None
) -> np.ndarray:
    """Planes (3, H, W) in 1/64 pixel units -> restored planes, in place. Exact whatever the strips.

    ``prediction``: planes of the same size, where the model is one of P-frames.
    """
    if GRAPH not in model.graph_info:
        return planes
    height, width = planes.shape[1:]
    step = step_fixed(step_index)
    halo = 2 * model.graph_info[GRAPH].halo
    rows = max(4 * STRIP_SITES // width // 2 * 2, 2)
    corrections = np.empty(planes.shape, np.int16)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first, last = max(top - halo, 0), min(bottom + halo, height)
        contrast = pad_even(two_ranges(in_steps(contrast_rows(planes, first, last), step_index, RESTORATION_GAIN_BITS)))
        squeezed = _unshuffle(contrast)
        condition = condition_planes(step_index, 0, *squeezed.shape[1:])
        arrays = [squeezed, condition]
        if prediction is not None:
            difference = in_steps(prediction[:, first:last] - planes[:, first:last], step_index, RESTORATION_GAIN_BITS)
            arrays.append(_unshuffle(pad_even(two_ranges(difference))))
        inputs = [np.ascontiguousarray(x[None], np.float32) for x in arrays]
        correction = runner(GRAPH, inputs)[0][0]
        corrections[:, top:bottom] = correction[:, top - first : bottom - first, :width]
    for top in range(0, height, rows):
        part = planes[:, top : top + rows]
        part += to_pixels(corrections[:, top : top + rows], step, CORRECTION_BITS).astype(planes.dtype)
    return planes
