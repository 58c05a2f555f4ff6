"""Motion search of the encoder: dense optical flow by OpenCV's DIS, reduced to block vectors by rate and distortion.

Nothing here has to be exact: what it finds is sent. Needs the package opencv-python-headless of the extra 'video'.
Reference: Kroeger et al., Fast optical flow using dense inverse search, 2016.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from flowcodec.runtime.motion import BLOCK_SIZES, VECTOR_MAX, VectorModel, forecast_all, grid_shape

_RATE_WEIGHT = 2.0
"""Price of a bit of a vector, over that of a bit of the codec at high rate, (ln 2 / 6) * 3 planes * step^2."""
_ROUNDS = 2
_CUT_SHARE = 2.0
"""A frame is a scene cut if the flow's prediction misses it by more than this many times its own local contrast: 2.2 times and
more from one training clip to another; within them less in 69 of 70."""
_SMALLEST = 16
"""Pixels a side that the optical flow needs."""


@dataclass(frozen=True)
class Motion:
    """What a search found."""

    vectors: np.ndarray
    """int32 (rows, columns, 2), (down, right) in quarter samples."""
    block: int


def luma(pixels: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) -> uint8 (H, W)."""
    return cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)


def dense_flow(current: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """float32 (H, W, 2), (right, down) in pixels, from each pixel of ``current`` (uint8 luma) to where it is in ``previous``."""
    if min(current.shape) < _SMALLEST:
        return np.zeros((*current.shape, 2), np.float32)
    # A new engine each time: it keeps buffers, which threads must not share. The faster presets crash on narrow pictures.
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(current, previous, None)


def estimate(current: np.ndarray, previous: np.ndarray, step: float = 16.0, model: VectorModel | None = None) -> Motion:
    """Vectors that predict ``current`` from ``previous``, both uint8 (H, W, 3), for coding with a quantiser step.

    The block size with the lower cost is taken. ``model``: the state of the vectors' coder.
    """
    now, before = luma(current), luma(previous)
    flow = dense_flow(now, before)
    model = model or VectorModel()
    price = _RATE_WEIGHT * np.log(2) / 6 * step**2
    fields = [_reduce(now, before, flow, block, price, model) for block in BLOCK_SIZES]
    (vectors, _), block = min(zip(fields, BLOCK_SIZES, strict=True), key=lambda field: field[0][1])
    return Motion(vectors, block)


def _reduce(
    now: np.ndarray, before: np.ndarray, flow: np.ndarray, block: int, price: float, model: VectorModel
) -> tuple[np.ndarray, float]:
    """(vectors, cost) for one block size: for each block the best of a few candidates, squared error + price * bits."""
    height, width = now.shape
    rows, columns = grid_shape(height, width, block)
    around = [(0, rows * block - height), (0, columns * block - width)]
    blocks = np.pad(flow, [*around, (0, 0)], mode="edge").reshape(rows, block, columns, block, 2).transpose(0, 2, 1, 3, 4)
    blocks = blocks.reshape(rows, columns, block * block, 2)[..., ::-1]
    median = _quarter(np.median(blocks, axis=2))
    target = np.pad(now, around, mode="edge")

    def error(field: np.ndarray) -> np.ndarray:
        """Squared error of each block."""
        difference = cv2.absdiff(_warp(before, field, block, target.shape), target).astype(np.float32)
        return (difference * difference).reshape(rows, block, columns, block).sum(axis=(1, 3))

    best = median.copy()
    best_error = error(best)
    trials = [np.zeros_like(median), np.broadcast_to(_quarter_median(median), median.shape)]
    for number in range(_ROUNDS + 1):
        predicted, spread = forecast_all(best)
        cost = best_error + price * model.bits_of(best - predicted, spread)
        if number > 0:
            trials = [predicted] + [_shifted(best, axis, by) for axis in (0, 1) for by in (1, -1)]
            trials += [best + np.array(move, np.int32) for move in ((0, 1), (0, -1), (1, 0), (-1, 0))]
        for trial in trials:
            candidate = np.clip(trial, -VECTOR_MAX, VECTOR_MAX)
            candidate_error = error(candidate)
            candidate_cost = candidate_error + price * model.bits_of(candidate - predicted, spread)
            cheaper = candidate_cost < cost
            best[cheaper], best_error[cheaper] = candidate[cheaper], candidate_error[cheaper]
            cost[cheaper] = candidate_cost[cheaper]
    predicted, spread = forecast_all(best)
    return best, float(best_error.sum() + price * model.bits_of(best - predicted, spread).sum())


def _quarter(flow: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(flow * 4), -VECTOR_MAX, VECTOR_MAX).astype(np.int32)


def _quarter_median(field: np.ndarray) -> np.ndarray:
    return np.median(field.reshape(-1, 2), axis=0).astype(np.int32)


def _shifted(field: np.ndarray, axis: int, by: int) -> np.ndarray:
    """The vectors of the blocks next door, those at the edge staying."""
    moved = np.roll(field, by, axis)
    edge = 0 if by > 0 else -1
    index: list[Any] = [slice(None)] * 3
    index[axis] = edge
    moved[tuple(index)] = field[tuple(index)]
    return moved


def _warp(reference: np.ndarray, field: np.ndarray, block: int, shape: tuple[int, int]) -> np.ndarray:
    """uint8 ``reference`` moved block by block (not overlapped), of a given shape, at most that of the grid."""
    height, width = shape
    moves = np.repeat(np.repeat(field.astype(np.float32) / 4, block, 0), block, 1)[:height, :width]
    places = _places(height, width) + moves[..., ::-1]
    return cv2.remap(reference, places[..., 0], places[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


@lru_cache(maxsize=4)
def _places(height: int, width: int) -> np.ndarray:
    """float32 (H, W, 2): column and row of each pixel."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)


def is_cut(current: np.ndarray, previous: np.ndarray) -> bool:
    """Whether ``current`` is better coded without looking back; both uint8 (H, W, 3), as they were before coding."""
    now, before = luma(current), luma(previous)
    flow = dense_flow(now, before)
    places = _places(*now.shape) + flow
    moved = cv2.remap(before, places[..., 0], places[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    missed = cv2.absdiff(now, moved).mean()
    target = now.astype(np.float32)
    contrast = np.abs(target - cv2.GaussianBlur(target, (0, 0), 3)).mean()
    return bool(missed > 2 and missed > _CUT_SHARE * contrast)
