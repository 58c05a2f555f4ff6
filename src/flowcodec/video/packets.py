"""Audio packets <-> the payload of PACKETS boxes, exactly.

    payload = packets; packet = stream varint, flags u8, size varint, [pts zigzag], [dts zigzag], [duration varint], bytes

Times are differences from what the packet before it in the same stream and box leads one to expect.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction

from flowcodec.errors import FormatError
from flowcodec.runtime.fields import Cursor, varint
from flowcodec.runtime.film import parse_zigzag, zigzag
from flowcodec.video.source import AudioPacket

_HAS_PTS, _PTS, _HAS_DTS, _DTS, _DURATION, _RESERVED = 1, 2, 4, 8, 16, 0xE0
_FAR = 1 << 30
_MAX_STREAMS = 64


def audio_payload(template: bytes, time_bases: Sequence[Fraction]) -> bytes:
    """The payload of the AUDIO box: number of streams, their time bases, the template."""
    numbers = [number for base in time_bases for number in (base.numerator, base.denominator)]
    return varint(len(time_bases)) + b"".join(map(varint, numbers)) + template


def parse_audio(payload: bytes) -> tuple[list[Fraction], bytes]:
    """(time bases, template). Raises FormatError."""
    cursor = Cursor(payload, "audio")
    count = cursor.varint()
    if not 1 <= count <= _MAX_STREAMS:
        raise FormatError(f"audio: expected 1 to {_MAX_STREAMS} streams, found {count}")
    pairs = [(cursor.varint(), cursor.varint()) for _ in range(count)]
    if any(not (numerator and denominator) for numerator, denominator in pairs):
        raise FormatError("audio: expected time bases above zero; the file is damaged")
    return [Fraction(*pair) for pair in pairs], bytes(cursor.take(cursor.remaining))


class _Expected:
    def __init__(self) -> None:
        self.pts = 0
        self.duration = 0


def _wide(value: int) -> bytes:
    """A signed number of up to 62 bits: the low 30 bits' worth, then the rest."""
    high, low = divmod(value, _FAR)
    return varint(low) + zigzag(high)


def _parse_wide(cursor: Cursor) -> int:
    low = cursor.varint()
    if low >= _FAR:
        raise FormatError("packets: a time is out of range; the file is damaged")
    return low + parse_zigzag(cursor) * _FAR


def pack(packets: Sequence[AudioPacket]) -> bytes:
    parts: list[bytes] = []
    streams: dict[int, _Expected] = {}
    for packet in packets:
        expected = streams.setdefault(packet.stream, _Expected())
        pts = packet.pts
        flags, times = 0, b""
        if pts is not None:
            flags |= _HAS_PTS
            if pts != expected.pts:
                flags |= _PTS
                times += _wide(pts - expected.pts)
        if packet.dts is not None:
            flags |= _HAS_DTS
            if packet.dts != pts:
                flags |= _DTS
                times += _wide(packet.dts - (pts or 0))
        if packet.duration != expected.duration:
            flags |= _DURATION
            times += varint(packet.duration)
        parts += [varint(packet.stream), bytes([flags]), varint(len(packet.data)), times, packet.data]
        expected.pts, expected.duration = (expected.pts if pts is None else pts) + packet.duration, packet.duration
    return b"".join(parts)


def unpack(payload: bytes, time_bases: Sequence[Fraction]) -> Iterator[AudioPacket]:
    """Raises FormatError."""
    cursor = Cursor(payload, "packets")
    streams: dict[int, _Expected] = {}
    while cursor.remaining:
        stream, flags, size = cursor.varint(), cursor.uint(1), cursor.varint()
        if stream >= len(time_bases) or flags & _RESERVED:
            raise FormatError(f"packets: expected a stream below {len(time_bases)}, found {stream}, flags {flags:#04x}")
        expected = streams.setdefault(stream, _Expected())
        pts = dts = None
        if flags & _HAS_PTS:
            pts = expected.pts + (_parse_wide(cursor) if flags & _PTS else 0)
        if flags & _HAS_DTS:
            dts = (pts or 0) + _parse_wide(cursor) if flags & _DTS else pts
        duration = cursor.varint() if flags & _DURATION else expected.duration
        yield AudioPacket(stream, bytes(cursor.take(size)), pts, dts, duration, time_bases[stream])
        expected.pts, expected.duration = (expected.pts if pts is None else pts) + duration, duration
