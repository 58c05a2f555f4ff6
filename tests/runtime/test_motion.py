"""Motion compensation against the formula of the format written out, and vectors through their coder."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowcodec.errors import FormatError
from flowcodec.runtime.coder import SymbolDecoder, SymbolEncoder, Tables
from flowcodec.runtime.motion import (
    BLOCK_SIZES,
    PLANE_MAX,
    TAPS,
    VECTOR_MAX,
    VectorModel,
    compensate,
    fill,
    forecast_all,
    grid_shape,
)


def planes(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-PLANE_MAX, PLANE_MAX, (3, height, width), dtype=np.int16, endpoint=True)


def vectors_of(height: int, width: int, block: int, seed: int = 0, reach: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(-reach, reach, (*grid_shape(height, width, block), 2), endpoint=True)


def sample(plane: np.ndarray, y: int, x: int, down: int, right: int) -> int:
    """A quarter sample of section 13.4, one number at a time."""
    height, width = plane.shape

    def row(r: int) -> int:
        line = plane[min(max(r, 0), height - 1)]
        near = [int(line[min(max(x + (right >> 2) + k, 0), width - 1)]) for k in range(-3, 5)]
        position = right & 3
        return near[3] if position == 0 else (sum(t * v for t, v in zip(TAPS[position], near, strict=True)) + 32) >> 6

    position = down & 3
    near = [row(y + (down >> 2) + k) for k in range(-3, 5)]
    return near[3] if position == 0 else (sum(t * v for t, v in zip(TAPS[position], near, strict=True)) + 32) >> 6


def by_the_book(reference: np.ndarray, vectors: np.ndarray, block: int, unpredicted: np.ndarray | None = None) -> np.ndarray:
    count, height, width = reference.shape
    rows, columns = vectors.shape[:2]

    def of(field: np.ndarray, i: int, j: int) -> np.ndarray:
        return field[min(max(i, 0), rows - 1), min(max(j, 0), columns - 1)]

    def vector(i: int, j: int, y: int, x: int) -> np.ndarray:
        """Of the window (i, j) at a pixel; of the next predicted one of its cell where that block is unpredicted."""
        up, left = (y + block // 2) // block - 1, (x + block // 2) // block - 1
        other_i, other_j = 2 * up + 1 - i, 2 * left + 1 - j
        for place in ((i, j), (i, other_j), (other_i, j), (other_i, other_j)):
            if unpredicted is None or not of(unpredicted, *place):
                return of(vectors, *place)
        return of(vectors, i, j)

    tent = [min(2 * n + 1, 4 * block - 1 - 2 * n) for n in range(2 * block)]
    bits = ((2 * block) ** 2).bit_length() - 1
    result = np.zeros((count, height, width), np.int64)
    for c in range(count):
        for y in range(height):
            for x in range(width):
                total = 1 << (bits - 1)
                for i in range(-1, rows + 1):
                    for j in range(-1, columns + 1):
                        r, s = y - (i * block - block // 2), x - (j * block - block // 2)
                        if 0 <= r < 2 * block and 0 <= s < 2 * block:
                            down, right = vector(i, j, y, x)
                            total += tent[r] * tent[s] * sample(reference[c], y, x, int(down), int(right))
                result[c, y, x] = min(max(total >> bits, -PLANE_MAX), PLANE_MAX)
    return result


@pytest.mark.parametrize("block", BLOCK_SIZES)
@pytest.mark.parametrize("size", [(1, 1), (9, 13), (17, 8)])
def test_compensation_is_what_the_format_says(block: int, size: tuple[int, int]) -> None:
    reference, vectors = planes(*size), vectors_of(*size, block)
    assert np.array_equal(compensate(reference, vectors, block), by_the_book(reference, vectors, block))
    for share in (0.4, 1.0):
        unpredicted = np.random.default_rng(0).random(vectors.shape[:2]) < share
        assert np.array_equal(
            compensate(reference, vectors, block, unpredicted), by_the_book(reference, vectors, block, unpredicted)
        )


@pytest.mark.parametrize("block", BLOCK_SIZES)
def test_whole_vectors_move_the_picture_and_repeat_its_edges(block: int) -> None:
    reference = planes(50, 61)
    vectors = np.zeros((*grid_shape(50, 61, block), 2), int) + np.array([12, -8])
    rows, columns = np.clip(np.arange(50) + 3, 0, 49), np.clip(np.arange(61) - 2, 0, 60)
    assert np.array_equal(compensate(reference, vectors, block), reference[:, rows][:, :, columns])


def test_pieces_of_the_grid_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, vectors = planes(90, 70), vectors_of(90, 70, 8)
    whole = compensate(reference, vectors, 8)
    monkeypatch.setattr("flowcodec.runtime.motion._CHUNK_CELLS", 1)
    assert np.array_equal(compensate(reference, vectors, 8), whole)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 9, VECTOR_MAX]))
def test_vectors_come_back(rows: int, columns: int, seed: int, reach: int) -> None:
    rng = np.random.default_rng(seed)
    fields = [rng.integers(-reach, reach, (rows, columns, 2), endpoint=True) for _ in range(3)]
    coder, model = SymbolEncoder(Tables.none()), VectorModel()
    for field in fields:
        model.encode(field, coder)
    decoder, model = SymbolDecoder(Tables.none(), coder.finish()), VectorModel()
    for field in fields:
        assert np.array_equal(model.decode(rows, columns, decoder)[0], field)
    decoder.finish()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 0.6, 1.0]))
def test_unpredicted_blocks_come_back_with_vectors_that_are_expected_of_them(
    rows: int, columns: int, seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    frames = [(rng.integers(-40, 40, (rows, columns, 2)), rng.random((rows, columns)) < share) for _ in range(3)]
    coder, model = SymbolEncoder(Tables.none()), VectorModel()
    for vectors, missing in frames:
        model.encode(vectors, coder, missing)
    decoder, model = SymbolDecoder(Tables.none(), coder.finish()), VectorModel()
    for vectors, missing in frames:
        found, blocks = model.decode(rows, columns, decoder, some_unpredicted=True)
        assert np.array_equal(blocks, missing)
        assert np.array_equal(found[~missing], vectors[~missing])
        predicted, _ = forecast_all(found)
        assert np.array_equal(found[missing], predicted[missing])
        assert np.array_equal(found, fill(vectors, missing))
    decoder.finish()


def test_unpredicted_blocks_save_the_bits_of_their_vectors() -> None:
    vectors = vectors_of(160, 160, 8, reach=40)
    missing = np.zeros(vectors.shape[:2], bool)
    missing[:, :10] = True
    sizes = []
    for unpredicted in (None, missing):
        coder = SymbolEncoder(Tables.none())
        VectorModel().encode(vectors, coder, unpredicted)
        sizes.append(len(coder.finish()))
    assert sizes[1] < 0.6 * sizes[0]


def test_a_still_scene_costs_next_to_nothing() -> None:
    coder, model = SymbolEncoder(Tables.none()), VectorModel()
    for _ in range(10):
        model.encode(np.zeros((36, 44, 2), int), coder)
    assert len(coder.finish()) < 120  # ten frames of 1584 vectors


def test_the_estimate_of_the_search_is_what_coding_costs() -> None:
    vectors = np.cumsum(vectors_of(160, 160, 8, reach=1), axis=1)
    coder, model = SymbolEncoder(Tables.none()), VectorModel()
    predicted, spread = forecast_all(vectors)
    estimate = model.bits_of(vectors - predicted, spread).sum()
    model.encode(vectors, coder)
    coder.finish()
    assert 0.7 * estimate < coder.ideal_bits < 1.1 * estimate  # adaptation makes it less


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=80), st.booleans())
def test_any_stream_gives_vectors_within_bounds_or_an_error(data: bytes, some_unpredicted: bool) -> None:
    try:
        vectors, _ = VectorModel().decode(12, 9, SymbolDecoder(Tables.none(), data), some_unpredicted)
    except FormatError:
        return
    assert np.abs(vectors).max() <= VECTOR_MAX
