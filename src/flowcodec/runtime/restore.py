"""The restoration network after the synthesis, in tiles; off where the model has none."""

import numpy as np

from flowcodec.runtime.bundle import Model
from flowcodec.runtime.context import (
    RESTORATION_GAIN_BITS,
    condition_planes,
    contrast_at,
    filled,
    in_steps,
    to_pixels,
    two_ranges,
)
from flowcodec.runtime.integer import CORRECTION_BITS, Runner
from flowcodec.runtime.step import step_fixed
from flowcodec.runtime.tiles import Place, Whole, in_parallel, run_in_tiles, tiles

GRAPH = "restoration"
_ADDED_SITES = 1 << 16


def _unshuffle(planes: np.ndarray) -> np.ndarray:
    """(C, H, W) -> (C, 2, 2, H/2, W/2), a view: channels in the order of torch's pixel_unshuffle."""
    count, height, width = planes.shape
    return planes.reshape(count, height // 2, 2, width // 2, 2).transpose(0, 2, 4, 1, 3)


def restore(
    model: Model, runner: Runner, planes: np.ndarray, step_index: int, prediction: np.ndarray | None = None
) -> np.ndarray:
    """Planes (3, H, W) in 1/64 pixel units -> restored planes, in place. Exact whatever the tiles.

    ``prediction``: planes of the same size, where the model is one of P-frames.
    """
    if GRAPH not in model.graph_info:
        return planes
    height, width = planes.shape[1:]
    step = step_fixed(step_index)

    def squeezed(values: np.ndarray, place: Place) -> np.ndarray:
        return _unshuffle(filled(two_ranges(in_steps(values, step_index, RESTORATION_GAIN_BITS)), place))

    def read(place: Place) -> list[np.ndarray]:
        pixels = slice(2 * place[0].start, 2 * place[0].stop), slice(2 * place[1].start, 2 * place[1].stop)
        contrast = squeezed(contrast_at(planes, pixels), pixels)
        inputs = [contrast, condition_planes(step_index, 0, *contrast.shape[-2:])]
        if prediction is not None:
            inputs.append(squeezed(prediction[:, *pixels] - planes[:, *pixels], pixels))
        return inputs

    corrections = Whole(height, width, [np.int16])
    run_in_tiles(runner, GRAPH, model.graph_info[GRAPH], ((height + 1) // 2, (width + 1) // 2), read, corrections)

    def add(place: Place) -> None:
        planes[:, *place] += to_pixels(corrections.arrays[0][:, *place], step, CORRECTION_BITS).astype(planes.dtype)

    in_parallel(runner.threads, add, tiles(height, width, _ADDED_SITES, runner.threads))
    return planes
