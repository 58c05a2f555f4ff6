"""Rate control: sizes never exceeded and nearly used, PSNR met, few encodings."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flowcodec
from flowcodec.errors import InputError
from flowcodec.runtime import encode
from flowcodec.runtime.forecast import Forecast
from flowcodec.runtime.image import to_picture
from flowcodec.runtime.quality import psnr_db
from flowcodec.runtime.rate import find_step
from flowcodec.runtime.step import STEP_COUNT, log2_step

FORECAST = 10.0 - np.arange(STEP_COUNT) / 128
"""Falls by 1 an octave."""


@given(st.floats(0.2, 3.0), st.floats(2.0, 20.0), st.floats(0, 1))
def test_a_smooth_measure_is_met_in_few_trials(slope: float, top: float, where: float) -> None:
    """Whatever the true slope, a target inside the grid is met within its tolerance in at most eight measurements.

    The forecast falls by 1 an octave and is off by its distance from the truth at the top.
    """
    trials: list[int] = []

    def measure(index: int) -> float:
        trials.append(index)
        return top - slope * index / 128 - 0.1 * math.sin(index / 300)

    target = measure(STEP_COUNT - 1) + where * (measure(0) - measure(STEP_COUNT - 1))
    trials.clear()
    found = find_step(measure, FORECAST, target, 0.05)
    assert found.met == (target - 0.05 <= found.value <= target)
    assert found.met and len(trials) <= 8


@given(st.integers(0, STEP_COUNT - 1), st.integers(0, 1000))
def test_a_staircase_gives_the_value_below(step: int, seed: int) -> None:
    """With a jump over the target the answer is the first index below it, never above."""
    found = find_step(lambda index: 5.0 if index < step else 1.0, FORECAST, 3.0, 0.01)
    assert found.value == 1.0 if step < STEP_COUNT else 5.0
    assert found.index >= step


@pytest.mark.parametrize("level", [0.0, 100.0])
def test_the_ends_of_the_grid(level: float) -> None:
    """A measure that is always below ends at the finest step, one that is always above at the coarsest."""
    found = find_step(lambda index: level - index * 1e-6, FORECAST, 50.0, 0.01)
    assert not found.met
    assert found.index == (0 if level == 0 else STEP_COUNT - 1)


@pytest.mark.parametrize("size", [1200, 6000, 40_000])
@pytest.mark.parametrize("channel", ["round", "dither"])
def test_size_is_never_exceeded_and_nearly_used(photograph: np.ndarray, size: int, channel: str) -> None:
    data = flowcodec.encode(photograph[128:320, 200:520], size=size, channel=channel, threads=1)
    # Half a per cent, or the step of the grid nearest below; files grow by words of four bytes.
    assert 0.99 * size - 4 <= len(data) <= size


def test_bpp_is_a_size(photograph: np.ndarray) -> None:
    part = photograph[:128, :160]
    assert flowcodec.encode(part, bpp=1.5, threads=1) == flowcodec.encode(part, size=int(1.5 * 128 * 160 / 8), threads=1)


@pytest.mark.parametrize("target", [27.0, 35.5, 44.0])
def test_psnr_is_met(photograph: np.ndarray, target: float) -> None:
    part = photograph[128:320, 200:520]
    back = flowcodec.decode(flowcodec.encode(part, psnr=target, threads=1), threads=1)
    assert psnr_db(part, back) == pytest.approx(target, abs=0.05)


def test_few_encodings(photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = encode._encode_at
    monkeypatch.setattr(encode, "_encode_at", lambda *a, **k: (calls.append(1), real(*a, **k))[1])
    flowcodec.encode(photograph[:192, :320], size=9000, threads=1)
    assert len(calls) <= 5


@pytest.mark.parametrize("settings", [{"size": 9000}, {"psnr": 35.0}, {"quality": 50}])
def test_encodings_are_counted(photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch, settings: dict) -> None:
    calls = []
    real = encode._encode_at
    monkeypatch.setattr(encode, "_encode_at", lambda *a, **k: (calls.append(1), real(*a, **k))[1])
    encoded = encode.encode_detailed(to_picture(photograph[:192, :320]), encode.EncodeSettings(threads=1, **settings))
    assert encoded.passes == len(calls)


def test_forecast_is_near_and_falls(photograph: np.ndarray) -> None:
    """Size within a third of an octave, PSNR within 2 dB, for steps of all sizes; neither ever rises with the step."""
    part = photograph[:192, :320]
    forecast = Forecast(part)
    log2_size, psnr = forecast.log2_size(80), forecast.psnr_db()
    assert log2_size.shape == psnr.shape == (STEP_COUNT,)
    assert (np.diff(log2_size) <= 0).all() and (np.diff(psnr) <= 0).all()
    for index in (400, 640, 880, 1120):
        encoded = encode.encode_detailed(to_picture(part), encode.EncodeSettings(step=2.0 ** log2_step(index), threads=1))
        assert math.log2(len(encoded.data)) == pytest.approx(log2_size[index], abs=0.4)
        assert psnr_db(part, flowcodec.decode(encoded.data, threads=1)) == pytest.approx(psnr[index], abs=2)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 7, 1), (33, 20, 3)])
@pytest.mark.parametrize("value", [0, 255])
def test_targets_of_pictures_without_detail(shape: tuple[int, int, int], value: int) -> None:
    picture = np.full(shape, value, np.uint8)
    picture = picture[..., 0] if shape[2] == 1 else picture
    assert len(flowcodec.encode(picture, size=400, threads=1)) <= 400


def test_what_cannot_be_had_is_said(photograph: np.ndarray) -> None:
    part = photograph[:64, :64]
    with pytest.raises(InputError, match="smallest file"):
        flowcodec.encode(part, size=30)
    with pytest.raises(InputError, match="dB"):
        flowcodec.encode(part, psnr=5.0)
    with pytest.raises(InputError, match="one of"):
        flowcodec.encode(part, size=1000, psnr=30.0)
