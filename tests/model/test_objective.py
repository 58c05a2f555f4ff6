"""The objective: the price of a bit is the slope of theory, and the loss is least where theory says."""

import math

import numpy as np
import pytest
import torch

from flowcodec.model.codec import CodecResult
from flowcodec.model.objective import BIT_PRICE, psnr_db, rate_distortion_loss


def result(bits: list[float], latent_sse: list[float], image_sse: list[float], side: int = 4) -> CodecResult:
    reconstruction = torch.zeros(len(bits), 3, side, side)
    return CodecResult(torch.tensor(bits), torch.tensor(latent_sse), torch.tensor(image_sse), reconstruction)


def test_the_price_of_a_bit_is_minus_the_slope_of_distortion() -> None:
    """D = Delta^2/12 and R = h - log2 Delta: -dD/dR in units of Delta^2, by a central difference."""
    for delta in (0.5, 7.0, 60.0):
        small, large = delta * 2**-1e-4, delta * 2**1e-4
        slope = (large**2 / 12 - small**2 / 12) / (math.log2(large) - math.log2(small))
        assert slope / delta**2 == pytest.approx(BIT_PRICE, rel=1e-6)


def test_the_loss_is_the_formula() -> None:
    """mean of (SSE/Delta^2 + beta*(ln 2/6)*bits)/pixels; Delta of indices 256 and 640 is 1 and 8."""
    values, indices = result([10.0, 20.0], [3.0, 5.0], [4.0, 640.0]), torch.tensor([256, 640])
    price = 0.7 * math.log(2) / 6
    with_flow = ((4 + price * 10) / 16 + (640 / 64 + price * 20) / 16) / 2
    assert rate_distortion_loss(values, indices, 0.7, True, 123.0).item() == pytest.approx(with_flow, rel=1e-6)
    without = ((3 + 0.5 * 4 + price * 10) / 16 + ((5 + 0.5 * 640) / 64 + price * 20) / 16) / 2
    assert rate_distortion_loss(values, indices, 0.7, False, 0.5).item() == pytest.approx(without, rel=1e-6)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_at_high_rate_the_loss_is_least_at_the_step_of_theory(beta: float) -> None:
    """A coefficient quantised with m*Delta: error (m*Delta)^2/12, rate -log2 m. The loss is least at m = sqrt(beta)."""
    multipliers = torch.exp2(torch.linspace(-1.5, 1.5, 301))
    losses = []
    for m in multipliers.tolist():
        values = result([16 * (10 - math.log2(m))], [0.0], [16 * (8 * m) ** 2 / 12])
        losses.append(rate_distortion_loss(values, torch.tensor([640]), beta, True, 0.0).item())
    best = multipliers[int(np.argmin(losses))].item()
    assert best == pytest.approx(math.sqrt(beta), rel=0.02)


def test_the_loss_weighs_all_rates_alike() -> None:
    """Errors that scale with Delta^2 and equal bits give equal terms."""
    losses = [
        rate_distortion_loss(result([100.0], [0.0], [delta**2 * 5]), torch.tensor([index]), 1.0, True, 0.0).item()
        for index, delta in ((128, 0.5), (256, 1.0), (1152, 128.0))
    ]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


def test_balance_weighs_by_the_step() -> None:
    """(Delta/16)^balance: an image at Delta = 64 counts as two at Delta = 16 with 0.5, one at Delta = 4 as half."""
    losses = [
        rate_distortion_loss(result([100.0], [0.0], [delta**2 * 5]), torch.tensor([index]), 1.0, True, 0.0, 0.5).item()
        for index, delta in ((512, 4.0), (768, 16.0), (1024, 64.0))
    ]
    assert losses == pytest.approx([losses[1] / 2, losses[1], 2 * losses[1]], rel=1e-5)


def test_psnr() -> None:
    sse = torch.tensor([3.0 * 16, 3.0 * 16 * 255**2, 0.0])
    assert psnr_db(sse, 16)[:2].tolist() == pytest.approx([10 * math.log10(255**2), 0.0], abs=1e-4)
    assert math.isfinite(psnr_db(sse, 16)[2].item())
