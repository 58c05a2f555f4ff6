"""An information rate that a link is shown to carry, by any model of it: the auxiliary-channel bound.

For any densities q(y | s), and S equally likely among M symbols,

    I(S; Y) >= E log2[ M q(s | y) ],   q(s | y) = (1 - t) q(y | s) / sum_s' q(y | s') + t / M,

the mean taken over sent symbols and what the *true* link made of them. A wrong model only lowers it, by no more than
E KL(p(y | s) || q(y | s)). The share t bounds every term to [log2 t, log2 M], so that the mean of finitely many has a
confidence bound with no assumption on the link.

References: Arnold et al., Simulation-based computation of information rates for channels with memory, 2006; Maurer & Pontil,
Empirical Bernstein bounds, 2009, theorem 4.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from flowcodec.errors import InputError

SHARE = 1e-4
"""t: costs at most -log2(1 - t) = 0.00014 bit."""


@dataclass(frozen=True)
class CertifiedRate:
    """Bits per use."""

    mean: float
    standard_error: float
    lower: float
    """Below the true I(S; Y) with probability 1 - risk over the samples."""
    risk: float
    samples: int


def terms(log_density: np.ndarray, sent: np.ndarray) -> np.ndarray:
    """(k,) log2[M q(s | y)] of each use: ``log_density`` ln q(y | s) (k, M), ``sent`` the labels (k,). Raises InputError."""
    count, symbols = log_density.shape
    if len(sent) != count or count < 2:
        raise InputError(f"expected a density for each of at least 2 uses, found {count} for {len(sent)} uses")
    log_posterior = log_density[np.arange(count), sent] - logsumexp(log_density, axis=1)
    # A model that gives no symbol any density says nothing of the use: the uniform share remains.
    posterior = np.nan_to_num(np.exp(log_posterior), nan=0.0)
    return np.log2((1 - SHARE) * symbols * posterior + SHARE)


def certify(log_density: np.ndarray, sent: np.ndarray, risk: float = 0.05) -> CertifiedRate:
    """``sent`` and the received values behind ``log_density`` must be fresh: of no use that the model was fitted to."""
    found = terms(log_density, sent)
    count, symbols = log_density.shape
    spread = math.log2((1 - SHARE) * symbols + SHARE) - math.log2(SHARE)
    variance, log_risk = float(np.var(found, ddof=1)), math.log(2 / risk)
    slack = math.sqrt(2 * variance * log_risk / count) + 7 * spread * log_risk / (3 * (count - 1))
    mean = float(np.mean(found))
    return CertifiedRate(mean, math.sqrt(variance / count), mean - slack, risk, count)


@dataclass(frozen=True)
class GaussianModel:
    """y = h s + v, v ~ CN(0, N0), with h and N0 fitted to pairs: what a receiver assumes that knows no better."""

    gain: complex
    noise: float

    @classmethod
    def fit(cls, sent: np.ndarray, received: np.ndarray) -> "GaussianModel":
        """Least squares. Raises InputError."""
        if len(sent) != len(received) or len(sent) < 2:
            raise InputError(f"expected at least 2 pairs, found {len(sent)} sent and {len(received)} received")
        gain = complex(np.vdot(sent, received) / np.vdot(sent, sent))
        return cls(gain, float(np.mean(np.abs(received - gain * sent) ** 2)))

    def log_density(self, samples: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        """ln q(y | s), nats: complex (k,), (M,) -> (k, M)."""
        return -(np.abs(samples[:, None] - self.gain * symbols) ** 2) / self.noise - math.log(math.pi * self.noise)
