"""Pictures of 16 bits a component: lossless and near-lossless, through arrays, PNG and TIFF files."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import flowcodec
from flowcodec.errors import FormatError, InputError
from flowcodec.runtime import lossless
from flowcodec.runtime.alpha import decode_alpha, encode_alpha
from flowcodec.runtime.image import Picture, read_picture, to_pil, write_picture
from flowcodec.runtime.png16 import read_png16, write_png16

RNG = np.random.default_rng(16)


def sensor(height: int = 24, width: int = 32, channels: int = 3) -> np.ndarray:
    """A smooth scene with the noise of a sensor, some 60 of 65536 levels."""
    y, x = np.mgrid[:height, :width] / 20
    scene = np.stack([30000 + 14000 * np.sin(x + y * (1 + c / 3)) * np.cos(y - c) for c in range(channels)], -1)
    return np.clip(scene + RNG.normal(0, 60, scene.shape), 0, 65535).astype(np.uint16)


PICTURES = {
    "sensor": sensor(),
    "grey": sensor(channels=1)[..., 0],
    "noise": RNG.integers(0, 65536, (16, 20, 3)).astype(np.uint16),
    "flat": np.full((30, 40, 3), 40000, np.uint16),
    "white": np.full((30, 40), 65535, np.uint16),
    "ramp": np.broadcast_to((np.arange(100) * 640).astype(np.uint16), (10, 100)),
    "text": np.kron(RNG.integers(0, 2, (8, 10)), np.ones((3, 3))).astype(np.uint16) * 65535,
    "8 bits": (sensor() >> 8) * 257,
    "alpha": np.dstack([sensor(), sensor(channels=1)]),
    "flat alpha": np.dstack([sensor(), np.full((24, 32), 65535, np.uint16)]),
    "pixel": np.array([[[1, 65535, 256]]], np.uint16),
}


@pytest.mark.parametrize("name", PICTURES)
def test_exact_and_no_larger_than_png(name: str) -> None:
    pixels = PICTURES[name]
    data = flowcodec.encode(pixels, lossless=True, verify=name == "sensor")
    decoded = flowcodec.decode(data)
    assert decoded.dtype == np.uint16 and np.array_equal(decoded, pixels)
    assert flowcodec.info(data)["bit_depth"] == 16
    deep = pixels if pixels.ndim == 3 else pixels[..., None]
    assert len(data) <= 1.02 * len(write_png16(np.ascontiguousarray(deep))) + 40  # a container of a few bytes


def test_sensor_noise_is_coded_by_the_model() -> None:
    """Noise of deviation 60 has log2(60 sqrt(2 pi e)) = 7.95 bits."""
    data = flowcodec.encode(PICTURES["sensor"], lossless=True)
    assert flowcodec.info(data)["boxes"][0]["kind"] == "pixels"
    assert 8 * len(data) / PICTURES["sensor"].size < 9.5


@pytest.mark.parametrize(("name", "bound"), [("sensor", 1), ("sensor", 3000), ("grey", 32767), ("noise", 50), ("text", 20)])
def test_bound_holds(name: str, bound: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lossless, "EXPANSION", 1 << 20)
    pixels = PICTURES[name]
    deep = pixels if pixels.ndim == 3 else pixels[..., None]
    payload, _ = lossless._encode_pixels(deep, bound)
    coded = lossless._decode_pixels(payload, *deep.shape, bound, 16)
    assert np.abs(coded.astype(int) - deep).max() <= bound
    decoded = flowcodec.decode(flowcodec.encode(pixels, max_error=bound))
    assert np.abs(decoded.astype(int) - pixels).max() <= bound


def test_lossy_and_too_large_bounds_are_refused() -> None:
    for settings in ({}, {"quality": 50}, {"max_error": 32768}):
        with pytest.raises(InputError):
            flowcodec.encode(PICTURES["sensor"], **settings)
    with pytest.raises(InputError):
        flowcodec.encode((PICTURES["sensor"] >> 8).astype(np.uint8), max_error=128)
    with pytest.raises(InputError):
        to_pil(Picture(PICTURES["sensor"]))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_files(channels: int, tmp_path: Path) -> None:
    samples = np.concatenate([sensor(9, 7, channels), RNG.integers(0, 65536, (9, 7, channels)).astype(np.uint16)], 1)
    assert np.array_equal(read_png16(write_png16(samples)), samples)
    alpha = samples[..., -1] if channels % 2 == 0 else None
    picture = Picture(
        samples[..., : channels - 1 + channels % 2], alpha, icc=bytes(200), exif=b"II*\0\x08\0\0\0\0\0", xmp=b"<x/>"
    )
    write_picture(picture, tmp_path / "a.png")
    again = read_picture(tmp_path / "a.png")
    assert np.array_equal(again.pixels, picture.pixels) and (again.icc, again.exif, again.xmp) == (
        picture.icc,
        picture.exif,
        b"<x/>",
    )
    assert again.alpha is None if alpha is None else np.array_equal(again.alpha, alpha)
    with pytest.raises(InputError, match="PNG"):
        write_picture(picture, tmp_path / "a.tif")
    assert not (tmp_path / "a.tif").exists()


def tiff(samples: np.ndarray, order: str) -> bytes:
    """An uncompressed TIFF file, either byte order."""
    height, width, channels = samples.shape
    data = samples.astype(order + "u2").tobytes()
    bits = 8 + len(data)
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, channels, bits if channels > 1 else 16), (259, 3, 1, 1)]
    tags += [
        (262, 3, 1, 2 if channels > 1 else 1),
        (273, 4, 1, 8),
        (277, 3, 1, channels),
        (278, 3, 1, height),
        (279, 4, 1, len(data)),
    ]
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(order + "HI", 42, bits + 2 * channels)
    body = data + struct.pack(order + "H" * channels, *[16] * channels) + struct.pack(order + "H", len(tags))
    for tag, kind, count, value in tags:
        packed = struct.pack(order + "H", value) + bytes(2) if kind == 3 and count == 1 else struct.pack(order + "I", value)
        body += struct.pack(order + "HHI", tag, kind, count) + packed
    return head + body + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiff_files(order: str, channels: int) -> None:
    samples = RNG.integers(0, 65536, (6, 5, channels)).astype(np.uint16)
    assert np.array_equal(read_picture(io.BytesIO(tiff(samples, order))).pixels, samples)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation: int) -> None:
    """As Pillow turns a picture of 8 bits."""
    small = RNG.integers(0, 256, (4, 6, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(small).save(stream, "PNG", exif=exif)
    expected = read_picture(io.BytesIO(stream.getvalue())).pixels
    deep = write_png16(small.astype(np.uint16) * 257, exif=exif.tobytes().removeprefix(b"Exif\0\0"))
    assert np.array_equal(read_picture(io.BytesIO(deep)).pixels, expected.astype(np.uint16) * 257)


def test_transparent_colour_is_refused() -> None:
    data = write_png16(PICTURES["sensor"])
    key = b"tRNS" + bytes(6)
    chunk = struct.pack(">I", 6) + key + struct.pack(">I", zlib.crc32(key))
    with pytest.raises(InputError, match="8 bits"):
        read_picture(io.BytesIO(data[:33] + chunk + data[33:]))


def test_damaged_stored_images_are_refused() -> None:
    flat = PICTURES["flat"]
    payload = lossless._encode_stored(flat)
    assert np.array_equal(lossless._decode_stored(payload, 30, 40, 3, 16), flat)
    for broken in (payload[:-40], payload[:1] + payload[40:], b"\2" + payload[1:]):
        with pytest.raises(FormatError):
            lossless._decode_stored(broken, 30, 40, 3, 16)
    with pytest.raises(FormatError):
        lossless._decode_stored(payload, 30, 40, 3, 8)
    alpha = encode_alpha(flat[..., 0] + np.arange(40, dtype=np.uint16))
    for depth, size in ((8, (30, 40)), (16, (40, 30))):
        with pytest.raises(FormatError):
            decode_alpha(alpha, *size, depth)
