"""Confidence bounds: coverage by simulation, which is the tightest, and what is refused."""

import numpy as np
import pytest

from flowcodec.bounds.confidence import METHODS, Range, lower_bound, upper_bound
from flowcodec.errors import InputError

RATES = Range(0.0, 3.0)


def rates(rng: np.random.Generator, n: int) -> np.ndarray:
    """Costs in [0, 3] bpp with mean 1.5 and standard deviation 0.6."""
    return 3 * rng.beta(2.625, 2.625, n)


def skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    """Mostly cheap, now and then at the cap: mean 0.11; small samples often miss the rare cost."""
    return np.where(rng.random(n) < 0.02, 3.0, 0.05)


@pytest.mark.parametrize(("n", "repeats"), [(24, 300), (100, 200), (1000, 60)])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("draw", "mean"), [(rates, 1.5), (skewed, 0.02 * 3 + 0.98 * 0.05)])
def test_coverage(method: str, n: int, repeats: int, draw, mean: float) -> None:
    """Misses among the repeats stay below what delta = 0.05 allows at three standard deviations."""
    rng = np.random.default_rng(n)
    misses_up = misses_down = 0
    for _ in range(repeats):
        values = draw(rng, n)
        misses_up += upper_bound(values, RATES, 0.05, method) < mean
        misses_down += lower_bound(values, RATES, 0.05, method) > mean
    allowed = 0.05 * repeats + 3 * (0.0475 * repeats) ** 0.5
    assert max(misses_up, misses_down) <= allowed


@pytest.mark.parametrize(("n", "slack"), [(24, 0.40), (100, 0.15), (1000, 0.045)])
def test_betting_is_the_tightest(n: int, slack: float) -> None:
    rng = np.random.default_rng(7)
    excess = {method: 0.0 for method in METHODS}
    for _ in range(30):
        values = rates(rng, n)
        for method in METHODS:
            excess[method] += (upper_bound(values, RATES, 0.05, method) - values.mean()) / 30
    assert min(excess, key=lambda name: excess[name]) == "betting"
    assert 0 < excess["betting"] <= slack


def test_without_replacement_a_whole_population_is_known_better() -> None:
    """All but a few of a list drawn: the bound with the list's size closes in on its mean, and stays above it."""
    rng = np.random.default_rng(3)
    population = rates(rng, 200)
    values = rng.permutation(population)[:190]
    plain, finite = upper_bound(values, RATES), upper_bound(values, RATES, population=200)
    assert population.mean() <= finite < plain


def test_without_replacement_coverage() -> None:
    rng = np.random.default_rng(4)
    population = skewed(rng, 150)
    misses = sum(
        upper_bound(rng.permutation(population)[:60], RATES, 0.1, population=150) < population.mean() for _ in range(300)
    )
    assert misses <= 30 + 16


def test_the_order_may_matter_but_not_the_units() -> None:
    values = rates(np.random.default_rng(1), 50)
    scaled = upper_bound(10 * values - 4, Range(-4.0, 26.0))
    assert scaled == pytest.approx(10 * upper_bound(values, RATES) - 4)


@pytest.mark.parametrize(
    ("values", "limits", "message"),
    [
        ([1.0], RATES, "at least 2"),
        ([1.0, 3.2], RATES, "encode with a cap"),
        ([1.0, float("nan")], RATES, "unsound"),
    ],
)
def test_unsound_input_is_refused(values: list[float], limits: Range, message: str) -> None:
    with pytest.raises(InputError, match=message):
        upper_bound(values, limits)


def test_methods_and_ranges_that_certify_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="certify nothing"):
        upper_bound([1.0, 2.0], RATES, method="t")
    with pytest.raises(InputError, match="finite range"):
        Range(0.0, float("inf"))
    with pytest.raises(InputError, match="delta"):
        upper_bound([1.0, 2.0], RATES, 1.0)
    with pytest.raises(InputError, match="population"):
        upper_bound([1.0, 2.0], RATES, population=1)
