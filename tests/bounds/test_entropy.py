"""The flow's own density: normalised, consistent with the rate of the noise channel; latents against their noisy versions."""

import copy
import math

import numpy as np
import pytest
import torch

from flowcodec.bounds import entropy, latents
from flowcodec.bounds import rate as rates
from flowcodec.bounds.comparison import compare
from flowcodec.bounds.divergence import JENSEN_SHANNON, KL
from flowcodec.errors import InputError
from flowcodec.model.codec import FlowCodecModel, ModelConfig
from flowcodec.runtime.step import log2_step, step_index


@pytest.fixture(scope="module")
def tiny() -> FlowCodecModel:
    torch.manual_seed(0)
    return FlowCodecModel(ModelConfig(widths=(8, 8, 8), blocks=(1, 1, 1), coupling_width=4, restoration_width=4)).eval()


@pytest.fixture(scope="module")
def crops(photograph: np.ndarray) -> np.ndarray:
    places = [(i, j) for i in range(0, 480, 60) for j in range(0, 700, 90)]
    return np.stack([photograph[i : i + 32, j : j + 32].transpose(2, 0, 1) for i, j in places])


def test_cross_entropy_and_the_rate_of_the_channel_agree(tiny: FlowCodecModel, crops: np.ndarray) -> None:
    """With the channel's own noise, -log2 p(x + n) - h(n) is the KL: the same images, another draw of the noise.

    The untrained flow is an orthonormal wavelet. With band steps of 1.5 steps, all alike, the channel's noise is white in pixels.
    """
    index = step_index(8.0)
    variance = (1.5 * 2 ** log2_step(index)) ** 2 / 12
    tiny = copy.deepcopy(tiny)
    with torch.no_grad():
        tiny.log2_multipliers[..., 0] = math.log2(1.5)
    noisy = crops + np.random.default_rng(1).normal(0, math.sqrt(variance), crops.shape)
    bits = entropy.cross_entropy_bits(tiny, noisy, index)
    found = 3 * (bits - 0.5 * math.log2(2 * math.pi * math.e * variance))
    assert found.mean() == pytest.approx(rates.model_rates(tiny, crops, index, 2).kl_bpp.mean(), abs=0.03)
    with pytest.raises(InputError, match="power of two"):
        entropy.cross_entropy_bits(tiny, noisy[:, :, :20, :20], index)


def test_shannon_on_a_gaussian_is_its_rate() -> None:
    """X ~ N(0, v): with the exact h(X + N) the estimate is (1/2) log2((v + s) / (D + s)), below R(D), and R(D) as s -> 0."""
    variance, distortion = 50.0, 2.0
    truth = 0.5 * math.log2(variance / distortion)
    for noise, near in ((1.0, 0.3), (1e-6, 1e-5)):
        h = 0.5 * math.log2(2 * math.pi * math.e * (variance + noise))
        found = entropy.shannon_estimate(h, noise, distortion)
        assert truth - near < found <= truth + 1e-9
    assert entropy.shannon_estimate(-10.0, 1.0, 1.0) == 0


def test_the_floor_under_log_ratios_costs_next_to_nothing() -> None:
    """q = N(m, 1), p = N(0, 1): raising T = ln q/p from below adds at most e^(-L - 1), and what is taken off makes up for it."""
    assert rates.LEAST_NATS == -10.0
    rng = np.random.default_rng(0)
    for m in (0.5, 3.0):
        nats = m * (m + rng.normal(size=1_000_000)) - m**2 / 2
        for least in (0.0, 1.0, 3.0):
            assert np.maximum(-least - nats, 0).mean() <= math.exp(-least - 1)
    pixels = 64
    values, low, high = rates.floored_bpp(np.array([-5.0, 0.0, 0.5, 9.0]), 1.0, pixels)
    assert low <= values.min() and values.max() <= high == 1.0
    assert low == pytest.approx(-10 / math.log(2) / pixels, abs=1e-5)
    assert (values[1:3] < [0.0, 0.5]).all() and values[2] == pytest.approx(0.5, abs=1e-5)


def test_sampled_and_known_entropies_of_the_noise_agree(tiny: FlowCodecModel, crops: np.ndarray) -> None:
    """ln q(z|x) at the sample has the mean that the other way of counting uses."""
    known = rates.model_rates(tiny, crops, step_index(30.0), 4).kl_bpp
    sampled = rates.model_rates(tiny, crops, step_index(30.0), 4, sampled=True).kl_bpp
    assert 0.005 < (sampled - known).std() < 0.2
    assert sampled.mean() == pytest.approx(known.mean(), abs=0.03)


def test_noisy_latents_leave_the_data_as_noise_grows(tiny: FlowCodecModel, crops: np.ndarray) -> None:
    """Certified bounds below what data processing allows, nothing at tiny noise, much at large noise."""
    seen, fresh = frozenset({"a"}), frozenset({"b"})
    assert latents.upper_bound(np.zeros(36)) == 0
    values = []
    for step in (0.25, 1.0, 32.0):
        index = step_index(step)
        noise = latents.noise_variances(tiny, index, 1)
        assert noise == pytest.approx(step**2 / 12, rel=0.01)
        found = compare(
            latents.latent_pairs(tiny, crops[::2], index, seen, 1)[1],
            latents.latent_pairs(tiny, crops[1::2], index, fresh, 2)[1],
            [KL, JENSEN_SHANNON],
        )
        assert found["kl"].value <= latents.upper_bound(noise)
        values.append(found["jensen-shannon"].mean)
    assert abs(values[0]) < 0.02 and values[2] > 0.5


def test_the_bound_of_data_processing_is_attained_by_a_point() -> None:
    """Data that are one point: P_tau = N(x, tau^2), q = N(x, tau^2 + sigma^2), whose KL the bound is."""
    noise = np.array([0.5, 2.0])
    tau = latents.DATA_VARIANCE
    expected = sum(0.5 * (math.log((tau + s) / tau) + tau / (tau + s) - 1) for s in noise)
    assert latents.upper_bound(noise) == pytest.approx(expected)
