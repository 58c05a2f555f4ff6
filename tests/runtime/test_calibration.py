"""Shifts of scales: made where the prior expects nothing and there is much, told to the decoder, and not made elsewhere."""

import numpy as np
import pytest

import flowcodec
import flowcodec.runtime.latent
from flowcodec.bounds.file import check_certificate
from flowcodec.runtime import container
from flowcodec.runtime.bundle import Model
from flowcodec.runtime.calibration import scale_shift, shifted
from flowcodec.runtime.channel import SCALE_COUNT
from flowcodec.runtime.encode import EncodeSettings, encode_picture
from flowcodec.runtime.image import to_picture
from flowcodec.runtime.quality import psnr_db


@pytest.fixture(scope="module")
def fine(photograph: np.ndarray) -> np.ndarray:
    """A photograph, half of it under a texture at the resolution limit."""
    pixels = photograph[100:228, 200:360].astype(int)
    rows, columns = np.indices((128, 80))
    pixels[:, :80] += (70 * (-1.0) ** (rows + columns) * np.sin(rows / 5 + columns / 9))[..., None].astype(int)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def shifts_of(data: bytes) -> tuple[tuple[int, int], ...]:
    return container.read(data).header.scale_shifts


def test_the_shift_is_what_the_scales_lack(model: Model) -> None:
    """Gaussian values of four steps: right scales need none, scales 2^(n / 8) too small about n, and those that are free all."""
    right = 38
    values = np.random.default_rng(1).normal(0, 4 * 64, 3000)
    assert scale_shift(values, np.full(3000, right, np.uint8), 0, model) == 0
    for less in (12, 24, right):
        assert abs(scale_shift(values, np.full(3000, right - less, np.uint8), 0, model) - less) <= 4
    assert scale_shift(values / 60, np.full(3000, right, np.uint8), 0, model) == 0
    assert scale_shift(values[:50], np.zeros(50, np.uint8), 0, model) == 0


def test_shifted_scales_stay_in_range() -> None:
    scales = np.arange(SCALE_COUNT, dtype=np.uint8)
    for shift in (-127, -3, 0, 5, 127):
        moved = shifted(scales, shift)
        assert moved.dtype == np.uint8
        np.testing.assert_array_equal(moved, np.clip(scales.astype(int) + shift, 0, SCALE_COUNT - 1))


@pytest.mark.parametrize("channel", ["trellis", "round"])
def test_fine_texture_is_seen(fine: np.ndarray, channel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At no more bytes than a finer step takes without shifts: more than a decibel better."""
    data = flowcodec.encode(fine, step=64, channel=channel, threads=1)
    assert any(number < 32 for number, _ in shifts_of(data))
    decoded = flowcodec.decode(data, threads=1)
    np.testing.assert_array_equal(flowcodec.decode(data[:-1], partial=True, threads=1).shape, decoded.shape)
    monkeypatch.setattr(flowcodec.runtime.latent, "scale_shift", lambda *_: 0)
    plain = flowcodec.encode(fine, size=len(data), channel=channel, threads=1)
    assert not shifts_of(plain)
    assert psnr_db(fine, decoded) > psnr_db(fine, flowcodec.decode(plain, threads=1)) + 1


def test_photographs_and_seeded_channels_have_no_shifts(photograph: np.ndarray, fine: np.ndarray) -> None:
    assert shifts_of(flowcodec.encode(photograph[:256, :256], step=30, threads=1)) == ()
    assert shifts_of(flowcodec.encode(fine[:64, :64], step=64, channel="dither", threads=1)) == ()


def test_certificate_of_a_file_with_margins_and_shifts(fine: np.ndarray) -> None:
    framed = np.pad(fine, ((3, 3), (3, 3), (0, 0)))
    data = encode_picture(to_picture(framed), EncodeSettings(step=64, certificate=True, threads=1))
    header = container.read(data).header
    assert header.margins and header.scale_shifts
    assert check_certificate(data, threads=1).holds
