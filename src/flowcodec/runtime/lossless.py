"""Lossless and near-lossless coding: pixels along a wavefront under the pixel model; a stored PNG or WebP where it is smaller.

A picture, turned on its side if it is higher than wide, is cut into tiles, and tiles of one size are coded together,
``BATCH_PIXELS`` at a time, each batch as an ANS stream of its own. With an error of N allowed, values at a distance of 2N + 1
from a prediction are told apart, in the loop, so that every component of every pixel stays within N of the original. Pixels of 8
and of 16 bits go the same way: inside, all values are in 1/256 of a grey level of 8 bits.
"""

import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image

from flowcodec.errors import FormatError, WrongModel
from flowcodec.runtime.coder import SymbolDecoder, SymbolEncoder, Tables
from flowcodec.runtime.container import Box, BoxKind, File
from flowcodec.runtime.header import MODEL_ID_BYTES
from flowcodec.runtime.pixel_model import PLANE_ORDER, REACH, Mixture, PixelModel, pixel_model
from flowcodec.runtime.png16 import is_readable, read_samples, write_png16
from flowcodec.runtime.wavefront import PIXEL_BITS, VALUE_MAX, PlaneContext, Sheared, front_count, front_rows

TILE_HEIGHT, TILE_WIDTH = 512, 1024
BATCH_PIXELS = 1 << 19
EXPANSION = 128
"""A payload of PIXELS holds at most this many values a byte."""
_PNG, _WEBP = 1, 2
_STORED_EXPANSION = 1032
"""The same for a stored image: what DEFLATE can do."""
_WEBP_SIDE = 16383
_WORTH_A_TRY = 1.05
"""A stored image is tried in earnest only where a quick WebP comes this near to the coded pixels."""
_SIZE_BYTES = 4
_DEPTHS: dict[int, type[np.uint8] | type[np.uint16]] = {8: np.uint8, 16: np.uint16}
_PNG_FORMAT, _WEBP_KIND = slice(24, 26), slice(12, 16)

Exchange = Callable[[Mixture, slice, int, int], np.ndarray]
"""(distributions, rows, time, plane) -> symbols (n,): the encoder's from the pixels, the decoder's from the stream."""


# --- tiles --------------------------------------------------------------------------------------------------------------


def _cuts(length: int, limit: int) -> list[tuple[int, int]]:
    """(begin, size) of the pieces, of which there are as few as the limit allows and no two differ by more than one."""
    count = -(-length // limit)
    ends = [length * i // count for i in range(count + 1)]
    return [(begin, end - begin) for begin, end in pairwise(ends)]


def batches(height: int, width: int) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """(tile height, tile width, corners of tiles) of a picture no higher than wide, as its tiles then are, too.

    Sizes come by their first appearance, row by row, and the tiles of each size in the same order.
    """
    groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for top, rows in _cuts(height, TILE_HEIGHT):
        for left, columns in _cuts(width, TILE_WIDTH):
            groups.setdefault((rows, columns), []).append((top, left))
    for (rows, columns), corners in groups.items():
        count = max(BATCH_PIXELS // (rows * columns), 1)
        for begin in range(0, len(corners), count):
            yield rows, columns, corners[begin : begin + count]


# --- one batch ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scale:
    """How values of a depth and an error allowed sit among the values of the walk."""

    depth: int
    max_error: int

    @property
    def shift(self) -> int:
        """A value v of the picture is v << shift in the walk."""
        return 8 + PIXEL_BITS - self.depth

    @property
    def step(self) -> int:
        """Distance of the values that are told apart."""
        return (2 * self.max_error + 1) << self.shift


def _walk(model: PixelModel, shape: tuple[int, int, int], planes: int, scale: _Scale, exchange: Exchange) -> np.ndarray:
    """Codes the tiles of a batch, shape (tiles, H, W), plane by plane and front by front; int32 (planes, tiles, H, W)."""
    tiles, height, width = shape
    unit = 1 << scale.shift
    contexts: list[PlaneContext] = []
    for plane in range(planes):
        context = PlaneContext(tiles, height, width, contexts, model.starts[plane], model.whitenings[plane])
        for time in range(front_count(height, width)):
            rows = front_rows(time, height, width)
            features, prediction = context.look(time, rows)
            mixture = model.mixture(plane, features.reshape(len(features), -1), prediction.reshape(-1), unit, scale.step)
            symbols = exchange(mixture, rows, time, plane)
            values = np.clip(mixture.centres + scale.step * symbols, 0, VALUE_MAX + 1 - unit).astype(np.int32)
            context.learn(time, rows, values.reshape(prediction.shape))
        contexts.append(context)
    return np.stack([context.values.planes() for context in contexts]) >> scale.shift


def _encode_batch(model: PixelModel, tiles: np.ndarray, scale: _Scale) -> SymbolEncoder:
    """int32 (planes, tiles, H, W) -> the coder that holds their symbols."""
    coder = SymbolEncoder(Tables.none())
    targets = [Sheared.of(plane << scale.shift) for plane in tiles]

    def exchange(mixture: Mixture, rows: slice, time: int, plane: int) -> np.ndarray:
        values = targets[plane].front(time, (0, 0), rows).reshape(-1).astype(np.int64)
        symbols = (values - mixture.centres + (scale.max_error << scale.shift)) // scale.step
        low_bits = mixture.low_bits
        high = symbols >> low_bits
        clipped = np.clip(high, -REACH, REACH)
        coder.push_own(clipped + REACH, mixture.frequencies)
        for bits in np.unique(low_bits[low_bits > 0]).tolist():
            chosen = low_bits == bits
            coder.push_raw(symbols[chosen] & ((1 << bits) - 1), bits)
        escaped = np.abs(clipped) == REACH
        coder.push_exp_golomb(np.abs(high[escaped]) - REACH)
        return symbols

    _walk(model, tiles.shape[1:], len(tiles), scale, exchange)
    return coder


def _decode_batch(model: PixelModel, stream: bytes, shape: tuple[int, int, int], planes: int, scale: _Scale) -> np.ndarray:
    """A stream -> int32 (planes, tiles, H, W). Raises FormatError."""
    coder = SymbolDecoder(Tables.none(), stream)

    def exchange(mixture: Mixture, rows: slice, time: int, plane: int) -> np.ndarray:
        low_bits = mixture.low_bits
        high = coder.pop_own(mixture.frequencies()) - REACH
        low = np.zeros(len(high), np.int64)
        for bits in np.unique(low_bits[low_bits > 0]).tolist():
            chosen = low_bits == bits
            low[chosen] = coder.pop_raw(int(chosen.sum()), bits)
        escaped = np.abs(high) == REACH
        high[escaped] += np.sign(high[escaped]) * coder.pop_exp_golomb(int(escaped.sum()))
        return (high << low_bits) + low

    values = _walk(model, shape, planes, scale, exchange)
    coder.finish()
    return values


# --- the boxes ----------------------------------------------------------------------------------------------------------


def encode_lossless(pixels: np.ndarray, max_error: int = 0) -> tuple[Box, float]:
    """uint8 or uint16 (H, W, 1 or 3) -> the smallest box that holds it, every component within ``max_error``, and its bits."""
    coded, ideal_bits = _encode_pixels(pixels, max_error)
    possible = pixels.size <= EXPANSION * len(coded)
    quick = _webp(pixels, quick=True) if pixels.dtype == np.uint8 else None
    if possible and quick is not None and len(quick) > _WORTH_A_TRY * len(coded):
        return Box(BoxKind.PIXELS, coded), ideal_bits
    stored = _encode_stored(pixels)
    if possible and len(coded) < len(stored):
        return Box(BoxKind.PIXELS, coded), ideal_bits
    return Box(BoxKind.STORED, stored), 8.0 * len(stored)


def model_id_of(box: Box) -> bytes:
    """What the header of a lossless file names: the pixel model, or zeros where the image is stored."""
    return pixel_model().id if box.kind == BoxKind.PIXELS else bytes(MODEL_ID_BYTES)


def decode_lossless(file: File) -> np.ndarray:
    """A lossless or near-lossless file -> uint8 or uint16 (H, W, C). Sizes are checked before memory is taken.

    Raises FormatError, WrongModel.
    """
    header = file.header
    boxes = [box for box in file.boxes if box.kind in (BoxKind.PIXELS, BoxKind.STORED)]
    if len(boxes) != 1 or file.latents:
        raise FormatError("expected one box of pixels in a lossless file and no latents; the file is damaged")
    (box,) = boxes
    if (expected := model_id_of(box)) != header.model_id:
        raise WrongModel(f"the file needs pixel model {header.model_id.hex()}, found {expected.hex()}; use another flowcodec")
    if box.kind == BoxKind.STORED:
        return _decode_stored(box.payload, header.height, header.width, header.channels, header.depth)
    return _decode_pixels(box.payload, header.height, header.width, header.channels, header.step_index, header.depth)


def _plane_order(channels: int) -> tuple[int, ...]:
    return PLANE_ORDER if channels == len(PLANE_ORDER) else (0,)


def _encode_pixels(pixels: np.ndarray, max_error: int) -> tuple[bytes, float]:
    scale = _Scale(8 * pixels.itemsize, max_error)
    model, payload, ideal_bits = pixel_model(), bytearray(), 0.0
    planes = pixels.transpose(2, 0, 1)[list(_plane_order(pixels.shape[2]))]
    if planes.shape[1] > planes.shape[2]:
        planes = planes.swapaxes(1, 2)
    for height, width, corners in batches(*planes.shape[1:]):
        tiles = np.stack([planes[:, top : top + height, left : left + width] for top, left in corners], axis=1)
        coder = _encode_batch(model, tiles.astype(np.int32), scale)
        stream = coder.finish()
        ideal_bits += coder.ideal_bits
        payload += len(stream).to_bytes(_SIZE_BYTES, "little") + stream
    return bytes(payload), ideal_bits


def _decode_pixels(payload: bytes, height: int, width: int, channels: int, max_error: int, depth: int = 8) -> np.ndarray:
    if height * width * channels > EXPANSION * len(payload):
        raise FormatError(f"pixels box: {len(payload)} bytes cannot hold {width}x{height} pixels; the file is damaged")
    model, order = pixel_model(), _plane_order(channels)
    planes = np.empty((channels, min(height, width), max(height, width)), _DEPTHS[depth])
    scale = _Scale(depth, max_error)
    position = 0
    for rows, columns, corners in batches(*planes.shape[1:]):
        begin = position + _SIZE_BYTES
        position = begin + int.from_bytes(payload[position:begin], "little")
        if position > len(payload):
            raise FormatError("pixels box: ends inside a stream; the file is damaged")
        values = _decode_batch(model, payload[begin:position], (len(corners), rows, columns), channels, scale)
        for tile, (top, left) in enumerate(corners):
            planes[list(order), top : top + rows, left : left + columns] = values[:, tile]
    if position != len(payload):
        raise FormatError("pixels box: bytes after the last stream; the file is damaged")
    return np.ascontiguousarray(planes.transpose((2, 1, 0) if height > width else (1, 2, 0)))


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels if pixels.shape[2] == len(PLANE_ORDER) else pixels[:, :, 0])


def _webp(pixels: np.ndarray, quick: bool) -> bytes | None:
    """A lossless WebP, None where the picture is too large for one."""
    if max(pixels.shape[:2]) > _WEBP_SIDE:
        return None
    stream = io.BytesIO()
    settings = {"quality": 75, "method": 4} if quick else {"quality": 100, "method": 6}
    _image(pixels).convert("RGB").save(stream, "WEBP", lossless=True, exact=True, **settings)
    return stream.getvalue()


def _encode_stored(pixels: np.ndarray) -> bytes:
    if pixels.dtype == np.uint16:
        return bytes([_PNG]) + write_png16(pixels)
    stream = io.BytesIO()
    _image(pixels).save(stream, "PNG", optimize=True)
    stored = bytes([_PNG]) + stream.getvalue()
    webp = _webp(pixels, quick=False)
    if webp is not None and len(webp) < len(stored) and pixels.size <= _STORED_EXPANSION * len(webp):
        stored = bytes([_WEBP]) + webp
    return stored


def _decode_stored(payload: bytes, height: int, width: int, channels: int, depth: int = 8) -> np.ndarray:
    kind, body = payload[:1], payload[1:]
    if kind not in (bytes([_PNG]), bytes([_WEBP])) or (kind == bytes([_WEBP]) and depth != 8):
        raise FormatError("stored box: expected a PNG, or with 8 bits a WebP; the file is damaged")
    name = "PNG" if kind == bytes([_PNG]) else "WEBP"
    if height * width * channels > _STORED_EXPANSION * len(body):
        raise FormatError(f"stored box: {len(body)} bytes cannot hold {width}x{height} pixels; the file is damaged")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(body), formats=(name,)) as image:
                _check_stored(image, body, height, width, channels, depth)
                pixels = read_samples(image) if depth == 16 else np.array(image)
    except FormatError:
        raise
    except Exception as error:  # damaged bytes can make Pillow raise nearly anything
        raise FormatError(f"stored box: damaged {name} ({type(error).__name__}: {error})") from error
    return pixels[:, :, :channels] if pixels.ndim == 3 else pixels[:, :, None]


def _check_stored(image: Image.Image, body: bytes, height: int, width: int, channels: int, depth: int) -> None:
    if image.size != (width, height):
        raise FormatError(f"stored box: expected {width}x{height}, found {image.width}x{image.height}")
    if image.format == "PNG":
        kind = 2 if channels == len(PLANE_ORDER) else 0
        plain = body[_PNG_FORMAT] == bytes([depth, kind]) and not image.info.get("interlace")
        plain = plain and "transparency" not in image.info and (depth == 8 or is_readable(image))
    else:
        plain = image.mode == "RGB" and body[_WEBP_KIND] == b"VP8L"
    if not plain:
        raise FormatError(f"stored box: expected a plain {image.format} of {depth} bits, found mode {image.mode}")
