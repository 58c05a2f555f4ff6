"""Simulated radio links in complex baseband: y = h s + v.

Definitions used everywhere in ``radio``:

- ``uses``: complex channel uses k; one is two real dimensions. CBR complex = k / (3 H W) complex uses per colour sample, CBR real
  = 2 k / (3 H W).
- Power: (1 / k) sum |s|^2 = 1 for every image, not only on average over images.
- CSNR = P / N0 with v ~ CN(0, N0): the same number for a complex use and for each of its real dimensions. With fading it is the
  mean over h, E|h|^2 = 1; with impulses N0 is the mean noise power.
- The receiver knows h (CSIR) and the law of the noise, the transmitter only the law of the link (no CSIT).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from flowcodec.errors import InputError

IMPULSE_PROBABILITY, IMPULSE_RATIO = 0.02, 100.0
"""Of the impulsive link: share of the uses hit, and the noise power there over that elsewhere."""
BURST_LOSS, BURST_LENGTH = 0.1, 256
"""Of the erasure link: share of the uses lost, and the mean length of a loss in uses."""

Noise = tuple[tuple[float, float], ...]
"""A law of complex noise: (weight, variance N0 of a complex use) of each of its zero-mean circular Gaussian parts."""


@dataclass(frozen=True)
class Received:
    """What comes out of a link, and what the receiver knows of it."""

    samples: np.ndarray
    """complex128 (k,): y"""
    gains: np.ndarray
    """complex128 (k,): h of each use; 0 where the use is known to be lost"""
    noise: Noise

    @property
    def noise_power(self) -> float:
        """Mean N0 of a complex use."""
        return sum(weight * variance for weight, variance in self.noise)

    def part(self, uses: slice) -> "Received":
        return Received(self.samples[uses], self.gains[uses], self.noise)


Link = Callable[[np.ndarray, float, np.random.Generator], Received]


def noise_power(csnr_db: float) -> float:
    """N0 for P = 1."""
    return float(10 ** (-csnr_db / 10))


def circular(count: int, rng: np.random.Generator) -> np.ndarray:
    """complex128 (count,) of CN(0, 1)."""
    return (rng.standard_normal(count) + 1j * rng.standard_normal(count)) * np.sqrt(0.5)


def awgn(symbols: np.ndarray, csnr_db: float, rng: np.random.Generator) -> Received:
    """y = s + v."""
    return _add_noise(symbols, np.ones(len(symbols), complex), csnr_db, rng)


def rayleigh_slow(symbols: np.ndarray, csnr_db: float, rng: np.random.Generator) -> Received:
    """y = h s + v, one h ~ CN(0, 1) for all uses of the call, i.e. one for each image."""
    return _add_noise(symbols, np.full(len(symbols), circular(1, rng)[0]), csnr_db, rng)


def rayleigh_fast(symbols: np.ndarray, csnr_db: float, rng: np.random.Generator) -> Received:
    """y = h s + v, a new h ~ CN(0, 1) for every use."""
    return _add_noise(symbols, circular(len(symbols), rng), csnr_db, rng)


def erasure(symbols: np.ndarray, csnr_db: float, rng: np.random.Generator) -> Received:
    """AWGN, and bursts of a Gilbert-Elliott process in which y = 0 at known places."""
    into = BURST_LOSS / (1 - BURST_LOSS) / BURST_LENGTH
    lost = np.zeros(len(symbols), bool)
    position, bad = 0, rng.random() < BURST_LOSS
    while position < len(symbols):
        length = int(rng.geometric(1 / BURST_LENGTH if bad else into))
        lost[position : position + length] = bad
        position, bad = position + length, not bad
    received = awgn(symbols, csnr_db, rng)
    return Received(np.where(lost, 0, received.samples), np.where(lost, 0, 1).astype(complex), received.noise)


def impulsive(symbols: np.ndarray, csnr_db: float, rng: np.random.Generator) -> Received:
    """Bernoulli-Gauss noise: a use is hit with IMPULSE_PROBABILITY; the receiver knows this law, not which uses are hit."""
    background = noise_power(csnr_db) / (1 - IMPULSE_PROBABILITY + IMPULSE_PROBABILITY * IMPULSE_RATIO)
    hit = rng.random(len(symbols)) < IMPULSE_PROBABILITY
    deviation = np.sqrt(np.where(hit, background * IMPULSE_RATIO, background))
    noise = ((1 - IMPULSE_PROBABILITY, background), (IMPULSE_PROBABILITY, background * IMPULSE_RATIO))
    return Received(symbols + deviation * circular(len(symbols), rng), np.ones(len(symbols), complex), noise)


def _add_noise(symbols: np.ndarray, gains: np.ndarray, csnr_db: float, rng: np.random.Generator) -> Received:
    power = noise_power(csnr_db)
    return Received(gains * symbols + np.sqrt(power) * circular(len(symbols), rng), gains, ((1.0, power),))


LINKS: dict[str, Link] = {
    "awgn": awgn,
    "rayleigh-slow": rayleigh_slow,
    "rayleigh-fast": rayleigh_fast,
    "erasure": erasure,
    "impulsive": impulsive,
}


def find_link(name: str) -> Link:
    """Raises InputError."""
    if name not in LINKS:
        raise InputError(f"link: expected one of {', '.join(LINKS)}, found {name!r}")
    return LINKS[name]
