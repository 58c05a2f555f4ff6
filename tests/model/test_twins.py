"""The torch model and the NumPy runtime compute the same numbers: lifting, contrast, two-range copies, condition planes."""

import numpy as np
import pytest
import torch
from torch import Tensor

from flowcodec.model import coupling, flow, prior
from flowcodec.model.bijections import Lifting
from flowcodec.model.networks import Arithmetic
from flowcodec.runtime import context
from flowcodec.runtime.flow import analyse_level, synthesise_level, to_fixed
from flowcodec.runtime.integer import ACTIVATION_MAX, FRACTION_BITS
from flowcodec.runtime.step import STEP_BITS, log2_step, step_fixed

UNIT = 1 << FRACTION_BITS
SIZES = [(1, 1), (1, 5), (3, 4), (5, 5), (16, 11)]
FLOAT = Arithmetic()
STEP_INDICES = [0, 256, 601, 896, 1408]


def draw_units(channels: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Integer planes in 1/64 grey level, smooth plus rough, as a reconstruction is."""
    random = np.random.default_rng(seed)
    base = random.integers(0, 882 * UNIT, (channels, 1, 1))
    return base + random.integers(-40 * UNIT, 40 * UNIT, (channels, *size))


def to_tensor(units: np.ndarray) -> Tensor:
    return torch.from_numpy(units / UNIT)[None]


def units_off(planes: np.ndarray, twin: Tensor) -> np.ndarray:
    """Integers minus the twin's real values, in units of 1/64."""
    assert twin.shape == (1, *planes.shape)
    return planes - twin[0].numpy() * UNIT


# --- lifting --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_analysis_agrees(size: tuple[int, int]) -> None:
    """To float32 on values of up to 900."""
    planes = np.random.default_rng(0).uniform(0, 442, (3, *size)).astype(np.float32)
    (ll, detail), _ = Lifting()(torch.from_numpy(planes)[None])
    for twin, expected in zip((ll, detail), analyse_level(planes), strict=True):
        assert np.allclose(twin[0].numpy(), expected, atol=1e-3)


@pytest.mark.parametrize("size", SIZES)
def test_synthesis_agrees(size: tuple[int, int]) -> None:
    """The same bands through both: within the roundings of the integer lifting, 8 units at most and 1.25 in the mean square."""
    random = np.random.default_rng(0)
    h, w = (size[0] + 1) // 2, (size[1] + 1) // 2
    ll, detail = random.integers(-800 * UNIT, 800 * UNIT, (3, h, w)), random.integers(-300 * UNIT, 300 * UNIT, (9, h, w))
    off = units_off(synthesise_level(ll, detail, *size), Lifting().inverse((to_tensor(ll), to_tensor(detail)), size))
    assert np.abs(off).max() < 8 and np.sqrt(np.square(off).mean()) < 1.25


def test_fixed_planes_are_the_nearest_units() -> None:
    values = np.random.default_rng(0).uniform(-900, 900, 1000).astype(np.float32)
    assert np.abs(to_fixed(values) / UNIT - values).max() <= 0.5 / UNIT


# --- context --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_local_contrast_agrees(size: tuple[int, int]) -> None:
    """The integer mean is floored, so the contrast lies up to one unit higher."""
    units = draw_units(3, size)
    off = units_off(context.local_contrast(units), coupling.local_contrast(to_tensor(units)))
    assert off.min() > -1e-6 and off.max() < 1 + 1e-6


def test_local_contrast_is_one_minus_the_binomial_kernel() -> None:
    impulse = np.zeros((1, 9, 9), np.int64)
    impulse[0, 4, 4] = 256
    kernel = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1])
    expected = impulse.copy()
    expected[0, 2:7, 2:7] -= kernel
    assert np.array_equal(context.local_contrast(impulse), expected)
    assert not context.local_contrast(np.full((2, 4, 5), 777)).any()


@pytest.mark.parametrize(("dtype", "top"), [(np.int32, 1 << 20), *((np.int64, 1 << bits) for bits in (20, 22, 23, 31, 38))])
def test_local_contrast_does_not_overflow(dtype: type, top: int) -> None:
    """The narrow planes of the synthesis stay below 2^17 * 2.1^2; of the wide ones, those that fit are narrowed."""
    units = np.random.default_rng(0).choice([-1, 1], (2, 8, 9)) * top
    units[1] = top
    padded = np.pad(units, ((0, 0), (2, 2), (2, 2)), mode="edge")
    weights = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1])
    sums = sum(weights[y, x] * padded[:, y : y + 8, x : x + 9] for y in range(5) for x in range(5))
    assert np.array_equal(context.local_contrast(units.astype(dtype)), units - (sums >> 8))


@pytest.mark.parametrize("index", STEP_INDICES)
@pytest.mark.parametrize("size", SIZES)
def test_contrast_planes_agree(size: tuple[int, int], index: int) -> None:
    """In steps: the contrast's unit over Delta, plus half a unit; a sixteenth of that and half a unit if coarse."""
    units = draw_units(3, size)
    planes = context.contrast_planes(units, index)
    assert planes.dtype == np.int16 and np.abs(planes).max() <= ACTIVATION_MAX
    off = units_off(planes, coupling.contrast_planes(to_tensor(units), flow.steps_of(torch.tensor([index])), FLOAT))
    fine = 0.5 + 1 / 2 ** log2_step(index) + 0.01
    for part, limit in ((off[:3], fine), (off[3:6], 0.5 + fine / 16), (off[6:], 0.5 + 1 / 64)):
        assert np.abs(part).max() <= limit + 1e-3


def test_contrast_planes_reach_their_limits_and_stay_inside() -> None:
    """Guards the comparison above: with the smallest step the fine copies are clipped, with the largest they are not."""
    units = draw_units(3, (16, 11))
    assert np.abs(context.contrast_planes(units, 0)[:3]).max() == ACTIVATION_MAX
    assert 0 < np.abs(context.contrast_planes(units, 1408)[:3]).max() < ACTIVATION_MAX
    assert 0 < np.abs(context.contrast_planes(units, 1408)[6:]).max() < ACTIVATION_MAX


def test_two_ranges_agree() -> None:
    """Exactly in fixed arithmetic, to a unit in float."""
    units = np.random.default_rng(0).integers(-30 * ACTIVATION_MAX, 30 * ACTIVATION_MAX, (4, 9, 7))
    planes = context.two_ranges(units)
    assert planes.dtype == np.int16
    assert np.abs(units_off(planes, prior.two_ranges(to_tensor(units), FLOAT))).max() <= 1
    assert not units_off(planes, prior.two_ranges(to_tensor(units), Arithmetic(fixed=True))).any()
    assert np.array_equal(planes[:4], np.clip(units, -1023, 1023))


@pytest.mark.parametrize("index", STEP_INDICES)
def test_units_of_a_step_and_back(index: int) -> None:
    """To half a unit each way, whatever the sign, and the relative error of a step held with 20 fractional bits."""
    reach = 20000
    units, step, delta = np.random.default_rng(index).integers(-reach, reach, 2000), step_fixed(index), 2.0 ** log2_step(index)
    slack = 0.5 + reach * max(delta, 1 / delta) / (1 << STEP_BITS)
    steps = context.in_steps(units, index)
    assert np.abs(steps - units / delta).max() < slack
    assert np.abs(context.to_pixels(units, step) - units * delta).max() < slack
    assert np.abs(context.to_pixels(steps, step) - units).max() < 0.5 + delta * slack


@pytest.mark.parametrize("level", range(12))
@pytest.mark.parametrize("index", STEP_INDICES)
def test_condition_planes_agree_and_fit_the_format(index: int, level: int) -> None:
    values = context.condition_values(index, level)
    assert max(map(abs, values)) <= ACTIVATION_MAX
    planes = flow.condition_planes(torch.tensor([index]), level, 2, 3)
    assert planes.shape == (1, 2, 2, 3)
    assert torch.equal(planes[0] * UNIT, torch.tensor(values, dtype=torch.float32)[:, None, None].expand(2, 2, 3))


def test_groups_of_levels() -> None:
    assert [context.level_group(level) for level in (1, 2, 3, 4, 9)] == [0, 1, 2, 2, 2]


@pytest.mark.parametrize("index", [0, 1, 400, 1408])
def test_the_step_of_the_model_is_that_of_the_runtime(index: int) -> None:
    """To float32 and the 20 fractional bits."""
    expected = step_fixed(index) / (1 << STEP_BITS)
    assert flow.steps_of(torch.tensor([index])).item() == pytest.approx(expected, rel=4e-6)
