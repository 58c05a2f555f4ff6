"""Divergences between two sampled laws: signs against known pairs, nothing between equals, and bad input."""

import numpy as np
import pytest

from flowcodec.bounds import divergence as dv
from flowcodec.bounds.comparison import Pairs, compare, patch_pairs, patches
from flowcodec.errors import InputError

A, B = frozenset({"a"}), frozenset({"b"})


def gaussian_pairs(seed: int, spread: float, images: frozenset[str], units: int = 400) -> Pairs:
    """Blocks of N(0, I) and their versions of standard deviation ``spread``, in three dimensions."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(units, 8, 3))
    return Pairs(z, spread * rng.normal(size=z.shape), images)


def test_bounds_lie_below_known_divergences_and_near_them() -> None:
    """N(0, I) and N(0, 4 I): KL = 3 (ln 2 + 1/8 - 1/2), H^2 = 2 - 2 (4/5)^(3/2), chi2 = (16/7)^(3/2) - 1."""
    truth = {"kl": 3 * (np.log(2) - 0.375), "hellinger": 2 - 2 * 0.8**1.5, "pearson": (16 / 7) ** 1.5 - 1}
    found = compare(gaussian_pairs(0, 2.0, A), gaussian_pairs(1, 2.0, B), [dv.named(name) for name in truth])
    for name, bound in found.items():
        assert 0 < bound.value < truth[name]
        assert name == "pearson" or bound.mean > 0.6 * truth[name]


def test_between_equals_nothing_is_certified() -> None:
    found = compare(gaussian_pairs(2, 1.0, A, 100), gaussian_pairs(3, 1.0, B, 100), [dv.KL, dv.JENSEN_SHANNON])
    assert all(bound.value <= 0 for bound in found.values())
    assert abs(found["jensen-shannon"].mean) < 0.05


def test_pairs_need_partners_and_pictures_that_the_critic_has_not_seen() -> None:
    critic = dv.Critic(lambda z: z[:, 0], 1.0, A)
    units = [np.zeros((2, 1)), np.ones((3, 1))]
    with pytest.raises(InputError, match="used to train it"):
        dv.certify_pairs(dv.KL, critic, units, units, images=A)
    with pytest.raises(InputError, match="expected pairs"):
        dv.certify_pairs(dv.KL, critic, units, units[:1])
    with pytest.raises(InputError, match="at least 2"):
        dv.certify_pairs(dv.KL, critic, units[:1], units[:1])
    with pytest.raises(InputError, match="used to train it"):
        compare(gaussian_pairs(0, 1.0, A, 20), gaussian_pairs(0, 1.0, A, 20), [dv.KL])


@pytest.mark.parametrize("member", dv.MEMBERS.values(), ids=lambda m: m.name)
def test_pairs_are_covered(member: dv.Divergence) -> None:
    """P and Q that share their images: bounds exceed the mean of the same critic in few of 100 draws at 95 %."""
    critic = dv.Critic(lambda z: z[:, 0] - 0.5, 1.5)
    rng = np.random.default_rng(5)
    z = rng.normal(size=(200_000, 1))
    mean = float(member.reward(critic(z + 1)).mean() - member.penalty(critic(z)).mean())
    bounds = []
    for _ in range(100):
        shared = rng.normal(size=(200, 1, 1))
        bounds.append(dv.certify_pairs(member, critic, list(shared + 1), list(shared)).value)
    assert sum(bound > mean for bound in bounds) <= 10


def test_patches_tile_a_window() -> None:
    windows = np.arange(2 * 3 * 8 * 8).reshape(2, 3, 8, 8).astype(np.uint8)
    found = patches(windows)
    assert found.shape == (2, 4, 48)
    np.testing.assert_array_equal(found[1, 3].reshape(3, 4, 4), windows[1, :, 4:, 4:])
    with pytest.raises(InputError, match="multiples of 4"):
        patches(windows[:, :, :6])
    rng = np.random.default_rng(0)
    pairs = patch_pairs(windows, windows, 5, 8, A, rng)
    np.testing.assert_array_equal(pairs.p, pairs.q)
    with pytest.raises(InputError, match="equal shapes"):
        patch_pairs(windows, windows[:1], 5, 8, A, rng)
