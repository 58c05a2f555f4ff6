"""The simulated channels: error, decisions and tables of the shipped model against their definitions."""

import numpy as np
import pytest

import flowcodec
from flowcodec.runtime.channel import (
    DITHER_LEVELS,
    NEAR_CELLS,
    SCALE_BITS,
    SCALE_COUNT,
    SCALE_LOG2_FIRST,
    Dither,
    Rounding,
    make_channel,
)
from flowcodec.runtime.coder import TABLE_BITS, SymbolDecoder, SymbolEncoder
from flowcodec.runtime.header import CHANNELS

MODEL = flowcodec.load_model()
SCALES = np.arange(SCALE_COUNT)
WIDE = 2.0 ** (SCALES / (1 << SCALE_BITS) + SCALE_LOG2_FIRST) >= 16


def sample(scale: int, count: int = 4000, seed: int = 0) -> np.ndarray:
    """Values in 1/64 step spread over several standard deviations of a scale."""
    width = 64 * 2.0 ** (scale / (1 << SCALE_BITS) + SCALE_LOG2_FIRST)
    return np.random.default_rng(seed).laplace(0, width, count)


@pytest.mark.parametrize("name", ["round", "dither"])
@pytest.mark.parametrize("kind", [0, 1])
def test_error_is_bounded(name: str, kind: int) -> None:
    """Every coded coefficient comes back within 1.6 steps (the widest dead zone), at s >= 4 steps within 0.7."""
    channel = make_channel(name, MODEL.channels, seed=3)
    for scale in SCALES[1:]:
        values = sample(scale)
        scales = np.full(len(values), scale, np.uint8)
        received = channel.reconstruct(channel.quantise(values, kind, scales, (0, 1)), kind, scales, (0, 1))
        assert np.abs(received - values).max() <= 64 * (0.75 if scale >= 38 else 1.6)


@pytest.mark.parametrize("name", CHANNELS)
def test_symbols_go_through_the_tables_that_the_channel_names(name: str) -> None:
    """Every channel's ids count in its ``symbol_tables``: its symbols come back from the coder."""
    channel, scales = make_channel(name, MODEL.channels, seed=3), SCALES[SCALES % 9 == 5].astype(np.uint8).repeat(30)
    values = np.random.default_rng(1).normal(0, 64 * 2.0 ** (scales / (1 << SCALE_BITS) + SCALE_LOG2_FIRST))
    tables = channel.symbol_tables(MODEL.tables)
    symbols = channel.quantise(values, 0, scales, (0, 1))
    encoder = SymbolEncoder(tables)
    channel.write(encoder.push, symbols, 0, scales, (0, 1))
    np.testing.assert_array_equal(channel.read(SymbolDecoder(tables, encoder.finish()).pop, 0, scales, (0, 1)), symbols)


@pytest.mark.parametrize("kind", [0, 1])
def test_rounding_is_odd_and_monotone(kind: int) -> None:
    channel = Rounding(MODEL.channels)
    values = np.linspace(-2000, 2000, 4001)
    for scale in SCALES[1::11]:
        scales = np.full(len(values), scale, np.uint8)
        symbols = channel.quantise(values, kind, scales, (0, 0))
        assert (np.diff(symbols) >= 0).all()
        np.testing.assert_array_equal(symbols, -symbols[::-1])
        received = channel.reconstruct(symbols, kind, scales, (0, 0))
        assert (np.diff(received) >= 0).all()


def test_dead_zone_grows_as_the_scale_falls() -> None:
    """The first threshold, in steps, is at least a half and never rises with the scale beyond the table's rounding."""
    for kind in (0, 1):
        first = MODEL.channels.thresholds[kind, :, 0].astype(int)
        assert (first >= 32).all()
        assert (np.diff(first[1:54]) <= 1).all()
        assert (first[WIDE] == 32).all()


def test_reconstruction_lies_in_its_cell() -> None:
    thresholds, centroids = MODEL.channels.thresholds, MODEL.channels.centroids
    assert (centroids[..., 0] == 0).all()
    assert (centroids[..., 1:] >= thresholds).all()
    assert (centroids[..., 1:NEAR_CELLS] <= thresholds[..., 1:]).all()


def test_tables_are_distributions() -> None:
    """Positive integers that sum to 2^20 exactly, symmetric for ``round``, every reference inside the list."""
    tables = MODEL.tables
    assert (tables.frequencies > 0).all()
    sums = np.add.reduceat(tables.frequencies.astype(np.int64), tables.starts[:-1])
    assert (sums == 1 << TABLE_BITS).all()
    assert MODEL.channels.dither_tables.max() < len(tables.starts) - 1
    for table in range(2 * SCALE_COUNT):
        frequencies = tables.of(table).astype(np.int64)
        if tables.low_bits[table] == 0:
            # Symmetric, but for what is left to the sum, which the likeliest symbol takes.
            uneven = np.flatnonzero(np.abs(frequencies - frequencies[::-1]) > 1)
            assert len(uneven) == 0 or (len(uneven) == 2 and np.argmax(frequencies) in uneven)


def test_free_coefficients_are_nearly_certain_zeros() -> None:
    free = MODEL.channels.free
    assert free[:, 0].all() and not free[:, 16:].any()
    for kind in (0, 1):
        for scale in np.flatnonzero(free[kind])[1:]:
            frequencies = MODEL.tables.of(kind * SCALE_COUNT + scale)
            assert frequencies[len(frequencies) // 2] > 0.999 * (1 << TABLE_BITS)


def test_dither_error_is_uniform_and_independent_of_the_value() -> None:
    """At full amplitude round(z + u) - u - z is uniform on a step whatever z (Zamir & Feder)."""
    channel = Dither(MODEL.channels, seed=5)
    count = 200_000
    values = np.random.default_rng(0).normal(0, 64 * 8, count)
    scales = np.full(count, SCALE_COUNT - 1, np.uint8)
    errors = (channel.reconstruct(channel.quantise(values, 0, scales, (0, 7)), 0, scales, (0, 7)) - values) / 64
    assert abs(errors.mean()) < 0.005
    assert abs(errors.var() * 12 - 1) < 0.02
    assert abs(np.corrcoef(errors, values)[0, 1]) < 0.01
    assert np.abs(errors).max() <= 0.5 + 1e-9


def test_dither_depends_on_seed_and_block_only() -> None:
    scales = np.full(1000, 40, np.uint8)
    draws = {
        (seed, block): Dither(MODEL.channels, seed)._draw(1000, block).tobytes()
        for seed in (0, 1)
        for block in ((0, 0), (0, 1), (1, 0))
    }
    assert len(set(draws.values())) == len(draws)
    assert Dither(MODEL.channels, 1)._draw(1000, (1, 0)).tobytes() == draws[1, (1, 0)]
    levels = Dither(MODEL.channels, 0)._draw(160_000, (0, 0))
    assert np.abs(np.bincount(levels, minlength=DITHER_LEVELS) / 10_000 - 1).max() < 0.05
    np.testing.assert_array_equal(levels[:8], GOLDEN_DITHER)
    assert scales.max() < SCALE_COUNT


def test_dither_tables_give_the_shifted_cells_probability() -> None:
    """Mean code length of each dither's own tables over samples of the density beats every other dither's tables."""
    kind, scale = 0, 26
    channel = Dither(MODEL.channels, seed=2)
    values = np.random.default_rng(1).normal(0, 64 * 2.0 ** (scale / (1 << SCALE_BITS) + SCALE_LOG2_FIRST), 100_000)
    scales = np.full(len(values), scale, np.uint8)
    symbols = channel.quantise(values, kind, scales, (0, 0))

    def mean_bits(ids: np.ndarray) -> float:
        tables = MODEL.tables
        places = np.clip(symbols + tables.reach[ids], 0, 2 * tables.reach[ids])
        return float(tables.costs[tables.starts[ids] + places].mean())

    own = channel.table_ids(kind, scales, (0, 0))
    assert mean_bits(own) + 0.005 < mean_bits(np.roll(own, 1))


GOLDEN_DITHER = [11, 9, 8, 13, 4, 14, 8, 0]
