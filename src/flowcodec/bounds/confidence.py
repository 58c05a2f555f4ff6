"""Confidence bounds on a mean from n independent values of a known range: betting, empirical Bernstein, Hoeffding.

The values (rates of images, or paired differences of two rates) are i.i.d. draws of a named population and lie in [low, high]
*by construction*: no bound on a mean holds without a known range (Bahadur & Savage, 1956), and clipping costs down would be
unsound, so a value outside is an error. A rate has a range when the encoder was given a cap (``encode --cap``).
The order of the values must have been fixed, for instance by a seed, before any of them was looked at.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from flowcodec.errors import InputError

_LARGEST_BET = 0.9
"""The share c of the capital that a bet may lose at most; below 1 any is valid, and large ones suit values that hardly vary."""
_BISECTIONS = 50


def _hoeffding(x: np.ndarray, delta: float, population: int | None) -> float:
    """mean + sqrt(ln(1/delta) / (2 n)) for x in [0, 1]; also valid without replacement.

    Reference: Hoeffding, Probability inequalities for sums of bounded random variables, 1963, theorem 1 and section 6.
    """
    return float(x.mean()) + math.sqrt(math.log(1 / delta) / (2 * len(x)))


def _empirical_bernstein(x: np.ndarray, delta: float, population: int | None) -> float:
    """mean + sqrt(2 V ln(2/delta) / n) + 7 ln(2/delta) / (3 (n - 1)), V the unbiased sample variance, for x in [0, 1].

    Reference: Maurer & Pontil, Empirical Bernstein bounds and sample variance penalization, 2009, theorem 4.
    """
    n, log_term = len(x), math.log(2 / delta)
    return float(x.mean()) + math.sqrt(2 * x.var(ddof=1) * log_term / n) + 7 * log_term / (3 * (n - 1))


def _bets(x: np.ndarray, delta: float) -> np.ndarray:
    """Predictable plug-in bets lambda_t = sqrt(2 ln(1/delta) / (n s2_{t-1})): lambda_t sees only x before t."""
    n = len(x)
    counts = np.arange(1, n + 1)
    means = (0.5 + np.cumsum(x)) / (counts + 1)
    variances = (0.25 + np.cumsum((x - means) ** 2)) / (counts + 1)
    before = np.concatenate([[0.25], variances[:-1]])
    return np.sqrt(2 * math.log(1 / delta) / (n * before))


def _betting(x: np.ndarray, delta: float, population: int | None) -> float:
    """Smallest m whose capital W_t(m) = prod_{i<=t} (1 - lambda_i (x_i - m)) reaches 1/delta at some t <= n, for x in [0, 1].

    If the mean is m the capital is a nonnegative martingale that starts at 1, and exceeds 1/delta with probability at most delta
    (Ville). Each factor grows with m, so the m that are not rejected are an interval and bisection finds its end. Drawn without
    replacement from ``population`` values, x_t has the conditional mean (N m - sum of those before) / (N - t + 1).
    Reference: Waudby-Smith & Ramdas, Estimating means of bounded random variables by betting, 2024, sections 4.3 and 5.
    """
    bets, threshold = _bets(x, delta), math.log(1 / delta)
    before = np.concatenate([[0.0], np.cumsum(x)[:-1]])

    def rejected(m: float) -> bool:
        means: np.ndarray | float = m
        if population is not None:
            means = (population * m - before) / (population - np.arange(len(x)))
        room = np.maximum(1 - np.asarray(means), 1e-12)
        capital = np.cumsum(np.log1p(-np.minimum(bets, _LARGEST_BET / room) * (x - means)))
        return bool(capital.max() >= threshold)

    low, high = float(x.mean()), 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if rejected(middle) else (middle, high)
    return high


METHODS: dict[str, Callable[[np.ndarray, float, int | None], float]] = {
    "betting": _betting,
    "bernstein": _empirical_bernstein,
    "hoeffding": _hoeffding,
}


@dataclass(frozen=True)
class Range:
    """What values can be, by construction; ``what`` names them in errors."""

    low: float
    high: float
    what: str = "rate"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InputError(
                f"{self.what}: expected a finite range, found {self.low:g} to {self.high:g}; no confidence bound on a mean holds"
                " without one"
            )


def _scaled(
    values: Sequence[float] | np.ndarray, limits: Range, delta: float, population: int | None, mirrored: bool
) -> np.ndarray:
    """Values mapped to [0, 1], or mirrored to [1, 0], once everything that would make a bound unsound is ruled out."""
    x = np.asarray(values, np.float64).reshape(-1)
    if len(x) < 2:
        raise InputError(f"{limits.what}: expected at least 2 values for a confidence bound, found {len(x)}")
    if not 0 < delta < 1:
        raise InputError(f"delta: expected a probability between 0 and 1, found {delta}")
    if population is not None and population < len(x):
        raise InputError(f"population: expected at least the {len(x)} values drawn from it, found {population}")
    if not np.isfinite(x).all() or x.min() < limits.low or x.max() > limits.high:
        raise InputError(
            f"{limits.what}: expected values of {limits.low:g} to {limits.high:g}, found {x.min():g} to {x.max():g}; a bound"
            " would be unsound: encode with a cap (encode --cap), or name a range that holds"
        )
    return (limits.high - x if mirrored else x - limits.low) / (limits.high - limits.low)


def upper_bound(
    values: Sequence[float] | np.ndarray,
    limits: Range,
    delta: float = 0.05,
    method: str = "betting",
    population: int | None = None,
    mirrored: bool = False,
) -> float:
    """A number that is at least the population's mean with probability 1 - delta, in the values' units, at most ``limits.high``.

    ``population``: how many values there are in all, where ``values`` were drawn from a list without replacement. ``mirrored``:
    the same of the mirrored values, which makes it a lower bound, at least ``limits.low``.
    Raises InputError for fewer than two values, values outside the range and methods that are no bounds.
    """
    if method not in METHODS:
        raise InputError(f"method: expected one of {', '.join(METHODS)}, found {method!r}; normal or t intervals certify nothing")
    bound = min(METHODS[method](_scaled(values, limits, delta, population, mirrored), delta, population), 1.0)
    reach = (limits.high - limits.low) * bound
    return limits.high - reach if mirrored else limits.low + reach


def lower_bound(
    values: Sequence[float] | np.ndarray,
    limits: Range,
    delta: float = 0.05,
    method: str = "betting",
    population: int | None = None,
) -> float:
    """A number that is at most the mean with probability 1 - delta: ``upper_bound``, mirrored."""
    return upper_bound(values, limits, delta, method, population, mirrored=True)
