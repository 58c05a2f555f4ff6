"""Frame and entropy coder of the second decoder: sections 2, 3, 6.1, 6.3 to 6.5 of ``docs/format.md``, and alpha, section 7."""

import bisect
import io
import math
import zlib
from collections import namedtuple
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray
Header = namedtuple("Header", "height width mode step seed model margins shifts turn", defaults=((), {}, (0, 0, 0)))
HEADER, LATENT, ALPHA = 0, 1, 2
LOSSLESS = (8, 9)


class Rejected(ValueError):
    """The file is not a valid one (section 9)."""


def require(condition: object, message: str) -> None:
    if not condition:
        raise Rejected(message)


# --- 2, 3: the frame
def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Value and the offset behind it (section 2)."""
    size = next((i for i, byte in enumerate(data[at : at + 5], 1) if byte < 128), 0)
    value = sum((byte & 127) << 7 * i for i, byte in enumerate(data[at : at + size]))
    require(size and value < 1 << 32 and (size == 1 or data[at + size - 1]), "varint too large, cut, or not in its shortest form")
    return value, at + size


def read_boxes(data: bytes, front: bool = False) -> list[tuple[int, bytes]]:
    """Sections 3.1 to 3.3: kinds and payloads; for section 11 those of the boxes at the front that are whole."""
    require(data[:5] == b"\xf1FLW\x01" and len(data) > 5, "not a file of version 1")
    boxes, at, checksum = [], 6, zlib.crc32(data[:6])
    for _ in range(data[5]):
        if front and at + 1 >= len(data):
            return boxes
        size, start = read_varint(data, at + 1)
        end = start + size
        checksum = zlib.crc32(data[at:end], checksum)
        if front and data[end : end + 4] != checksum.to_bytes(4, "little"):
            return boxes
        require(data[end : end + 4] == checksum.to_bytes(4, "little"), "truncated, or the checksum differs")
        boxes.append((data[at], data[start:end]))
        at = end + 4
    require(at == len(data), "bytes after the last box")
    kinds = [kind for kind, _ in boxes]
    require(kinds[:1] == [HEADER] and kinds == sorted(kinds), "boxes out of order")
    require(all(kind <= ALPHA or kind in LOSSLESS or kind >= 128 for kind in kinds), "critical kind that is not known")
    require(all(kind in (LATENT, *range(132, 256)) or kinds.count(kind) == 1 for kind in kinds), "box twice")
    return boxes


def read_header(data: bytes) -> Header:
    """Section 3.4."""
    width, at = read_varint(data, 0)
    height, at = read_varint(data, at)
    require(min(width, height) >= 1 and max(width, height) <= 1 << 24 and width * height <= 1 << 28, "size out of range")
    seed, end = read_varint(data, at + 3)
    mode, step = data[at], int.from_bytes(data[at + 1 : at + 3], "little")
    require(mode & 24 != 16, "reserved mode")
    exact = mode & 8
    require(step <= (1408 if not exact else 127 if mode & 16 == 0 else 32767), "step index or largest error out of range")
    require(not exact or (mode & 227 == 0 and seed == 0), "reserved values in a lossless file")
    require(len(data) >= end + 8, "header too short")
    model, at = data[end : end + 8], end + 8
    margins, at = read_margins(data, at, 3 if mode & 4 else 1) if mode & 32 else ([], at)
    inside = [side - sum(lines for where, lines, _ in margins if where // 2 == axis) for axis, side in enumerate((height, width))]
    require(min(inside) >= 1, "margins larger than the picture")
    shifts, at = read_shifts(data, at, (max(inside) - 1).bit_length(), 16 if mode & 4 else 12) if mode & 64 else ({}, at)
    turn = (0, 0, 0)
    if mode & 128:
        require(data[at : at + 1] == b"\1" and mode & 4, "reserved second mode")
        turn, at = tuple(value - 128 for value in data[at + 1 : at + 4]), at + 4
        require(len(data) >= at and any(turn) and -128 not in turn, "turn out of range")
    require(len(data) == at, "header too short or too long")
    return Header(height, width, mode, step, seed, model, margins, shifts, turn)


def read_margins(data: bytes, at: int, channels: int) -> tuple[list[tuple[int, int, bytes]], int]:
    """Section 3.4.1: (side, lines, colour) of each strip, and the offset behind them."""
    require(data[at : at + 1] not in (b"", b"\0"), "no strips")
    margins: list[tuple[int, int, bytes]] = []
    colour, end = b"", at + 1
    for _ in range(data[at]):
        value, end = read_varint(data, end)
        before = colour
        if not value & 4:
            colour, end = data[end : end + channels], end + channels
        require(len(colour) == channels and (value & 4 or colour != before) and value >> 3, "strip without a colour or lines")
        margins.append((value & 3, value >> 3, colour))
    return margins, end


def read_shifts(data: bytes, at: int, levels: int, stages: int) -> tuple[dict[int, int], int]:
    """Section 3.4.2: the shift of each stage, and the offset behind them."""
    count, at = read_varint(data, at)
    require(count, "no shifts")
    shifts, stage = {}, 15
    for _ in range(count):
        gap, at = read_varint(data, at)
        stage += gap
        require(gap and stage < 16 * (levels + 1) and stage % 16 < stages, "stage that the picture does not have")
        require(data[at : at + 1] not in (b"", b"\0", b"\x80"), "shift out of range")
        shifts[stage] = data[at] - 128
        at += 1
    return shifts, at


# --- 6.1, 6.3 to 6.5: the coder
class Coder:
    def __init__(self, payload: bytes, model: Any) -> None:
        require(len(payload) % 4 == 0 and (not payload or any(payload[-4:])), "latent box is no ANS stream")
        self.words, self.model, self.state = np.frombuffer(payload, "<u4").tolist(), model, 0
        self.allowed_bits = 1.01 * 8 * len(payload) + 256
        for _ in self.words[-2:]:
            self.state = self.state << 32 | self.words.pop()

    def symbol(self, table: Sequence[int]) -> int:
        low = self.state & 0xFFFFFF
        index = bisect.bisect_right(table, low) - 1
        width = table[index + 1] - table[index]
        self.state = (self.state >> 24) * width + low - table[index]
        if self.state < 1 << 32 and self.words:
            self.state = self.state << 32 | self.words.pop()
        self.allowed_bits -= 24 - math.log2(width)
        require(self.allowed_bits >= 0, "more information than the payload holds")
        return index

    def raw(self, count: int, bits: int) -> list[int]:
        values = [0] * count
        for first in range(0, bits, 12):
            table = range(0, (1 << 24) + 1, 1 << 24 - min(12, bits - first))
            values = [value | self.symbol(table) << first for value in values]
        return values

    def numbers(self, count: int) -> list[int]:
        """Section 6.4, without signs."""
        lengths, values = self.raw(count, 5), [0] * count
        for length in sorted(set(lengths)):
            places = [i for i in range(count) if lengths[i] == length]
            for i, low in zip(places, self.raw(len(places), length), strict=True):
                values[i] = (1 << length | low) - 1
        return values

    def chunk(self, tables: Array, known: Sequence[Any] | None = None, known_low_bits: Array | None = None) -> Array:
        """Section 6.3: the symbols k of coefficients with these tables, the model's or those of sections 6.6 and 6.7."""
        known = self.model.tables if known is None else known
        low_bits = (self.model.arrays["tables.low_bits"] if known_low_bits is None else known_low_bits)[tables]
        reach = np.array([len(known[t]) // 2 - 1 for t in tables], np.int64)
        high, low = np.zeros(len(tables), np.int64), np.zeros(len(tables), np.int64)
        for place in np.argsort(tables, kind="stable"):
            high[place] = self.symbol(known[tables[place]]) - reach[place]
        for bits in np.unique(low_bits[low_bits > 0]).tolist():
            low[low_bits == bits] = self.raw(int((low_bits == bits).sum()), bits)
        escaped = np.abs(high) == reach
        high[escaped] += np.sign(high[escaped]) * np.array(self.numbers(int(escaped.sum())), np.int64)
        return (high << low_bits) + low


# --- 7: alpha
def read_alpha(header: Header, payload: bytes) -> Array:
    deep = header.mode & 16
    if payload[:1] == b"\0" and len(payload) == (3 if deep else 2):
        value = int.from_bytes(payload[1:], "little")
        return np.full((header.height, header.width), value, np.uint16 if deep else np.uint8)
    start = b"\x01\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + header.width.to_bytes(4, "big") + header.height.to_bytes(4, "big")
    kinds = (b"\20\0\0\0\0",) if deep else (b"\1\0\0\0\0", b"\10\0\0\0\0")
    require(payload.startswith(start) and payload[25:30] in kinds, "alpha is no grey PNG of this size")
    require((len(payload) - 1) * 1032 >= header.height * (1 + -(-header.width * payload[25] // 8)), "alpha PNG is too small")
    try:
        image = Image.open(io.BytesIO(payload[1:]), formats=["PNG"])
        require("transparency" not in image.info, "alpha PNG has a transparent colour")
        if deep:
            return np.asarray(image).astype(np.uint16)
        return np.asarray(image.convert("L"))
    except (OSError, SyntaxError) as error:
        raise Rejected("alpha PNG is damaged") from error


def with_alpha(pixels: Array, boxes: list[tuple[int, bytes]], header: Header) -> Array:
    for payload in (payload for kind, payload in boxes if kind == ALPHA):
        pixels = np.dstack([pixels, read_alpha(header, payload)])
    return pixels
