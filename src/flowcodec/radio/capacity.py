"""What no code can beat: capacities of the links, and the distortions of coding Gaussian sources over them.

CSNR is a power ratio here (not dB); rates are bits per complex use, or nats where said.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.special import exp1


def awgn_capacity(csnr: float) -> float:
    """C = log2(1 + CSNR), bits per complex use. Shannon 1948."""
    return math.log2(1 + csnr)


def rayleigh_fast_capacity(csnr: float) -> float:
    """E log2(1 + |h|^2 g) = log2(e) e^(1/g) E1(1/g), bits per complex use: a new h every use, known to the receiver."""
    return math.log2(math.e) * math.exp(1 / csnr) * float(exp1(1 / csnr))


def rayleigh_outage(rate: float, csnr: float) -> float:
    """P(log2(1 + |h|^2 g) < rate) = 1 - exp(-(2^rate - 1) / g): one h for all uses, unknown to the transmitter."""
    return 1 - math.exp(-(2**rate - 1) / csnr)


def bits_per_pixel(cbr: float, capacity: float) -> float:
    """The rate a separate source code may have: 3 CBR complex uses per pixel."""
    return 3 * cbr * capacity


def reverse_water_filling(variances: np.ndarray, rate: float) -> np.ndarray:
    """D_i = min(theta, l_i) with sum max(0, 1/2 log2(l_i / theta)) = ``rate`` bits. Cover & Thomas, Elements, sec. 10.3.3."""

    def excess(level: float) -> float:
        return 0.5 * float(np.sum(np.maximum(np.log2(variances) - level, 0))) - rate

    level = _root(excess, float(np.log2(variances.max())) - 2 * rate - 1, float(np.log2(variances.max())))
    return np.minimum(2**level, variances)


def opta(variances: np.ndarray, uses: int, csnr: float) -> float:
    """The least mean distortion of independent Gaussians over ``uses`` complex uses of an AWGN link."""
    return float(np.mean(reverse_water_filling(variances, uses * awgn_capacity(csnr))))


def linear_powers(variances: np.ndarray, noise: float, power: float) -> np.ndarray:
    """p_i = max(0, sqrt(l_i N / mu) - N), sum p_i = ``power``: the best linear code of Gaussians, one real dimension each.

    ``noise``: variance N in a real dimension. Reference: Lee & Petersen, Optimal linear coding for vector channels, 1976.
    """
    roots = np.sqrt(variances)
    order = np.argsort(-roots, kind="stable")
    sums = np.cumsum(roots[order])
    counts = np.arange(1, len(roots) + 1)
    # With the m largest active, sqrt(N / mu) = (power + m N) / sum of roots; the last m for which its smallest stays positive.
    factors = (power + counts * noise) / np.maximum(sums, 1e-300)
    active = np.flatnonzero(roots[order] * factors > noise)
    factor = factors[active[-1]] if len(active) else 0.0
    return np.maximum(roots * factor - noise, 0)


def linear_distortion(variances: np.ndarray, noise: float, power: float) -> np.ndarray:
    """l_i N / (p_i + N) of the best linear code, per source."""
    return variances * noise / (linear_powers(variances, noise, power) + noise)


def hybrid_distortion(variance: float, share: float, csnr: float, design_csnr: float) -> float:
    """D of a Gaussian sample over one real use: ideal digital code at (1 - a) P, its error analog on top at a P.

    D = var (a P + N) / (P + N) * N' / (a P + N'), N the noise of the design and N' <= N the real one.
    References: Mittal & Phamdo 2002; Skoglund, Phamdo & Alajaji 2006.
    """
    error = variance * (share + 1 / design_csnr) / (1 + 1 / design_csnr)
    return error / (1 + share * csnr)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """The zero of a falling function between ``low`` and ``high``."""
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return (low + high) / 2
