"""The grid of steps and the map from a quality to a step."""

import itertools
import math

import pytest

from flowcodec.runtime.step import STEP_BITS, STEP_COUNT, log2_step, quality_to_step_index, step_fixed, step_index

UNIT = 1 << STEP_BITS


def test_the_grid_is_a_32nd_of_an_octave_from_a_quarter_to_512() -> None:
    """To 1e-6 absolute below Delta = 1 and relative above: a step is held in units of 2^-20 = 9.5e-7."""
    for index in range(STEP_COUNT):
        exact = 2.0 ** (index / 128 - 2)
        assert abs(step_fixed(index) / UNIT - exact) < 1e-6 * max(exact, 1.0), index
        assert 2.0 ** log2_step(index) == pytest.approx(exact, rel=1e-12)
    assert step_fixed(0) == UNIT // 4
    assert step_fixed(STEP_COUNT - 1) == 512 * UNIT


def test_a_step_is_the_floor_that_the_format_promises() -> None:
    """s = floor(2^(i/128 + 18)), checked without floats: s^128 <= 2^(i + 18*128) < (s + 1)^128."""
    wrong = [i for i in range(STEP_COUNT) if not step_fixed(i) ** 128 <= 1 << (i + 18 * 128) < (step_fixed(i) + 1) ** 128]
    assert not wrong, f"{len(wrong)} steps of {STEP_COUNT} are not floors, the first at index {wrong[0]}"


def test_the_grid_increases_strictly() -> None:
    steps = [step_fixed(index) for index in range(STEP_COUNT)]
    assert all(a < b for a, b in itertools.pairwise(steps))


def test_the_nearest_index_inverts_the_grid_and_is_clipped_to_it() -> None:
    for index in range(STEP_COUNT):
        assert step_index(step_fixed(index) / UNIT) == index
        assert step_index(2.0 ** (log2_step(index) + 0.49 / 128)) == index
    assert step_index(1e-9) == 0
    assert step_index(1e9) == STEP_COUNT - 1


def test_a_higher_quality_is_a_smaller_step() -> None:
    indices = [quality_to_step_index(quality) for quality in range(101)]
    assert all(a > b for a, b in itertools.pairwise(indices))
    assert indices[100] >= 0 and indices[0] < STEP_COUNT


@pytest.mark.parametrize(("quality", "log2"), [(0, 8.25), (60, 4.4), (100, 0.0)])
def test_the_ends_and_the_knee_of_the_quality_map(quality: int, log2: float) -> None:
    """To half a grid step, 1/64 octave."""
    assert abs(log2_step(quality_to_step_index(quality)) - log2) <= 1 / 64 + 1e-9


def test_quality_100_is_one_grey_level() -> None:
    assert step_fixed(quality_to_step_index(100)) == UNIT
    assert math.log2(step_fixed(quality_to_step_index(0)) / UNIT) == pytest.approx(8.25, abs=1 / 64)
