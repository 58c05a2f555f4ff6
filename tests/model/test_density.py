"""The prior's density: probabilities that sum to one, and conditional means, against numerical integration."""

import math

import numpy as np
import pytest
import torch

from flowcodec.model.channel import NOISE_VARIANCE
from flowcodec.model.density import KINDS, MIXTURE_LOG_RATIOS, ScaleMixture
from flowcodec.runtime.channel import SCALE_BITS, SCALE_COUNT, SCALE_LOG2_FIRST

LOG2_SCALES = [SCALE_LOG2_FIRST, -1.0, 0.0, 1.25, 4.0]
LAST_LOG2_SCALE = SCALE_LOG2_FIRST + (SCALE_COUNT - 1) / (1 << SCALE_BITS)


def random_mixture(dtype: torch.dtype = torch.float64) -> ScaleMixture:
    torch.manual_seed(0)
    density = ScaleMixture().to(dtype)
    with torch.no_grad():
        density.logits.normal_()
    return density.requires_grad_(False)


def full(like: torch.Tensor, log2_scale: float) -> torch.Tensor:
    return torch.full_like(like, log2_scale)


def clean_density(density: ScaleMixture, v: np.ndarray, log2_scale: float, kind: int) -> np.ndarray:
    """p(v) written out from the parameters: softmax of logits affine in ln s, deviations s*exp(r)."""
    logits = density.logits[kind].numpy()
    scores = logits[:, 0] + logits[:, 1] * 0.1 * log2_scale * math.log(2)
    weights = np.exp(scores) / np.exp(scores).sum()
    deviations = 2.0**log2_scale * np.exp(MIXTURE_LOG_RATIOS)
    return sum(w * np.exp(-0.5 * (v / d) ** 2) / (d * math.sqrt(2 * math.pi)) for w, d in zip(weights, deviations, strict=True))


def grid(log2_scale: float, noise: float = 0.0) -> np.ndarray:
    """Points that cover the widest component by 12 deviations and resolve the narrowest."""
    reach = 12 * (2.0**log2_scale * math.exp(0.8) + noise)
    return np.linspace(-reach, reach, 40001)


def integral(values: np.ndarray, points: np.ndarray) -> float:
    """Of smooth functions that vanish at both ends, for which the plain sum is exact."""
    return float(values.sum() * (points[1] - points[0]))


# --- noisy ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", range(KINDS))
@pytest.mark.parametrize("log2_scale", LOG2_SCALES)
def test_the_noisy_density_integrates_to_one(log2_scale: float, kind: int) -> None:
    points = grid(log2_scale, NOISE_VARIANCE**0.5)
    offset = torch.from_numpy(points)
    log_prob, _ = random_mixture().noisy(offset, full(offset, log2_scale), kind, NOISE_VARIANCE)
    assert integral(log_prob.exp().numpy(), points) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("kind", range(KINDS))
@pytest.mark.parametrize("log2_scale", LOG2_SCALES)
def test_noisy_is_the_convolution_and_its_mean_the_conditional_mean(log2_scale: float, kind: int) -> None:
    """p(o) and E[v | o] by summing over v: p(v) N(o - v; 0, variance)."""
    density = random_mixture()
    points = grid(log2_scale)
    prior = clean_density(density, points, log2_scale, kind)
    offset = torch.tensor([-3.0, -0.7, 0.0, 0.3, 1.0, 2.5], dtype=torch.float64)
    log_prob, mean = density.noisy(offset, full(offset, log2_scale), kind, NOISE_VARIANCE)
    for o, found_log_prob, found_mean in zip(offset.tolist(), log_prob.tolist(), mean.tolist(), strict=True):
        joint = prior * np.exp(-0.5 * (o - points) ** 2 / NOISE_VARIANCE) / math.sqrt(2 * math.pi * NOISE_VARIANCE)
        total = integral(joint, points)
        assert found_log_prob == pytest.approx(math.log(total), abs=1e-6)
        assert found_mean == pytest.approx(integral(joint * points, points) / total, abs=1e-6)


def test_the_conditional_mean_shrinks_towards_the_location() -> None:
    offset = torch.linspace(-5, 5, 101, dtype=torch.float64)
    _, mean = random_mixture().noisy(offset, full(offset, 0.0), 0, NOISE_VARIANCE)
    assert torch.all(mean.abs() <= offset.abs()) and torch.all(mean * offset >= 0)
    assert torch.allclose(mean, -mean.flip(0))


def test_kinds_have_shapes_of_their_own_and_weights_follow_the_scale() -> None:
    density = random_mixture()
    scales = torch.tensor([-2.0, 6.0], dtype=torch.float64)
    first, second = (density.components(scales, kind)[0].exp() for kind in range(KINDS))
    assert torch.allclose(first.sum(0), torch.ones(2, dtype=torch.float64))
    assert (first - second).abs().max() > 0.05 and (first[:, 0] - first[:, 1]).abs().max() > 0.02


# --- cell -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", range(KINDS))
@pytest.mark.parametrize("log2_scale", LOG2_SCALES)
def test_masses_of_a_partition_sum_to_one(log2_scale: float, kind: int) -> None:
    reach = 12 * 2.0**log2_scale * math.exp(0.8) + 1
    edges = torch.linspace(-reach, reach, 1 + int(4 * reach), dtype=torch.float64) + 0.03
    mass, mean = random_mixture().cell(edges[:-1], edges[1:], full(edges[1:], log2_scale), kind)
    assert torch.all(mass >= 0)
    assert mass.sum().item() == pytest.approx(1, abs=1e-9)
    assert (mass * mean).sum().item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", range(KINDS))
@pytest.mark.parametrize("log2_scale", LOG2_SCALES)
def test_mass_and_mean_of_a_cell_agree_with_integration(log2_scale: float, kind: int) -> None:
    density = random_mixture()
    low = torch.tensor([-0.65, 0.65, 1.65, -2.5, 3.5], dtype=torch.float64)
    high = torch.tensor([0.65, 1.65, 2.65, -1.5, 4.5], dtype=torch.float64)
    mass, mean = density.cell(low, high, full(low, log2_scale), kind)
    for a, b, found_mass, found_mean in zip(low.tolist(), high.tolist(), mass.tolist(), mean.tolist(), strict=True):
        points = np.linspace(a, b, 20001)
        values = clean_density(density, points, log2_scale, kind)
        expected = np.trapezoid(values, points)
        assert found_mass == pytest.approx(expected, rel=1e-6, abs=1e-15)
        centre = np.trapezoid(values * points, points) / expected if expected > 1e-9 else (a + b) / 2
        assert found_mean == pytest.approx(centre, abs=1e-6)


def test_a_cell_far_in_the_tail_keeps_its_digits_and_has_a_mean_inside() -> None:
    density = random_mixture(torch.float32)
    low = torch.tensor([4.5, 30.5, 3000.5])
    mass, mean = density.cell(low, low + 1, full(low, -0.5), 0)
    exact, _ = density.double().cell(low.double(), low.double() + 1, full(low, -0.5).double(), 0)
    assert mass[0].item() == pytest.approx(exact[0].item(), rel=1e-3) and mass[0] > 0
    assert torch.all((mean >= low) & (mean <= low + 1))
    mirrored_mass, mirrored_mean = density.float().cell(-low - 1, -low, full(low, -0.5), 0)
    assert torch.allclose(mirrored_mass, mass, rtol=1e-3, atol=0) and torch.allclose(mirrored_mean, -mean, atol=1e-4)


@pytest.mark.parametrize("log2_scale", [*LOG2_SCALES, 7.0, 10.0, LAST_LOG2_SCALE])
def test_float32_is_enough_at_every_scale(log2_scale: float) -> None:
    """Mass to 0.1 %, the mean to 0.05 step (its share of the error is then 3 % of a cell's 1/12), up to the last scale."""
    density = random_mixture(torch.float32)
    centre = torch.round(torch.tensor([0.2, 0.5, 1.0, 2.0]) * 2.0**log2_scale).clamp(min=1)
    low, high = centre - 0.5, centre + 0.5
    mass, mean = density.cell(low, high, full(low, log2_scale), 0)
    exact_mass, exact_mean = density.double().cell(low.double(), high.double(), full(low, log2_scale).double(), 0)
    visible = exact_mass > 1e-7
    assert torch.allclose(mass.double()[visible], exact_mass[visible], rtol=1e-3, atol=0)
    assert (mean - exact_mean)[visible].abs().max() < 0.05
