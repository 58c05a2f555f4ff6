"""Transparency, stored losslessly. A payload is one of

    0, value        every pixel has this value
    1, PNG file     1-bit (only 0 and 255 occur) or 8-bit grey, not interlaced

where numbers are one byte each.
"""

import io
import warnings

import numpy as np
from PIL import Image

from flowcodec.errors import FormatError

_CONSTANT, _PNG = 0, 1
_DEFLATE_GAIN = 1032
"""DEFLATE expands no byte to more than this many."""
_PNG_DEPTH_OFFSET = 24


def encode_alpha(alpha: np.ndarray) -> bytes:
    """uint8 (H, W) -> payload; 2 bytes where alpha is constant."""
    low, high = int(alpha.min()), int(alpha.max())
    if low == high:
        return bytes([_CONSTANT, low])
    image = Image.fromarray(alpha)
    if low == 0 and high == 255 and ((alpha == 0) | (alpha == 255)).all():
        image = image.convert("1", dither=Image.Dither.NONE)
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=9)
    return bytes([_PNG]) + stream.getvalue()


def decode_alpha(payload: bytes, height: int, width: int) -> np.ndarray:
    """Payload -> uint8 (H, W). Size and plausibility are checked before anything is decompressed. Raises FormatError."""
    kind, body = payload[:1], payload[1:]
    if kind == bytes([_CONSTANT]) and len(body) == 1:
        return np.full((height, width), body[0], np.uint8)
    if kind != bytes([_PNG]):
        raise FormatError(f"alpha: expected a constant or a PNG, found a payload of {len(payload)} bytes that is neither")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(body), formats=("PNG",)) as image:
                _check(image, body, height, width)
                return np.array(image.convert("L"))
    except FormatError:
        raise
    except Exception as error:  # damaged bytes can make Pillow raise nearly anything
        raise FormatError(f"alpha: damaged PNG ({type(error).__name__}: {error})") from error


def _check(image: Image.Image, body: bytes, height: int, width: int) -> None:
    if image.size != (width, height):
        raise FormatError(f"alpha: expected {width}x{height}, found {image.width}x{image.height}")
    depth = body[_PNG_DEPTH_OFFSET]
    if image.mode not in ("1", "L") or depth not in (1, 8) or image.info.get("interlace") or "transparency" in image.info:
        raise FormatError(f"alpha: expected a plain PNG of 1 or 8 bits grey, found mode {image.mode} of {depth} bits")
    row_bytes = 1 + (width if image.mode == "L" else (width + 7) // 8)
    if height * row_bytes > _DEFLATE_GAIN * len(body):
        raise FormatError(f"alpha: {len(body)} bytes cannot hold {width}x{height} pixels")
