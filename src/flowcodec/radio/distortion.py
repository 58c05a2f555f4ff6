"""Links whose law the receiver does not know: y = A(s) e^(j phi) + v, with impulses in v, phase noise phi, an amplifier A.

Each has its true law as a density, for the true LLRs and for the true information rate, against which a learned law is measured.
Units as in ``radio.link``: the symbols have mean power 1, N0 = 1 / CSNR is the mean noise power of a complex use.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import logsumexp

from flowcodec.errors import InputError
from flowcodec.radio.link import IMPULSE_PROBABILITY, IMPULSE_RATIO, Noise, circular, noise_power

_SALEH = (2.1587, 1.1517, 4.0033, 9.1040)
"""alpha and beta of amplitude, alpha and beta of phase. Saleh, Models of TWT amplifiers, 1981, table I."""
_PHASE_NODES = 24
_CHUNK = 1 << 11


@dataclass(frozen=True)
class DistortedLink:
    """A memoryless link. Raises InputError."""

    name: str
    impulses: bool = False
    """Bernoulli-Gauss noise as in ``link.impulsive`` instead of Gaussian noise."""
    phase_deviation: float = 0.0
    """Standard deviation of phi in radians, new in every use."""
    back_off_db: float | None = None
    """Input power below the amplifier's saturation input; None: a linear amplifier."""

    def __post_init__(self) -> None:
        if not 0 <= self.phase_deviation < 1:
            raise InputError(f"phase_deviation: expected 0 to 1 rad, found {self.phase_deviation}")

    def noise(self, csnr_db: float) -> Noise:
        """The law of v: (weight, variance of a complex use) of its Gaussian parts."""
        power = noise_power(csnr_db)
        if not self.impulses:
            return ((1.0, power),)
        background = power / (1 - IMPULSE_PROBABILITY + IMPULSE_PROBABILITY * IMPULSE_RATIO)
        return ((1 - IMPULSE_PROBABILITY, background), (IMPULSE_PROBABILITY, background * IMPULSE_RATIO))

    def amplified(self, symbols: np.ndarray) -> np.ndarray:
        """A(s), with a small-signal gain of 1: Saleh's amplitude and phase curves."""
        if self.back_off_db is None:
            return symbols
        _, amplitude_bend, phase_gain, phase_bend = _SALEH
        # Saturation is at r = 1 / sqrt(beta) of the amplitude curve.
        drive = 10 ** (-self.back_off_db / 20) / math.sqrt(amplitude_bend)
        squares = (drive * np.abs(symbols)) ** 2
        turn = phase_gain * squares / (1 + phase_bend * squares)
        return symbols / (1 + amplitude_bend * squares) * np.exp(1j * turn)

    def transmit(self, symbols: np.ndarray, csnr_db: float, rng: np.random.Generator) -> np.ndarray:
        """complex (k,) -> complex (k,)."""
        law = self.noise(csnr_db)
        part = rng.choice(len(law), len(symbols), p=[weight for weight, _ in law])
        deviations = np.sqrt([variance for _, variance in law])[part]
        turned = self.amplified(symbols) * np.exp(1j * self.phase_deviation * rng.standard_normal(len(symbols)))
        return turned + deviations * circular(len(symbols), rng)

    def log_density(self, samples: np.ndarray, symbols: np.ndarray, csnr_db: float) -> np.ndarray:
        """ln p(y | s), nats: complex (k,), (M,) -> (k, M). The phase is integrated by Gauss-Hermite quadrature."""
        nodes, weights = _phases(self.phase_deviation)
        centres = (self.amplified(symbols)[:, None] * np.exp(1j * nodes)).reshape(-1)
        found = np.empty((len(samples), len(symbols)))
        for begin in range(0, len(samples), _CHUNK):
            part = slice(begin, begin + _CHUNK)
            squares = (np.abs(samples[part, None] - centres) ** 2).reshape(-1, len(symbols), len(nodes))
            terms = [np.log(w * weights / (math.pi * v)) - squares / v for w, v in self.noise(csnr_db)]
            found[part] = logsumexp(np.concatenate(terms, axis=2), axis=2)
        return found

    def information(self, symbols: np.ndarray, csnr_db: float, nodes: int = 24) -> float:
        """I(S; Y) in bits per use of equally likely symbols, by Gauss-Hermite quadrature over phase and noise.

        The constellation is taken to be symmetric under a quarter turn, as all QAM are: one quadrant of it is integrated.
        """
        quadrant = symbols[(symbols.real > 0) & (symbols.imag > 0)]
        if 4 * len(quadrant) != len(symbols):
            raise InputError(f"symbols: expected a constellation symmetric under quarter turns, found {len(symbols)} points")
        roots, weights = np.polynomial.hermite.hermgauss(nodes)
        offsets = (roots[:, None] + 1j * roots).reshape(-1)
        masses = (weights[:, None] * weights).reshape(-1) / math.pi
        turns, chances = _phases(self.phase_deviation)
        total = 0.0
        for symbol in quadrant:
            column = int(np.flatnonzero(symbols == symbol)[0])
            for weight, variance in self.noise(csnr_db):
                for turn, chance in zip(turns, chances, strict=True):
                    samples = self.amplified(np.array([symbol]))[0] * np.exp(1j * turn) + math.sqrt(variance) * offsets
                    density = self.log_density(samples, symbols, csnr_db)
                    ratio = density[:, column] - logsumexp(density, axis=1) + math.log(len(symbols))
                    total += weight * chance * float(masses @ ratio) / len(quadrant)
        return total / math.log(2)


@lru_cache
def _phases(deviation: float) -> tuple[np.ndarray, np.ndarray]:
    """(phases, probabilities) of a quadrature of N(0, deviation^2)."""
    if deviation == 0:
        return np.zeros(1), np.ones(1)
    nodes, weights = np.polynomial.hermite.hermgauss(_PHASE_NODES)
    return nodes * math.sqrt(2) * deviation, weights / math.sqrt(math.pi)


UNKNOWN_LINKS = {
    link.name: link
    for link in (
        DistortedLink("impulsive", impulses=True),
        DistortedLink("phase-noise", phase_deviation=0.12),
        DistortedLink("amplifier", back_off_db=8.0),
        DistortedLink("all-three", impulses=True, phase_deviation=0.08, back_off_db=10.0),
    )
}
