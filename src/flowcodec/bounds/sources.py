"""Sources whose rate-distortion function is known, and bounds on it from samples: a sandwich where the truth can be looked up.

Rates in bits and squared errors a sample, unless a name says otherwise. ``Fit`` builds both bounds from samples alone; the truth
enters only to compute, exactly, what they are worth on the source:
- upper: the rate E KL(q(y|x) || p(y)) and the distortion of *any* channel q and law p lie on or above R(D);
- lower: R(D) >= E[-log g(X)] - lam D for every g > 0 with E[exp(-lam d(X, y)) / g(X)] <= 1 for all y.
Reference: Yang & Mandt, Towards empirical sandwich bounds on the rate-distortion function, 2022; for the second, Csiszar, On an
extremum problem of information theory, 1974.
"""

import math
from dataclasses import dataclass

import numpy as np

from flowcodec.errors import InputError

_SHRINK = 0.92
"""Of the fitted inverse variance in the dual bound: with more than the true one no g of this form is admissible."""


def reverse_water_filling(variances: np.ndarray, distortion: float) -> tuple[float, np.ndarray]:
    """(R(D) in bits a sample, distortions of the components) of independent Gaussians: D_i = min(theta, l_i), mean D.

    Reference: Cover & Thomas, Elements of information theory, theorem 10.3.3.
    """
    if not 0 < distortion <= variances.mean():
        raise InputError(f"distortion: expected a number from 0 to the variance {variances.mean():g}, found {distortion:g}")
    low, high = 0.0, float(variances.max())
    for _ in range(100):
        level = (low + high) / 2
        low, high = (low, level) if np.minimum(level, variances).mean() > distortion else (level, high)
    parts = np.minimum((low + high) / 2, variances)
    return float(0.5 * np.log2(variances / parts).mean()), parts


def ar1_field_variances(side: int, rho: float) -> np.ndarray:
    """Eigenvalues of the covariance rho^(|i - k| + |j - l|) of a side x side field of unit variance, (side^2,)."""
    line = rho ** np.abs(np.subtract.outer(np.arange(side), np.arange(side)))
    values = np.linalg.eigvalsh(line)
    return np.outer(values, values).reshape(-1)


@dataclass(frozen=True)
class GaussianSource:
    """x = basis @ (independent Gaussians with ``variances``); basis (d, d) orthogonal."""

    variances: np.ndarray
    basis: np.ndarray

    @classmethod
    def iid(cls, dimensions: int) -> "GaussianSource":
        return cls(np.ones(dimensions), np.eye(dimensions))

    @classmethod
    def ar1_field(cls, side: int, rho: float) -> "GaussianSource":
        line = rho ** np.abs(np.subtract.outer(np.arange(side), np.arange(side)))
        values, vectors = np.linalg.eigh(line)
        return cls(np.outer(values, values).reshape(-1), np.kron(vectors, vectors))

    @property
    def covariance(self) -> np.ndarray:
        return (self.basis * self.variances) @ self.basis.T

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        return (rng.normal(size=(count, len(self.variances))) * np.sqrt(self.variances)) @ self.basis.T

    def rate(self, distortion: float) -> float:
        """R(D), exact."""
        return reverse_water_filling(self.variances, distortion)[0]


@dataclass(frozen=True)
class Fit:
    """A Gaussian model of a source from samples: directions and variances of its sample covariance."""

    variances: np.ndarray
    basis: np.ndarray

    @classmethod
    def of(cls, samples: np.ndarray) -> "Fit":
        values, vectors = np.linalg.eigh(np.cov(samples, rowvar=False, ddof=0).reshape(samples.shape[1], -1))
        return cls(values, vectors)

    def true_variances(self, source: GaussianSource) -> np.ndarray:
        """Variances that the source really has along the fitted directions."""
        return np.einsum("ij,ik,kj->j", self.basis, source.covariance, self.basis)


def upper_bound(fit: Fit, source: GaussianSource, distortion: float) -> tuple[float, float]:
    """(rate, distortion) on the source of the channel and prior that are best for the fit: a point on or above R(D).

    Component i is sent as y = a x + sqrt(a t) n with a = 1 - t / l, n ~ N(0, 1) and t, l the fit's distortion and variance, under
    p(y) = N(0, l - t). With v the true variance, E KL = (1/2) [(a^2 v + a t) / (l - t) - 1 + ln((l - t) / (a t))], and the error
    of the reconstruction y is (1 - a)^2 v + a t.
    """
    _, parts = reverse_water_filling(fit.variances, distortion)
    truth, gain = fit.true_variances(source), 1 - parts / fit.variances
    sent = gain > 1e-9
    a, t, room, v = gain[sent], parts[sent], (fit.variances - parts)[sent], truth[sent]
    nats = 0.5 * ((a**2 * v + a * t) / room - 1 + np.log(room / (a * t))).sum()
    error = (1 - gain) ** 2 * truth + gain * parts
    return float(nats / math.log(2) / len(truth)), float(error.mean())


def lower_bound(fit: Fit, source: GaussianSource, distortion: float) -> float:
    """The dual bound with g(x) = prod_i c_i exp(-kappa_i x_i^2), kappa and lam from the fit; at most R(D).

    For x ~ N(0, S), in the fit's directions, and d the squared error, E[exp(-lam |x - y|^2 + x' K x)] is Gaussian: with
    M = S^-1 / 2 - K + lam it is |2 S M|^(-1/2) exp(y' (lam^2 M^-1 - lam) y), whose maximum over *all* y is at y = 0 where
    S^-1 / 2 >= K: that is what ``_SHRINK`` leaves room for, and it is checked. Then prod c_i = |2 S M|^(-1/2).
    """
    variances, parts = fit.variances, reverse_water_filling(fit.variances, distortion)[1]
    slope = 1 / (2 * parts.max())
    # Above the water kappa_i goes to 1 / (2 l_i) as in the optimum; below it the component is not sent: g is constant.
    kappa = np.where(parts < variances * (1 - 1e-9), _SHRINK / (2 * variances), 0.0)
    covariance = fit.basis.T @ source.covariance @ fit.basis
    inverse = np.linalg.inv(covariance)
    if np.linalg.eigvalsh(inverse / 2 - np.diag(kappa)).min() < 0:
        raise InputError("dual bound: this g is not admissible, its fit is too narrow for the source; fit more samples")
    middle = inverse / 2 - np.diag(kappa) + slope * np.eye(len(variances))
    log_c = -0.5 * np.linalg.slogdet(2 * covariance @ middle)[1]
    nats = -log_c + (kappa * np.diag(covariance)).sum() - slope * distortion * len(variances)
    return max(float(nats / math.log(2) / len(variances)), 0.0)


# --- a curved source ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Banana:
    """(x1, x2) = (s a, b + c (x1^2 - s^2)), a and b independent N(0, 1): volume is kept, so h(X) is that of (s a, b)."""

    spread: float = 2.0
    bend: float = 0.4

    @property
    def entropy_bits(self) -> float:
        """h(X) of both coordinates."""
        return math.log2(2 * math.pi * math.e * self.spread)

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        first, second = rng.normal(size=(2, count))
        first = self.spread * first
        return np.stack([first, second + self.bend * (first**2 - self.spread**2)], 1)

    def nodes(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Points and weights of a quadrature: midpoints of equally likely cells would cut the tails, so of cells in +-4.5 sd."""
        grid = (np.arange(count) + 0.5) / count * 9 - 4.5
        first, second = (a.reshape(-1) for a in np.meshgrid(grid, grid, indexing="ij"))
        weights = np.exp(-(first**2 + second**2) / 2)
        first = self.spread * first
        return np.stack([first, second + self.bend * (first**2 - self.spread**2)], 1), weights / weights.sum()

    def shannon_lower_bound(self, distortion: float) -> float:
        """R(D) >= h(X) - (d/2) log2(2 pi e D / d), bits for both coordinates, D their summed squared error."""
        return max(self.entropy_bits - math.log2(2 * math.pi * math.e * distortion / 2), 0.0)


def _squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T


@dataclass(frozen=True)
class Point:
    """A point of a rate-distortion problem: bits and squared error of whole vectors; how far above R(D), where known."""

    rate_bits: float
    distortion: float
    gap_bits: float = math.inf


def blahut_arimoto(x: np.ndarray, weights: np.ndarray, atoms: np.ndarray, slope: float, rounds: int) -> tuple[np.ndarray, Point]:
    """Law on ``atoms`` (m, d) by Blahut's iteration at d(nats)/dD = -slope, and its point; x (n, d), weights (n,).

    The gap is ln max_y E[exp(-slope d(X, y)) / Z(X)] over the atoms: no law on them is better by more.
    Reference: Blahut, Computation of channel capacity and rate-distortion functions, 1972, theorem 6 and its corollary.
    """
    kernel = np.exp(-slope * _squares(x, atoms))
    law = np.full(len(atoms), 1 / len(atoms))
    for _ in range(rounds):
        law = law * (kernel.T @ (weights / np.maximum(kernel @ law, 1e-300)))
        law /= law.sum()
    point = evaluate(x, weights, atoms, law, slope)
    ratio = kernel.T @ (weights / np.maximum(kernel @ law, 1e-300))
    return law, Point(point.rate_bits, point.distortion, math.log2(ratio.max()))


def evaluate(x: np.ndarray, weights: np.ndarray, atoms: np.ndarray, law: np.ndarray, slope: float) -> Point:
    """Rate E KL(q(y|x) || law) and distortion of q(y|x) ~ law(y) exp(-slope d(x, y)): on or above R(D), whatever the law."""
    squares = _squares(x, atoms)
    joint = np.log(np.maximum(law, 1e-300)) - slope * squares
    log_z = np.logaddexp.reduce(joint, axis=1)
    distortion = (np.exp(joint - log_z[:, None]) * squares).sum(1)
    return Point(float((weights * (-log_z - slope * distortion)).sum() / math.log(2)), float((weights * distortion).sum()))
