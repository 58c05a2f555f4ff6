"""The pyramid of a prediction: the flow in integers, what the networks see of it, and the blend of locations."""

import numpy as np
import pytest
import torch

from flowcodec.model.networks import Arithmetic
from flowcodec.model.prior import LevelPrediction as LevelPredictionTwin
from flowcodec.runtime import context
from flowcodec.runtime.bundle import Model
from flowcodec.runtime.color import rgb_to_ycc
from flowcodec.runtime.decode import make_runner
from flowcodec.runtime.encode import analyse
from flowcodec.runtime.flow import analyse_level, analyse_level_fixed, level_count, synthesise_level
from flowcodec.runtime.integer import FRACTION_BITS, LOCATION_MAX
from flowcodec.runtime.prediction import LevelPrediction, Prediction, analyse_prediction, blend
from flowcodec.runtime.prior import band_steps
from flowcodec.runtime.step import STEP_BITS, step_fixed

UNIT = 1 << FRACTION_BITS
SIZES = [(1, 1), (1, 5), (3, 4), (16, 11), (33, 64)]


def planes_of(pixels: np.ndarray) -> np.ndarray:
    return np.rint(rgb_to_ycc(pixels) * UNIT).astype(np.int32)


@pytest.mark.parametrize("size", SIZES)
def test_integer_analysis_is_the_float_one_and_inverts_the_synthesis(size: tuple[int, int]) -> None:
    """A few units of 1/64 off, and what the gains lack with twelve fractional bits."""
    planes = np.random.default_rng(0).integers(-300 * UNIT, 440 * UNIT, (3, *size)).astype(np.int32)
    ll, detail = analyse_level_fixed(planes)
    expected = analyse_level((planes / UNIT).astype(np.float32))
    for mine, real in zip((ll, detail), expected, strict=True):
        assert np.abs(mine - real * UNIT).max(initial=0) < 16
    assert np.abs(synthesise_level(ll, detail, *size) - planes).max() < 16


def test_integer_analysis_does_not_overflow_in_32_bits() -> None:
    """Two levels of the widest planes that a prediction may have, signs at random and constant."""
    random = np.random.default_rng(0)
    for signs in (random.choice([-1, 1], (1, 40, 40)), np.ones((1, 40, 40), int), np.indices((40, 40)).sum(0)[None] % 2 * 2 - 1):
        narrow = (signs * ((1 << 16) - 1)).astype(np.int32)
        wide = narrow.astype(np.int64)
        for _ in range(2):
            (narrow, first), (wide, second) = analyse_level_fixed(narrow), analyse_level_fixed(wide)
            np.testing.assert_array_equal(first, second)
            np.testing.assert_array_equal(narrow, wide)


def test_pyramid_is_the_latent_of_the_same_picture(photograph: np.ndarray, model: Model) -> None:
    """With couplings: within the roundings of lifting and networks, a few hundredths of the step."""
    pixels, index = photograph[:90, :71], 700
    runner = make_runner(model, 1)
    latent = analyse(model, runner, pixels, index)
    prediction = analyse_prediction(model, runner, planes_of(pixels), index)
    step = step_fixed(index) / (1 << STEP_BITS)
    assert len(prediction.details) == level_count(90, 71)
    for real, mine in zip(reversed(latent[1:]), prediction.details, strict=True):
        assert np.sqrt(np.square(mine / UNIT - real).mean()) < 0.02 * step
    np.testing.assert_allclose(prediction.coarsest(step_fixed(index)), latent[0].reshape(3) / step, rtol=1e-3, atol=0.6)


def test_extreme_planes_stay_in_range(model: Model) -> None:
    """A hostile reference: clipped, not overflown."""
    extreme = np.random.default_rng(0).choice([-(1 << 30), 1 << 30], (3, 37, 50)).astype(np.int64)
    runner = make_runner(model, 1)
    whole = analyse_prediction(model, runner, extreme, 0)
    assert np.array_equal(whole.planes, np.clip(extreme, -((1 << 16) - 1), (1 << 16) - 1))
    level = LevelPrediction(whole, 1, band_steps(model, 0, 1), 0)
    assert np.abs(level.detail).max() <= LOCATION_MAX
    assert np.abs(level.planes(np.zeros((3, 19, 25), np.int32), np.s_[:, :])).max() <= context.ACTIVATION_MAX


@pytest.mark.parametrize("index", [300, 700, 1100])
def test_what_the_trunk_sees_agrees_with_the_torch_twin(model: Model, index: int) -> None:
    """To a unit of rounding, coarse copies included."""
    random = np.random.default_rng(1)
    low, ll = (random.integers(-400 * UNIT, 400 * UNIT, (3, 6, 8)) for _ in range(2))
    detail = random.integers(-60 * UNIT, 60 * UNIT, (9, 6, 8))
    steps = band_steps(model, index, 2)
    planes = LevelPrediction(Prediction(low, [low, low], [detail, detail]), 2, steps, index).planes(ll, np.s_[:, :])
    real = np.array(steps).reshape(-1, 1, 1) / (1 << STEP_BITS)
    step = step_fixed(index) / (1 << STEP_BITS)
    tensors = [torch.from_numpy(x / UNIT / s)[None].float() for x, s in ((low - ll, step), (detail, real))]
    twin = LevelPredictionTwin.of(*tensors, Arithmetic(fixed=True))
    assert planes.shape == (context.PREDICTION_CHANNELS, 6, 8)
    assert np.abs(planes - twin.planes[0].numpy() * UNIT).max() <= 1


def test_blend_goes_from_the_location_to_the_prediction() -> None:
    random = np.random.default_rng(0)
    locations = random.integers(-LOCATION_MAX, LOCATION_MAX + 1, 500).astype(np.int16)
    predicted = random.integers(-LOCATION_MAX, LOCATION_MAX + 1, 500).astype(np.int32)
    gates = np.zeros(500, np.int8)
    assert np.array_equal(blend(locations, gates, predicted), locations)
    assert np.array_equal(blend(locations, gates + 64, predicted), predicted)
    half = blend(locations, gates + 32, predicted)
    assert np.abs(half - (locations + predicted.astype(np.int64)) / 2).max() <= 0.5
    ends = blend(locations, gates + context.GATE_MAX, predicted)
    assert np.abs(ends - (locations + context.GATE_MAX / 64 * (predicted - locations.astype(np.int64)))).max() <= 0.5
