"""The codec on real photographs: bytes against theory, the rate knob, every size, and the same picture however it is computed."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flowcodec
from flowcodec.errors import FlowCodecError, InputError, WrongModel
from flowcodec.runtime import container, decode, encode, latent, prior, restore, tiles
from flowcodec.runtime.bundle import Model
from flowcodec.runtime.channel import make_channel
from flowcodec.runtime.color import ycc_to_rgb
from flowcodec.runtime.encode import EncodeSettings, encode_detailed
from flowcodec.runtime.flow import level_shapes
from flowcodec.runtime.image import Picture
from flowcodec.runtime.step import step_index

STEPS = (1.5, 4, 12, 32, 90, 250)


def mean_squared_error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean((a.astype(float) - b.astype(float)) ** 2))


@pytest.mark.parametrize("channel", ["round", "dither", "trellis"])
@pytest.mark.parametrize("step", STEPS)
def test_bytes_meet_the_ideal_code_length(photograph: np.ndarray, channel: str, step: float) -> None:
    """Whole file <= 1.01 * sum(-log2 p) + 128 bytes, and no smaller than the sum but for what an empty ANS state gives away."""
    encoded = encode_detailed(Picture(photograph[:256, 200:520]), EncodeSettings(step=step, channel=channel, threads=1))
    ideal_bytes = encoded.ideal_bits / 8
    assert ideal_bytes - 16 <= len(encoded.data) <= 1.01 * ideal_bytes + 128


def test_error_follows_the_step(photograph: np.ndarray, model: Model) -> None:
    """At fine steps the error is that of uniform cells, (band step)^2 / 12 averaged over the bands, or less.

    The output's 8 bits add 1/12; the entropy-constrained cells a few per cent.
    """
    pixels = photograph.shape[0] * photograph.shape[1]
    for step in (1.0, 2.0, 4.0):
        index = step_index(step)
        expected = 1 / 12
        for level, (height, width) in enumerate(level_shapes(*photograph.shape[:2])[1:], start=1):
            band_steps = np.array(prior.band_steps(model, index, level)) / (1 << 20)
            expected += (band_steps**2 / 12).sum() * height * width / (3 * pixels)
        back = flowcodec.decode(flowcodec.encode(photograph, step=step, threads=2))
        assert mean_squared_error(back, photograph) <= 1.25 * expected


def test_quality_is_a_strict_knob(photograph: np.ndarray) -> None:
    """Over 21 qualities the size strictly falls and the error strictly rises as the quality falls."""
    part = photograph[64:320, 128:512]
    sizes, errors = [], []
    for quality in range(100, -1, -5):
        data = flowcodec.encode(part, quality=quality, threads=1)
        sizes.append(len(data))
        errors.append(mean_squared_error(flowcodec.decode(data, threads=1), part))
    assert (np.diff(sizes) < 0).all(), sizes
    assert (np.diff(errors) > 0).all(), errors


def test_default_quality_is_sixty(photograph: np.ndarray) -> None:
    part = photograph[:64, :64]
    assert flowcodec.encode(part) == flowcodec.encode(part, quality=60)
    assert flowcodec.info(flowcodec.encode(part))["step"] == pytest.approx(21.1, abs=0.1)


def check_size(photograph: np.ndarray, height: int, width: int, channel: str = "round") -> None:
    """A round trip: the decoder finds what the encoder reconstructed, close to the original."""
    picture = np.resize(photograph[:70, :5000].repeat(1 + width // 700, axis=1), (70, max(width, 768), 3))[:height, :width]
    data = flowcodec.encode(picture, step=2.0, channel=channel, threads=1)
    back = flowcodec.decode(data, threads=1)
    assert back.shape == (height, width, 3)
    assert mean_squared_error(back, picture) < 2.0


@pytest.mark.parametrize("width", range(1, 71))
def test_every_width_and_every_height(photograph: np.ndarray, width: int) -> None:
    """Each of 1 ... 70 once as a width and once as a height; all 4,900 pairs with FLOWCODEC_ALL_SIZES=1."""
    heights = range(1, 71) if os.environ.get("FLOWCODEC_ALL_SIZES") else [1 + (width * 29) % 70]
    for height in heights:
        check_size(photograph, height, width)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from(["round", "dither", "trellis"]))
def test_any_small_size(photograph: np.ndarray, height: int, width: int, channel: str) -> None:
    check_size(photograph, height, width, channel)


@pytest.mark.parametrize(("height", "width"), [(1, 5000), (5000, 1), (3, 1025)])
def test_long_strips(photograph: np.ndarray, height: int, width: int) -> None:
    line = np.tile(photograph[100], (7, 1))
    picture = np.resize(line, (height, width, 3))
    back = flowcodec.decode(flowcodec.encode(picture, step=2.0, threads=1), threads=1)
    assert back.shape == picture.shape
    assert mean_squared_error(back, picture) < 2.0


def test_grey_stays_grey_and_is_no_dearer(photograph: np.ndarray) -> None:
    grey = photograph[:128, :128, 1]
    as_grey, as_color = flowcodec.encode(grey, threads=1), flowcodec.encode(np.stack([grey] * 3, -1), threads=1)
    assert flowcodec.decode(as_grey, threads=1).shape == grey.shape
    assert len(as_grey) <= 1.02 * len(as_color)
    assert mean_squared_error(flowcodec.decode(as_grey, threads=1), grey) <= 1.1 * mean_squared_error(
        flowcodec.decode(as_color, threads=1), np.stack([grey] * 3, -1)
    )


def test_encoder_and_decoder_reconstruct_the_same_planes(photograph: np.ndarray, model: Model) -> None:
    """The planes the encoder quantised against are the decoder's, integer for integer, in three channels and in grey."""
    for channel, pixels in (
        ("round", photograph[:97, :131]),
        ("dither", photograph[:97, :131]),
        ("dither", photograph[:50, :60, :1]),
        ("trellis", photograph[:97, :131]),
    ):
        height, width, channels = pixels.shape
        runner = decode.make_runner(model, 1)
        lows: list[np.ndarray] = []
        target = encode.analyse(model, runner, pixels, 640, lows)
        exchange = latent.LatentEncoder(model, make_channel(channel, model.channels, 9), target, channels, 640, lows=lows)
        feedback = None if channel == "dither" else exchange.begin_feedback
        planes = prior.Walk(model, runner, height, width, channels, 640).run(exchange, level_begun=feedback)
        mine = ycc_to_rgb(restore.restore(model, runner, planes, 640)[:channels])
        data = flowcodec.encode(pixels if channels == 3 else pixels[:, :, 0], step=8.0, channel=channel, seed=9, threads=1)
        file = container.read(data)
        assert file.header.step_index == 640
        assert file.latents == tuple(exchange.boxes)
        np.testing.assert_array_equal(decode.decode_picture(data, 1).pixels, mine)


@pytest.mark.parametrize("channel", ["round", "dither", "trellis"])
def test_same_picture_with_any_threads_optimisation_and_tiles(
    photograph: np.ndarray, model: Model, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1, 2 and 4 threads, graph optimisation on and off, whole image and tiles of a few sites: one picture, one file."""
    part = photograph[100:311, 50:295]
    data = flowcodec.encode(part, step=14, channel=channel, seed=4, threads=2)
    expected = decode.decode_picture(data, 1, model=model).pixels
    for threads in (2, 4):
        np.testing.assert_array_equal(decode.decode_picture(data, threads, model=model).pixels, expected)
    np.testing.assert_array_equal(decode.decode_picture(data, 1, model=model, optimise=False).pixels, expected)
    for sites in (90, 1 << 40):
        monkeypatch.setattr(tiles, "TILE_SITES", sites)
        np.testing.assert_array_equal(decode.decode_picture(data, 2, model=model).pixels, expected)
        assert flowcodec.encode(part, step=14, channel=channel, seed=4, threads=2) == data


def test_seed_changes_the_dither_and_nothing_else(photograph: np.ndarray) -> None:
    part = photograph[:96, :96]
    one, two = (flowcodec.encode(part, step=6, channel="dither", seed=seed, threads=1) for seed in (1, 2))
    assert one != two
    assert one == flowcodec.encode(part, step=6, channel="dither", seed=1, threads=1)
    errors = [mean_squared_error(flowcodec.decode(data, threads=1), part) for data in (one, two)]
    assert errors[0] == pytest.approx(errors[1], rel=0.05)
    assert len(one) == pytest.approx(len(two), rel=0.02)


@pytest.mark.parametrize(
    "arguments",
    [
        {"quality": 101},
        {"quality": -1},
        {"quality": float("nan")},
        {"step": 0.1},
        {"step": 1000},
        {"channel": "vector"},
        {"seed": -1},
        {"threads": 0},
        {"model": "no-such-model"},
    ],
)
def test_bad_arguments_are_named(photograph: np.ndarray, arguments: dict) -> None:
    with pytest.raises(FlowCodecError) as caught:
        flowcodec.encode(photograph[:8, :8], **arguments)
    assert "\n" not in str(caught.value)
    assert next(iter(arguments)) in str(caught.value)
    if "model" not in arguments:
        assert isinstance(caught.value, InputError)


def test_another_model_is_refused(photograph: np.ndarray, model: Model) -> None:
    from dataclasses import replace

    data = flowcodec.encode(photograph[:16, :16])
    with pytest.raises(WrongModel, match=model.id.hex()):
        decode.decode_picture(data, model=replace(model, id=bytes(8)))
