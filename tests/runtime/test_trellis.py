"""The ``trellis`` channel: its machine, the search for the cheapest path, what it gains, and the order of its symbols."""

import hashlib
import itertools
import zipfile

import numpy as np
import pytest

import flowcodec
from flowcodec.runtime import trellis
from flowcodec.runtime.channel import SCALE_BITS, SCALE_COUNT, SCALE_LOG2_FIRST, Rounding, make_channel
from flowcodec.runtime.coder import TABLE_BITS, SymbolDecoder, SymbolEncoder
from flowcodec.runtime.encode import EncodeSettings, encode_detailed
from flowcodec.runtime.image import Picture
from flowcodec.runtime.trellis import FINE_STEP, FIRST_SCALE, LEAST, SCALE_END, Trellis

MODEL = flowcodec.load_model()
BLOCK = (0, 17)


def values_of(scales: np.ndarray, seed: int = 0) -> np.ndarray:
    """Values in 1/64 step that are about as wide as the scales say."""
    return np.random.default_rng(seed).laplace(0, 45 * 2.0 ** (scales / (1 << SCALE_BITS) + SCALE_LOG2_FIRST))


def ids_of(scales: np.ndarray) -> np.ndarray:
    return 2 * (scales.astype(np.int64) - FIRST_SCALE)


@pytest.mark.parametrize("count", [LEAST, 97, 1000])
def test_the_quantisers_are_a_convolutional_code_of_the_parities(count: int) -> None:
    """t[n] = t[n - 2] + t[n - 5] + p[n - 3] along each trellis, one symbol after the other; zero before it begins."""
    symbols = np.random.default_rng(count).integers(-9, 10, count)
    found, trellises = trellis.quantisers(symbols), int(count**0.5) // 2
    for first in range(trellises):
        t, p = [0] * 5, [0] * 5
        for symbol, quantiser in zip(symbols[first::trellises], found[first::trellises], strict=True):
            t.append((t[-2] + t[-5] + p[-3]) % 2)
            p.append(symbol % 2)
            assert quantiser == t[-1]


def test_every_state_has_two_before_it() -> None:
    """The graph of the search: each branch leads where the code says, with the quantiser of the state it leaves."""
    following = trellis._next_states()
    for state in range(32):
        for before, branch in zip(trellis._BEFORE[state], trellis._BRANCH[state], strict=True):
            assert following[before, branch & 1] == state
            assert branch >> 1 == before & 1
    assert (np.bincount(following.reshape(-1)) == 2).all()


def test_tables_are_distributions_and_constants_of_the_format() -> None:
    constants = trellis.load_tables()
    tables = constants.tables
    assert len(tables.starts) - 1 == 2 * 2 * (SCALE_END - FIRST_SCALE)
    assert (np.add.reduceat(tables.frequencies.astype(np.int64), tables.starts[:-1]) == 1 << TABLE_BITS).all()
    assert tables.frequencies.min() >= 1
    with zipfile.ZipFile(trellis.DATA) as archive:
        members = {name: archive.read(name) for name in sorted(archive.namelist())}
    content = b"".join(name.encode() + b"\0" + len(data).to_bytes(8, "little") + data for name, data in members.items())
    assert hashlib.sha256(content).hexdigest().startswith(CONSTANTS)
    points = constants.centroids.astype(int)
    expected = np.arange(trellis.NEAR + 1) * 2 - np.arange(2)[:, None] * (np.arange(trellis.NEAR + 1) > 0)
    assert (np.diff(points) >= 0).all() and (points[..., 0] == 0).all()
    assert (np.abs(points - expected * FINE_STEP) <= FINE_STEP).all(), "reconstructions stay about the points"


def test_the_quantisers_together_are_finer_than_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """At no price of bits and wide values the error lies 1.1 dB below that of a uniform quantiser with the step of either."""
    monkeypatch.setattr(trellis, "_PRICE", 0.0)
    scales = np.full(40_000, SCALE_END - 1)
    values = np.random.default_rng(2).uniform(-64 * 40, 64 * 40, len(scales))
    symbols = trellis.search(values, ids_of(scales), trellis.load_tables())
    quantisers = trellis.quantisers(symbols)
    points = np.sign(symbols) * (2 * np.abs(symbols) - quantisers) * FINE_STEP
    far = np.abs(symbols) > 2 * trellis.NEAR
    gain_db = 10 * np.log10((2 * FINE_STEP) ** 2 / 12 / np.mean((points - values)[far] ** 2))
    assert 1.1 < gain_db < 1.53


def path_cost(symbols: np.ndarray, values: np.ndarray, scales: np.ndarray) -> float:
    """D + price * R of symbols, by the channel's own reconstruction and tables."""
    constants = trellis.load_tables()
    ids = ids_of(scales) + trellis.quantisers(symbols)
    points = constants.centroids.reshape(-1, trellis.NEAR + 1)[ids, np.abs(symbols)]
    bits = constants.tables.costs[constants.tables.starts[ids] + constants.tables.reach[ids] + symbols]
    return float(((np.abs(values) - points) ** 2 + trellis._PRICE * bits).sum())


@pytest.mark.parametrize("seed", range(6))
def test_no_path_is_cheaper(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all paths of one trellis with magnitudes up to 3 none costs less than the one that is found."""
    monkeypatch.setattr(trellis, "_count", lambda coefficients: 1)
    generator = np.random.default_rng(seed)
    scales = generator.integers(FIRST_SCALE, 26, 6)
    values = np.clip(values_of(scales, seed), -150, 150)
    found = path_cost(trellis.search(values, ids_of(scales), trellis.load_tables()), values, scales)
    signs = np.where(values < 0, -1, 1)
    least = min(path_cost(np.array(path) * signs, values, scales) for path in itertools.product(range(4), repeat=6))
    assert found <= least * (1 + 1e-5)


@pytest.mark.parametrize("count", [0, 1, LEAST - 1, LEAST, LEAST + 1, 2048, 3001])
def test_symbols_come_back_from_the_coder(count: int) -> None:
    """Any number of coefficients of any scales: the decoder finds the quantisers as it goes, bytes are those of the tables."""
    scales = np.random.default_rng(count).integers(0, SCALE_COUNT, count).astype(np.uint8)
    if count == LEAST:
        scales = np.clip(scales, FIRST_SCALE, SCALE_END - 1)
    values = values_of(scales)
    for kind in (0, 1):
        channel = make_channel("trellis", MODEL.channels, 0)
        assert isinstance(channel, Trellis)
        tables = channel.symbol_tables(MODEL.tables)
        symbols = channel.quantise(values, kind, scales, BLOCK)
        encoder = SymbolEncoder(tables)
        channel.write(encoder.push, symbols, kind, scales, BLOCK)
        data = encoder.finish()
        assert 8 * len(data) <= 1.001 * encoder.ideal_bits + 96
        decoder = SymbolDecoder(tables, data)
        found = channel.read(decoder.pop, kind, scales, BLOCK)
        np.testing.assert_array_equal(found, symbols)
        decoder.finish()
        # The reader knows the quantisers of what it has read, anyone else finds them.
        points = channel.reconstruct(symbols.copy(), kind, scales, BLOCK)
        np.testing.assert_array_equal(channel.reconstruct(found, kind, scales, BLOCK), points)
        errors = np.abs(points - values)
        assert errors.max(initial=0) <= 64 * 2.5


def test_few_coefficients_are_rounded() -> None:
    scales = np.full(LEAST - 1, 30, np.uint8)
    channel, plain = Trellis(MODEL.channels), Rounding(MODEL.channels)
    values = values_of(scales)
    np.testing.assert_array_equal(channel.quantise(values, 0, scales, BLOCK), plain.quantise(values, 0, scales, BLOCK))
    more = np.append(scales, scales[:1])
    assert (channel.quantise(values_of(more), 0, more, BLOCK) != plain.quantise(values_of(more), 0, more, BLOCK)).any()


@pytest.mark.parametrize("step", [6.0, 20.0])
def test_cheaper_than_rounding(photograph: np.ndarray, step: float) -> None:
    """Squared error + slope * bits of whole files falls by more than 1.5 % of the bits' part, slope that of high-rate theory."""
    pixels = photograph[128:384, 256:512]
    costs = {}
    for channel in ("round", "trellis"):
        data = encode_detailed(Picture(pixels), EncodeSettings(step=step, channel=channel, threads=1)).data
        error = float(((flowcodec.decode(data, threads=1).astype(float) - pixels) ** 2).sum())
        costs[channel] = error / (step**2 * np.log(2) / 6), 8 * len(data)
    assert sum(costs["trellis"]) < sum(costs["round"]) - 0.015 * costs["round"][1]


CONSTANTS = "0131f2d311b60427"
"""Section 6.7 of ``docs/format.md``."""
