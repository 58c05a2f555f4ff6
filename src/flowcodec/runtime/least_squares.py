"""Linear prediction by recursive least squares along a wavefront, in integers.

Each row of each tile keeps the weighted covariance A of its (whitened) inputs z and their products b with the target, both
forgetting, and weights w that follow ``(A + ridge) w = b + ridge start`` by a few sweeps of Gauss-Seidel a pixel. After a
front the statistics of a row move a part of the way to those of the row above. Integers are held in int32, or in float64 while
every sum stays below 2^53, so that any order of summation gives the same.

References: Haykin, Adaptive Filter Theory, 2002, ch. 9 (least squares); Ye and Hou, Comput. Stand. Interfaces, 2013, for
pixel-wise least squares in lossless coding.
"""

import numpy as np

INPUT_BITS = 8
"""Fractional bits of an input."""
INPUT_MAX = 1 << 16
WEIGHT_BITS = 14
_WEIGHT_MAX = float(1 << 21)
_STATISTIC_BITS = 6
"""Fractional bits of each of the two factors of a covariance."""
_SHARE_BITS = 16
_FLOOR = 77
"""Added to the mean magnitude by which a pixel's weight is divided, 0.3."""
_SPREAD_BITS, _FORGET_BITS = 2, 4
_RIDGE = 2 << 2 * _STATISTIC_BITS
_SWEEPS = 2
_GAIN_BITS, _SLOW_RATE = 22, 2
_POWER_FLOOR = 1 << 18


class LeastSquares:
    """Predicts targets from inputs (n, tiles, rows): by least squares over what is near, and by slow gradient steps."""

    def __init__(self, tiles: int, height: int, start: np.ndarray) -> None:
        """``start``: int32 (n,), the weights of a first row, 2^-14."""
        count = len(start)
        self._covariance = np.zeros((count, count, tiles, height), np.int32)
        self._products = np.zeros((count, tiles, height), np.int32)
        self._start = start.astype(np.float64)
        weights = np.broadcast_to(self._start[:, None, None], (count, tiles, height))
        self._weights, self._slow = weights.copy(), weights.copy()
        self._begun = 1

    def predict(self, rows: slice, inputs: np.ndarray) -> np.ndarray:
        """float64 inputs (n, tiles, rows), integers -> int32 (3, tiles, rows): by least squares, slow steps, start weights."""
        if rows.stop > self._begun:
            for array in (self._covariance, self._products, self._weights, self._slow):
                array[..., rows.stop - 1] = array[..., rows.stop - 2]
            self._begun = rows.stop
        self._solve(rows)
        sums = np.stack(
            [
                np.einsum("ntr,ntr->tr", self._weights[..., rows], inputs),
                np.einsum("ntr,ntr->tr", self._slow[..., rows], inputs),
                np.einsum("n,ntr->tr", self._start, inputs),
            ]
        )
        return np.floor(np.ldexp(sums, -WEIGHT_BITS) + 0.5).astype(np.int32)

    def _solve(self, rows: slice) -> None:
        covariance = self._covariance[..., rows].astype(np.float64)
        count, shape = len(covariance), covariance.shape[2:]
        covariance = covariance.reshape(count, count, -1)
        diagonal = np.arange(count)
        covariance[diagonal, diagonal] += _RIDGE
        right = np.ldexp(self._products[..., rows].astype(np.float64), WEIGHT_BITS) + (_RIDGE * self._start)[:, None, None]
        right = right.reshape(count, -1)
        weights = self._weights[..., rows].reshape(count, -1)
        for _ in range(_SWEEPS):
            for row, goal, weight, power in zip(covariance, right, weights, covariance[diagonal, diagonal], strict=True):
                change = goal - np.einsum("nr,nr->r", row, weights)
                change /= power
                weight += np.floor(change, out=change)
                np.minimum(np.maximum(weight, -_WEIGHT_MAX, out=weight), _WEIGHT_MAX, out=weight)
        self._weights[..., rows] = weights.reshape(count, *shape)

    def learn(self, rows: slice, inputs: np.ndarray, targets: np.ndarray, slow_errors: np.ndarray) -> None:
        """int32 targets (tiles, rows) and errors of the slow prediction, 1/256."""
        self._gather(rows, inputs.astype(np.int64), targets)
        self._step(rows, inputs, slow_errors)

    def _gather(self, rows: slice, inputs: np.ndarray, targets: np.ndarray) -> None:
        count = len(inputs)
        shares = (count << (_SHARE_BITS + INPUT_BITS)) // (np.abs(inputs).sum(0) + _FLOOR * count)
        cut = _SHARE_BITS + INPUT_BITS - _STATISTIC_BITS
        weighted = ((inputs * shares + (1 << (cut - 1))) >> cut).astype(np.int32)
        plain = (inputs >> (INPUT_BITS - _STATISTIC_BITS)).astype(np.int32)
        target = targets >> (INPUT_BITS - _STATISTIC_BITS)
        self._forget(self._covariance[..., rows], weighted[:, None] * plain)
        self._forget(self._products[..., rows], weighted * target)

    @staticmethod
    def _forget(statistics: np.ndarray, news: np.ndarray) -> None:
        """s += (above - s - (s >> 2)) >> 2 in all rows but the first, s -= s >> 4 in that; then the news, one to a row."""
        statistics += news
        change = statistics >> (_FORGET_BITS - _SPREAD_BITS)
        change += statistics
        np.subtract(statistics[..., :-1], change[..., 1:], out=change[..., 1:])
        change[..., 1:] >>= _SPREAD_BITS
        change[..., 0] = -(statistics[..., 0] >> _FORGET_BITS)
        statistics += change

    def _step(self, rows: slice, inputs: np.ndarray, errors: np.ndarray) -> None:
        power = np.einsum("ntr,ntr->tr", inputs, inputs).astype(np.int64) + _POWER_FLOOR
        gains = ((errors.astype(np.int64) << _GAIN_BITS) // power).astype(np.float64)
        slow = self._slow[..., rows]
        slow += np.floor(np.ldexp(gains * inputs, WEIGHT_BITS - _GAIN_BITS - _SLOW_RATE))
        np.minimum(np.maximum(slow, -_WEIGHT_MAX, out=slow), _WEIGHT_MAX, out=slow)
        for weights in (slow, self._weights[..., rows]):
            weights[..., 1:] += np.floor(np.ldexp(weights[..., :-1] - weights[..., 1:], -_SPREAD_BITS))
