"""f-divergences: formulas against definitions, signs on known pairs, and what is refused."""

import math

import numpy as np
import pytest

from flowcodec.bounds import divergence as dv
from flowcodec.bounds.critic import train_critic
from flowcodec.bounds.information import donsker_varadhan, gaussian_log_q, sandwich, smile
from flowcodec.errors import InputError

MEMBERS = [*dv.MEMBERS.values(), dv.renyi(0.3)]
WITH_KL = [member for member in MEMBERS if member.kl_of is not None]


def exact_critic(mean: float, limit: float = 20.0) -> dv.Critic:
    """ln N(mean, 1) / N(0, 1)."""
    return dv.Critic(lambda z: mean * z[:, 0] - mean**2 / 2, limit)


def random_pair(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two laws on a few points, near and far from each other."""
    size = int(rng.integers(2, 6))
    concentration = float(rng.choice([0.2, 1.0, 20.0]))
    p, q = rng.dirichlet(np.full(size, concentration), 2) + 1e-9
    return p / p.sum(), q / q.sum()


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.name)
def test_penalty_is_the_conjugate_at_the_reward(member: dv.Divergence) -> None:
    """f*(u) = sup_t (u t - f(t)) over a grid of t equals ``penalty`` at u = ``reward``(v), and increases with v."""
    t = np.exp(np.linspace(-6, 6, 200_001))
    v = np.linspace(-4, 4, 9)
    conjugate = [(u * t - member.f(t)).max() for u in member.reward(v)]
    np.testing.assert_allclose(member.penalty(v), conjugate, rtol=1e-6, atol=1e-6)
    assert (np.diff(member.reward(v)) > 0).all() and (np.diff(member.penalty(v)) > 0).all()
    assert member.f(np.ones(1))[0] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.name)
def test_any_critic_is_below_and_the_ratio_attains(member: dv.Divergence) -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        p, q = random_pair(rng)
        truth = float((q * member.f(p / q)).sum())
        v = np.log(p / q)
        assert (p * member.reward(v)).sum() - (q * member.penalty(v)).sum() == pytest.approx(truth, rel=1e-5, abs=1e-9)
        v = v + rng.normal(0, 0.5, len(v))
        assert (p * member.reward(v)).sum() - (q * member.penalty(v)).sum() <= truth * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize("member", WITH_KL, ids=lambda m: m.name)
def test_what_follows_for_kl_never_exceeds_it(member: dv.Divergence) -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        p, q = random_pair(rng)
        truth = float((q * member.f(p / q)).sum())
        kl = float((p * np.log(p / q)).sum())
        assert member.lower_bound_on_kl(truth) <= kl * (1 + 1e-9) + 1e-9
        assert member.lower_bound_on_kl(truth / 2) <= member.lower_bound_on_kl(truth) + 1e-12


@pytest.mark.parametrize("member", WITH_KL, ids=lambda m: m.name)
def test_nothing_is_found_between_equals(member: dv.Divergence) -> None:
    """P = Q with a critic that believes otherwise: no positive bound in at least 95 % of the seeds."""
    positive = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        bound = dv.certify(member, exact_critic(0.3, 2.0), rng.normal(size=(300, 1, 1)), rng.normal(size=(3000, 1)))
        positive += bound.kl > 0
    assert positive <= 5


@pytest.mark.parametrize("member", WITH_KL, ids=lambda m: m.name)
def test_the_bound_lies_below_a_known_divergence(member: dv.Divergence) -> None:
    """N(1, 1) against N(0, 1), KL = 1/2, with the exact ratio: at most 5 of 100 seeds may exceed it."""
    bounds = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        units, prior = rng.normal(1, 1, (400, 1, 1)), rng.normal(size=(20_000, 1))
        bounds.append(dv.certify(member, exact_critic(1.0, 3.0), units, prior).kl)
    assert sum(bound > 0.5 for bound in bounds) <= 5
    assert np.median(bounds) > 0.02


@pytest.mark.parametrize("seed", range(6))
def test_a_trained_critic_recovers_most_of_a_mismatch(seed: int) -> None:
    """A prior that ignores mean, variance and correlation: between 80 % and all of the known KL is recovered."""
    rng = np.random.default_rng(seed)
    d, mean, variance, rho = 4, 0.3, 1.21, 0.7
    covariance = variance * rho ** np.abs(np.subtract.outer(np.arange(d), np.arange(d)))
    kl = 0.5 * (np.trace(covariance) + d * mean**2 - d - np.linalg.slogdet(covariance)[1])
    factor = np.linalg.cholesky(covariance)

    def latents(n: int) -> np.ndarray:
        return rng.normal(size=(n, d)) @ factor.T + mean

    critic = train_critic(latents(20_000), rng.normal(size=(20_000, d)), steps=250, seed=seed)
    bound = dv.certify(dv.KL, critic, latents(10_000)[:, None], rng.normal(size=(300_000, d)))
    assert 0.8 * kl <= bound.kl <= kl


def test_units_are_images_not_blocks() -> None:
    """The blocks of an image are dependent: a thousand copies of a block say no more than one."""
    rng = np.random.default_rng(2)
    blocks, prior = rng.normal(1, 1, (50, 1, 1)), rng.normal(size=(5000, 1))
    single = dv.certify(dv.KL, exact_critic(1.0, 3.0), blocks, prior)
    copied = dv.certify(dv.KL, exact_critic(1.0, 3.0), blocks.repeat(1000, axis=1), prior)
    assert copied.value == pytest.approx(single.value)


def test_what_is_no_bound_is_refused() -> None:
    for name in dv.REFUSED:
        with pytest.raises(InputError, match="not a bound"):
            dv.named(name)
    with pytest.raises(InputError, match="from above only"):
        dv.named("pearson").lower_bound_on_kl(1.0)
    for name in ("renyi-1", "renyi-2"):
        with pytest.raises(InputError, match="between 0 and 1"):
            dv.named(name)
    with pytest.raises(InputError, match="expected one of"):
        dv.named("wasserstein")
    assert dv.named("renyi-0.25").name == "renyi-0.25"
    with pytest.raises(InputError, match="unbounded critic"):
        dv.Critic(lambda z: z[:, 0], math.inf)


def test_a_critic_may_not_certify_itself() -> None:
    rng = np.random.default_rng(3)
    seen, new = rng.normal(size=(10, 1)), rng.normal(size=(10, 1))
    critic = dv.Critic(lambda z: z[:, 0], 2.0, frozenset({dv.content_hash(seen)}))
    with pytest.raises(InputError, match="used to train it"):
        dv.certify(dv.KL, critic, [seen, new], new, images=frozenset({dv.content_hash(seen), dv.content_hash(new)}))
    dv.certify(dv.KL, critic, [new, new], new, images=frozenset({dv.content_hash(new)}))


def test_estimates_say_so_and_are_biased_as_stated() -> None:
    """With few samples of a large divergence, KL = 8, Donsker-Varadhan exceeds it on average."""
    rng = np.random.default_rng(4)
    values = []
    for _ in range(200):
        p, q = (4 * rng.normal(m, 1, 50) - 8 for m in (4, 0))
        values.append(donsker_varadhan(p, q).value)
    assert np.mean(values) > 8.5
    assert "biased" in donsker_varadhan([0.0], [0.0]).because and smile([0.0], [0.0]).because


def test_sandwich_of_a_gaussian_channel() -> None:
    """I = (d/2) ln(1 + 1 / sigma^2) lies between InfoNCE and leave-one-out on average over seeds."""
    d, sigma, lower, upper = 2, 0.7, [], []
    truth = d / 2 * math.log(1 + 1 / sigma**2)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(300, d))
        z = x + sigma * rng.normal(size=x.shape)
        found = sandwich(gaussian_log_q(z, x, sigma))
        lower.append(found.infonce)
        upper.append(found.leave_one_out)
    assert truth - 0.1 < np.mean(lower) < truth < np.mean(upper) < truth + 0.1
    with pytest.raises(InputError, match="at least 2"):
        sandwich(np.zeros((1, 1)))
