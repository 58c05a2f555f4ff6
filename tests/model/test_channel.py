"""Noise channels: the KL of a Gaussian in closed form, and rounding as a code with probabilities that sum to one."""

import math

import pytest
import torch

from flowcodec.model.channel import NOISE_VARIANCE, GaussianNoise, Rounding
from flowcodec.model.density import MIXTURE_LOG_RATIOS, ScaleMixture


def single_gaussian() -> ScaleMixture:
    """All weight on the component whose deviation is the predicted scale."""
    density = ScaleMixture()
    with torch.no_grad():
        density.logits[:, 1, 0] = 100.0
    return density.requires_grad_(False)


def kl_bits(z: float, location: float, scale: float, variance: float) -> float:
    """KL(N(z, v) || N(location, scale^2 + v)) in bits."""
    total = scale**2 + variance
    return 0.5 * (math.log(total / variance) + (variance + (z - location) ** 2) / total - 1) / math.log(2)


def test_the_noise_has_the_variance_of_a_uniform_quantiser() -> None:
    assert pytest.approx(1 / 12) == NOISE_VARIANCE


@pytest.mark.parametrize("variance", [NOISE_VARIANCE, 0.5])
@pytest.mark.parametrize(("z", "location", "scale"), [(0.3, 0.0, 1.0), (-2.0, 1.5, 4.0), (0.0, 0.1, 0.25), (40.0, 0.0, 32.0)])
def test_the_mean_of_the_bits_is_the_kl(z: float, location: float, scale: float, variance: float) -> None:
    """Within five standard errors of 200k draws, and those below 0.01 bit."""
    count = 200_000
    channel = GaussianNoise(torch.Generator().manual_seed(0), variance)
    log2_scale = torch.full((count,), math.log2(scale))
    _, bits = channel(torch.full((count,), z), torch.full((count,), location), log2_scale, single_gaussian(), 0)
    error = 5 * bits.std().item() / math.sqrt(count)
    assert error < 0.02
    assert bits.mean().item() == pytest.approx(kl_bits(z, location, scale, variance), abs=error)


def test_the_kl_averaged_over_the_source_is_the_capacity_formula() -> None:
    """z ~ N(0, s^2): 0.5 log2(1 + s^2/v) bits, and the error of the conditional mean is s^2 v / (s^2 + v)."""
    count, scale = 200_000, 1.5
    generator = torch.Generator().manual_seed(1)
    z = scale * torch.randn(count, generator=generator)
    log2_scale = torch.full((count,), math.log2(scale))
    received, bits = GaussianNoise(generator)(z, torch.zeros(count), log2_scale, single_gaussian(), 1)
    assert bits.mean().item() == pytest.approx(0.5 * math.log2(1 + scale**2 / NOISE_VARIANCE), abs=0.02)
    expected = scale**2 * NOISE_VARIANCE / (scale**2 + NOISE_VARIANCE)
    assert (received - z).square().mean().item() == pytest.approx(expected, rel=0.02)


def test_noise_is_that_of_the_generator() -> None:
    z, zeros = torch.randn(100, generator=torch.Generator().manual_seed(0)), torch.zeros(100)
    density = single_gaussian()
    first = GaussianNoise(torch.Generator().manual_seed(7))(z, zeros, zeros, density, 0)
    second = GaussianNoise(torch.Generator().manual_seed(7))(z, zeros, zeros, density, 0)
    other = GaussianNoise(torch.Generator().manual_seed(8))(z, zeros, zeros, density, 0)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert not torch.equal(first[0], other[0])


# --- rounding -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("log2_scale", [-2.75, -1.0, 0.0, 2.0])
def test_probabilities_of_the_cells_sum_to_one(log2_scale: float, slope: float) -> None:
    """A fine sweep of z meets every cell once: the bits of the distinct reconstructions are a whole code."""
    z = torch.linspace(-40, 40, 4001)
    scale = torch.full_like(z, log2_scale)
    received, bits = Rounding(slope)(z, torch.zeros_like(z), scale, ScaleMixture(), 0)
    codes = {round(r, 4): b for r, b in zip(received.tolist(), bits.tolist(), strict=True)}
    assert len(codes) > 3
    probability = sum(2.0**-b for b in codes.values() if b < 24)
    assert probability == pytest.approx(1, abs=1e-4)


def test_cells_are_intervals_around_the_location() -> None:
    """The dead zone widens the zero cell by dead_zone * s^-1.7 on both sides; all others are one step wide."""
    z = torch.linspace(-6, 6, 12001, dtype=torch.float64)
    scale = torch.zeros_like(z)
    slope = 1.003
    received, bits = Rounding(slope)(z + 0.3, torch.full_like(z, 0.3), scale, ScaleMixture().double(), 0)
    edges = z[1:][bits[1:] != bits[:-1]]
    threshold = 0.5 + 0.085 * slope**2
    expected = [s * (threshold + k) for k in range(6) for s in (-1, 1) if threshold + k < 6]
    assert torch.allclose(edges.sort().values, torch.tensor(expected, dtype=torch.float64).sort().values, atol=2e-3)
    zero = z.abs() < threshold - 1e-3
    assert torch.allclose(received[zero], torch.tensor(0.3, dtype=torch.float64))
    assert torch.all((received - 0.3 - z).abs() <= 1)
    assert torch.allclose(received - 0.3, -(received - 0.3).flip(0), atol=1e-9)


def test_reconstructions_are_conditional_means() -> None:
    """Of values drawn from the density: the mean of those that share a reconstruction is that reconstruction."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(400_000, generator=generator)
    received, bits = Rounding()(z, torch.zeros_like(z), torch.zeros_like(z), single_gaussian(), 0)
    for value in received.unique():
        members = z[received == value]
        if len(members) > 2000:
            assert members.mean().item() == pytest.approx(value.item(), abs=5 * members.std().item() / math.sqrt(len(members)))
            assert 2.0 ** -bits[received == value][0].item() == pytest.approx(len(members) / len(z), rel=0.05)


def test_rounding_costs_less_than_noise_at_high_rate_by_the_shaping_loss() -> None:
    """A uniform cell against a Gaussian of the same variance: the KL is 0.254 bit below the bits of rounding."""
    generator = torch.Generator().manual_seed(0)
    z = 32 * torch.randn(200_000, generator=generator)
    zeros, scale = torch.zeros_like(z), torch.full_like(z, 5.0)
    density = single_gaussian()
    rounded = Rounding(0.0)(z, zeros, scale, density, 0)
    noisy = GaussianNoise(generator)(z, zeros, scale, density, 0)
    assert (rounded[1].mean() - noisy[1].mean()).item() == pytest.approx(0.5 * math.log2(2 * math.pi * math.e / 12), abs=0.02)
    assert (rounded[0] - z).square().mean().item() == pytest.approx(NOISE_VARIANCE, rel=0.02)


def test_gradients_reach_latent_and_location() -> None:
    """d received / dz = 1 straight through; d received / d location = 1, since the cell stays and moves with it."""
    z = torch.linspace(-5, 5, 41, requires_grad=True)
    location = torch.full((41,), 0.2, requires_grad=True)
    received, _ = Rounding()(z, location, torch.zeros(41), ScaleMixture(), 0)
    received.sum().backward()
    assert z.grad is not None and torch.allclose(z.grad, torch.ones(41))
    assert location.grad is not None and torch.allclose(location.grad, torch.ones(41))


def test_the_gradient_of_the_location_is_that_of_the_cost() -> None:
    """D + lambda R of many values, cells that nearly minimise it: the gradient agrees with a difference over a shift.

    With rounding to the middle instead (slope 0) cells do not minimise the cost, and the two disagree.
    """
    generator = torch.Generator().manual_seed(0)
    ratios = torch.tensor(MIXTURE_LOG_RATIOS, dtype=torch.float64).exp()[torch.randint(0, 3, (400_000,), generator=generator)]
    z = 0.6 * ratios * torch.randn(400_000, generator=generator, dtype=torch.float64) + 0.3
    density, scale = ScaleMixture().double().requires_grad_(False), torch.full_like(z, math.log2(0.6))

    def cost(shift: float, slope: float) -> tuple[float, float]:
        location = torch.full_like(z, shift, requires_grad=True)
        received, bits = Rounding(slope)(z, location, scale, density, 0)
        total = ((received - z).square() + math.log(2) / 6 * bits).mean()
        total.backward()
        assert location.grad is not None
        return total.item(), location.grad.sum().item()

    def discrepancy(slope: float) -> float:
        difference = (cost(0.02, slope)[0] - cost(-0.02, slope)[0]) / 0.04
        return abs(cost(0.0, slope)[1] - difference) / abs(difference)

    assert discrepancy(1.0) < 0.15 < discrepancy(0.0)
