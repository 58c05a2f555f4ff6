"""The frame of a file: signature, header, boxes and their checksums. ``docs/format.md`` specifies every byte.

    file      = signature, header box, boxes          nothing may follow
    signature = MAGIC, version u8, number of boxes u8
    box       = kind u8, size varint, payload, CRC-32 u32

Each CRC is seeded with the one before it (the first with that of the signature), so it vouches for the whole file up to its
box: boxes of two files cannot be mixed, and since their number is in front, none can be missing.
"""

import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from flowcodec.errors import ChecksumMismatch, FormatError, InputError, LimitError, TruncatedFile, UnsupportedVersion
from flowcodec.runtime.context import LUMA, STAGE_NUMBERS, STAGES
from flowcodec.runtime.flow import level_count
from flowcodec.runtime.margins import SIDES, Strip, inside_size
from flowcodec.runtime.step import STEP_COUNT

MAGIC = b"\xf1FLW"
VERSION = 1

MAX_SIDE = 1 << 24
MAX_PIXELS = 1 << 28
MAX_BOXES = 255
MODEL_ID_BYTES = 8
MAX_ERROR = {8: 127, 16: 32767}
"""The largest error of a component that a near-lossless file may allow, by the bits of a component."""
CHANNEL_IDS = {"round": 0, "dither": 1, "trellis": 2, "gaussian": 3}
"""The noise channels and their ids in a file."""
CHANNELS = tuple(CHANNEL_IDS)
SEEDED = ("dither", "gaussian")
"""Channels with shared randomness, whose error does not depend on the picture."""
ScaleShift = tuple[int, int]
"""The number of a stage, and what is added to its scale indices, -127 ... 127 but not 0."""
FIRST_ANCILLARY = 128
"""Kinds from here on are optional for the picture: a decoder that does not know one skips it."""

_LAST_KIND = 255
_UINT32_MAX = (1 << 32) - 1
_VARINT_BYTES = 5
_CRC_BYTES = 4
_CHANNEL_MASK, _COLOUR_BIT, _LOSSLESS_BIT, _DEEP_BIT, _MARGINS_BIT, _SHIFTS_BIT = (
    0b11,
    0b100,
    0b1000,
    0b10000,
    0b100000,
    0b1000000,
)
_RESERVED_BITS = 0b10000000
_MOST_STRIPS = 255
_SHIFT_CENTRE = 128


class BoxKind(IntEnum):
    """What a box holds. Boxes appear in this order, and each kind but LATENT at most once; 8 and 9 are of lossless files."""

    HEADER = 0
    LATENT = 1
    ALPHA = 2
    PIXELS = 8
    STORED = 9
    ICC = 128
    EXIF = 129
    XMP = 130
    CERTIFICATE = 131


_KNOWN_KINDS = frozenset(BoxKind)


@dataclass(frozen=True)
class Header:
    """What a decoder must know before the first latent.

    Raises InputError for a value that the format cannot express, LimitError for a picture that is too large.
    """

    width: int  # pixels, 1 ... MAX_SIDE, width * height <= MAX_PIXELS
    height: int  # pixels
    channels: int  # 1 grey, 3 colour
    step_index: int  # 0 ... STEP_COUNT - 1, see runtime.step
    channel: str  # one of CHANNELS
    seed: int  # of the shared dither, 0 ... 2^32 - 1
    model_id: bytes  # the first MODEL_ID_BYTES bytes of the model's SHA-256
    lossless: bool = False  # lossless or near-lossless: step_index is then the largest error of a component
    depth: int = 8  # bits of a component; 16 in lossless mode alone
    margins: tuple[Strip, ...] = ()  # strips around what is coded, outermost first; in lossy mode alone
    scale_shifts: tuple[ScaleShift, ...] = ()  # what is added to the scale indices of stages; in lossy mode alone

    @property
    def coded_size(self) -> tuple[int, int]:
        """(height, width) of the picture inside the margins."""
        return inside_size(self.height, self.width, self.margins)

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 1:
            raise InputError(f"size {self.width}x{self.height}: both sides must be at least 1")
        if max(self.width, self.height) > MAX_SIDE or self.width * self.height > MAX_PIXELS:
            raise LimitError(f"size {self.width}x{self.height}: at most {MAX_SIDE} a side and {MAX_PIXELS} pixels are allowed")
        if self.channels not in (1, 3):
            raise InputError(f"channels: expected 1 or 3, found {self.channels}")
        if self.depth not in (8, 16) or (self.depth == 16 and not self.lossless):
            raise InputError(f"depth: expected 8 bits, or in lossless mode 16, found {self.depth}")
        if not self.lossless and not 0 <= self.step_index < STEP_COUNT:
            raise InputError(f"step index: expected 0 to {STEP_COUNT - 1}, found {self.step_index}")
        if self.lossless and not (
            0 <= self.step_index <= MAX_ERROR[self.depth] and self.channel == CHANNELS[0] and not self.seed
        ):
            most = MAX_ERROR[self.depth]
            raise InputError(f"lossless mode: expected an error of at most {most}, channel {CHANNELS[0]} and no seed")
        if self.channel not in CHANNELS:
            raise InputError(f"channel: expected {' or '.join(CHANNELS)}, found {self.channel!r}")
        if not 0 <= self.seed <= _UINT32_MAX:
            raise InputError(f"seed: expected 0 to {_UINT32_MAX}, found {self.seed}")
        if len(self.model_id) != MODEL_ID_BYTES:
            raise InputError(f"model id: expected {MODEL_ID_BYTES} bytes, found {len(self.model_id)}")
        if self.lossless and (self.margins or self.scale_shifts):
            raise InputError("lossless mode: expected neither margins nor shifts of scales")
        self._check_margins()
        self._check_scale_shifts()

    def _check_margins(self) -> None:
        if len(self.margins) > _MOST_STRIPS:
            raise InputError(f"margins: expected at most {_MOST_STRIPS} strips, found {len(self.margins)}")
        for strip in self.margins:
            if not (0 <= strip.side < len(SIDES) and strip.lines >= 1 and len(strip.colour) == self.channels):
                raise InputError(f"margins: expected strips of 1 line and more, of {self.channels} components, found {strip}")
        if min(self.coded_size) < 1:
            size = f"{self.width}x{self.height}"
            raise InputError(f"margins: expected strips that leave some of a picture of {size}, found {self.coded_size[::-1]}")

    def _check_scale_shifts(self) -> None:
        stages = [stage for stage, _ in self.scale_shifts]
        if stages != sorted(set(stages)):
            raise InputError(f"shifts of scales: expected rising numbers of stages, found {stages}")
        there = [stage.number for stage in STAGES if stage.kind == LUMA or self.channels == 3]
        for number, shift in self.scale_shifts:
            level, stage = divmod(number, STAGE_NUMBERS)
            known = 1 <= level <= level_count(*self.coded_size) and stage in there
            if not known or not 0 < abs(shift) < _SHIFT_CENTRE:
                raise InputError(f"shifts of scales: expected stages that the picture has, found {shift} of stage {number}")


@dataclass(frozen=True)
class Box:
    """One piece of a file; ``kind`` is a BoxKind or an ancillary kind this version does not know."""

    kind: int
    payload: bytes


@dataclass(frozen=True)
class File:
    """A file taken apart: the header, the payloads of the latent boxes, and every box after the header, in order."""

    header: Header
    latents: tuple[bytes, ...]
    boxes: tuple[Box, ...]

    def first(self, kind: int) -> bytes | None:
        """Payload of the first box of a kind, None if there is none."""
        return next((box.payload for box in self.boxes if box.kind == kind), None)


class Cursor:
    """Reads little-endian fields off ``data``, front to back; raises TruncatedFile where there are too few bytes."""

    def __init__(self, data: bytes | memoryview, name: str) -> None:
        self.data, self.name, self.position = memoryview(data), name, 0

    @property
    def remaining(self) -> int:
        return len(self.data) - self.position

    def take(self, size: int) -> memoryview:
        """The next ``size`` bytes, not copied."""
        if size > self.remaining:
            raise TruncatedFile(f"{self.name}: expected {size} bytes at offset {self.position}, found {self.remaining}")
        self.position += size
        return self.data[self.position - size : self.position]

    def uint(self, size: int) -> int:
        """Unsigned integer of ``size`` bytes."""
        return int.from_bytes(self.take(size), "little")

    def varint(self) -> int:
        """Unsigned LEB128 below 2^32, in its shortest form."""
        value = 0
        for index in range(_VARINT_BYTES):
            byte = self.uint(1)
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                break
        if byte >= 0x80 or value > _UINT32_MAX or (byte == 0 and index > 0):
            raise FormatError(f"{self.name}: expected an integer below 2^32 in its shortest form before offset {self.position}")
        return value


def varint(value: int) -> bytes:
    """Shortest unsigned LEB128: seven bits a byte, low ones first, the top bit set in all bytes but the last."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(0x80 | value & 0x7F)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def parse_varint(payload: bytes, name: str) -> int:
    """The varint that fills a payload. Raises FormatError."""
    cursor = Cursor(payload, name)
    value = cursor.varint()
    if cursor.remaining:
        raise FormatError(f"{name}: expected {cursor.position} bytes, found {len(payload)}")
    return value


def _kind_name(kind: int) -> str:
    return BoxKind(kind).name if kind in _KNOWN_KINDS else f"kind {kind}"


def _header_payload(header: Header) -> bytes:
    mode = CHANNEL_IDS[header.channel] | (_COLOUR_BIT if header.channels == 3 else 0)
    mode |= (_LOSSLESS_BIT if header.lossless else 0) | (_DEEP_BIT if header.depth == 16 else 0)
    mode |= (_MARGINS_BIT if header.margins else 0) | (_SHIFTS_BIT if header.scale_shifts else 0)
    size = varint(header.width) + varint(header.height)
    fixed = size + bytes([mode]) + header.step_index.to_bytes(2, "little") + varint(header.seed) + header.model_id
    return fixed + _margins_payload(header.margins) + _shifts_payload(header.scale_shifts)


def _margins_payload(margins: Sequence[Strip]) -> bytes:
    """Number u8; of each strip a varint of lines, whether its colour is that of the strip before, and side; then its colour."""
    payload = bytes([len(margins)]) if margins else b""
    colour: tuple[int, ...] = ()
    for strip in margins:
        same = strip.colour == colour
        payload += varint(strip.lines << 3 | same << 2 | strip.side) + (b"" if same else bytes(strip.colour))
        colour = strip.colour
    return payload


def _parse_margins(cursor: Cursor, channels: int) -> Iterator[Strip]:
    colour: tuple[int, ...] = ()
    count = cursor.uint(1)
    if not count:
        raise FormatError("header: expected strips of margins, found none")
    for _ in range(count):
        value = cursor.varint()
        given = colour if value & 0b100 else tuple(cursor.take(channels))
        if bool(value & 0b100) != (given == colour) or not given:
            raise FormatError(f"header: expected a colour for each strip that differs from the one before, found {given}")
        colour = given
        yield Strip(value & 0b11, value >> 3, colour)


def _shifts_payload(shifts: Sequence[ScaleShift]) -> bytes:
    """Number varint; of each the stage's number less the one before (at first 15) varint, and 128 plus the shift u8."""
    payload = varint(len(shifts)) if shifts else b""
    before = STAGE_NUMBERS - 1
    for stage, shift in shifts:
        payload += varint(stage - before) + bytes([_SHIFT_CENTRE + shift])
        before = stage
    return payload


def _parse_shifts(cursor: Cursor) -> Iterator[ScaleShift]:
    stage = STAGE_NUMBERS - 1
    count = cursor.varint()
    if not count:
        raise FormatError("header: expected shifts of scales, found none")
    for _ in range(count):
        stage += cursor.varint()
        yield stage, cursor.uint(1) - _SHIFT_CENTRE


def _parse_header(payload: memoryview) -> Header:
    cursor = Cursor(payload, "header")
    width, height, mode, step_index = cursor.varint(), cursor.varint(), cursor.uint(1), cursor.uint(2)
    seed, model_id = cursor.varint(), bytes(cursor.take(MODEL_ID_BYTES))
    if mode & _RESERVED_BITS:
        raise UnsupportedVersion(f"header: mode {mode:#04x} is not known to this version; update flowcodec")
    channels, lossless = 3 if mode & _COLOUR_BIT else 1, bool(mode & _LOSSLESS_BIT)
    margins = tuple(_parse_margins(cursor, channels)) if mode & _MARGINS_BIT else ()
    shifts = tuple(_parse_shifts(cursor)) if mode & _SHIFTS_BIT else ()
    if cursor.remaining:
        raise FormatError(f"header: expected {cursor.position} bytes, found {len(payload)}")
    try:
        depth = 16 if mode & _DEEP_BIT else 8
        channel = next(name for name, number in CHANNEL_IDS.items() if number == mode & _CHANNEL_MASK)
        return Header(width, height, channels, step_index, channel, seed, model_id, lossless, depth, margins, shifts)
    except InputError as error:
        raise FormatError(f"header: {error}") from error


def _check_kinds(kinds: Sequence[int]) -> None:
    """One HEADER in front, kinds in rising order, no unknown critical kind, known kinds other than LATENT at most once."""
    for kind in kinds:
        if kind not in _KNOWN_KINDS and not FIRST_ANCILLARY <= kind <= _LAST_KIND:
            raise UnsupportedVersion(f"box of kind {kind} is not known to this version; update flowcodec")
    if not kinds or kinds[0] != BoxKind.HEADER:
        raise FormatError(f"expected a header as the first box, found {_kind_name(kinds[0]) if kinds else 'none'}")
    if list(kinds) != sorted(kinds):
        raise FormatError(f"expected boxes in the order of their kinds, found {', '.join(map(_kind_name, kinds))}")
    for kind, count in Counter(kinds).items():
        if count > 1 and kind in _KNOWN_KINDS and kind != BoxKind.LATENT:
            raise FormatError(f"expected one {_kind_name(kind)} box, found {count}")


def _verified_boxes(data: bytes) -> Iterator[tuple[int, memoryview]]:
    """Kind and payload (not copied) of each box, once its size and CRC are checked; at last, that nothing follows."""
    if not MAGIC.startswith(data[: len(MAGIC)]):
        raise FormatError(f"expected a FlowCodec file (first bytes {MAGIC.hex()}), found {data[: len(MAGIC)].hex()}")
    cursor = Cursor(data, "file")
    cursor.take(len(MAGIC))
    if (version := cursor.uint(1)) != VERSION:
        raise UnsupportedVersion(f"format version {version}, this decoder reads {VERSION}; update flowcodec")
    count = cursor.uint(1)
    crc = zlib.crc32(cursor.data[: cursor.position])
    for index in range(count):
        start = cursor.position
        kind, size = cursor.uint(1), cursor.varint()
        payload = cursor.take(size)
        crc = zlib.crc32(cursor.data[start : cursor.position], crc)
        if (stored := cursor.uint(_CRC_BYTES)) != crc:
            raise ChecksumMismatch(f"box {index} ({_kind_name(kind)}) is damaged: expected CRC {stored:08x}, found {crc:08x}")
        yield kind, payload
    if cursor.remaining:
        raise FormatError(f"expected the file to end after {cursor.position} bytes, found {cursor.remaining} more")


def write(header: Header, boxes: Sequence[Box]) -> bytes:
    """The bytes of a file; ``boxes`` are all but the header, in the order of their kinds.

    Raises FormatError if the boxes are in an order that no decoder accepts, LimitError if they are too many or too large.
    """
    if len(boxes) >= MAX_BOXES:
        raise LimitError(f"expected fewer than {MAX_BOXES} boxes beside the header, found {len(boxes)}")
    boxes = [Box(BoxKind.HEADER, _header_payload(header)), *boxes]
    _check_kinds([box.kind for box in boxes])
    data = bytearray(MAGIC + bytes([VERSION, len(boxes)]))
    crc = zlib.crc32(data)
    for box in boxes:
        if len(box.payload) > _UINT32_MAX:
            raise LimitError(f"expected a {_kind_name(box.kind)} box below 2^32 bytes, found {len(box.payload)}")
        frame = bytes([box.kind]) + varint(len(box.payload)) + box.payload
        crc = zlib.crc32(frame, crc)
        data += frame + crc.to_bytes(_CRC_BYTES, "little")
    return bytes(data)


def read(data: bytes) -> File:
    """Take a file apart. No payload is copied before all sizes, checksums, kinds and the header are found right.

    Raises FormatError (TruncatedFile, ChecksumMismatch, UnsupportedVersion) or LimitError. What is accepted is canonical:
    ``write(file.header, file.boxes)`` gives the same bytes.
    """
    frames = list(_verified_boxes(data))
    _check_kinds([kind for kind, _ in frames])
    header = _parse_header(frames[0][1])
    boxes = tuple(Box(kind, bytes(payload)) for kind, payload in frames[1:])
    return File(header, tuple(box.payload for box in boxes if box.kind == BoxKind.LATENT), boxes)


def read_prefix(data: bytes, latent_count: Callable[[Header], int] | None = None) -> tuple[File, FormatError | None]:
    """The boxes at the front that are whole and undamaged, and what is wrong behind them (None where nothing is).

    With ``latent_count`` (header -> a number of LATENT boxes) nothing behind so many boxes is looked at. Raises FormatError
    where not even the header is whole, or where what is whole is in no order that ``read`` accepts; LimitError.
    """
    frames: list[tuple[int, memoryview]] = []
    wanted: float = math.inf
    broken: FormatError | None = None
    source = _verified_boxes(data)
    while len(frames) < wanted:
        try:
            frame = next(source, None)
        except FormatError as error:
            if not frames:
                raise
            broken = error
            break
        if frame is None:
            break
        frames.append(frame)
        _check_kinds([kind for kind, _ in frames])
        if len(frames) == 1:
            header = _parse_header(frame[1])
            wanted = math.inf if latent_count is None else 1 + latent_count(header)
    if not frames:
        _check_kinds([])
    boxes = tuple(Box(kind, bytes(payload)) for kind, payload in frames[1:])
    return File(header, tuple(box.payload for box in boxes if box.kind == BoxKind.LATENT), boxes), broken
