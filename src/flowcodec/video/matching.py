"""Blocks of a picture compared with another one: squared errors of given vectors, and the best of all whole vectors around.

Nothing here has to be exact: what it finds is sent. Needs OpenCV.
"""

from functools import lru_cache

import cv2
import numpy as np

from flowcodec.runtime.motion import BLOCK_SIZES, TAPS, grid_shape

_QUARTER_PIXELS, _HALF_PIXELS = 1 << 23, 1 << 25
"""Pictures up to so large are interpolated to quarters, and to halves, of samples: that many planes are held."""
_EDGE = max(BLOCK_SIZES)
_COARSE = 2
"""All vectors around are tried on pictures reduced so much."""
_REACH_SHARE, _REACH_MAX = 5, 64
"""Pixels that all vectors around reach: this part of the longer side, but at most so many."""

_NOISE = 1 / 12
"""Error of the quantiser, in squared steps."""
_COST_OF_DETAIL, _COST_OF_ENERGY = 2.0, 0.25
"""Bits that the coefficients of what a prediction leaves cost, and that its energy does as if it were noise: both count 1/2
log2(1 + 12 c^2 / step^2), for each coefficient of the cosine transform, and for their mean square. The first alone leaves out
what is lost below the quantiser, the second what order the file finds. Bits include the value of the error that remains, 0.89
of a frame's bits for a doubling; fitted to frames of training clips."""
_COST_OF_CONTENT = 1.5


@lru_cache(maxsize=2)
def _cosines(size: int) -> np.ndarray:
    """float32 (size, size): rows of the orthonormal cosine transform (DCT-II)."""
    frequency, place = np.mgrid[:size, :size]
    rows = np.sqrt(2 / size) * np.cos(np.pi * frequency * (2 * place + 1) / (2 * size))
    rows[0] /= np.sqrt(2)
    return rows.astype(np.float32)


class Blocks:
    """Blocks of ``target`` as predicted from ``reference``, both uint8 (H, W), without overlap, edges repeated."""

    def __init__(self, target: np.ndarray, reference: np.ndarray) -> None:
        self._target, self._reference = target, reference
        self._height, self._width = target.shape
        self._fraction = 2 if target.size <= _QUARTER_PIXELS else 1 if target.size <= _HALF_PIXELS else 0
        # Whatever lies further out than a block is as what lies a block out.
        edge = ((0, 0), (_EDGE, _EDGE), (_EDGE, _EDGE))
        self._planes = np.pad(_interpolated(reference, 1 << self._fraction), edge, mode="edge")
        self._cut: dict[int, np.ndarray] = {}

    def cut(self, block: int) -> np.ndarray:
        """int16 (rows * columns, block, block): the target's blocks, row by row."""
        if block not in self._cut:
            rows, columns = grid_shape(self._height, self._width, block)
            padded = np.pad(self._target, ((0, rows * block - self._height), (0, columns * block - self._width)), mode="edge")
            cells = padded.reshape(rows, block, columns, block).transpose(0, 2, 1, 3)
            self._cut[block] = cells.reshape(-1, block, block).astype(np.int16)
        return self._cut[block]

    def bits(self, vectors: np.ndarray, chosen: np.ndarray, block: int, step: float) -> np.ndarray:
        """float32 (n,): about what blocks, by their numbers, cost beside predictions by vectors (n, 2) in quarter samples."""
        coarser = 2 - self._fraction
        place = (vectors + (1 << coarser >> 1)) >> coarser
        whole, part = place >> self._fraction, place & ((1 << self._fraction) - 1)
        plane = (part[:, 0] << self._fraction) + part[:, 1]
        top, left = np.divmod(chosen, -(-self._width // block))
        y = np.clip(top * block + whole[:, 0], -_EDGE, self._height) + _EDGE
        x = np.clip(left * block + whole[:, 1], -_EDGE, self._width) + _EDGE
        windows = np.lib.stride_tricks.sliding_window_view(self._planes, (block, block), axis=(1, 2))
        rest = np.subtract(windows[plane, y, x], self.cut(block)[chosen], dtype=np.float32)
        return _bits(rest, step, _COST_OF_DETAIL, _COST_OF_ENERGY)

    def own_bits(self, block: int, step: float) -> np.ndarray:
        """float32 (rows * columns,): the same of all blocks without a prediction."""
        cut = self.cut(block).astype(np.float32)
        return _bits(cut - cut.mean(axis=(1, 2), keepdims=True), step, _COST_OF_CONTENT, 0.0)

    def search_all(self, chosen: np.ndarray, block: int) -> np.ndarray:
        """int32 (n, 2): of all vectors around, the one with the least error for each block, in quarter samples, to two pixels."""
        reach = min(max(self._target.shape) // _REACH_SHARE, _REACH_MAX) // _COARSE
        side = block // _COARSE
        rows, columns = grid_shape(self._height, self._width, block)
        reference = _reduced(self._reference, rows * side, columns * side)
        reference = cv2.copyMakeBorder(reference, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
        target = _reduced(self._target, rows * side, columns * side)
        found = np.empty((len(chosen), 2), np.int32)
        for number, (row, column) in enumerate(zip(*np.divmod(chosen, columns), strict=True)):
            top, left = row * side, column * side
            window = reference[top : top + side + 2 * reach, left : left + side + 2 * reach]
            error = cv2.matchTemplate(window, target[top : top + side, left : left + side], cv2.TM_SQDIFF)
            found[number] = divmod(int(error.argmin()), error.shape[1])
        return (found - reach) * (4 * _COARSE)


def _bits(blocks: np.ndarray, step: float, detail: float, energy: float) -> np.ndarray:
    """float32 (n,) of float32 blocks (n, size, size)."""
    size = blocks.shape[1]
    basis = _cosines(size) * np.float32(1 / np.sqrt(np.sqrt(_NOISE) * step))
    squares = (basis @ (blocks @ basis.T)).reshape(len(blocks), -1)
    squares *= squares
    # A logarithm for each four: their product stays below 2^127 for all steps.
    quarters = (1 + squares).reshape(len(blocks), 4, -1)
    bits = np.log2(quarters.prod(axis=1)).sum(axis=1) * np.float32(detail / 2)
    if energy:
        bits += np.log2(1 + squares.mean(axis=1)) * np.float32(energy / 2 * size**2)
    return bits


def _interpolated(picture: np.ndarray, fraction: int) -> np.ndarray:
    """uint8 (fraction^2, H, W): the picture at all fractions of samples, down then right, by the filters of the decoder."""
    planes = np.empty((fraction * fraction, *picture.shape), np.uint8)
    kernels = [np.array(TAPS[4 // fraction * part], np.float32) / 64 for part in range(fraction)]
    for down in range(fraction):
        for right in range(fraction):
            plane = planes[down * fraction + right]
            if down == right == 0:
                plane[:] = picture
            else:
                # Correlation with the tap of sample 0 as its anchor.
                plane[:] = cv2.sepFilter2D(
                    picture, -1, kernels[right], kernels[down], anchor=(3, 3), borderType=cv2.BORDER_REPLICATE
                )
    return planes


def _reduced(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The picture, extended by its edges to a multiple of these sides, reduced by ``_COARSE``."""
    below, right = (_COARSE * side - extent for side, extent in zip((height, width), picture.shape, strict=True))
    extended = cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_REPLICATE)
    return cv2.resize(extended, (width, height), interpolation=cv2.INTER_AREA)
