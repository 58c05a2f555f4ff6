"""Known sources: lower <= truth <= upper, both near it, from samples."""

import math

import numpy as np
import pytest

from flowcodec.bounds import sources
from flowcodec.bounds.sources import Banana, Fit, GaussianSource
from flowcodec.errors import InputError


@pytest.mark.parametrize("source", [GaussianSource.iid(4), GaussianSource.ar1_field(4, 0.9)], ids=["iid", "field"])
@pytest.mark.parametrize("distortion", [0.02, 0.1, 0.3])
def test_gaussian_sandwich(source: GaussianSource, distortion: float) -> None:
    """Over seeds: the upper point within 2 % of R at its own distortion and never below, the lower one never above."""
    for seed in range(10):
        fit = Fit.of(source.sample(20_000, np.random.default_rng(seed)))
        rate, found = sources.upper_bound(fit, source, distortion)
        assert source.rate(found) <= rate <= 1.02 * source.rate(found)
        lower = sources.lower_bound(fit, source, distortion)
        assert lower <= source.rate(distortion)
        assert lower >= 0.8 * source.rate(distortion) - 0.05


def test_rates_in_closed_form() -> None:
    assert GaussianSource.iid(3).rate(0.25) == pytest.approx(1.0)
    rho, side, distortion = 0.9, 3, 0.01
    # Below the smallest eigenvalue R = (1/2) log2 |S|^(1/d) / D with |S| of a Kronecker product.
    log2_det = 2 * side * np.log2((1 - rho**2) ** (side - 1))
    expected = 0.5 * (log2_det / side**2 - math.log2(distortion))
    variances = sources.ar1_field_variances(side, rho)
    assert distortion < variances.min() or variances.min() > 0
    if distortion < variances.min():
        assert GaussianSource.ar1_field(side, rho).rate(distortion) == pytest.approx(expected)
    np.testing.assert_allclose(np.sort(GaussianSource.ar1_field(side, rho).variances), np.sort(variances))


def test_the_dual_bound_holds_by_its_own_condition() -> None:
    """The condition E[exp(-lam d(X, y)) / g(X)] <= 1, which the code has in closed form, by simulation at several y, d = 1."""
    variance, kappa, slope = 1.0, 0.4, 2.0
    c = (2 * variance * (1 / (2 * variance) - kappa + slope)) ** -0.5
    x = np.random.default_rng(0).normal(size=1_000_000)
    for y in (0.0, 0.5, 1.0, 2.0):
        assert np.mean(np.exp(-slope * (x - y) ** 2) / (c * np.exp(-kappa * x**2))) <= 1 + 0.02


def test_an_inadmissible_dual_is_refused() -> None:
    narrow = Fit(np.full(2, 0.5), np.eye(2))
    with pytest.raises(InputError, match="not admissible"):
        sources.lower_bound(narrow, GaussianSource.iid(2), 0.1)
    with pytest.raises(InputError, match="distortion"):
        GaussianSource.iid(2).rate(1.5)


def test_blahut_arimoto_finds_the_gaussian() -> None:
    """R(D) of N(0, 1) on a grid, within its own gap."""
    grid = np.linspace(-5, 5, 201)[:, None]
    weights = np.exp(-(grid[:, 0] ** 2) / 2)
    _, point = sources.blahut_arimoto(grid, weights / weights.sum(), grid, slope=2.0, rounds=300)
    assert 0.5 * math.log2(1 / point.distortion) == pytest.approx(point.rate_bits, abs=point.gap_bits + 2e-3)
    assert point.gap_bits < 0.02


def test_banana_sandwich() -> None:
    """Shannon's bound <= Blahut-Arimoto <= what a law fitted to samples needs, the last within 2 % of the best."""
    banana = Banana()
    x, weights = banana.nodes(36)
    slope = 2.0
    _, truth = sources.blahut_arimoto(x, weights, x, slope, 120)
    assert banana.shannon_lower_bound(truth.distortion) <= truth.rate_bits
    for seed in range(2):
        rng = np.random.default_rng(seed)
        training = banana.sample(1000, rng)
        law, empirical = sources.blahut_arimoto(training, np.full(1000, 1e-3), training[:600], slope, 30)
        upper = sources.evaluate(x, weights, training[:600], law, slope)
        # Along the slope: R + slope D of the fitted law against the least one.
        scale = slope / math.log(2)
        least = truth.rate_bits + scale * truth.distortion - truth.gap_bits
        assert least <= upper.rate_bits + scale * upper.distortion
        assert empirical.rate_bits <= math.log2(1000)
