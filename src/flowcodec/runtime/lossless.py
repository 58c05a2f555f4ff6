"""Lossless and near-lossless coding: pixels along a wavefront under the pixel model; a stored PNG or WebP where it is smaller.

A picture, turned on its side if it is higher than wide, is cut into tiles, and tiles of one size are coded together,
``BATCH_PIXELS`` at a time, each batch as an ANS stream of its own. With an error of N allowed, values at a distance of 2N + 1
from a prediction are told apart, in the loop, so that every component of every pixel stays within N of the original.
"""

import io
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
from PIL import Image

from flowcodec.errors import FormatError, WrongModel
from flowcodec.runtime.coder import SymbolDecoder, SymbolEncoder, Tables
from flowcodec.runtime.container import MODEL_ID_BYTES, Box, BoxKind, File
from flowcodec.runtime.pixel_model import PLANE_ORDER, REACH, Mixture, PixelModel, pixel_model
from flowcodec.runtime.wavefront import PlaneContext, Sheared, front_count, front_rows

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
_VALUE_MAX = 255
_PNG_DEPTH_OFFSET, _WEBP_KIND = 24, slice(12, 16)

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


def _walk(model: PixelModel, shape: tuple[int, int, int], planes: int, max_error: int, exchange: Exchange) -> np.ndarray:
    """Codes the tiles of a batch, shape (tiles, H, W), plane by plane and front by front; int32 (planes, tiles, H, W)."""
    tiles, height, width = shape
    step = 2 * max_error + 1
    contexts: list[PlaneContext] = []
    for plane in range(planes):
        context = PlaneContext(tiles, height, width, contexts, model.starts[plane])
        for time in range(front_count(height, width)):
            rows = front_rows(time, height, width)
            features, prediction = context.look(time, rows)
            mixture = model.mixture(plane, features.reshape(len(features), -1), prediction.reshape(-1), step)
            symbols = exchange(mixture, rows, time, plane)
            values = np.clip(mixture.centres + step * symbols, 0, _VALUE_MAX).astype(np.int32)
            context.learn(time, rows, values.reshape(prediction.shape))
        contexts.append(context)
    return np.stack([context.values.planes() for context in contexts])


def _encode_batch(model: PixelModel, tiles: np.ndarray, max_error: int) -> SymbolEncoder:
    """int32 (planes, tiles, H, W) -> the coder that holds their symbols."""
    coder = SymbolEncoder(Tables.none())
    targets = [Sheared.of(plane) for plane in tiles]
    step = 2 * max_error + 1

    def exchange(mixture: Mixture, rows: slice, time: int, plane: int) -> np.ndarray:
        values = targets[plane].front(time, (0, 0), rows).reshape(-1)
        symbols = (values - mixture.centres + max_error) // step
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

    _walk(model, tiles.shape[1:], len(tiles), max_error, exchange)
    return coder


def _decode_batch(model: PixelModel, stream: bytes, shape: tuple[int, int, int], planes: int, max_error: int) -> np.ndarray:
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

    values = _walk(model, shape, planes, max_error, exchange)
    coder.finish()
    return values


# --- the boxes ----------------------------------------------------------------------------------------------------------


def encode_lossless(pixels: np.ndarray, max_error: int = 0) -> tuple[Box, float]:
    """uint8 (H, W, 1 or 3) -> the smallest box that holds it, every component within ``max_error``, and its bits."""
    coded, ideal_bits = _encode_pixels(pixels, max_error)
    possible = pixels.size <= EXPANSION * len(coded)
    if possible and len(_webp(pixels, quick=True) or coded) > _WORTH_A_TRY * len(coded):
        return Box(BoxKind.PIXELS, coded), ideal_bits
    stored = _encode_stored(pixels)
    if possible and len(coded) < len(stored):
        return Box(BoxKind.PIXELS, coded), ideal_bits
    return Box(BoxKind.STORED, stored), 8.0 * len(stored)


def model_id_of(box: Box) -> bytes:
    """What the header of a lossless file names: the pixel model, or zeros where the image is stored."""
    return pixel_model().id if box.kind == BoxKind.PIXELS else bytes(MODEL_ID_BYTES)


def decode_lossless(file: File) -> np.ndarray:
    """A lossless or near-lossless file -> uint8 (H, W, C). Sizes are checked before memory is taken.

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
        return _decode_stored(box.payload, header.height, header.width, header.channels)
    return _decode_pixels(box.payload, header.height, header.width, header.channels, header.step_index)


def _plane_order(channels: int) -> tuple[int, ...]:
    return PLANE_ORDER if channels == len(PLANE_ORDER) else (0,)


def _encode_pixels(pixels: np.ndarray, max_error: int) -> tuple[bytes, float]:
    model, payload, ideal_bits = pixel_model(), bytearray(), 0.0
    planes = pixels.transpose(2, 0, 1)[list(_plane_order(pixels.shape[2]))]
    if planes.shape[1] > planes.shape[2]:
        planes = planes.swapaxes(1, 2)
    for height, width, corners in batches(*planes.shape[1:]):
        tiles = np.stack([planes[:, top : top + height, left : left + width] for top, left in corners], axis=1)
        coder = _encode_batch(model, tiles.astype(np.int32), max_error)
        stream = coder.finish()
        ideal_bits += coder.ideal_bits
        payload += len(stream).to_bytes(_SIZE_BYTES, "little") + stream
    return bytes(payload), ideal_bits


def _decode_pixels(payload: bytes, height: int, width: int, channels: int, max_error: int) -> np.ndarray:
    if height * width * channels > EXPANSION * len(payload):
        raise FormatError(f"pixels box: {len(payload)} bytes cannot hold {width}x{height} pixels; the file is damaged")
    model, order = pixel_model(), _plane_order(channels)
    planes = np.empty((channels, min(height, width), max(height, width)), np.uint8)
    position = 0
    for rows, columns, corners in batches(*planes.shape[1:]):
        begin = position + _SIZE_BYTES
        position = begin + int.from_bytes(payload[position:begin], "little")
        if position > len(payload):
            raise FormatError("pixels box: ends inside a stream; the file is damaged")
        values = _decode_batch(model, payload[begin:position], (len(corners), rows, columns), channels, max_error)
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
    stream = io.BytesIO()
    _image(pixels).save(stream, "PNG", optimize=True)
    stored = bytes([_PNG]) + stream.getvalue()
    webp = _webp(pixels, quick=False)
    if webp is not None and len(webp) < len(stored) and pixels.size <= _STORED_EXPANSION * len(webp):
        stored = bytes([_WEBP]) + webp
    return stored


def _decode_stored(payload: bytes, height: int, width: int, channels: int) -> np.ndarray:
    kind, body = payload[:1], payload[1:]
    if kind not in (bytes([_PNG]), bytes([_WEBP])):
        raise FormatError("stored box: expected a PNG or a WebP; the file is damaged")
    name = "PNG" if kind == bytes([_PNG]) else "WEBP"
    if height * width * channels > _STORED_EXPANSION * len(body):
        raise FormatError(f"stored box: {len(body)} bytes cannot hold {width}x{height} pixels; the file is damaged")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(body), formats=(name,)) as image:
                _check_stored(image, body, height, width, channels)
                pixels = np.array(image)
    except FormatError:
        raise
    except Exception as error:  # damaged bytes can make Pillow raise nearly anything
        raise FormatError(f"stored box: damaged {name} ({type(error).__name__}: {error})") from error
    return pixels[:, :, :channels] if pixels.ndim == 3 else pixels[:, :, None]


def _check_stored(image: Image.Image, body: bytes, height: int, width: int, channels: int) -> None:
    if image.size != (width, height):
        raise FormatError(f"stored box: expected {width}x{height}, found {image.width}x{image.height}")
    if image.format == "PNG":
        mode = "RGB" if channels == len(PLANE_ORDER) else "L"
        plain = image.mode == mode and body[_PNG_DEPTH_OFFSET] == 8 and not image.info.get("interlace")
        plain = plain and "transparency" not in image.info
    else:
        plain = image.mode == "RGB" and body[_WEBP_KIND] == b"VP8L"
    if not plain:
        raise FormatError(f"stored box: expected a plain {image.format} of 8 bits, found mode {image.mode}")
