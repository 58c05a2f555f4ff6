"""PNG files of 16 bits a sample, and the 16-bit samples of files that Pillow opens but halves to 8 bits.

Pillow unpacks one byte of each 16-bit sample of colour. Which one depends on the byte order that it is told, so loading a file
twice, with either order, gives both. Writing is done here: each row has the filter with the least sum of absolute differences.
"""

import io
import struct
import sys
import zlib
from typing import Any

import numpy as np
from PIL import Image

from flowcodec.errors import InputError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_GREY_LAYOUTS = ("I;16", "I;16B", "I;16L", "I;16N")
_OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_GREY_ALPHA = "LA;16B"
_XMP_KEY = b"XML:com.adobe.xmp"
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0


def layout_of(image: Image.Image) -> str:
    """How the samples of an image that has not been loaded lie in its file, as Pillow calls it; empty if it does not say."""
    layouts = {_layout(tile[3]) for tile in getattr(image, "tile", [])}
    return layouts.pop() if len(layouts) == 1 else ""


def _layout(arguments: Any) -> str:
    if isinstance(arguments, tuple):
        arguments = arguments[0] if arguments else ""
    return arguments if isinstance(arguments, str) else ""


def is_readable(image: Image.Image) -> bool:
    """Whether ``read_samples`` can read it: 16-bit grey or RGB, perhaps with alpha, in a PNG or TIFF that is not loaded yet."""
    layout = layout_of(image)
    known = layout in _GREY_LAYOUTS or layout == _GREY_ALPHA or layout[:-1] in ("RGB;16", "RGBA;16")
    inverted = image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO  # type: ignore[attr-defined]
    return known and image.format in ("PNG", "TIFF") and "transparency" not in image.info and not inverted


def read_samples(image: Image.Image) -> np.ndarray:
    """uint16 (H, W, 1 to 4) of an image for which ``is_readable`` holds. Raises what Pillow raises for damaged files."""
    layout = layout_of(image)
    if layout in _GREY_LAYOUTS:
        return np.asarray(image).astype(np.uint16)[:, :, None]
    stream: Any = image.fp  # type: ignore[attr-defined]
    stream.seek(0)
    data = stream.read()
    if layout == _GREY_ALPHA:
        four = _unpacked(data, "RGBA").astype(np.uint16)
        return (four[..., 0::2] << 8) | four[..., 1::2]
    high, low = _unpacked(data, layout), _unpacked(data, layout[:-1] + _OTHER_ORDER[layout[-1]])
    return (high.astype(np.uint16) << 8) | low


def _unpacked(data: bytes, layout: str) -> np.ndarray:
    """uint8 (H, W, C): the first frame, its samples unpacked in another way than the file says."""
    with Image.open(io.BytesIO(data)) as image:
        tiles: list[Any] = image.tile
        for place, tile in enumerate(tiles):
            rest = (layout, *tile[3][1:]) if isinstance(tile[3], tuple) else layout
            tiles[place] = tile._replace(args=rest)
        return np.array(image)


def _filtered(rows: np.ndarray, pixel_bytes: int) -> bytes:
    """uint8 (H, row bytes) -> the rows, each behind the number of its filter."""
    current = rows.astype(np.int16)
    left = np.pad(current, ((0, 0), (pixel_bytes, 0)))[:, : current.shape[1]]
    up = np.pad(current, ((1, 0), (0, 0)))[:-1]
    corner = np.pad(up, ((0, 0), (pixel_bytes, 0)))[:, : current.shape[1]]
    near_left, near_up, near_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
    paeth = np.where(near_up <= near_corner, up, corner)
    paeth = np.where((near_left <= near_up) & (near_left <= near_corner), left, paeth)
    guesses = (np.zeros_like(current), left, up, (left + up) >> 1, paeth)
    differences = np.stack([(current - guess).astype(np.uint8) for guess in guesses])
    chosen = np.abs(differences.view(np.int8).astype(np.int16)).sum(2, dtype=np.int64).argmin(0)
    best = differences[chosen, np.arange(len(rows))]
    return np.column_stack([chosen.astype(np.uint8), best]).tobytes()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png16(samples: np.ndarray, icc: bytes | None = None, exif: bytes | None = None, xmp: bytes | None = None) -> bytes:
    """uint16 (H, W, 1 to 4: grey, grey and alpha, RGB, RGB and alpha) -> a PNG file, not interlaced."""
    height, width, channels = samples.shape
    if samples.dtype != np.uint16 or channels not in _COLOUR_TYPES:
        raise InputError(f"samples: expected uint16 (H, W, 1 to 4), found {samples.dtype} {samples.shape}")
    rows = np.ascontiguousarray(samples.astype(">u2")).view(np.uint8).reshape(height, -1)
    plain = np.column_stack([np.zeros(height, np.uint8), rows]).tobytes()
    body = min((zlib.compress(data, 9) for data in (plain, _filtered(rows, 2 * channels))), key=len)
    chunks = [_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[channels], 0, 0, 0))]
    if icc is not None:
        chunks.append(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc, 9)))
    if exif is not None:
        chunks.append(_chunk(b"eXIf", exif))
    if xmp is not None:
        chunks.append(_chunk(b"iTXt", _XMP_KEY + bytes(5) + xmp))
    return _SIGNATURE + b"".join([*chunks, _chunk(b"IDAT", body), _chunk(b"IEND", b"")])


def read_png16(data: bytes) -> np.ndarray:
    """A PNG file of 16 bits a sample -> uint16 (H, W, 1 to 4). Raises InputError, and what Pillow raises for damaged files."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        if not is_readable(image):
            raise InputError(f"expected a plain PNG of 16 bits, found one of layout {layout_of(image) or image.mode}")
        return read_samples(image)
