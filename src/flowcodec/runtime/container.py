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

from flowcodec.errors import ChecksumMismatch, FormatError, LimitError, UnsupportedVersion
from flowcodec.runtime.fields import UINT32_MAX, Cursor, varint
from flowcodec.runtime.header import Header, header_payload, parse_header

MAGIC = b"\xf1FLW"
VERSION = 1
MAX_BOXES = 255
FIRST_ANCILLARY = 128
"""Kinds from here on are optional for the picture: a decoder that does not know one skips it."""

_LAST_KIND = 255
_CRC_BYTES = 4


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


def _kind_name(kind: int) -> str:
    return BoxKind(kind).name if kind in _KNOWN_KINDS else f"kind {kind}"


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
    boxes = [Box(BoxKind.HEADER, header_payload(header)), *boxes]
    _check_kinds([box.kind for box in boxes])
    data = bytearray(MAGIC + bytes([VERSION, len(boxes)]))
    crc = zlib.crc32(data)
    for box in boxes:
        if len(box.payload) > UINT32_MAX:
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
    header = parse_header(frames[0][1])
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
            header = parse_header(frame[1])
            wanted = math.inf if latent_count is None else 1 + latent_count(header)
    if not frames:
        _check_kinds([])
    boxes = tuple(Box(kind, bytes(payload)) for kind, payload in frames[1:])
    return File(header, tuple(box.payload for box in boxes if box.kind == BoxKind.LATENT), boxes), broken
