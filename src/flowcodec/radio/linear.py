"""Analog coding of real numbers: scaled by Lee-Petersen, mixed over all uses, and estimated back.

The numbers are sorted into classes of known variance; sender and receiver compute the same gains from the classes, the count of
active numbers and one scale, so nothing else is sent. Mixing is a fixed random sign and order followed by an orthonormal DCT over
the whole vector: every use then has the same power and a nearly Gaussian law, and a burst hits all numbers a little.
Reference: Lee & Petersen, Optimal linear coding for vector channels, 1976.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.fft import dct, idct

from flowcodec.radio.capacity import linear_powers

LEVELS_PER_OCTAVE = 8
"""Variances are exchanged as integers round(8 log2 l), so that both sides order them alike."""
_SEED = 0xA11A


def variance_levels(variances: np.ndarray) -> np.ndarray:
    """int64 classes round(8 log2 l)."""
    return np.rint(LEVELS_PER_OCTAVE * np.log2(variances)).astype(np.int64)


@dataclass(frozen=True)
class Allocation:
    """Which numbers are sent, and how strong."""

    chosen: np.ndarray
    """Indices of the active numbers, by falling variance."""
    variances: np.ndarray
    """Of the active numbers."""
    gains: np.ndarray
    """g_i = sqrt(p_i / l_i) of the active numbers, for a total power of ``dimensions``."""
    dimensions: int
    """Real dimensions they are spread over."""


def allocate(levels: np.ndarray, dimensions: int, noise: float) -> Allocation:
    """``noise``: variance N of a real dimension where an analog dimension has unit power, at the design CSNR."""
    order = np.argsort(-levels, kind="stable")[:dimensions]
    variances = np.exp2(levels[order] / LEVELS_PER_OCTAVE)
    powers = linear_powers(variances, noise, float(dimensions))
    active = int(np.count_nonzero(powers > 0))
    return Allocation(order[:active], variances[:active], np.sqrt(powers[:active] / variances[:active]), dimensions)


def send(numbers: np.ndarray, allocation: Allocation) -> tuple[np.ndarray, float]:
    """(real (dimensions,) of mean power exactly 1, the scale that made it so, which the receiver is told)."""
    spread = np.zeros(allocation.dimensions)
    spread[: len(allocation.chosen)] = numbers[allocation.chosen] * allocation.gains
    power = float(np.mean(spread**2))
    if power == 0:
        return spread, 0.0
    scale = float(np.float32(1 / np.sqrt(power)))
    return _mix(spread) * scale, scale


def receive(samples: np.ndarray, allocation: Allocation, scale: float, noise: float) -> np.ndarray:
    """Linear MMSE estimates of the active numbers, in the order of ``chosen``.

    ``samples``: real (dimensions,), the sent values of unit power and noise of variance ``noise`` in a dimension.
    """
    if scale == 0 or noise == np.inf:
        return np.zeros(len(allocation.chosen))
    found = _unmix(samples)[: len(allocation.chosen)]
    # The scale says how far the real variances were from the modelled ones.
    gains, variances = allocation.gains * scale, allocation.variances / scale**2
    return found * gains * variances / (gains**2 * variances + noise)


def remaining(allocation: Allocation, scale: float, noise: float) -> np.ndarray:
    """Variances l N / (g^2 l + N) of the errors of ``receive``, by the model."""
    gains, variances = allocation.gains * scale, allocation.variances / scale**2
    return variances * noise / (gains**2 * variances + noise)


def observe(samples: np.ndarray, allocation: Allocation, scale: float, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """(values, variances of their noise) of the active numbers, with no estimate yet: number + noise. See ``receive``."""
    if scale == 0 or not np.isfinite(noise):
        return np.zeros(len(allocation.chosen)), np.full(len(allocation.chosen), np.inf)
    gains = allocation.gains * scale
    return _unmix(samples)[: len(allocation.chosen)] / gains, noise / gains**2


@lru_cache(maxsize=4)
def _order(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.Generator(np.random.Philox(key=[_SEED, count]))
    return rng.permutation(count), rng.choice([-1.0, 1.0], count)


def _mix(values: np.ndarray) -> np.ndarray:
    order, signs = _order(len(values))
    shuffled = np.empty_like(values)
    shuffled[order] = values * signs
    return dct(shuffled, norm="ortho")


def _unmix(values: np.ndarray) -> np.ndarray:
    order, signs = _order(len(values))
    return idct(values, norm="ortho")[order] * signs


def to_complex(values: np.ndarray) -> np.ndarray:
    """real (2k,) of unit power -> complex (k,) of unit power."""
    return (values[0::2] + 1j * values[1::2]) * np.sqrt(0.5)


def to_real(values: np.ndarray) -> np.ndarray:
    """complex (k,) of unit power -> real (2k,) of unit power."""
    return np.stack([values.real, values.imag], axis=1).reshape(-1) * np.sqrt(2)
