"""Transparency, stored losslessly. A payload is one of

    0, value        every pixel has this value
    1, PNG file     1-bit (only 0 and 255 occur) or 8-bit grey, not interlaced; 16-bit grey beside pixels of 16 bits

where numbers are one byte each, the value two, little-endian, beside pixels of 16 bits.
"""

import io
import warnings

import numpy as np
from PIL import Image

from flowcodec.errors import FormatError
from flowcodec.runtime.png16 import layout_of, read_samples, write_png16

_CONSTANT, _PNG = 0, 1
_DEFLATE_GAIN = 1032
"""DEFLATE expands no byte to more than this many."""
_PNG_DEPTH_OFFSET = 24


def encode_alpha(alpha: np.ndarray) -> bytes:
    """uint8 or uint16 (H, W) -> payload; 2 or 3 bytes where alpha is constant."""
    low, high = int(alpha.min()), int(alpha.max())
    if low == high:
        return bytes([_CONSTANT]) + low.to_bytes(alpha.itemsize, "little")
    if alpha.dtype == np.uint16:
        return bytes([_PNG]) + write_png16(alpha[:, :, None])
    image = Image.fromarray(alpha)
    if low == 0 and high == 255 and ((alpha == 0) | (alpha == 255)).all():
        image = image.convert("1", dither=Image.Dither.NONE)
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=9)
    return bytes([_PNG]) + stream.getvalue()


def decode_alpha(payload: bytes, height: int, width: int, depth: int = 8) -> np.ndarray:
    """Payload -> uint8 or, with a depth of 16, uint16 (H, W). Raises FormatError.

    Size and plausibility are checked before anything is decompressed.
    """
    kind, body = payload[:1], payload[1:]
    if kind == bytes([_CONSTANT]) and 8 * len(body) == depth:
        return np.full((height, width), int.from_bytes(body, "little"), np.uint8 if depth == 8 else np.uint16)
    if kind != bytes([_PNG]):
        raise FormatError(f"alpha: expected a constant or a PNG, found a payload of {len(payload)} bytes that is neither")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(body), formats=("PNG",)) as image:
                _check(image, body, height, width, depth)
                if depth == 16:
                    return read_samples(image)[:, :, 0]
                return np.array(image.convert("L"))
    except FormatError:
        raise
    except Exception as error:  # damaged bytes can make Pillow raise nearly anything
        raise FormatError(f"alpha: damaged PNG ({type(error).__name__}: {error})") from error


def _check(image: Image.Image, body: bytes, height: int, width: int, depth: int) -> None:
    if image.size != (width, height):
        raise FormatError(f"alpha: expected {width}x{height}, found {image.width}x{image.height}")
    found = body[_PNG_DEPTH_OFFSET]
    grey = image.mode in ("1", "L") and found in (1, 8) if depth == 8 else found == 16 and layout_of(image) == "I;16B"
    if not grey or image.info.get("interlace") or "transparency" in image.info:
        raise FormatError(f"alpha: expected a plain grey PNG of at most {depth} bits, found mode {image.mode} of {found} bits")
    row_bytes = 1 + (width * found + 7) // 8
    if height * row_bytes > _DEFLATE_GAIN * len(body):
        raise FormatError(f"alpha: {len(body)} bytes cannot hold {width}x{height} pixels")
