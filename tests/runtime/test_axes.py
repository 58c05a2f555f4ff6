"""Turned axes: exact rotations, found where the colours of a picture's details ask for them, and undone by the decoder."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

import flowcodec
import flowcodec.runtime.encode
from flowcodec.errors import FormatError, InputError, TruncatedFile, UnsupportedVersion
from flowcodec.model.refinement import Refiner
from flowcodec.runtime import container
from flowcodec.runtime.axes import find_turn
from flowcodec.runtime.bundle import Model
from flowcodec.runtime.color import NO_TURN, RGB_TO_YCC, TURN_UNIT, Turn, cayley, rgb_to_axes, rgb_to_ycc, ycc_to_rgb
from flowcodec.runtime.encode import EncodeSettings, encode_picture
from flowcodec.runtime.flow import to_fixed
from flowcodec.runtime.header import Header, header_payload, parse_header
from flowcodec.runtime.image import to_picture
from flowcodec.runtime.integer import FRACTION_BITS
from flowcodec.runtime.quality import psnr_db
from flowcodec.runtime.step import step_index

HEADER = Header(40, 30, 3, 560, "trellis", 0, bytes(8))
TURNS: list[Turn] = [NO_TURN, (1, 0, 0), (0, -90, 0), (37, -12, 64), (-127, 127, -127)]
STEP = 24


@pytest.fixture(scope="module")
def tinted(photograph: np.ndarray) -> np.ndarray:
    """A photograph under whose greys lies fine texture of one colour, 30 degrees from C1 towards C2."""
    pixels = photograph[100:260, 200:400].mean(2, keepdims=True) + np.zeros(3)
    angle = math.radians(30)
    colour = math.cos(angle) * RGB_TO_YCC[1] + math.sin(angle) * RGB_TO_YCC[2]
    texture = np.random.default_rng(0).normal(0, 1, (40, 50)).repeat(4, 0).repeat(4, 1)
    return np.clip(np.rint(pixels * 0.6 + 50 + 22 * texture[..., None] * colour), 0, 255).astype(np.uint8)


def turn_of(data: bytes) -> Turn:
    return container.read(data).header.turn


@pytest.mark.parametrize("turn", TURNS)
def test_turns_are_rotations_without_rounding(turn: Turn) -> None:
    numerators, denominator = cayley(turn)
    assert numerators.dtype.kind == "i"
    np.testing.assert_array_equal(numerators @ numerators.T, denominator**2 * np.eye(3, dtype=int))
    assert np.linalg.det(rgb_to_axes(turn)) == pytest.approx(np.linalg.det(RGB_TO_YCC))


@pytest.mark.parametrize("axis, turned, towards", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_the_angle_of_a_turn_about_one_axis(axis: int, turned: int, towards: int) -> None:
    value = round(TURN_UNIT * math.tan(math.radians(10)))
    turn = tuple(value * (number == axis) for number in range(3))
    angle = 2 * math.atan(value / TURN_UNIT)
    expected = math.cos(angle) * RGB_TO_YCC[turned] + math.sin(angle) * RGB_TO_YCC[towards]
    np.testing.assert_allclose(rgb_to_axes((turn[0], turn[1], turn[2]))[turned], expected, atol=1e-12)


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("threads", [1, 2])
def test_every_colour_survives_the_fixed_point(turn: Turn, threads: int) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (300, 80, 3)).astype(np.uint8)
    pixels[0, :8] = [[255 * (n >> c & 1) for c in range(3)] for n in range(8)]
    np.testing.assert_array_equal(ycc_to_rgb(to_fixed(rgb_to_ycc(pixels, turn)), threads, turn), pixels)


@pytest.mark.parametrize("turn", TURNS)
def test_planes_beyond_the_range_saturate(turn: Turn) -> None:
    """Values far outside, as a damaged file may hold, are those at the limit, and never wrap."""
    huge = np.iinfo(np.int64).max // 2
    for signs in itertools.product((-1, 1), repeat=3):
        limit = np.array(signs).reshape(3, 1, 1) * (1 << 15)
        exact = np.tensordot(rgb_to_axes(turn).T, limit / (1 << FRACTION_BITS), axes=1).reshape(3)
        for planes in (limit, limit * (huge >> 15)):
            assert np.abs(ycc_to_rgb(planes, turn=turn).reshape(3) - np.clip(exact, 0, 255)).max() < 0.6


def test_the_axes_turn_to_the_colour_of_the_texture(tinted: np.ndarray) -> None:
    first, *others = find_turn(tinted, step_index(STEP))
    assert math.degrees(2 * math.atan(first / TURN_UNIT)) == pytest.approx(30, abs=6)
    assert max(map(abs, others)) <= 4


def test_nothing_is_turned_without_reason(photograph: np.ndarray) -> None:
    index = step_index(STEP)
    grey = photograph[:200, :200, :1] + np.zeros(3, np.uint8)
    for pixels in (grey, np.full((90, 80, 3), (9, 90, 200), np.uint8), photograph[:6, :9], photograph[:1, :1]):
        assert find_turn(pixels, index) == NO_TURN


def test_a_large_picture_is_judged_by_windows_of_it(tinted: np.ndarray) -> None:
    tiled = np.tile(tinted, (5, 5, 1))
    whole, part = find_turn(tiled, step_index(STEP)), find_turn(tinted, step_index(STEP))
    assert np.abs(np.subtract(whole, part)).max() <= 6


@pytest.mark.parametrize("channel", ["trellis", "round"])
def test_files_are_smaller_and_better(tinted: np.ndarray, channel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = EncodeSettings(step=STEP, channel=channel, threads=1, verify=True)
    turned = encode_picture(to_picture(tinted), settings)
    monkeypatch.setattr(flowcodec.runtime.encode, "find_turn", lambda *_: NO_TURN)
    plain = encode_picture(to_picture(tinted), settings)
    assert turn_of(turned) != NO_TURN == turn_of(plain)
    assert len(turned) < 0.95 * len(plain)
    assert psnr_db(tinted, flowcodec.decode(turned, threads=1)) > psnr_db(tinted, flowcodec.decode(plain, threads=1)) - 0.1


def test_reduced_partial_and_asked_for_pictures(tinted: np.ndarray) -> None:
    """Their colours are the picture's, and rate control measures what decoders will see."""
    data = flowcodec.encode(tinted, psnr=38.0, threads=1)
    decoded = flowcodec.decode(data, threads=1)
    assert turn_of(data) != NO_TURN
    assert psnr_db(tinted, decoded) == pytest.approx(38, abs=0.1)
    half = tinted.reshape(80, 2, 100, 2, 3).mean((1, 3)).astype(np.uint8)
    assert psnr_db(half, flowcodec.decode(data, levels=1, threads=1)) > 30
    partial = flowcodec.decode(data[: len(data) - len(data) // 4], partial=True, threads=1)
    assert psnr_db(tinted, partial) > 25


def test_refinement_sees_the_turned_axes(tinted: np.ndarray, model: Model) -> None:
    pixels = np.ascontiguousarray(tinted[:96, :112])
    settings = EncodeSettings(step=STEP, channel="round", threads=1)

    def objective(settings: EncodeSettings) -> float:
        data = encode_picture(to_picture(pixels), settings)
        assert turn_of(data) != NO_TURN
        error = (flowcodec.decode(data, threads=1).astype(float) - pixels) ** 2
        return float(error.sum() / STEP**2 + math.log(2) / 6 * 8 * len(data))

    assert objective(replace(settings, refiner=Refiner(model, 2, 1, "round"))) < 0.99 * objective(settings)


@pytest.mark.parametrize("settings", [{"channel": "dither"}, {"lossless": True}, {"max_error": 2}])
def test_what_promises_something_of_every_pixel_has_none(tinted: np.ndarray, settings: dict) -> None:
    assert turn_of(flowcodec.encode(tinted[:60, :60], threads=1, **settings)) == NO_TURN


def test_header_round_trip() -> None:
    for turn in TURNS:
        header = replace(HEADER, turn=turn, scale_shifts=((17, 5),))
        payload = header_payload(header)
        assert parse_header(memoryview(payload)) == header
        assert len(payload) == len(header_payload(replace(header, turn=NO_TURN))) + 4 * (turn != NO_TURN)


@pytest.mark.parametrize(
    "changed",
    [{"turn": (128, 0, 0)}, {"turn": (0, 0, -128)}, {"channels": 1}, {"lossless": True, "channel": "round", "step_index": 0}],
)
def test_turns_that_no_picture_has_are_refused(changed: dict) -> None:
    with pytest.raises(InputError, match="turn"):
        replace(HEADER, **{"turn": (1, 2, 3), **changed})


@pytest.mark.parametrize(
    "tail, error",
    [
        (b"\x00\x81\x80\x80", FormatError),
        (b"\x02", UnsupportedVersion),
        (b"\x01\x81\x80", TruncatedFile),
        (b"\x01\x80\x80\x80", FormatError),
        (b"\x01\x00\x80\x81", FormatError),
        (b"\x01\x81\x80\x80\x80", FormatError),
    ],
)
def test_bytes_that_are_no_turn_are_refused(tail: bytes, error: type[Exception]) -> None:
    payload = header_payload(replace(HEADER, turn=(1, 2, 3)))
    with pytest.raises(error):
        parse_header(memoryview(payload[:-4] + tail))
