"""The file of a film: what is written is read, and what is damaged is refused. Payloads are bytes without meaning."""

import io
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowcodec.errors import (
    ChecksumMismatch,
    FlowCodecError,
    FormatError,
    InputError,
    LimitError,
    TruncatedFile,
    UnsupportedVersion,
)
from flowcodec.runtime.film import FRAMES, SIGNATURE_BYTES, Entry, FilmBox, FilmHeader, FilmReader, FilmWriter, Group

HEADER = FilmHeader(64, 48, 1, 1000, 100, 3, b"intramod", b"intermod", 4, 3, 1, 13, 1, True, 1)


def film(header: FilmHeader = HEADER, groups: int = 3, audio: bytes | None = b"audio") -> bytes:
    stream = io.BytesIO()
    writer = FilmWriter(stream, header, audio)
    for number in range(groups):
        writer.group(1000 * number - 7, 500 + number)
        writer.frame(FilmBox.INTRA, bytes([0, number]) * 9)
        writer.frame(FilmBox.INTER, b"\0" * (number + 1))
        writer.packets(b"packets")
        writer.frame(FilmBox.REPEAT, b"\0")
    writer.finish()
    assert writer.size_bytes == len(stream.getvalue())
    return stream.getvalue()


DATA = film()


def everything(data: bytes) -> list[tuple[int, bytes]]:
    reader = FilmReader(io.BytesIO(data))
    reader.index()
    return [(part.kind, part.payload) for part in reader.boxes()]


def test_what_is_written_is_read() -> None:
    reader = FilmReader(io.BytesIO(DATA))
    assert reader.header == HEADER and reader.audio == b"audio"
    index = reader.index()
    assert [(entry.first_frame, entry.frames, entry.time) for entry in index] == [(0, 3, -7), (3, 3, 993), (6, 3, 1993)]
    kinds = [FilmBox.GROUP, FilmBox.INTRA, FilmBox.INTER, FilmBox.PACKETS, FilmBox.REPEAT]
    assert [part.kind for part in reader.boxes()] == kinds * 3
    last = list(reader.boxes(index[2].offset))
    assert Group.parse(last[0].payload) == Group(6, 1993, 502) and len(last) == 5


def test_going_from_box_to_box_finds_what_the_index_says() -> None:
    reader = FilmReader(io.BytesIO(DATA))
    assert reader.scan() == reader.index()


def test_times_at_a_constant_rate_are_rounded_not_added_up() -> None:
    assert [HEADER.ticks_before(frame) for frame in (0, 1, 2, 3, 300)] == [0, 33, 67, 100, 10000]


@pytest.mark.parametrize("audio", [None, b""])
def test_audio_may_be_missing_or_empty(audio: bytes | None) -> None:
    assert FilmReader(io.BytesIO(film(audio=audio))).audio == audio


def test_every_truncation_is_noticed_and_keeps_the_whole_frames() -> None:
    ends = {0: 0}
    reader = FilmReader(io.BytesIO(DATA))
    frames = 0
    for part in reader.boxes():
        frames += part.kind in FRAMES
        ends[reader._stream.tell()] = frames
    for size in range(len(DATA)):
        cut = DATA[:size]
        with pytest.raises(TruncatedFile):
            everything(cut)
        try:
            reader = FilmReader(io.BytesIO(cut))
        except TruncatedFile:
            continue
        whole = max(count for end, count in ends.items() if end <= size)
        assert sum(entry.frames for entry in reader.scan()) == whole


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 8 * len(DATA) - 1))
def test_every_flipped_bit_is_noticed(bit: int) -> None:
    damaged = bytearray(DATA)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(FormatError):
        everything(bytes(damaged))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_refused_with_one_line(data: bytes, after_signature: bool) -> None:
    with pytest.raises(FlowCodecError) as caught:
        everything(DATA[:SIGNATURE_BYTES] + data if after_signature else data)
    assert len(str(caught.value).splitlines()) == 1


def test_a_group_of_another_film_is_refused() -> None:
    other = film(FilmHeader(64, 48, 1, 1000, 100, 3, b"intramod", b"intermod"))
    index = FilmReader(io.BytesIO(DATA)).index()
    foreign = FilmReader(io.BytesIO(other)).index()
    begin, end = index[1].offset, index[2].offset
    begin_other, end_other = foreign[1].offset, foreign[2].offset
    assert end - begin == end_other - begin_other
    with pytest.raises(ChecksumMismatch):
        everything(DATA[:begin] + other[begin_other:end_other] + DATA[end:])


def test_a_declared_size_beyond_the_file_is_refused_before_it_is_read() -> None:
    data = DATA[:SIGNATURE_BYTES] + bytes([FilmBox.FILM, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]) + bytes(100)
    with pytest.raises(TruncatedFile):
        FilmReader(io.BytesIO(data))


def with_header(payload: bytes) -> bytes:
    signature = DATA[:SIGNATURE_BYTES]
    frame = bytes([FilmBox.FILM, len(payload)]) + payload
    return signature + frame + zlib.crc32(frame, zlib.crc32(signature)).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda payload: payload[:-1], TruncatedFile),
        (lambda payload: payload + b"\0", FormatError),
        (lambda payload: b"\0" + payload[1:], FormatError),
        (lambda payload: payload[:-17] + b"\xff" + payload[-16:], UnsupportedVersion),
        (lambda payload: b"\xff\xff\xff\x07\xff\xff\xff\x07" + payload[2:], LimitError),
    ],
)
def test_a_wrong_header_is_refused(change, error: type[Exception]) -> None:
    with pytest.raises(error):
        FilmReader(io.BytesIO(with_header(change(HEADER.to_bytes()))))


def test_a_header_that_cannot_be_is_not_written() -> None:
    for change in (
        {"width": 0},
        {"time_numerator": 0},
        {"subsampling": 3},
        {"ticks_denominator": 101},
        {"inter_model": b"short"},
    ):
        with pytest.raises(InputError):
            FilmHeader(**{**HEADER.__dict__, **change})


def test_boxes_for_others_are_skipped() -> None:
    stream = io.BytesIO()
    writer = FilmWriter(stream, HEADER)
    writer._box(200, b"in front")  # type: ignore[arg-type]
    writer._base = writer._crc
    writer.group(0, 1)
    writer.frame(FilmBox.INTRA, b"x")
    writer._box(201, b"within")  # type: ignore[arg-type]
    writer.frame(FilmBox.REPEAT, b"\0")
    writer.finish()
    assert [kind for kind, _ in everything(stream.getvalue())] == [FilmBox.GROUP, FilmBox.INTRA, FilmBox.REPEAT]
    reader = FilmReader(io.BytesIO(stream.getvalue()))
    assert reader.scan() == reader.index() == [Entry(reader._first_group, 0, 2, 0)]
