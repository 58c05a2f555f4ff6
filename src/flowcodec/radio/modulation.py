"""Gray-mapped QAM with unit mean power, and exact bit log-likelihood ratios.

A symbol carries m bits: the first m/2 choose its real part, the rest its imaginary part, each a Gray-labelled amplitude.
LLR = ln p(bit = 1 | y) - ln p(bit = 0 | y), the sign that sionna's decoders take.
"""

from functools import lru_cache

import numpy as np
from scipy.special import logsumexp

from flowcodec.errors import InputError
from flowcodec.radio.link import Noise

NAMES = {2: "QPSK", 4: "16-QAM", 6: "64-QAM", 8: "256-QAM"}
_CHUNK = 1 << 14


@lru_cache
def amplitudes(bits: int) -> np.ndarray:
    """(2^(m/2),) amplitudes of a real dimension of a 2^m-QAM, indexed by their Gray label (first bit most significant)."""
    if bits not in NAMES:
        raise InputError(f"bits per symbol: expected one of {', '.join(map(str, NAMES))}, found {bits}")
    side = 1 << (bits // 2)
    positions = np.arange(side)
    levels = np.empty(side)
    levels[positions ^ (positions >> 1)] = 2 * positions - (side - 1)
    return levels / np.sqrt(2 * np.mean(levels**2))


@lru_cache
def points(bits: int) -> np.ndarray:
    """complex (2^m,) constellation indexed by label."""
    levels = amplitudes(bits)
    return (levels[:, None] + 1j * levels).reshape(-1)


def modulate(coded: np.ndarray, bits: int) -> np.ndarray:
    """Bits (k m,) -> complex (k,)."""
    weights = 1 << np.arange(bits - 1, -1, -1)
    return points(bits)[coded.reshape(-1, bits).astype(np.int64) @ weights]


def llrs(samples: np.ndarray, gains: np.ndarray, noise: Noise, bits: int, layer: float = 0.0) -> np.ndarray:
    """(k m,) exact LLRs of y = h (s + a) + v with a ~ CN(0, ``layer``), an analog layer known only as noise.

    Gaussian noise makes the two real dimensions independent; mixtures are summed over the whole constellation.
    """
    if len(noise) == 1:
        variance = noise[0][1] + layer * np.abs(gains) ** 2
        # h* y / |h| has real gain |h|; a lost use (h = 0) gives LLR 0.
        size = np.abs(gains)
        turned = samples * np.conj(gains) / np.maximum(size, 1e-300)
        halves = [_dimension(part, size, variance, bits) for part in (turned.real, turned.imag)]
        return np.concatenate(halves, axis=1).reshape(-1)
    labels = _label_bits(bits)
    found = np.empty((len(samples), bits))
    for begin in range(0, len(samples), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        distance = np.abs(samples[part, None] - gains[part, None] * points(bits)) ** 2
        power = np.abs(gains[part, None]) ** 2 * layer
        log_density = logsumexp([np.log(w / (v + power)) - distance / (v + power) for w, v in noise], axis=0)
        found[part] = _ratio(log_density, labels)
    return found.reshape(-1)


def ratios_of(log_density: np.ndarray) -> np.ndarray:
    """ln p(y | s) of every point of a 2^m-QAM, (k, 2^m) -> (k, m) LLRs, for links of any law."""
    return _ratio(log_density, _label_bits(log_density.shape[1].bit_length() - 1))


def _dimension(samples: np.ndarray, gains: np.ndarray, variance: np.ndarray, bits: int) -> np.ndarray:
    """(k, m/2) LLRs of one real dimension; its noise has half the variance, hence no 2 below the square."""
    labels = _label_bits(bits // 2)
    found = np.empty((len(samples), bits // 2))
    for begin in range(0, len(samples), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        metric = -((samples[part, None] - gains[part, None] * amplitudes(bits)) ** 2) / variance[part, None]
        found[part] = _ratio(metric, labels)
    return found


def _ratio(log_density: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """ln of the sum where the bit is 1 over the sum where it is 0; (k, M), (M, m) -> (k, m)."""
    # Relative to the best point of each half, so that neither sum underflows at high CSNR.
    columns = []
    for ones in labels.T.astype(bool):
        parts = (log_density[:, ones], log_density[:, ~ones])
        tops = [part.max(axis=1) for part in parts]
        sums = [np.log(np.exp(part - top[:, None]).sum(axis=1)) + top for part, top in zip(parts, tops, strict=True)]
        columns.append(sums[0] - sums[1])
    return np.stack(columns, axis=1)


@lru_cache
def _label_bits(bits: int) -> np.ndarray:
    return (np.arange(1 << bits)[:, None] >> np.arange(bits - 1, -1, -1)) & 1
