"""The file of a film: signature, header, groups of pictures, index. ``docs/format.md`` section 13 specifies every byte.

    file      = signature, FILM box, AUDIO box (optional), groups, INDEX box, trailer
    signature = MAGIC, version u8, 0
    group     = GROUP box, then INTRA, INTER, REPEAT and PACKETS boxes, the first frame INTRA
    trailer   = offset of the INDEX box u64, END

Boxes are those of ``container.py``. Checksums are chained within a group, each group going on from the boxes in front of the
first: so a group can be read without those before it, and a box of another film, or out of its place in a group, does not pass.
Both sides work on streams and hold one box at a time.
"""

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import BinaryIO

from flowcodec.errors import ChecksumMismatch, FormatError, InputError, LimitError, TruncatedFile, UnsupportedVersion
from flowcodec.runtime.fields import UINT32_MAX, Cursor, varint
from flowcodec.runtime.header import MAX_PIXELS, MAX_SIDE, MODEL_ID_BYTES

MAGIC = b"\xf1FLV"
VERSION = 1
END = b"VLF\xf1"
SIGNATURE_BYTES = 6
TRAILER_BYTES = 12
_CRC_BYTES = 4
_TIME_LIMIT = 1 << 62
_LONGEST_VARINT = 5


class FilmBox(IntEnum):
    """What a box holds; kinds from 128 are for others to use, and skipped."""

    FILM = 0
    AUDIO = 1
    GROUP = 16
    INTRA = 17
    INTER = 18
    REPEAT = 19
    PACKETS = 20
    INDEX = 32


SUBSAMPLINGS = ("4:2:0", "4:2:2", "4:4:4")
_POSITIVE = (
    "time_numerator",
    "time_denominator",
    "ticks_numerator",
    "ticks_denominator",
    "aspect_numerator",
    "aspect_denominator",
)
FRAMES = frozenset({FilmBox.INTRA, FilmBox.INTER, FilmBox.REPEAT})
_KNOWN = frozenset(FilmBox)
_FIRST_ANCILLARY = 128


@dataclass(frozen=True)
class FilmHeader:
    """What holds for the whole film. Raises InputError for what the format cannot express, LimitError for too large a picture."""

    width: int  # pixels
    height: int  # pixels
    time_numerator: int  # seconds of a tick, over
    time_denominator: int
    ticks_numerator: int  # ticks from frame to frame, where their boxes say nothing else, over
    ticks_denominator: int
    intra_model: bytes
    inter_model: bytes
    aspect_numerator: int = 1  # width over height of a pixel
    aspect_denominator: int = 1
    primaries: int = 2  # code points of ITU-T H.273, 2 unknown
    transfer: int = 2
    matrix: int = 2
    full_range: bool = False
    subsampling: int = 0  # of the chroma of the original, SUBSAMPLINGS; what a decoder writes may follow it

    def __post_init__(self) -> None:
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise InputError(f"size {self.width}x{self.height}: both sides must be 1 to {MAX_SIDE}")
        if self.width * self.height > MAX_PIXELS:
            raise LimitError(f"size {self.width}x{self.height}: at most {MAX_PIXELS} pixels are allowed")
        for name in _POSITIVE:
            if not 1 <= getattr(self, name) <= UINT32_MAX:
                raise InputError(f"{name}: expected 1 to {UINT32_MAX}, found {getattr(self, name)}")
        for name in ("primaries", "transfer", "matrix"):
            if not 0 <= getattr(self, name) <= 255:
                raise InputError(f"{name}: expected 0 to 255, found {getattr(self, name)}")
        if not 0 <= self.subsampling < len(SUBSAMPLINGS):
            raise InputError(f"subsampling: expected 0 to {len(SUBSAMPLINGS) - 1}, found {self.subsampling}")
        if self.ticks_numerator < self.ticks_denominator:
            raise InputError("expected a frame to last at least a tick")
        if len(self.intra_model) != MODEL_ID_BYTES or len(self.inter_model) != MODEL_ID_BYTES:
            raise InputError(f"expected two model ids of {MODEL_ID_BYTES} bytes")

    def ticks_before(self, frame: int) -> int:
        """Ticks from the film's first frame to a frame, at a constant rate."""
        return (2 * frame * self.ticks_numerator + self.ticks_denominator) // (2 * self.ticks_denominator)

    def to_bytes(self) -> bytes:
        numbers = (getattr(self, name) for name in ("width", "height", *_POSITIVE))
        flags = int(self.full_range) | self.subsampling << 1
        tags = bytes([self.primaries, self.transfer, self.matrix, flags])
        return b"".join(map(varint, numbers)) + tags + self.intra_model + self.inter_model

    @classmethod
    def parse(cls, payload: bytes) -> "FilmHeader":
        """Raises FormatError, UnsupportedVersion, LimitError."""
        cursor = Cursor(payload, "film header")
        width, height = cursor.varint(), cursor.varint()
        numbers = {name: cursor.varint() for name in _POSITIVE}
        primaries, transfer, matrix, flags = (cursor.uint(1) for _ in range(4))
        intra, inter = (bytes(cursor.take(MODEL_ID_BYTES)) for _ in range(2))
        if cursor.remaining:
            raise FormatError(f"film header: expected {cursor.position} bytes, found {len(payload)}")
        if flags >= 2 * len(SUBSAMPLINGS):
            raise UnsupportedVersion(f"film header: flags {flags:#04x} are not known to this version; update flowcodec")
        try:
            return cls(
                width,
                height,
                intra_model=intra,
                inter_model=inter,
                primaries=primaries,
                transfer=transfer,
                matrix=matrix,
                full_range=bool(flags & 1),
                subsampling=flags >> 1,
                **numbers,
            )
        except InputError as error:
            raise FormatError(f"film header: {error}") from error


@dataclass(frozen=True)
class Group:
    """The head of a group of pictures."""

    first_frame: int  # number of its first frame in the film
    time: int  # of that frame, in ticks
    step_index: int  # of its frames, where they do not say otherwise

    def to_bytes(self) -> bytes:
        return varint(self.first_frame) + self.time.to_bytes(8, "little", signed=True) + self.step_index.to_bytes(2, "little")

    @classmethod
    def parse(cls, payload: bytes) -> "Group":
        cursor = Cursor(payload, "group")
        first = cursor.varint()
        time = int.from_bytes(cursor.take(8), "little", signed=True)
        step_index = cursor.uint(2)
        if cursor.remaining or abs(time) > _TIME_LIMIT:
            raise FormatError("group: expected a frame number, a time and a step; the file is damaged")
        return cls(first, time, step_index)


@dataclass(frozen=True)
class Entry:
    """One group in the index."""

    offset: int  # bytes from the start of the file
    first_frame: int
    frames: int
    time: int  # of the first frame, in ticks


@dataclass(frozen=True)
class FilmPart:
    """A box as it is read."""

    kind: int
    payload: bytes
    offset: int


def zigzag(value: int) -> bytes:
    """A signed number as a varint: 0, -1, 1, -2 ... become 0, 1, 2, 3 ..."""
    return varint(-2 * value - 1 if value < 0 else 2 * value)


def parse_zigzag(cursor: Cursor) -> int:
    code = cursor.varint()
    return -(code + 1) // 2 if code & 1 else code // 2


class FilmWriter:
    """Writes a film to a stream, box by box; nothing is held but the index. ``finish`` writes the index and the trailer."""

    def __init__(self, stream: BinaryIO, header: FilmHeader, audio: bytes | None = None) -> None:
        self.header, self._stream, self.size_bytes = header, stream, 0
        signature = MAGIC + bytes([VERSION, 0])
        self._crc = zlib.crc32(signature)
        self._put(signature)
        self._box(FilmBox.FILM, header.to_bytes())
        if audio is not None:
            self._box(FilmBox.AUDIO, audio)
        self._base = self._crc
        self._entries: list[Entry] = []
        self.frames = 0

    def _put(self, data: bytes) -> None:
        self._stream.write(data)
        self.size_bytes += len(data)

    def _box(self, kind: FilmBox, payload: bytes) -> int:
        """Bytes that it takes."""
        frame = bytes([kind]) + varint(len(payload)) + payload
        self._crc = zlib.crc32(frame, self._crc)
        self._put(frame + self._crc.to_bytes(_CRC_BYTES, "little"))
        return len(frame) + _CRC_BYTES

    def group(self, time: int, step_index: int) -> int:
        """Begins a group; returns the bytes it took, as all of these do."""
        self._crc = self._base
        self._entries.append(Entry(self.size_bytes, self.frames, 0, time))
        return self._box(FilmBox.GROUP, Group(self.frames, time, step_index).to_bytes())

    def frame(self, kind: FilmBox, payload: bytes) -> int:
        self.frames += 1
        return self._box(kind, payload)

    def packets(self, payload: bytes) -> int:
        return self._box(FilmBox.PACKETS, payload)

    def finish(self) -> None:
        offset, self._crc = self.size_bytes, self._base
        counts = [entry.first_frame for entry in self._entries[1:]] + [self.frames]
        parts = [varint(len(self._entries))]
        position = previous = 0
        for entry, end in zip(self._entries, counts, strict=True):
            parts += [varint(entry.offset - position), varint(end - entry.first_frame), _time_difference(entry.time - previous)]
            position, previous = entry.offset, entry.time
        self._box(FilmBox.INDEX, b"".join(parts))
        self._put(offset.to_bytes(8, "little") + END)


def _time_difference(ticks: int) -> bytes:
    return ticks.to_bytes(8, "little", signed=True)


class FilmReader:
    """Reads a film from a stream that can seek. Raises FormatError and its kinds, LimitError."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.size_bytes = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        signature = stream.read(SIGNATURE_BYTES)
        if not MAGIC.startswith(signature[: len(MAGIC)]):
            raise FormatError(f"expected a FlowCodec film (first bytes {MAGIC.hex()}), found {signature[: len(MAGIC)].hex()}")
        if len(signature) < SIGNATURE_BYTES:
            raise TruncatedFile(f"expected a signature of {SIGNATURE_BYTES} bytes, found {len(signature)}")
        if signature[len(MAGIC) :] != bytes([VERSION, 0]):
            found = signature[len(MAGIC) :].hex()
            raise UnsupportedVersion(f"film format version {found}, this decoder reads {VERSION:02x}00; update flowcodec")
        self._crc = self._base = zlib.crc32(signature)
        part = self._read()
        if part.kind != FilmBox.FILM:
            raise FormatError(f"expected a film header as the first box, found kind {part.kind}")
        self.header = FilmHeader.parse(part.payload)
        self.audio: bytes | None = None
        self._base, self._first_group = self._crc, stream.tell()
        # Everything in front of the first group belongs to the film.
        while self._first_group < self.size_bytes and self._kind_ahead() not in (FilmBox.GROUP, FilmBox.INDEX):
            part = self._read()
            if part.kind == FilmBox.AUDIO and self.audio is None:
                self.audio = part.payload
            elif part.kind in _KNOWN:
                raise FormatError(f"expected a group, found {FilmBox(part.kind).name} before the first one")
            self._base, self._first_group = self._crc, stream.tell()

    def _kind_ahead(self) -> int:
        ahead = self._stream.read(1)
        self._stream.seek(-len(ahead), io.SEEK_CUR)
        return ahead[0] if ahead else -1

    def _frame(self) -> tuple[int, int, bytes]:
        """(kind, size of the payload, bytes of both) of the box at the stream's position, which is then at the payload."""
        offset = self._stream.tell()
        head = self._stream.read(1 + _LONGEST_VARINT)
        cursor = Cursor(head, "box")
        kind, size = cursor.uint(1), cursor.varint()
        if kind not in _KNOWN and kind < _FIRST_ANCILLARY:
            raise UnsupportedVersion(f"box of kind {kind} is not known to this version; update flowcodec")
        begin = offset + cursor.position
        if size + _CRC_BYTES > self.size_bytes - begin:
            raise TruncatedFile(f"box at {offset}: expected {size + _CRC_BYTES} bytes, found {self.size_bytes - begin}")
        self._stream.seek(begin)
        return kind, size, head[: cursor.position]

    def _read(self) -> FilmPart:
        offset = self._stream.tell()
        kind, size, head = self._frame()
        payload, stored = self._stream.read(size), self._stream.read(_CRC_BYTES)
        self._crc = zlib.crc32(payload, zlib.crc32(head, self._base if kind in (FilmBox.GROUP, FilmBox.INDEX) else self._crc))
        if len(stored) < _CRC_BYTES or int.from_bytes(stored, "little") != self._crc:
            raise ChecksumMismatch(f"box at {offset} is damaged: expected CRC {self._crc:08x}, found {stored[::-1].hex()}")
        return FilmPart(kind, payload, offset)

    def boxes(self, offset: int | None = None) -> Iterator[FilmPart]:
        """All boxes from a group on (the first by default), up to the index, which must be where the trailer says."""
        position = self._first_group if offset is None else offset
        first = True
        while True:
            self._stream.seek(position)
            part = self._read()
            position = self._stream.tell()
            if part.kind == FilmBox.INDEX:
                self._check_trailer(part.offset)
                return
            if part.kind in (FilmBox.FILM, FilmBox.AUDIO) or (first and part.kind != FilmBox.GROUP):
                raise FormatError(f"box at {part.offset}: expected a group, found kind {part.kind}")
            first = False
            if part.kind in _KNOWN:
                yield part

    def _check_trailer(self, index_offset: int) -> None:
        trailer = self._stream.read(TRAILER_BYTES + 1)
        if len(trailer) < TRAILER_BYTES:
            raise TruncatedFile(f"expected a trailer of {TRAILER_BYTES} bytes, found {len(trailer)}")
        if trailer != index_offset.to_bytes(8, "little") + END:
            raise FormatError("expected the file to end with the place of its index; the file is damaged")

    def index(self) -> list[Entry]:
        """The groups, from the index at the end. Raises FormatError where it is missing or damaged."""
        if self.size_bytes < self._first_group + TRAILER_BYTES:
            raise TruncatedFile("the file ends before its index")
        self._stream.seek(self.size_bytes - TRAILER_BYTES)
        trailer = self._stream.read(TRAILER_BYTES)
        offset = int.from_bytes(trailer[:8], "little")
        if trailer[8:] != END or not self._first_group <= offset < self.size_bytes:
            raise TruncatedFile("the file does not end with an index: it is cut short or damaged")
        self._stream.seek(offset)
        part = self._read()
        if part.kind != FilmBox.INDEX:
            raise FormatError(f"expected an index at {offset}, found kind {part.kind}")
        return self._parse_index(part)

    def _parse_index(self, part: FilmPart) -> list[Entry]:
        cursor = Cursor(part.payload, "index")
        entries = []
        offset = frame = time = 0
        for _ in range(cursor.varint()):
            offset += cursor.varint()
            frames = cursor.varint()
            time += int.from_bytes(cursor.take(8), "little", signed=True)
            if not self._first_group <= offset < part.offset or not frames:
                raise FormatError("index: a group lies outside the film or is empty; the file is damaged")
            entries.append(Entry(offset, frame, frames, time))
            frame += frames
        if cursor.remaining:
            raise FormatError(f"index: expected {cursor.position} bytes, found {len(part.payload)}")
        return entries

    def scan(self) -> list[Entry]:
        """The groups of a film without its index, found by going from box to box; ends where a box is not whole."""
        entries: list[Entry] = []
        position = self._first_group
        while position < self.size_bytes:
            self._stream.seek(position)
            try:
                kind, size, _ = self._frame()
                begin = self._stream.tell()
                if kind == FilmBox.INDEX:
                    break
                if kind == FilmBox.GROUP:
                    group = Group.parse(self._stream.read(size))
                    entries.append(Entry(position, group.first_frame, 0, group.time))
                elif kind in FRAMES and entries:
                    last = entries[-1]
                    entries[-1] = Entry(last.offset, last.first_frame, last.frames + 1, last.time)
            except FormatError:
                break
            position = begin + size + _CRC_BYTES
        return [entry for entry in entries if entry.frames]
