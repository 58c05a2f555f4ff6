"""What the lossless coder sees of a pixel: neighbours already coded, and predictions that learn as they go.

A tile is coded plane by plane, each along a wavefront: at time t the pixels (r, t - 2r) of all rows r at once. A pixel so knows
its neighbours to the west, north-west, north and north-east, and of earlier planes those on all sides. ``Sheared`` keeps a plane
in the order of time, so that a neighbour of a whole front is a slice. Everything is integer arithmetic.

Values of all depths are held in 1/256 of a grey level of 8 bits.
"""

import numpy as np

from flowcodec.runtime.least_squares import INPUT_MAX, LeastSquares

OWN_TAPS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0), (2, -1), (1, 2), (2, 1), (2, -2), (0, 3), (3, 0))
"""(rows up, columns left) of the neighbours in the plane being coded: W N NW NE WW NN NNE NWW NNW NNEE WWW NNN."""
REFERENCE_TAPS = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
"""The same in each plane coded before: the pixel itself, W N E S NW NE SW SE."""
ERROR_TAPS = ((*OWN_TAPS[:7], OWN_TAPS[9]), OWN_TAPS[:4], OWN_TAPS[:2])
"""Where the errors of each prediction are seen: by least squares, slow steps, start weights."""
REFERENCE_ERROR_TAPS = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0), (1, -1), (-1, 1))
"""Where those of the first are seen in planes coded before."""
PIXEL_BITS = 8
"""Fractional bits of a value, in grey levels of 8 bits."""
VALUE_MAX = 0xFFFF
FEATURE_BITS = 2
"""Fractional bits of a feature."""
FEATURE_MAX = 1023
WHITENING_BITS = 12
"""Fractional bits of the matrices that make inputs of differences."""

_FIRST_ROW = 3
_FIRST_COLUMN = 3
_START = 2 * _FIRST_ROW + _FIRST_COLUMN
_LAST_COLUMN = 2
_GREY = 128 << PIXEL_BITS


def limited(values: np.ndarray, low: int, high: int) -> np.ndarray:
    """Clipped in place; np.clip spends more time on its arguments than on a front."""
    np.maximum(values, low, out=values)
    return np.minimum(values, high, out=values)


class Sheared:
    """Planes (tiles, H, W) with a border, pixel (r, c) at time c + 2r: ``values[time, tile, row]``."""

    def __init__(self, tiles: int, height: int, width: int, fill: int) -> None:
        self.height, self.width = height, width
        times = _START + width + _LAST_COLUMN + 2 * height + 1
        self.values = np.full((times, tiles, _FIRST_ROW + height + 1), fill, np.int32)

    @classmethod
    def of(cls, planes: np.ndarray) -> "Sheared":
        """A whole plane, its border a repetition of its edge."""
        tiles, height, width = planes.shape
        sheared = cls(tiles, height, width, 0)
        border = ((0, 0), (_FIRST_ROW, 1), (_FIRST_COLUMN, _LAST_COLUMN))
        padded = np.pad(planes, border, mode="edge").transpose(2, 0, 1)
        for row in range(padded.shape[2]):
            sheared.values[2 * row : 2 * row + len(padded), :, row] = padded[:, :, row]
        return sheared

    def front(self, time: int, tap: tuple[int, int], rows: slice) -> np.ndarray:
        """(tiles, rows): the neighbours of the front at a time."""
        up, left = tap
        first = _FIRST_ROW - up
        return self.values[time + _START - left - 2 * up, :, rows.start + first : rows.stop + first]

    def store(self, time: int, rows: slice, values: np.ndarray) -> None:
        """The front's own values; the border follows: left of a row its upper neighbour, above the first row the latest pixel."""
        at, all_rows = time + _START, self.values
        all_rows[at, :, rows.start + _FIRST_ROW : rows.stop + _FIRST_ROW] = values
        if rows.start == 0:
            all_rows[at, :, :_FIRST_ROW] = values[:, :1]
        if time % 2 == 0 and rows.stop == time // 2 + 1:
            all_rows[at - 1 : at + 2, :, rows.stop + _FIRST_ROW] = values[:, -1]
        ended = time - self.width + 1
        if ended >= 0 and ended % 2 == 0:
            row = ended // 2
            all_rows[at + 1 : at + 1 + _LAST_COLUMN, :, row + _FIRST_ROW] = values[:, 0]

    def planes(self) -> np.ndarray:
        """(tiles, H, W)"""
        result = np.empty((self.values.shape[1], self.height, self.width), np.int32)
        for row in range(self.height):
            begin = _START + 2 * row
            result[:, row] = self.values[begin : begin + self.width, :, row + _FIRST_ROW].T
        return result


def front_count(height: int, width: int) -> int:
    return width + 2 * (height - 1)


def front_rows(time: int, height: int, width: int) -> slice:
    """Rows with a pixel in the front at a time."""
    return slice(max(0, (time - width + 2) // 2), min(height, time // 2 + 1))


def differences(time: int, rows: slice, own: Sheared, references: list[Sheared]) -> tuple[np.ndarray, np.ndarray]:
    """(int32 (n, tiles, rows): the neighbours of a front less the base of their plane, (tiles, rows): base of the own plane).

    A base is (W + N) >> 1.
    """
    found = [own.front(time, tap, rows) for tap in OWN_TAPS]
    base = (found[0] + found[1]) >> 1
    taps = [values - base for values in found]
    for values in references:
        around = [values.front(time, tap, rows) for tap in REFERENCE_TAPS]
        middle = (around[1] + around[2]) >> 1
        taps += [value - middle for value in around]
    return np.stack(taps), base


class PlaneContext:
    """The walk over the fronts of one plane: ``look`` gives features and prediction, ``learn`` takes the true values."""

    def __init__(
        self, tiles: int, height: int, width: int, references: "list[PlaneContext]", start: np.ndarray, whitening: np.ndarray
    ) -> None:
        """``start``: int32 (n,), weights of inputs; ``whitening``: int32 (n, n), rows that make inputs of differences."""
        self.values = Sheared(tiles, height, width, _GREY)
        self.errors = [Sheared(tiles, height, width, 0) for _ in ERROR_TAPS]
        self._references = [Sheared.of(r.values.planes()) for r in references]
        self._reference_errors = [Sheared.of(r.errors[0].planes()) for r in references]
        self._squares = LeastSquares(tiles, height, start)
        self._whitening = whitening.astype(np.float64)

    def look(self, time: int, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """(features int32 (F, tiles, rows), prediction (tiles, rows)) of the front."""
        taps, self._base = differences(time, rows, self.values, self._references)
        inputs = self._whitening @ taps.reshape(len(taps), -1).astype(np.float64)
        inputs = limited(np.floor(np.ldexp(inputs, -WHITENING_BITS) + 0.5), -INPUT_MAX, INPUT_MAX)
        self._inputs = inputs.reshape(taps.shape)
        self._predictions = limited(self._squares.predict(rows, self._inputs) + self._base, 0, VALUE_MAX)
        prediction, slow, fixed = self._predictions
        features = [taps, (prediction - self._base)[None], (slow - prediction)[None], (fixed - prediction)[None]]
        seen = [(e, taps_seen) for e, taps_seen in zip(self.errors, ERROR_TAPS, strict=True)]
        seen += [(e, REFERENCE_ERROR_TAPS) for e in self._reference_errors]
        features += [errors.front(time, tap, rows)[None] for errors, taps_seen in seen for tap in taps_seen]
        return limited(np.concatenate(features) >> (PIXEL_BITS - FEATURE_BITS), -FEATURE_MAX, FEATURE_MAX), prediction

    def learn(self, time: int, rows: slice, values: np.ndarray) -> None:
        """Takes the values (tiles, rows) that the front turned out to have."""
        errors = values - self._predictions
        self.values.store(time, rows, values)
        for sheared, error in zip(self.errors, errors, strict=True):
            sheared.store(time, rows, error)
        self._squares.learn(rows, self._inputs, values - self._base, errors[1])
