"""Lifting: the integer synthesis undoes the float analysis on every size, in 32 bits as in 64, with unit-norm vectors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowcodec.runtime import flow
from flowcodec.runtime.flow import analyse_level, band_shapes, level_count, level_shapes, narrowed, synthesise_level, to_fixed
from flowcodec.runtime.integer import FRACTION_BITS

UNIT = 1 << FRACTION_BITS
# Inputs are rounded to half a unit (1/64 grey level) and every lifting step rounds by half a unit more. A sample passes 5
# roundings in each direction, with gains of up to 2.1: at most 9 units (measured 7.6), and 13/12 of variance for the sum.
WORST_UNITS, RMS_UNITS, MEAN_UNITS = 9.0, 1.25, 0.1
NARROW_LIMIT, WIDE_LIMIT = (1 << 17) - 1, (1 << 36) - 1
SIDES = range(1, 21)


def roundtrip_error(planes: np.ndarray) -> np.ndarray:
    """Error in units of synthesis(analysis(planes)), float64."""
    height, width = planes.shape[1:]
    ll, detail = analyse_level(planes.astype(np.float32))
    return synthesise_level(to_fixed(ll), to_fixed(detail), height, width) - planes * float(UNIT)


def draw_planes(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(3, H, W): uniform noise, extremes only, and signed chroma-like noise."""
    size = height, width
    return np.stack([random.uniform(0, 442, size), random.choice([0.0, 442.0], size), random.uniform(-312, 312, size)])


# --- shapes ---------------------------------------------------------------------------------------------------------------


def test_levels_halve_down_to_a_single_sample() -> None:
    for height in range(1, 40):
        for width in range(1, 40):
            shapes = level_shapes(height, width)
            assert len(shapes) == level_count(height, width) + 1
            assert shapes[0] == (height, width) and shapes[-1] == (1, 1)
            assert (1, 1) not in shapes[:-1]
    assert level_count(512, 768) == 10


def test_bands_hold_as_many_samples_as_the_planes() -> None:
    for height in SIDES:
        for width in SIDES:
            low = ((height + 1) // 2) * ((width + 1) // 2)
            assert low + sum(h * w for h, w in band_shapes(height, width)) == height * width


def test_an_odd_length_gives_the_low_band_the_extra_sample_and_padded_places_hold_zero() -> None:
    ll, detail = analyse_level(np.random.default_rng(0).uniform(50, 60, (2, 5, 3)).astype(np.float32))
    assert ll.shape == (2, 3, 2) and detail.shape == (6, 3, 2)
    hl, lh, hh = detail.reshape(2, 3, 3, 2).transpose(1, 0, 2, 3)
    assert np.all(hl[:, :, 1:] == 0) and np.all(lh[:, 2:] == 0)
    assert np.all(hh[:, 2:] == 0) and np.all(hh[:, :, 1:] == 0)
    assert np.all(hl[:, :, :1] != 0) and np.all(lh[:, :2] != 0) and np.all(hh[:, :2, :1] != 0)


def test_a_side_of_one_passes_through() -> None:
    planes = np.random.default_rng(0).uniform(0, 255, (3, 1, 1)).astype(np.float32)
    ll, detail = analyse_level(planes)
    assert np.array_equal(ll, planes) and not detail.any()
    row = np.random.default_rng(1).uniform(0, 255, (1, 1, 9)).astype(np.float32)
    tall_ll, tall_detail = analyse_level(row.transpose(0, 2, 1).copy())
    wide_ll, wide_detail = analyse_level(row)
    assert np.array_equal(tall_ll, wide_ll.transpose(0, 2, 1))
    assert np.array_equal(tall_detail[1], wide_detail[0].T) and not wide_detail[1:].any()


# --- exact inverse --------------------------------------------------------------------------------------------------------


def test_the_synthesis_undoes_the_analysis_on_every_size() -> None:
    random = np.random.default_rng(0)
    squares, means = [], []
    for height in SIDES:
        for width in SIDES:
            error = roundtrip_error(draw_planes(random, height, width))
            assert np.abs(error).max() < WORST_UNITS, (height, width)
            squares.append(np.square(error).ravel())
            means.append(error.ravel())
    assert np.sqrt(np.concatenate(squares).mean()) < RMS_UNITS
    assert abs(np.concatenate(means).mean()) < MEAN_UNITS


@settings(deadline=None, max_examples=60, database=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**32 - 1), st.sampled_from([1.0, 30.0, 442.0]))
def test_the_synthesis_undoes_the_analysis_whatever_the_values(height: int, width: int, seed: int, reach: float) -> None:
    planes = np.random.default_rng(seed).uniform(-reach, reach, (1, height, width))
    assert np.abs(roundtrip_error(planes)).max() < WORST_UNITS


def test_a_whole_pyramid_of_8_bit_values_comes_back() -> None:
    """Errors stay below a quarter of a grey level through all levels, so 8-bit values are recovered by rounding."""
    for height, width in ((64, 64), (37, 50), (1, 33), (20, 3)):
        planes = np.random.default_rng(height).integers(0, 256, (1, height, width))
        shapes, ll, details = level_shapes(height, width), planes.astype(np.float32), []
        for _ in shapes[1:]:
            ll, detail = analyse_level(ll)
            details.append(to_fixed(detail))
        result = to_fixed(ll)
        for detail, size in zip(reversed(details), reversed(shapes[:-1]), strict=True):
            result = synthesise_level(result, detail, *size)
        assert np.abs(result - planes * UNIT).max() < UNIT / 4


def test_inputs_are_left_as_they_were() -> None:
    ll, detail = np.arange(4).reshape(1, 2, 2), np.arange(12).reshape(3, 2, 2)
    synthesise_level(ll, detail, 4, 4)
    assert np.array_equal(ll.ravel(), np.arange(4)) and np.array_equal(detail.ravel(), np.arange(12))


# --- 32 and 64 bits -------------------------------------------------------------------------------------------------------


def both_widths(ll: np.ndarray, detail: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    narrow = synthesise_level(ll.astype(np.int32), detail.astype(np.int32), height, width)
    assert narrow.dtype == np.int32
    return narrow, synthesise_level(ll.astype(np.int64), detail.astype(np.int64), height, width)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 3), (16, 16), (17, 20)])
def test_32_bits_give_the_result_of_64_on_the_values_of_images(size: tuple[int, int]) -> None:
    """Y is at most 442 grey levels, so ``ll`` of level 1 is at most 884."""
    random = np.random.default_rng(0)
    h, w = (size[0] + 1) // 2, (size[1] + 1) // 2
    for reach in (10, 884 * UNIT // 4, 884 * UNIT // 2):
        ll, detail = (random.integers(-reach, reach + 1, (channels, h, w)) for channels in (3, 9))
        narrow, wide = both_widths(ll, detail, *size)
        assert np.array_equal(narrow, wide)


def response(size: int) -> np.ndarray:
    """(4*h*w, size, size): the synthesis of a unit in each place of (ll, HL, LH, HH), h = w = size/2; float."""
    half = size // 2
    rows = []
    for place in range(4 * half * half):
        bands = np.zeros(4 * half * half, np.int64)
        bands[place] = 1 << 24
        ll, detail = bands[: half * half].reshape(1, half, half), bands[half * half :].reshape(3, half, half)
        rows.append(synthesise_level(ll, detail, size, size)[0] / (1 << 24))
    return np.array(rows)


def adversarial_bands(limit: int, size: int = 12) -> list[np.ndarray]:
    """Sign patterns that drive one output sample, or the sum of two that a lifting step multiplies, to its largest value."""
    middle = size // 2
    synthesis = response(size)
    patterns: list[np.ndarray] = []
    for y in (middle, middle + 1):
        for x in (middle, middle + 1):
            across, down = (synthesis[:, y, x - 1] + synthesis[:, y, x + 1], synthesis[:, y - 1, x] + synthesis[:, y + 1, x])
            patterns.extend(limit * np.where(target >= 0, 1, -1) for target in (synthesis[:, y, x], across, down))
    return patterns


@pytest.mark.parametrize("beyond", [1, 16], ids=["at the limit", "beyond it"])
def test_32_bits_give_the_result_of_64_at_the_clip_limits(beyond: int) -> None:
    """The largest products of a damaged file: no 32-bit overflow, so the result is that of exact arithmetic."""
    size, half = 12, 6
    for pattern in adversarial_bands(NARROW_LIMIT, size):
        ll, detail = pattern[: half * half].reshape(1, half, half), pattern[half * half :].reshape(3, half, half)
        narrow = synthesise_level((beyond * ll).astype(np.int32), (beyond * detail).astype(np.int32), size, size)
        wrong = np.count_nonzero(narrow != synthesise_level(ll, detail, size, size))
        assert wrong == 0, f"{wrong} of {narrow.size} samples overflowed"


def test_64_bits_suffice_at_the_wide_clip_limits() -> None:
    """Within 1e-4 of the real-valued result; an overflow would be off by 2^63 / 2^12. Beyond the limits inputs are clipped."""
    size, half = 12, 6
    synthesis = response(size)
    for pattern in adversarial_bands(WIDE_LIMIT, size):
        ll, detail = pattern[: half * half].reshape(1, half, half), pattern[half * half :].reshape(3, half, half)
        result = synthesise_level(ll, detail, size, size)
        expected = np.tensordot(pattern.astype(np.float64), synthesis, axes=1)
        assert np.abs(result[0] - expected).max() < WIDE_LIMIT * 1e-4
        extreme = np.iinfo(np.int64).max
        clipped = synthesise_level(np.sign(ll) * extreme, np.sign(detail) * extreme, size, size)
        assert np.array_equal(clipped, result)


@pytest.mark.parametrize("height", [1, 2, 197, 198])
def test_strips_and_threads_give_what_the_whole_gives(height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(height)
    ll, detail = (random.integers(-40000, 40000, (channels, (height + 1) // 2, 12)).astype(np.int32) for channels in (3, 9))
    whole = synthesise_level(ll, detail, height, 23)
    monkeypatch.setattr(flow, "STRIP_SITES", 1)
    np.testing.assert_array_equal(synthesise_level(ll, detail, height, 23, threads=2), whole)


# --- edges ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [2, 3, 4, 5, 8, 9, 16, 17])
def test_edges_are_extended_symmetrically(length: int) -> None:
    """The bands of a row are the middle of those of the row mirrored about its first and last samples."""
    row = np.random.default_rng(length).uniform(0, 255, length)
    extended = np.pad(row, 16, mode="reflect")
    ll, detail = analyse_level(row.astype(np.float32).reshape(1, 1, -1))
    long_ll, long_detail = analyse_level(extended.astype(np.float32).reshape(1, 1, -1))
    low, high = ll.shape[2], length // 2
    assert np.allclose(ll, long_ll[:, :, 8 : 8 + low], atol=1e-3)
    assert np.allclose(detail[0, 0, :high], long_detail[0, 0, 8 : 8 + high], atol=1e-3)


# --- the wavelet ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("band", ["ll", "HL", "LH", "HH"])
def test_a_synthesis_vector_has_unit_norm(band: str) -> None:
    """A squared error in the latent is one in the image: to 2 %, in mid-image where no edge reflects."""
    bands = {name: np.zeros((1, 16, 16), np.int64) for name in ("ll", "HL", "LH", "HH")}
    bands[band][0, 8, 8] = 1 << 20
    result = synthesise_level(bands["ll"], np.concatenate([bands[name] for name in ("HL", "LH", "HH")]), 32, 32)
    assert np.linalg.norm(result.astype(np.float64)) / (1 << 20) == pytest.approx(1, abs=0.02)


def test_bands_are_named_after_the_direction_in_which_they_are_high() -> None:
    """Vertical stripes change along the width and land in HL alone."""
    stripes = np.tile(np.array([0, 100], np.float32), (1, 8, 4))
    _, (hl, lh, hh) = analyse_level(stripes)
    assert np.abs(hl).min() > 50 and np.abs(lh).max() < 0.1 and np.abs(hh).max() < 0.1
    _, (hl, lh, hh) = analyse_level(stripes.transpose(0, 2, 1).copy())
    assert np.abs(lh).min() > 50 and np.abs(hl).max() < 0.1 and np.abs(hh).max() < 0.1


def test_cubic_signals_have_no_high_band() -> None:
    """CDF 9/7 has four vanishing moments; away from the edges, to the 12 bits of the constants (5e-4 of the range)."""
    x = np.arange(64) / 63
    for power in range(4):
        _, (hl, _, _) = analyse_level(np.broadcast_to(255 * x**power, (1, 4, 64)).astype(np.float32))
        assert np.abs(hl[:, 3:-3]).max() < 255 * 5e-4
    _, (hl, _, _) = analyse_level(np.broadcast_to(255 * np.sin(40 * x), (1, 4, 64)).astype(np.float32))
    assert np.abs(hl[:, 3:-3]).max() > 255 * 5e-3


def test_the_low_band_of_a_constant_is_the_gain_of_the_scaled_filter() -> None:
    """1.230174 (the lifting's gain at frequency 0) * 1.139764 per direction, close to sqrt(2): to 1e-3."""
    ll, detail = analyse_level(np.full((1, 16, 16), 100, np.float32))
    assert np.allclose(ll, 100 * (1.230174 * 1.139764) ** 2, rtol=1e-3) and np.abs(detail).max() < 100 * 1e-3


@pytest.mark.parametrize("beyond", [0, 1])
def test_wide_inputs_are_narrowed_where_nothing_is_clipped(beyond: int) -> None:
    ll, detail = np.zeros((1, 6, 5), np.int64), np.zeros((3, 6, 5), np.int64)
    ll[0, 2, 2], detail[1, 3, 1] = -((1 << 17) - 1), (1 << 17) - 1 + beyond
    narrow = narrowed(ll, detail)
    assert {x.dtype for x in narrow} == {np.dtype(np.int64 if beyond else np.int32)}
    np.testing.assert_array_equal(synthesise_level(*narrow, 12, 9), synthesise_level(ll, detail, 12, 9))
