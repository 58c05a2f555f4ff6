"""Gaussian sources, of which the best possible distortion is known: what is measured is within 0.1 dB of the formulas."""

import numpy as np
import pytest

pytest.importorskip("scipy", reason="radio needs scipy")

from flowcodec.radio import capacity, linear
from flowcodec.radio.link import awgn, noise_power


def decibels(ratio: float) -> float:
    return float(10 * np.log10(ratio))


def over_awgn(values: np.ndarray, csnr_db: float, seed: int) -> np.ndarray:
    """Real (2k,) of unit power through k complex uses."""
    return linear.to_real(awgn(linear.to_complex(values), csnr_db, np.random.default_rng(seed)).samples)


@pytest.mark.parametrize("csnr_db", [0.0, 10.0, 20.0])
@pytest.mark.parametrize("dimensions", [20_000, 60_000, 120_000])
def test_linear_coding_reaches_the_formula_of_lee_and_petersen(csnr_db: float, dimensions: int) -> None:
    """60,000 sources of very different variances over fewer, as many and more real dimensions."""
    levels = linear.variance_levels(np.repeat(np.exp2(np.linspace(-6, 6, 60)), 1000))
    variances = np.exp2(levels / linear.LEVELS_PER_OCTAVE)
    source = np.random.default_rng(1).standard_normal(len(levels)) * np.sqrt(variances)
    noise = noise_power(csnr_db)
    allocation = linear.allocate(levels, dimensions, noise)
    sent, scale = linear.send(source, allocation)
    assert np.mean(sent**2) == pytest.approx(1, abs=1e-6)
    estimate = np.zeros(len(source))
    estimate[allocation.chosen] = linear.receive(over_awgn(sent, csnr_db, 2), allocation, scale, noise)
    largest = np.sort(variances)[::-1]
    expected = capacity.linear_distortion(largest[:dimensions], noise, float(dimensions)).sum() + largest[dimensions:].sum()
    measured = np.sum((source - estimate) ** 2)
    assert decibels(measured / expected) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("csnr_db", [0.0, 10.0, 20.0])
def test_a_white_source_over_as_many_dimensions_is_optimal_at_every_csnr(csnr_db: float) -> None:
    """Goblick 1965: uncoded transmission meets OPTA at once for all CSNRs, here designed for 10 dB."""
    source = 3 * np.random.default_rng(3).standard_normal(100_000)
    levels = np.full(len(source), linear.variance_levels(np.array([9.0]))[0])
    allocation = linear.allocate(levels, len(source), noise_power(10))
    sent, scale = linear.send(source, allocation)
    estimate = np.zeros(len(source))
    estimate[allocation.chosen] = linear.receive(over_awgn(sent, csnr_db, 4), allocation, scale, noise_power(csnr_db))
    bound = capacity.opta(np.full(1000, 9.0), 500, 10 ** (csnr_db / 10))
    assert decibels(np.mean((source - estimate) ** 2) / bound) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("csnr_db", [10.0, 14.0, 20.0])
def test_hybrid_coding_reaches_the_formula(share: float, csnr_db: float) -> None:
    """The digital code is an ideal one: its distortion is that of the Gaussian test channel at the rate of the design."""
    design_db, count, rng = 10.0, 200_000, np.random.default_rng(5)
    source = rng.standard_normal(count)
    noise_design = noise_power(design_db)
    error_variance = (share + noise_design) / (1 + noise_design)
    # Backward test channel: source = reconstruction + error, the two independent.
    forward = (1 - error_variance) * source + np.sqrt(error_variance * (1 - error_variance)) * rng.standard_normal(count)
    error = source - forward
    levels = np.full(count, linear.variance_levels(np.array([error_variance]))[0])
    allocation = linear.allocate(levels, count, noise_design / share)
    sent, scale = linear.send(error, allocation)
    # The digital layer is decoded and subtracted; what is left is the analog layer at power a.
    received = linear.to_real(
        awgn(np.sqrt(share) * linear.to_complex(sent), csnr_db, np.random.default_rng(6)).samples
    ) / np.sqrt(share)
    estimate = np.zeros(count)
    estimate[allocation.chosen] = linear.receive(received, allocation, scale, noise_power(csnr_db) / share)
    expected = capacity.hybrid_distortion(1.0, share, 10 ** (csnr_db / 10), 10 ** (design_db / 10))
    assert decibels(np.mean((error - estimate) ** 2) / expected) == pytest.approx(0, abs=0.1)


def test_hybrid_coding_is_free_at_the_design_csnr() -> None:
    for share in (0.0, 0.05, 1.0):
        assert capacity.hybrid_distortion(2.0, share, 10.0, 10.0) == pytest.approx(2.0 / 11)


def test_linear_coding_loses_to_opta_what_theory_says() -> None:
    """AR(1), rho 0.95, as many dimensions as samples, high CSNR: 4.1 to 4.35 dB."""
    frequencies = np.linspace(0, np.pi, 4000)
    variances = (1 - 0.95**2) / (1 - 2 * 0.95 * np.cos(frequencies) + 0.95**2)
    csnr = 1e5
    linear_mean = capacity.linear_distortion(variances, 1 / csnr, len(variances)).mean()
    assert 4.0 < decibels(linear_mean / capacity.opta(variances, len(variances) // 2, csnr)) < 4.4


def test_capacities_are_the_known_ones() -> None:
    assert capacity.awgn_capacity(10.0) == pytest.approx(3.459, abs=1e-3)
    assert [round(capacity.rayleigh_fast_capacity(10 ** (db / 10)), 3) for db in (0, 10, 20)] == [0.860, 2.907, 5.884]
    assert capacity.rayleigh_outage(1.038, 10.0) == pytest.approx(0.1, abs=1e-3)
    assert capacity.bits_per_pixel(1 / 12, 3.459) == pytest.approx(0.865, abs=1e-3)
