"""Alpha is lossless, cheap when trivial, and bounded whatever the bytes."""

import contextlib
import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from flowcodec.errors import FormatError
from flowcodec.runtime.alpha import decode_alpha, encode_alpha

ALPHAS = st.one_of(
    arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=20)),
    arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=20), elements=st.sampled_from([0, 255])),
)


def png_payload(image: Image.Image, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG", **options)
    return b"\1" + stream.getvalue()


@given(ALPHAS)
def test_lossless(alpha):
    found = decode_alpha(encode_alpha(alpha), *alpha.shape)
    assert found.dtype == np.uint8
    assert np.array_equal(found, alpha)


@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_constant_costs_two_bytes(value):
    assert len(encode_alpha(np.full((300, 200), value, np.uint8))) == 2


def test_a_mask_costs_less_than_a_bit_a_pixel():
    rows, columns = np.mgrid[:256, :256]
    mask = np.where((rows - 128) ** 2 + (columns - 128) ** 2 < 90**2, 255, 0).astype(np.uint8)
    assert len(encode_alpha(mask)) < 256 * 256 / 8 / 4


def test_a_random_mask_costs_hardly_more_than_a_bit_a_pixel():
    mask = np.random.default_rng(0).integers(0, 2, (256, 256), dtype=np.uint8) * 255
    assert len(encode_alpha(mask)) < 1.05 * mask.size / 8


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0",
        b"\0\1\2",
        b"\2\1",
        b"\1",
        b"\1\x89PNG\r\n\x1a\n",
        png_payload(Image.new("L", (4, 5), 3)),
        png_payload(Image.new("RGB", (5, 4), 3)),
        png_payload(Image.new("L", (5, 4), 3), transparency=3),
        png_payload(Image.new("I;16", (5, 4), 3)),
    ],
)
def test_anything_else_is_refused(payload):
    with pytest.raises(FormatError):
        decode_alpha(payload, 4, 5)


@given(st.data())
def test_damage_raises_only_format_errors(data):
    alpha = np.arange(35, dtype=np.uint8).reshape(5, 7) * 7
    payload = bytearray(encode_alpha(alpha))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(FormatError):
        assert decode_alpha(bytes(payload[: data.draw(st.integers(0, len(payload)))]), 5, 7).shape == (5, 7)


def test_a_few_bytes_that_promise_many_pixels_are_refused_without_holding_them():
    small = bytearray(png_payload(Image.new("L", (2, 2), 3)))
    small[1 + 16 : 1 + 24] = (10_000).to_bytes(4, "big") * 2
    small[1 + 29 : 1 + 33] = zlib.crc32(small[1 + 12 : 1 + 29]).to_bytes(4, "big")
    tracemalloc.start()
    with pytest.raises(FormatError, match="cannot hold"):
        decode_alpha(bytes(small), 10_000, 10_000)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_other_bit_depths_are_refused() -> None:
    """A PNG of 4 bits grey, which Pillow would widen by itself: the format knows 1 and 8."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2, 2, 4, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\x12\0\x34")) + chunk(b"IEND", b"")
    with pytest.raises(FormatError, match="4 bits"):
        decode_alpha(b"\x01" + png, 2, 2)
