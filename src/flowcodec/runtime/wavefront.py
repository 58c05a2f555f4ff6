"""What the lossless coder sees of a pixel: neighbours already coded, and predictions by filters that learn as they go.

A tile is coded plane by plane, each along a wavefront: at time t the pixels (r, t - 2r) of all rows r at once. A pixel so knows
its neighbours to the west, north-west, north and north-east, and of earlier planes those on all sides. ``Sheared`` keeps a plane
in the order of time, so that a neighbour of a whole front is a slice. Everything is integer arithmetic in 32 bits.

Reference for the filters: normalised least mean squares, Haykin, Adaptive Filter Theory, 2002, ch. 6.
"""

import numpy as np

OWN_TAPS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0), (2, -1), (1, 2), (2, 1), (2, -2), (0, 3), (3, 0))
"""(rows up, columns left) of the neighbours in the plane being coded: W N NW NE WW NN NNE NWW NNW NNEE WWW NNN."""
REFERENCE_TAPS = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
"""The same in each plane coded before: the pixel itself, W N E S NW NE SW SE."""
ERROR_TAPS = ((*OWN_TAPS[:7], OWN_TAPS[9]), OWN_TAPS[:4])
"""Where the errors of each filter are seen."""
REFERENCE_ERROR_TAPS = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))
"""Where those of the fast filter are seen in planes coded before."""
PIXEL_BITS = 6
"""Fractional bits of a prediction."""
FEATURE_BITS = 2
"""Fractional bits of a feature."""
FEATURE_MAX = 1023

_FIRST_ROW = 3
_FIRST_COLUMN = 3
_START = 2 * _FIRST_ROW + _FIRST_COLUMN
_LAST_COLUMN = 2
_GREY = 128
WEIGHT_BITS = 14
_WEIGHT_MAX = 1 << 16
_GAIN_BITS = 14
_POWER_FLOOR = 512
_RATES = (1, 4)
_SPREAD_BITS = 2


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


class Filters:
    """Two normalised least-mean-squares filters of a plane, fast and slow; each row has weights of its own.

    After each pixel w += e d / (|d|^2 + floor) / 2^rate, d the neighbours less their base; then a row's weights move a part of
    the way to those of the row above.
    """

    def __init__(self, tiles: int, height: int, start: np.ndarray) -> None:
        """``start``: int32 (taps,), the weights of a first row."""
        weights = np.broadcast_to(start[:, None, None], (len(_RATES), len(start), tiles, height))
        self.weights = weights.copy()
        self._begun = 1

    def predict(self, rows: slice, taps: np.ndarray) -> np.ndarray:
        """(filters, tiles, rows): the weighted sums of taps (taps, tiles, rows), in 1/64 pixel."""
        if rows.stop > self._begun:
            self.weights[..., rows.stop - 1] = self.weights[..., rows.stop - 2]
            self._begun = rows.stop
        sums = np.einsum("fntr,ntr->ftr", self.weights[..., rows], taps)
        return (sums + (1 << (WEIGHT_BITS - PIXEL_BITS - 1))) >> (WEIGHT_BITS - PIXEL_BITS)

    def learn(self, rows: slice, taps: np.ndarray, errors: np.ndarray) -> None:
        """``errors`` (filters, tiles, rows) of the predictions, in 1/64 pixel."""
        power = np.einsum("ntr,ntr->tr", taps, taps) + _POWER_FLOOR
        gains = (errors << _GAIN_BITS) // power
        for weights, gain, rate in zip(self.weights, gains, _RATES, strict=True):
            part = weights[..., rows]
            part += (gain * taps) >> (rate + PIXEL_BITS)
            limited(part, -_WEIGHT_MAX, _WEIGHT_MAX)
            part[..., 1:] += (part[..., :-1] - part[..., 1:]) >> _SPREAD_BITS


class PlaneContext:
    """The walk over the fronts of one plane: ``look`` gives features and prediction, ``learn`` takes the true values."""

    def __init__(self, tiles: int, height: int, width: int, references: "list[PlaneContext]", start: np.ndarray) -> None:
        self.values = Sheared(tiles, height, width, _GREY)
        self.errors = [Sheared(tiles, height, width, 0) for _ in _RATES]
        self.references = [(Sheared.of(r.values.planes()), Sheared.of(r.errors[0].planes())) for r in references]
        self.filters = Filters(tiles, height, start)

    def look(self, time: int, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """(features int32 (F, tiles, rows), prediction (tiles, rows) in 1/64 pixel) of the front."""
        own = [self.values.front(time, tap, rows) for tap in OWN_TAPS]
        base = (own[0] + own[1]) >> 1
        taps = [values - base for values in own]
        for values, _ in self.references:
            around = [values.front(time, tap, rows) for tap in REFERENCE_TAPS]
            middle = (around[1] + around[2]) >> 1
            taps += [value - middle for value in around]
        self.taps = np.stack(taps)
        self.base = base = base << PIXEL_BITS
        self._predictions = limited(self.filters.predict(rows, self.taps) + base, 0, 255 << PIXEL_BITS)
        fast, slow = self._predictions
        prediction = (fast + slow) >> 1
        fine = [prediction - base, fast - slow]
        fine += [e.front(time, tap, rows) for e, taps_seen in zip(self.errors, ERROR_TAPS, strict=True) for tap in taps_seen]
        fine += [errors.front(time, tap, rows) for _, errors in self.references for tap in REFERENCE_ERROR_TAPS]
        features = np.concatenate([self.taps << FEATURE_BITS, np.stack(fine) >> (PIXEL_BITS - FEATURE_BITS)])
        return limited(features, -FEATURE_MAX, FEATURE_MAX), prediction

    def learn(self, time: int, rows: slice, values: np.ndarray) -> None:
        """Takes the values (tiles, rows) that the front turned out to have."""
        errors = (values << PIXEL_BITS) - self._predictions
        self.values.store(time, rows, values)
        for sheared, error in zip(self.errors, errors, strict=True):
            sheared.store(time, rows, error)
        self.filters.learn(rows, self.taps, errors)
