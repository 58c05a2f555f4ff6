"""Orthonormal colour rotation Y = (R+G+B)/sqrt3, C1 = (R-B)/sqrt2, C2 = (2G-R-B)/sqrt6.

The rotation keeps lengths, so a squared error in (Y, C1, C2) is the same squared error in RGB.
"""

import numpy as np

from flowcodec.runtime.integer import FRACTION_BITS
from flowcodec.runtime.tiles import in_parallel

RGB_TO_YCC = np.array([[1, 1, 1], [1, 0, -1], [-1, 2, -1]]) / np.sqrt([[3.0], [2.0], [6.0]])
"""(3, 3): rows Y, C1, C2; columns R, G, B."""

_MATRIX_BITS = 14
# round(2^14 / sqrt(3)), round(2^14 / sqrt(2)), round(2^14 / sqrt(6)) as literals: the decoder computes no square root.
_THIRD, _HALF, _SIXTH = 9459, 11585, 6689
_PLANE_LIMIT = 1 << 15
_ROWS = 64


def rgb_to_ycc(pixels: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) or grey (H, W, 1) -> float32 planes (3, H, W) or (1, H, W); grey is Y of R = G = B."""
    planes = pixels.transpose(2, 0, 1).astype(np.float32)
    if pixels.shape[2] == 1:
        return planes * np.float32(np.sqrt(3.0))
    return np.tensordot(RGB_TO_YCC.astype(np.float32), planes, axes=1)


def ycc_to_rgb(planes: np.ndarray, threads: int = 1) -> np.ndarray:
    """Integer planes (C, H, W) with FRACTION_BITS fractional bits -> uint8 (H, W, C), C = 1 or 3; integers only."""
    count, height, width = planes.shape
    pixels = np.empty((height, width, count), np.uint8)

    def rotate(top: int) -> None:
        pixels[top : top + _ROWS] = _rotate_back(planes[:, top : top + _ROWS])

    in_parallel(threads, rotate, range(0, height, _ROWS))
    return pixels


def _rotate_back(planes: np.ndarray) -> np.ndarray:
    planes = np.clip(planes, -_PLANE_LIMIT, _PLANE_LIMIT).astype(np.int32)
    shift = FRACTION_BITS + _MATRIX_BITS
    y = planes[0] * _THIRD + (1 << (shift - 1))
    if len(planes) == 1:
        channels = [y]
    else:
        c1, c2 = planes[1] * _HALF, planes[2] * _SIXTH
        channels = [y + c1 - c2, y + 2 * c2, y - c1 - c2]
    return np.stack([np.clip(c >> shift, 0, 255).astype(np.uint8) for c in channels], axis=-1)
