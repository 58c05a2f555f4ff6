"""The ``gaussian`` channel: exact samples of the target, bits between the divergence and its bound, integers everywhere."""

import hashlib
import math

import numpy as np
import pytest

import flowcodec
from flowcodec.errors import FormatError
from flowcodec.runtime import simulation
from flowcodec.runtime.channel import make_channel
from flowcodec.runtime.coder import TABLE_BITS, SymbolDecoder, SymbolEncoder
from flowcodec.runtime.simulation import FIRST_WIDE, GaussianSimulation, divergence_bits


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array.astype("<i8")).tobytes()).hexdigest()[:16]


def test_constants_are_the_same_on_every_machine() -> None:
    """Known hashes; what is rounded from floating point lies far from a tie, so no libm can round it otherwise."""
    assert digest(simulation.edges()) == EDGES
    assert digest(simulation.deviations()) == DEVIATIONS
    assert digest(simulation.shrinks()) == SHRINKS
    assert digest(simulation.nominal_bits()) == NOMINAL
    exact = simulation.exact_shrinks()
    assert np.abs(exact - np.floor(exact) - 0.5).min() > 1e-7
    quantiles = np.array([simulation.NormalDist().inv_cdf(j / 1024) * 4096 for j in range(1, 1024)])
    assert np.abs(quantiles - np.floor(quantiles) - 0.5).min() > 1e-7
    bits = 8 * np.log2(1 + 12 * 2 ** (np.arange(128) / 4 - 5.5))
    assert np.abs(bits - np.floor(bits) - 0.5).min() > 1e-7


def test_constants_are_what_they_stand_for() -> None:
    scales = 2.0 ** (np.arange(128) / 8 - 2.75)
    expected = 1024 * np.sqrt(np.array(simulation.SQUARED_RATIOS) / 16 * scales[:, None] ** 2 + 1 / 12)
    assert (np.abs(simulation.deviations() - expected) < 1.5 + 1e-4 * expected).all()
    assert sum(simulation.WEIGHTS) == 1024
    tables = simulation.index_tables()
    sums = np.add.reduceat(tables.frequencies.astype(np.int64), tables.starts[:-1])
    assert (sums == 1 << TABLE_BITS).all() and tables.frequencies.min() >= 1


@pytest.mark.parametrize("scale", [3, 30, FIRST_WIDE - 1])
def test_candidates_have_the_law_that_the_encoder_believes(scale: int) -> None:
    n = 200_000
    words = np.random.Philox(key=1).random_raw(n).reshape(n, 1)
    drawn = np.sort(simulation.candidates(words, np.array([scale]))[:, 0])
    span = (len(simulation.log_proposal(scale)) - 1) // 2
    cumulative = np.cumsum(np.exp(simulation.log_proposal(scale)))
    values = np.unique(drawn)
    values = values[np.abs(values) <= span]
    empirical = np.searchsorted(drawn, values, side="right") / n
    # What lies beyond the table on the left is missing in its sum.
    assert np.abs(empirical - cumulative[values + span] - np.mean(drawn < -span)).max() < 1.63 / n**0.5


@pytest.mark.parametrize("scale", [10, 24, 40, 70])
def test_samples_are_exact_and_bits_lie_between(scale: int) -> None:
    """y - z is N(0, 1/12) whatever z (Kolmogorov-Smirnov at 0.1 %), bits over the KL and under KL + log2(KL + 2) + 2."""
    n, rng = 1200, np.random.default_rng(scale)
    z = rng.normal(0, 64 * 2.0 ** (scale / 8 - 2.75), n)
    scales = np.full(n, scale, np.uint8)
    channel = GaussianSimulation(seed=9)
    symbols, tables = channel.quantise(z, 0, scales, (0, 3)), channel.table_ids(0, scales, (0, 3))
    assert channel.inexact == 0 and len(symbols) == len(tables)
    encoder = SymbolEncoder(simulation.index_tables())
    encoder.push(symbols, tables)
    payload = encoder.finish()
    back = SymbolDecoder(simulation.index_tables(), payload).pop(tables)
    np.testing.assert_array_equal(back, symbols)

    errors = (GaussianSimulation(seed=9).received(back, scales, (0, 3)) - z) / 64 * math.sqrt(12)
    # Samples lie on a grid of 1/64 step: spread over their cell they have a continuous law.
    spread = np.sort(errors + rng.uniform(-0.5, 0.5, n) * math.sqrt(12) / 64)
    cumulative = np.array([0.5 * math.erfc(-e / math.sqrt(2)) for e in spread])
    assert np.abs(cumulative - (np.arange(n) + 0.5) / n).max() < 1.95 / n**0.5
    assert abs(errors.mean()) < 4 / n**0.5 and abs(errors.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs(np.corrcoef(errors, z)[0, 1]) < 4 / n**0.5

    blocks = len(simulation._Blocks(scales).ends)
    kl = divergence_bits(z, scale).sum() / blocks
    assert kl < 8 * len(payload) / blocks <= kl + math.log2(kl + 2) + 2


def test_the_number_of_a_block_is_a_short_one() -> None:
    """E log2 k <= KL + 1, k counted from 1: what the bound on the bits rests on."""
    n, scale = 1500, 20
    z, scales = np.random.default_rng(0).normal(0, 64 * 2.0 ** (scale / 8 - 2.75), n), np.full(n, scale, np.uint8)
    channel = GaussianSimulation(seed=1)
    numbers = channel.quantise(z, 0, scales, (0, 0)) + 1
    assert np.log2(numbers).mean() <= divergence_bits(z, scale).sum() / len(numbers) + 1


def test_encoder_and_decoder_agree_on_mixed_scales() -> None:
    """All scales mixed, wide ones and far outliers among them: the decoder's samples are those that the encoder weighed."""
    rng = np.random.default_rng(2)
    scales = rng.integers(1, 128, 400).astype(np.uint8)
    z = rng.standard_t(4, 400) * 64 * 2.0 ** (scales / 8 - 2.75)
    channel = make_channel("gaussian", flowcodec.load_model().channels, 5)
    symbols = channel.quantise(z, 1, scales, (2, 40))
    assert isinstance(channel, GaussianSimulation)
    errors = (channel.received(symbols, scales, (2, 40)) - z) / 64
    assert np.abs(errors).max() < 6 / 12**0.5
    means = channel.reconstruct(symbols, 1, scales, (2, 40))
    received = channel.received(symbols, scales, (2, 40))
    assert (np.abs(means) <= np.abs(received)).all() and (means * received >= 0).all()
    other = GaussianSimulation(seed=6).received(symbols, scales, (2, 40))
    assert (other != received).any()


def test_conditional_means_are_better_than_samples() -> None:
    n, scale = 1500, 8
    z = np.random.default_rng(3).normal(0, 64 * 2.0 ** (scale / 8 - 2.75), n)
    scales, channel = np.full(n, scale, np.uint8), GaussianSimulation(seed=2)
    symbols = channel.quantise(z, 0, scales, (0, 0))
    sample, mean = channel.received(symbols, scales, (0, 0)), channel.reconstruct(symbols, 0, scales, (0, 0))
    assert np.mean((mean - z) ** 2) < 0.75 * np.mean((sample - z) ** 2)


def test_damaged_numbers_are_refused() -> None:
    scales = np.full(30, 30, np.uint8)
    count = len(GaussianSimulation(0).table_ids(0, scales, (0, 0)))
    with pytest.raises(FormatError, match="negative"):
        GaussianSimulation(0).reconstruct(np.full(count, -1), 0, scales, (0, 0))
    huge = np.full(count, (1 << 32) << 20)
    assert np.abs(GaussianSimulation(0).reconstruct(huge, 0, scales, (0, 0))).max() < 1 << 40


def test_files(photograph: np.ndarray) -> None:
    """A picture through files: every machine's decoder, a seed of its own, PSNR beside the rounding channel's."""
    part = photograph[100:132, 200:240]
    data = flowcodec.encode(part, channel="gaussian", seed=7, quality=60, threads=1)
    assert flowcodec.info(data)["channel"] == "gaussian" and flowcodec.info(data)["seed"] == 7
    back = flowcodec.decode(data, threads=1)
    rounded = flowcodec.decode(flowcodec.encode(part, quality=60, threads=1))
    errors = [float(np.mean((x.astype(float) - part) ** 2)) for x in (back, rounded)]
    assert errors[0] < 2 * errors[1]
    np.testing.assert_array_equal(back, flowcodec.decode(data, threads=2))


EDGES = "036ccd7c2c6f1a48"
DEVIATIONS = "27d17a50b6f5d6bb"
SHRINKS = "070c925b5a094130"
NOMINAL = "5b7539c67459729a"
