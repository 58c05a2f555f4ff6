"""Entropy coding: exact tables, lossless symbols, bytes against theory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowcodec.errors import FormatError
from flowcodec.runtime.coder import TABLE_BITS, SymbolDecoder, SymbolEncoder, Tables


def make_tables(seed: int = 0, low_bits: int = 3) -> Tables:
    """Table t: a discretised two-sided exponential of reach 2 + 5 t; the last one with raw low bits."""
    frequencies, starts = [], [0]
    for table in range(6):
        reach = 2 + 5 * table
        mass = np.exp(-np.abs(np.arange(-reach, reach + 1)) / (0.2 + table))
        counts = np.floor(mass / mass.sum() * ((1 << TABLE_BITS) - len(mass))).astype(np.int64) + 1
        counts[reach] += (1 << TABLE_BITS) - counts.sum()
        frequencies.append(counts.astype(np.uint32))
        starts.append(starts[-1] + len(counts))
    return Tables(np.concatenate(frequencies), np.array(starts), np.array([0, 0, 0, 0, 0, low_bits]))


TABLES = make_tables()


def roundtrip(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[bytes, float]:
    encoder = SymbolEncoder(TABLES)
    for coefficients, ids in parts:
        encoder.push(coefficients, ids)
    data = encoder.finish()
    decoder = SymbolDecoder(TABLES, data)
    for coefficients, ids in parts:
        np.testing.assert_array_equal(decoder.pop(ids), coefficients)
    decoder.finish()
    return data, encoder.ideal_bits


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(-(1 << 20), 1 << 20), st.integers(0, 5)), max_size=30), max_size=4))
def test_any_integers_come_back(parts: list[list[tuple[int, int]]]) -> None:
    """Inside and outside the tables' reach, over several pushes."""
    roundtrip([(np.array([k for k, _ in part], np.int64), np.array([t for _, t in part], np.uint16)) for part in parts])


@pytest.mark.parametrize(("tables", "largest"), [(5, 1), (5, 40), (6, 1)])
def test_pieces_are_pushes_one_after_the_other(tables: int, largest: int) -> None:
    """Without and with escapes and raw low bits, the last piece shorter."""
    random = np.random.default_rng(tables)
    coefficients = random.integers(-largest, largest + 1, 100)
    ids = random.integers(0, tables, 100).astype(np.uint16)
    if largest == 1:
        ids[ids == 0] = 1  # its reach is 2, that of all others more
    apart, together = SymbolEncoder(TABLES), SymbolEncoder(TABLES)
    for begin in range(0, 100, 30):
        apart.push(coefficients[begin : begin + 30], ids[begin : begin + 30])
    together.push(coefficients, ids, 30)
    assert together.finish() == apart.finish()
    assert together.ideal_bits == pytest.approx(apart.ideal_bits, rel=1e-12)


@pytest.mark.parametrize("value", [0, 1, -1, (1 << 31) - 2, -(1 << 31) + 2])
def test_escape_reaches_the_limit(value: int) -> None:
    roundtrip([(np.array([value]), np.array([0], np.uint16))])


def test_numbers_without_a_model() -> None:
    values = np.array([0, 1, -1, 1000, -(1 << 27), 1 << 27])
    encoder = SymbolEncoder(TABLES)
    encoder.push_numbers(values)
    np.testing.assert_array_equal(SymbolDecoder(TABLES, encoder.finish()).pop_numbers(len(values)), values)


def test_bytes_meet_the_sum_of_minus_log2_p() -> None:
    """Real symbols of the tables' own distribution: within 0.1 % and 64 bits of the ideal code length.

    Kept inside the reach: zeros at the end of a stream, such as the lengths of empty escapes, cost an ANS coder nothing.
    """
    random = np.random.default_rng(1)
    ids = random.integers(0, 5, 200_000).astype(np.uint16)
    coefficients = np.zeros(len(ids), np.int64)
    for table in range(5):
        chosen = ids == table
        probabilities = TABLES.of(table) / (1 << TABLE_BITS)
        reach = int(TABLES.reach[table])
        coefficients[chosen] = random.choice(np.arange(-reach, reach + 1), chosen.sum(), p=probabilities)
        coefficients[chosen & (np.abs(coefficients) == reach)] = 0
    data, ideal = roundtrip([(coefficients, ids)])
    assert ideal - 1 <= 8 * len(data) <= 1.001 * ideal + 64


def test_frequencies_are_the_coders_probabilities() -> None:
    """The coder's own count of information equals the integers of the table, so that no float decides a code."""
    for table in range(6):
        frequencies = TABLES.of(table)
        encoder = SymbolEncoder(TABLES)
        symbols = np.repeat(np.arange(-int(TABLES.reach[table]) + 1, int(TABLES.reach[table])), 40)
        low = np.random.default_rng(table).integers(0, 1 << int(TABLES.low_bits[table]), len(symbols))
        encoder.push(symbols << int(TABLES.low_bits[table]) | low, np.full(len(symbols), table, np.uint16))
        expected = (TABLE_BITS - np.log2(frequencies[1:-1])).sum() * 40 + int(TABLES.low_bits[table]) * len(symbols)
        assert abs(8 * len(encoder.finish()) - expected) < 80


@pytest.mark.parametrize("damage", ["truncate", "empty", "odd"])
def test_exhausted_or_broken_stream_is_refused(damage: str) -> None:
    random = np.random.default_rng(2)
    ids = np.full(5000, 4, np.uint16)
    encoder = SymbolEncoder(TABLES)
    encoder.push(random.integers(-10, 10, len(ids)), ids)
    data = {"truncate": encoder.finish()[:400], "empty": b"", "odd": b"\1\2\3"}[damage]
    with pytest.raises(FormatError):
        decoder = SymbolDecoder(TABLES, data)
        decoder.pop(ids)
        decoder.finish()


def test_stream_left_over_is_refused() -> None:
    encoder = SymbolEncoder(TABLES)
    encoder.push(np.arange(-10, 10), np.full(20, 4, np.uint16))
    decoder = SymbolDecoder(TABLES, encoder.finish())
    decoder.pop(np.full(10, 4, np.uint16))
    with pytest.raises(FormatError, match="does not end"):
        decoder.finish()


def test_golden_words() -> None:
    """The exact bytes of a fixed sequence: a change here breaks every file."""
    encoder = SymbolEncoder(TABLES)
    encoder.push(np.array([0, 3, -40, 7, 129]), np.array([0, 1, 2, 4, 5], np.uint16))
    assert encoder.finish().hex() == GOLDEN_WORDS


GOLDEN_WORDS = "90dd819800fae40f"
