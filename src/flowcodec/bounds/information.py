"""Mutual information of a known channel from samples alone: a sandwich without training, and estimates that are no bounds.

q(z|x) is known, so ln q(z_i | x_j) can be had for all pairs of n samples. No prior and no critic enter.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from flowcodec.errors import InputError


@dataclass(frozen=True)
class Sandwich:
    """Means over the samples, nats: E[infonce] <= I(X;Z) <= E[leave_one_out]."""

    infonce: float
    """E[ln q(z_i|x_i) - ln (1/n) sum_j q(z_i|x_j)]: a **lower** bound in expectation, never above ln n."""
    leave_one_out: float
    """E[ln q(z_i|x_i) - ln (1/(n-1)) sum_{j != i} q(z_i|x_j)]: an **upper** bound in expectation."""


def sandwich(log_q: np.ndarray) -> Sandwich:
    """Both bounds from log_q[i, j] = ln q(z_i | x_j), (n, n), n >= 2, nats.

    Reference: Poole, Ozair, van den Oord, Alemi & Tucker, On variational bounds of mutual information, 2019, eqs. 10 and 13.
    """
    n = len(log_q)
    if n < 2 or log_q.shape != (n, n):
        raise InputError(f"log q: expected an (n, n) matrix of at least 2 samples, found {log_q.shape}")
    own = np.diag(log_q)
    others = np.where(np.eye(n, dtype=bool), -np.inf, log_q)
    infonce = own - (np.logaddexp.reduce(log_q, axis=1) - math.log(n))
    leave_one_out = own - (np.logaddexp.reduce(others, axis=1) - math.log(n - 1))
    return Sandwich(float(infonce.mean()), float(leave_one_out.mean()))


def gaussian_log_q(z: np.ndarray, x: np.ndarray, sigma: float) -> np.ndarray:
    """ln N(z_i; x_j, sigma^2 I) for z, x (n, d) -> (n, n)."""
    squares = (z**2).sum(1)[:, None] + (x**2).sum(1)[None] - 2 * z @ x.T
    return -squares / (2 * sigma**2) - 0.5 * z.shape[1] * math.log(2 * math.pi * sigma**2)


@dataclass(frozen=True)
class Estimate:
    """A number that may lie on either side of the truth; ``because`` says why it is no bound."""

    value: float
    because: str


def donsker_varadhan(critic_on_p: ArrayLike, critic_on_q: ArrayLike) -> Estimate:
    """E_P v - ln E_Q e^v on samples, nats: an estimate of KL(P || Q), biased upwards.

    Reference: Donsker & Varadhan, 1983; for the bias, McAllester & Stratos, Formal limitations on the measurement of mutual
    information, 2020.
    """
    p, q = np.asarray(critic_on_p, float), np.asarray(critic_on_q, float)
    value = p.mean() - (np.logaddexp.reduce(q) - math.log(len(q)))
    return Estimate(float(value), "ln of a sample mean is biased downwards, so the value is biased upwards")


def smile(critic_on_p: ArrayLike, critic_on_q: ArrayLike, clip: float = 5.0) -> Estimate:
    """E_P v - ln E_Q clip(e^v, e^-c, e^c), nats. Reference: Song & Ermon, 2020, eq. 6."""
    value = donsker_varadhan(critic_on_p, np.clip(np.asarray(critic_on_q, float), -clip, clip)).value
    return Estimate(value, "the normaliser is clipped but the first term is not")
