"""YUV of films <-> RGB pixels, 8 bit, with the matrix and the range that a film names.

Chroma samples lie on the left column of their pixels and between their rows (MPEG-2, H.264, HEVC). They are interpolated
linearly; going back, each direction has the filter that undoes just that, so that planes survive the way to RGB and back up to
rounding.
"""

from dataclasses import dataclass

import numpy as np

_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
"""Kr and Kb of the matrices of ITU-T H.273."""
_UNKNOWN, _RGB = 2, 0
_LARGE_HEIGHT = 720
Planes = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Matrix:
    """How Y, U, V of ``depth`` bits are meant. ``code``: ITU-T H.273; if unknown, BT.709 from 720 rows on, else BT.601."""

    code: int
    full_range: bool
    height: int
    depth: int = 8

    @property
    def weights(self) -> tuple[float, float]:
        code = self.code
        if code not in _WEIGHTS:
            code = 9 if code == 10 else 1 if self.height >= _LARGE_HEIGHT else 6
        return _WEIGHTS[code]

    @property
    def levels(self) -> tuple[float, float, float, float]:
        """(black, white - black, centre of chroma, reach of chroma from -1/2 to 1/2)"""
        unit = 1 << (self.depth - 8)
        if self.full_range:
            return 0.0, 256.0 * unit - 1, 128.0 * unit, 256.0 * unit - 1
        return 16.0 * unit, 219.0 * unit, 128.0 * unit, 224.0 * unit


def yuv_to_rgb(planes: Planes, matrix: Matrix) -> np.ndarray:
    """Y (H, W), U and V of the same or half the size -> uint8 (H, W, 3)."""
    height, width = planes[0].shape
    black, white, centre, reach = matrix.levels
    kr, kb = matrix.weights
    kg = 1 - kr - kb
    y = (planes[0].astype(np.float32) - np.float32(black)) * np.float32(255 / white)
    u, v = ((_enlarge(c.astype(np.float32), height, width) - np.float32(centre)) * np.float32(255 / reach) for c in planes[1:])
    pixels = np.empty((height, width, 3), np.uint8)
    red, blue = np.float32(2 * (1 - kr)) * v, np.float32(2 * (1 - kb)) * u
    for channel, values in enumerate((y + red, y - np.float32(kr / kg) * red - np.float32(kb / kg) * blue, y + blue)):
        pixels[..., channel] = np.clip(values + np.float32(0.5), 0, 255)
    return pixels


def rgb_to_yuv(pixels: np.ndarray, matrix: Matrix, subsampling: int = 0) -> Planes:
    """uint8 (H, W, 3) -> 8-bit planes; ``subsampling`` 0: 4:2:0, 1: 4:2:2, 2: 4:4:4."""
    black, white, centre, reach = matrix.levels
    kr, kb = (np.float32(weight) for weight in matrix.weights)
    red, green, blue = (pixels[..., channel].astype(np.float32) for channel in range(3))
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = [(blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))]
    if subsampling < 2:
        chroma = [_halve_columns(c) for c in chroma]
    if subsampling < 1:
        chroma = [_halve_rows(c) for c in chroma]
    y = _to_bytes(luma * np.float32(white / 255) + np.float32(black))
    u, v = (_to_bytes(c * np.float32(reach / 255) + np.float32(centre)) for c in chroma)
    return y, u, v


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(values + np.float32(0.5), 0, 255).astype(np.uint8)


def _enlarge(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """Linear interpolation to (height, width) where a side is half of that."""
    if plane.shape[0] < height:
        above, below = np.pad(plane, ((1, 0), (0, 0)), mode="edge")[:-1], np.pad(plane, ((0, 1), (0, 0)), mode="edge")[1:]
        rows = np.empty((2 * len(plane), plane.shape[1]), np.float32)
        rows[0::2], rows[1::2] = (above + 3 * plane) / 4, (3 * plane + below) / 4
        plane = rows[:height]
    if plane.shape[1] < width:
        right = np.pad(plane, ((0, 0), (0, 1)), mode="edge")[:, 1:]
        columns = np.empty((plane.shape[0], 2 * plane.shape[1]), np.float32)
        columns[:, 0::2], columns[:, 1::2] = plane, (plane + right) / 2
        plane = columns[:, :width]
    return plane


def _halve_columns(plane: np.ndarray) -> np.ndarray:
    """(-1 2 6 2 -1) / 8 about every other column: undoes the linear interpolation between columns."""
    width = plane.shape[1]
    padded = np.pad(plane, ((0, 0), (2, 3)), mode="reflect" if width > 3 else "edge")
    taps = [padded[:, k : k + width : 2] for k in range(5)]
    return (6 * taps[2] + 2 * (taps[1] + taps[3]) - (taps[0] + taps[4])) / 8


def _halve_rows(plane: np.ndarray) -> np.ndarray:
    """(-1 3 3 -1) / 4 about every other gap between rows: undoes the linear interpolation between rows."""
    height = plane.shape[0]
    padded = np.pad(plane, ((1, 3), (0, 0)), mode="edge")
    taps = [padded[k : k + height : 2] for k in range(4)]
    return (3 * (taps[1] + taps[2]) - (taps[0] + taps[3])) / 4
