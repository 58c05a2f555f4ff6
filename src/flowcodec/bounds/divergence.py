"""Lower bounds on f-divergences by their variational form, and what they say about KL(q(z) || p(z)).

For convex f with f(1) = 0 and any function v, with T = f'(e^v) and f*(T) = e^v f'(e^v) - f(e^v),

    D_f(P || Q) = E_Q f(dP/dQ) >= E_P[T(v)] - E_Q[f*(T(v))],      equality at v = ln dP/dQ.

Every member is a **lower** bound on its divergence, whatever v is. Here P = q(z), the latents of images, and Q = p(z), the prior,
whose draws are free; since I(X;Z) = R* - KL(q(z) || p(z)), a lower bound on that KL, taken off R*, leaves an **upper** bound on
I(X;Z). With v clipped to +-a both expectations are means of values of known range and get confidence bounds.
Reference: Nguyen, Wainwright & Jordan, Estimating divergence functionals and the likelihood ratio by convex risk minimization,
2010.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from flowcodec.bounds import confidence
from flowcodec.errors import InputError

Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Divergence:
    """One member: functions of v = ln dP/dQ, both increasing, in nats."""

    name: str
    f: Function
    """The convex function, of t = dP/dQ."""
    reward: Function
    """T(v) = f'(e^v): averaged over P."""
    penalty: Function
    """f*(T(v)): averaged over Q."""
    kl_of: Callable[[float], float] | None
    """A lower bound on D_f >= 0 -> a lower bound on KL(P || Q) in nats; None where none follows."""

    def lower_bound_on_kl(self, divergence: float) -> float:
        """What D_f >= ``divergence`` says about KL(P || Q), nats, at least 0. Raises InputError where it says nothing."""
        if self.kl_of is None:
            raise InputError(
                f"{self.name}: bounds KL(P || Q) from above only (KL <= ln(1 + chi2)); subtracting what follows from it would be"
                " unsound"
            )
        return max(self.kl_of(max(divergence, 0.0)), 0.0)


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0.0, x)


def _kl_of_twice_js(divergence: float) -> float:
    """KL >= -2 ln(1 - JS) and KL >= -ln(4 e^{-2 JS} - 1), JS in nats: the Hellinger affinity, and Jensen on softplus."""
    js = min(divergence / 2, math.log(2) * (1 - 1e-12))
    return max(-2 * math.log1p(-js), -math.log(max(4 * math.exp(-2 * js) - 1, 1e-300)))


KL = Divergence(
    "kl",
    f=lambda t: t * np.log(t),
    reward=lambda v: 1 + v,
    penalty=np.exp,
    kl_of=lambda d: d,
)
"""KL(P || Q) >= 1 + E_P v - E_Q e^v."""

JENSEN_SHANNON = Divergence(
    "jensen-shannon",
    f=lambda t: t * np.log(t) - (t + 1) * np.log((t + 1) / 2),
    reward=lambda v: math.log(2) - _softplus(-v),
    penalty=lambda v: _softplus(v) - math.log(2),
    kl_of=_kl_of_twice_js,
)
"""2 JS(P, Q), in [0, 2 ln 2]."""

PEARSON = Divergence(
    "pearson",
    f=lambda t: (t - 1) ** 2,
    reward=lambda v: 2 * np.expm1(v),
    penalty=lambda v: np.expm1(2 * v),
    kl_of=None,
)
"""chi2(P || Q) = E_Q (t - 1)^2: a divergence in its own right, but no lower bound on KL follows from it."""

HELLINGER = Divergence(
    "hellinger",
    f=lambda t: (np.sqrt(t) - 1) ** 2,
    reward=lambda v: -np.expm1(-v / 2),
    penalty=lambda v: np.expm1(v / 2),
    kl_of=lambda d: -2 * math.log1p(-min(d, 2 - 1e-12) / 2),
)
"""H^2 = int (sqrt p - sqrt q)^2, in [0, 2]; KL >= -2 ln(1 - H^2 / 2)."""


def renyi(alpha: float) -> Divergence:
    """Order alpha in (0, 1): D_f = (1 - rho) / (alpha (1 - alpha)) with rho = int p^alpha q^(1 - alpha).

    KL >= D_alpha = -ln(rho) / (1 - alpha), Renyi's divergence. Orders above 1 exceed KL, so a bound on them says nothing.
    Reference: van Erven & Harremoes, Renyi divergence and Kullback-Leibler divergence, 2014, theorems 3 and 5.
    """
    if not 0 < alpha < 1:
        raise InputError(
            f"alpha: expected a number between 0 and 1, found {alpha:g}; from 1 on D_alpha bounds KL from above only"
        )
    scale = alpha * (1 - alpha)
    return Divergence(
        f"renyi-{alpha:g}",
        f=lambda t: (alpha * t + 1 - alpha - t**alpha) / scale,
        reward=lambda v: -np.expm1(-(1 - alpha) * v) / (1 - alpha),
        penalty=lambda v: np.expm1(alpha * v) / alpha,
        kl_of=lambda d: -math.log(max(1 - scale * d, 1e-300)) / (1 - alpha),
    )


MEMBERS = {member.name: member for member in (KL, JENSEN_SHANNON, PEARSON, HELLINGER, renyi(0.5), renyi(0.9))}

REFUSED = {
    "dv": "the Donsker-Varadhan value on a sample is biased upwards, since ln(mean) of its normaliser is biased downwards",
    "mine": "it is the Donsker-Varadhan value with a moving average, and can exceed the divergence by any amount",
    "infonce": "it bounds mutual information from below, where a rate needs a bound from above",
    "smile": "its normaliser is clipped, which makes it neither an upper nor a lower bound",
    "vclub": "with a learned conditional it is no upper bound",
}


def named(name: str) -> Divergence:
    """A member by name, ``renyi-ALPHA`` of any order. Raises InputError, for estimators that are no bounds with the reason."""
    if name in REFUSED:
        raise InputError(f"{name}: an estimate, not a bound ({REFUSED[name]}); nothing may be subtracted from a rate on its word")
    if name.startswith("renyi-"):
        try:
            return renyi(float(name.removeprefix("renyi-")))
        except ValueError as error:
            raise InputError(f"{name}: expected renyi-ALPHA with a number") from error
    if name not in MEMBERS:
        raise InputError(f"divergence: expected one of {', '.join(MEMBERS)}, found {name!r}")
    return MEMBERS[name]


def content_hash(array: np.ndarray) -> str:
    """What tells data sets apart: a hash of one image's, or one sample's, numbers."""
    return hashlib.sha256(repr((array.shape, str(array.dtype))).encode() + np.ascontiguousarray(array).tobytes()).hexdigest()


@dataclass(frozen=True)
class Critic:
    """v(z), clipped to +-limit: the clipped function is the one that is certified. Fixed once built."""

    function: Function
    """(n, d) -> (n,)"""
    limit: float
    trained_on: frozenset[str] = field(default_factory=frozenset, repr=False)
    """Content hashes of the images its training has seen, whether for gradients or for choosing."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.limit) and self.limit > 0):
            raise InputError(
                f"critic: expected a finite limit, found {self.limit}; the mean of an unbounded critic has no confidence bound"
            )

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        return np.clip(self.function(samples), -self.limit, self.limit)

    def require_unseen(self, images: frozenset[str]) -> None:
        """Raises InputError if the critic has seen any of the images that are to certify it."""
        if shared := self.trained_on & images:
            raise InputError(
                f"critic: {len(shared)} of the {len(images)} certification images were used to train it; a critic fitted to its"
                " own test proves nothing: certify on images that it has not seen"
            )


@dataclass(frozen=True)
class LowerBound:
    """D_f(P || Q) >= ``value`` with probability 1 - delta; ``mean`` is the plain difference of means, an estimate of it."""

    divergence: Divergence
    value: float
    mean: float
    delta: float

    @property
    def kl(self) -> float:
        """KL(P || Q) >= this many nats, with the same probability."""
        return self.divergence.lower_bound_on_kl(self.value)


def certify(
    divergence: Divergence,
    critic: Critic,
    units: Sequence[np.ndarray],
    prior: np.ndarray,
    delta: float = 0.05,
    images: frozenset[str] = frozenset(),
) -> LowerBound:
    """A lower bound on D_f(P || Q) that holds with probability 1 - delta over the draw of the certification data.

    ``units``: the i.i.d. units drawn from P, each (blocks, d): the blocks of one image. P is then the law of a block drawn from a
    drawn image. ``prior``: (m, d) i.i.d. draws from Q. ``images``: content hashes of what the units were made from. Each of the
    two means gets a betting bound at delta / 2. Raises InputError for a critic that has seen them.
    """
    critic.require_unseen(images)
    means = _unit_means(divergence.reward, critic, units)
    penalties = divergence.penalty(critic(prior))
    reward_range, penalty_range = _ranges(divergence, critic)
    # Rounding may have taken a value past the edge by its last digit.
    rewards, penalties = means.clip(reward_range.low, reward_range.high), penalties.clip(penalty_range.low, penalty_range.high)
    low = confidence.lower_bound(rewards, reward_range, delta / 2)
    high = confidence.upper_bound(penalties, penalty_range, delta / 2)
    return LowerBound(divergence, low - high, float(rewards.mean() - penalties.mean()), delta)


def certify_pairs(
    divergence: Divergence,
    critic: Critic,
    units: Sequence[np.ndarray],
    others: Sequence[np.ndarray],
    delta: float = 0.05,
    images: frozenset[str] = frozenset(),
) -> LowerBound:
    """The same where draws of Q come in units too: ``units[i]`` and ``others[i]``, (blocks, d) each, belong to one image.

    E_P T(v) - E_Q f*(T(v)) is then the mean of one difference per image, whose betting bound at delta needs no independence
    between the two of a pair. Raises InputError for a critic that has seen the images, and for units that are no pairs.
    """
    critic.require_unseen(images)
    if len(units) != len(others):
        raise InputError(f"certification: expected pairs of units, found {len(units)} of P and {len(others)} of Q")
    rewards, penalties = _ranges(divergence, critic)
    limits = confidence.Range(rewards.low - penalties.high, rewards.high - penalties.low, "critic on pairs of images")
    differences = _unit_means(divergence.reward, critic, units) - _unit_means(divergence.penalty, critic, others)
    value = confidence.lower_bound(differences.clip(limits.low, limits.high), limits, delta)
    return LowerBound(divergence, value, float(differences.mean()), delta)


def _unit_means(function: Function, critic: Critic, units: Sequence[np.ndarray]) -> np.ndarray:
    """(units,) mean of function(v) over the blocks of each unit."""
    counts = [len(unit) for unit in units]
    return np.add.reduceat(function(critic(np.concatenate(units))), [0, *np.cumsum(counts)[:-1]]) / counts


def _ranges(divergence: Divergence, critic: Critic) -> tuple[confidence.Range, confidence.Range]:
    """What T(v) and f*(T(v)) can be, both increasing in v, once v is clipped."""
    edges = np.array([-critic.limit, critic.limit])
    (low, high), (least, most) = divergence.reward(edges).tolist(), divergence.penalty(edges).tolist()
    return confidence.Range(low, high, "critic on images"), confidence.Range(least, most, "critic on the prior")
