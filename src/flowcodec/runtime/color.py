"""Orthonormal colour rotation Y = (R+G+B)/sqrt3, C1 = (R-B)/sqrt2, C2 = (2G-R-B)/sqrt6, and its turns.

The rotation keeps lengths, so a squared error in (Y, C1, C2) is the same squared error in RGB. The axes of a picture may be
turned further (``axes.py`` finds out how): with v the three integers of a *turn* and A the matrix of the cross product with
v / 128, by Cayley's rotation (I - A) (I + A)^-1, all of whose entries are fractions of integers.
"""

from typing import Any

import numpy as np

from flowcodec.runtime.integer import FRACTION_BITS
from flowcodec.runtime.tiles import in_parallel

RGB_TO_YCC = np.array([[1, 1, 1], [1, 0, -1], [-1, 2, -1]]) / np.sqrt([[3.0], [2.0], [6.0]])
"""(3, 3): rows Y, C1, C2; columns R, G, B."""

Turn = tuple[int, int, int]
"""|each| < TURN_UNIT. In small turns the first turns C1 towards C2, the second C2 towards Y, the third Y towards C1, each by the
arc tangent of it over TURN_UNIT, twice."""
NO_TURN: Turn = (0, 0, 0)
TURN_UNIT = 128

_MATRIX_BITS = 14
# round(2^14 / sqrt(3)), round(2^14 / sqrt(2)), round(2^14 / sqrt(6)) as literals: the decoder computes no square root.
_THIRD, _HALF, _SIXTH = 9459, 11585, 6689
_SHIFT = FRACTION_BITS + _MATRIX_BITS
_HALF_UNIT = np.int32(1 << (_SHIFT - 1))
_PLANE_LIMIT = 1 << 15
_ROWS = 64


def cayley(turn: tuple[Any, Any, Any], unit: Any = TURN_UNIT) -> tuple[np.ndarray, Any]:
    """Numerators (3, 3) and the denominator of a turn's rotation: rows the turned axes, columns Y, C1, C2. Exact for integers."""
    x, y, z = turn
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    length = x * x + y * y + z * z
    numerators = (unit * unit - length) * np.eye(3, dtype=cross.dtype) + 2 * np.outer(turn, turn) - 2 * unit * cross
    return numerators, unit * unit + length


def rgb_to_axes(turn: Turn) -> np.ndarray:
    """(3, 3): rows the turned axes, columns R, G, B."""
    numerators, denominator = cayley(turn)
    return numerators / denominator @ RGB_TO_YCC


def rgb_to_ycc(pixels: np.ndarray, turn: Turn = NO_TURN) -> np.ndarray:
    """uint8 (H, W, 3) or grey (H, W, 1) -> float32 planes (3, H, W) or (1, H, W); grey is Y of R = G = B, and has no turn."""
    planes = pixels.transpose(2, 0, 1).astype(np.float32)
    if pixels.shape[2] == 1:
        return planes * np.float32(np.sqrt(3.0))
    return np.tensordot(rgb_to_axes(turn).astype(np.float32), planes, axes=1)


def ycc_to_rgb(planes: np.ndarray, threads: int = 1, turn: Turn = NO_TURN) -> np.ndarray:
    """Integer planes (C, H, W) with FRACTION_BITS fractional bits -> uint8 (H, W, C), C = 1 or 3; integers only."""
    count, height, width = planes.shape
    pixels = np.empty((height, width, count), np.uint8)
    matrix = None if turn == NO_TURN or count == 1 else _turned_back(turn)

    def rotate(top: int) -> None:
        rows = np.clip(planes[:, top : top + _ROWS], -_PLANE_LIMIT, _PLANE_LIMIT).astype(np.int32)
        channels = _rotate_back(rows) if matrix is None else [_combined(rows, weights) for weights in matrix]
        pixels[top : top + _ROWS] = np.stack([np.clip(c >> _SHIFT, 0, 255).astype(np.uint8) for c in channels], axis=-1)

    in_parallel(threads, rotate, range(0, height, _ROWS))
    return pixels


def _rotate_back(planes: np.ndarray) -> list[np.ndarray]:
    y = planes[0] * _THIRD + _HALF_UNIT
    if len(planes) == 1:
        return [y]
    c1, c2 = planes[1] * _HALF, planes[2] * _SIXTH
    return [y + c1 - c2, y + 2 * c2, y - c1 - c2]


def _turned_back(turn: Turn) -> np.ndarray:
    """int32 (3, 3): rows R, G, B, columns the turned axes, with _MATRIX_BITS fractional bits, rounded half up."""
    back = np.array([[_THIRD, _HALF, -_SIXTH], [_THIRD, 0, 2 * _SIXTH], [_THIRD, -_HALF, -_SIXTH]])
    numerators, denominator = cayley(turn)
    return ((2 * back @ numerators.T + denominator) // (2 * denominator)).astype(np.int32)


def _combined(planes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return planes[0] * weights[0] + planes[1] * weights[1] + planes[2] * weights[2] + _HALF_UNIT
