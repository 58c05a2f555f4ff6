"""The dual bound where the dimension allows it on real pictures: pairs of neighbouring 8-bit values, both bounds certain.

The source is a histogram over {0 ... 255}^2 of a named set of pictures, reproductions are 8-bit too, so that the condition of
Csiszar's bound is checked at *every* y and nothing is sampled: no confidence is involved. For a law w on the reproductions and
Z(x) = sum_y w(y) exp(-lam d(x, y)),

    -E ln Z - lam D - ln max_y E[exp(-lam d(X, y)) / Z(X)]  <=  R(D)  <=  -E ln Z - lam D,   D that of q(y|x) ~ w(y) exp(-lam d).

Reference: Blahut, Computation of channel capacity and rate-distortion functions, 1972; Csiszar, On an extremum problem of
information theory, 1974.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from flowcodec.errors import InputError

VALUES = 256


@dataclass(frozen=True)
class PairBounds:
    """Of pairs at one slope; rates in bits and squared errors a *sample*, half of the pair's."""

    distortion: float
    lower_bits: float
    upper_bits: float


def pair_histogram(planes: Iterable[np.ndarray]) -> np.ndarray:
    """(256, 256) probabilities of (left, right) of horizontal neighbours at even columns of uint8 planes (H, W)."""
    counts = np.zeros(VALUES**2)
    for plane in planes:
        width = plane.shape[1] // 2 * 2
        left, right = plane[:, 0:width:2].astype(np.int64), plane[:, 1:width:2].astype(np.int64)
        counts += np.bincount((left * VALUES + right).reshape(-1), minlength=VALUES**2)
    if not counts.sum():
        raise InputError("pairs: expected planes of at least two columns")
    return counts.reshape(VALUES, VALUES) / counts.sum()


def entropy_bits(histogram: np.ndarray) -> float:
    """H a sample, half of the pair's."""
    p = histogram[histogram > 0]
    return float(-(p * np.log2(p)).sum() / 2)


def pair_bounds(histogram: np.ndarray, slope: float, rounds: int = 300) -> PairBounds:
    """Both bounds at -dR/dD = slope (nats), by Blahut's iteration from the uniform law."""
    if not slope > 0:
        raise InputError(f"slope: expected a positive number, found {slope:g}")
    values = np.arange(VALUES, dtype=np.float64)
    squares = np.subtract.outer(values, values) ** 2
    kernel = np.exp(-slope * squares)
    law = np.full_like(histogram, 1 / histogram.size)
    for _ in range(rounds):
        law = law * _both(kernel, histogram / _sums(kernel, law))
        law /= law.sum()
    z = _sums(kernel, law)
    weights = histogram / z
    # E d by the two coordinates: d = (x1 - y1)^2 + (x2 - y2)^2.
    moved = kernel * squares
    distortion = float((weights * (moved @ law @ kernel.T + kernel @ law @ moved.T)).sum())
    seen = histogram > 0
    nats = float(-(histogram[seen] * np.log(z[seen])).sum()) - slope * distortion
    excess = math.log(_both(kernel, weights).max())
    return PairBounds(distortion / 2, max(nats - excess, 0.0) / math.log(2) / 2, nats / math.log(2) / 2)


def _sums(kernel: np.ndarray, law: np.ndarray) -> np.ndarray:
    """Z of every x; positive where x is far from every reproduction, too."""
    return np.maximum(_both(kernel, law), 1e-300)


def _both(kernel: np.ndarray, table: np.ndarray) -> np.ndarray:
    """sum_{x1, x2} kernel[y1, x1] kernel[y2, x2] table[x1, x2]; kernel symmetric."""
    return kernel @ table @ kernel


def shannon_bits(histogram: np.ndarray, distortion: float) -> float:
    """H - (1/2) log2(2 pi e (D + 1/12)) a sample, H exact: a bound for integers, as uniform noise on +-1/2 has variance 1/12."""
    return max(entropy_bits(histogram) - 0.5 * math.log2(2 * math.pi * math.e * (distortion + 1 / 12)), 0.0)
