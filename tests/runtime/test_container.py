"""The frame of a file: what is written comes back, and nothing that differs from a written file by accident is accepted.

``frame`` builds files from ``docs/format.md`` alone, so that they may also be wrong in any way, with right checksums.
"""

import re
import tracemalloc
import zlib
from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flowcodec.errors import ChecksumMismatch, FormatError, InputError, LimitError, TruncatedFile, UnsupportedVersion
from flowcodec.runtime.container import MAGIC, MAX_BOXES, VERSION, Box, BoxKind, read, write
from flowcodec.runtime.header import MAX_PIXELS, MAX_SIDE, Header

HEADER = Header(768, 512, 3, 560, "round", 0, bytes.fromhex("0123456789abcdef"))
HEADER_PAYLOAD = bytes.fromhex("8006 8004 04 3002 00 0123456789abcdef")
GOLDEN_BOXES = [Box(BoxKind.LATENT, b"\x2a\x00\x00\x00"), Box(BoxKind.LATENT, b""), Box(BoxKind.XMP, b"<x/>")]
GOLDEN = bytes.fromhex(
    "f1464c57 01 04"
    "00 10 8006 8004 04 3002 00 0123456789abcdef 65b89d1d"
    "01 04 2a000000 fa4fcb63"
    "01 00 4315f250"
    "82 04 3c782f3e 2b794745"
)
FORMAT_DOCUMENT = Path(__file__).parents[2] / "docs" / "format.md"


def leb128(value: int, length: int = 0) -> bytes:
    """Unsigned LEB128, padded to ``length`` bytes, which makes it longer than the shortest form."""
    length = max(length, (value.bit_length() + 6) // 7, 1)
    return bytes(value >> 7 * i & 0x7F | (0x80 if i < length - 1 else 0) for i in range(length))


def frame(boxes: Sequence[tuple[int, bytes]], *, count: int | None = None, sizes: dict[int, bytes] | None = None) -> bytes:
    """A file with right checksums; ``count`` and the size fields of the boxes numbered in ``sizes`` may lie."""
    data = MAGIC + bytes([VERSION, len(boxes) if count is None else count])
    crc = zlib.crc32(data)
    for index, (kind, payload) in enumerate(boxes):
        box = bytes([kind]) + (sizes or {}).get(index, leb128(len(payload))) + payload
        crc = zlib.crc32(box, crc)
        data += box + crc.to_bytes(4, "little")
    return data


def box_ends(data: bytes) -> list[int]:
    """Offsets at which boxes begin and end, the end of the file included."""
    sizes = [len(box.payload) for box in read(data).boxes]
    header_size = len(data) - 6 - sum(1 + len(leb128(size)) + size + 4 for size in sizes)
    ends = [6, 6 + header_size]
    for size in sizes:
        ends.append(ends[-1] + 1 + len(leb128(size)) + size + 4)
    return ends


@st.composite
def headers(draw: st.DrawFn) -> Header:
    width = draw(st.integers(1, MAX_SIDE) | st.integers(1, 5000))
    height = draw(st.integers(1, min(MAX_SIDE, MAX_PIXELS // width)))
    return Header(
        width,
        height,
        draw(st.sampled_from([1, 3])),
        draw(st.integers(0, 1408)),
        draw(st.sampled_from(["round", "dither"])),
        draw(st.integers(0, 2**32 - 1)),
        draw(st.binary(min_size=8, max_size=8)),
    )


@st.composite
def box_lists(draw: st.DrawFn) -> list[Box]:
    """Legal boxes: latents, then some of the known others once each, then kinds that this version does not know."""
    payloads = st.binary(max_size=300)
    single: list[int] = [BoxKind.ALPHA, BoxKind.ICC, BoxKind.EXIF, BoxKind.XMP, BoxKind.CERTIFICATE]
    kinds: list[int] = [int(BoxKind.LATENT)] * draw(st.integers(0, 8)) + draw(st.lists(st.sampled_from(single), unique=True))
    kinds += draw(st.lists(st.integers(BoxKind.CERTIFICATE + 1, 255), max_size=3))
    return [Box(kind, draw(payloads)) for kind in sorted(kinds)]


files = st.builds(write, headers(), box_lists())


@given(headers(), box_lists())
def test_round_trip(header: Header, boxes: list[Box]) -> None:
    data = write(header, boxes)
    file = read(data)
    assert (file.header, file.boxes) == (header, tuple(boxes))
    assert file.latents == tuple(box.payload for box in boxes if box.kind == BoxKind.LATENT)
    for kind in BoxKind:
        assert file.first(kind) == next((box.payload for box in boxes if box.kind == kind), None)
    assert write(file.header, file.boxes) == data


def test_large_payloads() -> None:
    boxes = [Box(BoxKind.LATENT, bytes(range(256)) * repeat) for repeat in (1, 64, 8192)]
    assert read(write(HEADER, boxes)).boxes == tuple(boxes)


@given(files, st.data())
def test_truncation(data: bytes, draw: st.DataObject) -> None:
    end = draw.draw(st.integers(0, len(data) - 1) | st.sampled_from(box_ends(data)[:-1]))
    with pytest.raises(TruncatedFile):
        read(data[:end])


@given(files, st.binary(min_size=1))
def test_nothing_may_follow(data: bytes, more: bytes) -> None:
    with pytest.raises(FormatError, match=f"end after {len(data)} bytes, found {len(more)} more"):
        read(data + more)


@given(files, st.data())
def test_bit_flip(data: bytes, draw: st.DataObject) -> None:
    position, bit = draw.draw(st.integers(0, len(data) - 1)), draw.draw(st.integers(0, 7))
    damaged = bytearray(data)
    damaged[position] ^= 1 << bit
    with pytest.raises(FormatError):
        read(bytes(damaged))


def test_every_bit_flip_of_a_small_file() -> None:
    for position in range(len(GOLDEN) * 8):
        damaged = bytearray(GOLDEN)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(FormatError):
            read(bytes(damaged))


@given(files, st.data())
def test_burst(data: bytes, draw: st.DataObject) -> None:
    start = draw.draw(st.integers(0, len(data) - 1))
    noise = draw.draw(st.binary(min_size=1, max_size=40))
    damaged = (data[:start] + noise + data[start + len(noise) :])[: len(data)]
    assume(damaged != data)
    with pytest.raises(FormatError):
        read(damaged)


@given(files, files, st.data())
def test_splice(first: bytes, second: bytes, draw: st.DataObject) -> None:
    at, resume = draw.draw(st.sampled_from(box_ends(first))), draw.draw(st.sampled_from(box_ends(second)))
    spliced = first[:at] + second[resume:]
    assume(spliced not in (first, second))
    with pytest.raises(FormatError):
        read(spliced)


@given(headers(), headers(), box_lists(), st.data())
def test_splice_of_one_picture_coded_twice(header: Header, other: Header, boxes: list[Box], draw: st.DataObject) -> None:
    """Equal boxes at equal offsets, another seed: not one box of the one file serves in the other."""
    first, second = write(header, boxes), write(replace(header, model_id=other.model_id[::-1]), boxes)
    assume(first != second and boxes)
    for at in box_ends(first)[1:-1]:
        with pytest.raises(ChecksumMismatch):
            read(first[:at] + second[at:])


@given(st.binary(max_size=200), st.booleans())
def test_garbage(data: bytes, signed: bool) -> None:
    with pytest.raises(FormatError):
        read(MAGIC + bytes([VERSION]) + data if signed else data)


@pytest.mark.parametrize("sides", [(1, 1), (768, 512), (6000, 4000), (16383, 16383)])
@pytest.mark.parametrize("channel, seed", [("round", 0), ("dither", 2**32 - 1)])
def test_overhead_of_a_plain_picture(sides: tuple[int, int], channel: str, seed: int) -> None:
    """Everything but the payloads of four latent boxes below 2 MiB each, sides below 2^14: at most 64 bytes."""
    header = Header(*sides, 3, 1408, channel, seed, bytes(8))
    for size in (0, 1, 200, 20_000, 2**21 - 1):
        boxes = [Box(BoxKind.LATENT, bytes(size))] * 4
        assert len(write(header, boxes)) - 4 * size <= 64


@pytest.mark.parametrize("index", [0, 1, 3])
@pytest.mark.parametrize("size", [2**32 - 1, 2**30, 2**20, 200])
def test_lying_size_is_rejected_before_allocation(index: int, size: int) -> None:
    lie = frame([(0, HEADER_PAYLOAD), *map(astuple, GOLDEN_BOXES)], sizes={index: leb128(size)})
    tracemalloc.start()
    try:
        with pytest.raises(TruncatedFile):
            read(lie)
        assert tracemalloc.get_traced_memory()[1] < 50_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "size", [leb128(4, 2), leb128(4, 5), leb128(4, 6), leb128(2**32), leb128(2**35 - 1), leb128(2**63)], ids=bytes.hex
)
def test_sizes_have_one_form(size: bytes) -> None:
    with pytest.raises(FormatError, match=r"below 2\^32 in its shortest form"):
        read(frame([(0, HEADER_PAYLOAD), (1, bytes(4))], sizes={1: size}))


@pytest.mark.parametrize("count", [0, 1, 2, 4, 255])
def test_lying_box_count(count: int) -> None:
    with pytest.raises(FormatError):
        read(frame([(0, HEADER_PAYLOAD), (1, b""), (1, b"")], count=count))


@pytest.mark.parametrize("kind", [3, 4, 64, 127])
def test_unknown_critical_kind(kind: int) -> None:
    with pytest.raises(UnsupportedVersion, match=f"kind {kind}"):
        read(frame([(0, HEADER_PAYLOAD), (1, b""), (kind, b"")]))
    with pytest.raises(UnsupportedVersion):
        write(HEADER, [Box(kind, b"")])


@pytest.mark.parametrize("kind", [132, 200, 255])
def test_unknown_ancillary_kinds_are_kept(kind: int) -> None:
    boxes = [Box(BoxKind.LATENT, b"a"), Box(kind, b"b"), Box(kind, b"c")]
    assert read(write(HEADER, boxes)).boxes == tuple(boxes)
    assert read(write(HEADER, boxes)).first(kind) == b"b"


@pytest.mark.parametrize("version", [0, 2, 255])
def test_other_versions(version: int) -> None:
    with pytest.raises(UnsupportedVersion, match=f"version {version}"):
        read(GOLDEN[:4] + bytes([version]) + GOLDEN[5:])


@pytest.mark.parametrize(
    "kinds",
    [(), (1,), (1, 0), (0, 0), (0, 1, 0), (0, 2, 1), (0, 128, 1), (0, 130, 129), (0, 200, 131), (0, 2, 2), (0, 1, 128, 128)],
)
def test_order_and_number_of_boxes(kinds: tuple[int, ...]) -> None:
    with pytest.raises(FormatError):
        read(frame([(kind, HEADER_PAYLOAD if kind == 0 else b"") for kind in kinds]))


def header_payload(
    width: bytes = b"\x01", height: bytes = b"\x01", mode: int = 4, step: int = 0, seed: bytes = b"\x00", rest: bytes = bytes(8)
) -> bytes:
    return width + height + bytes([mode]) + step.to_bytes(2, "little") + seed + rest


@pytest.mark.parametrize(
    "payload, error",
    [
        (header_payload(width=b"\x00"), FormatError),
        (header_payload(height=b"\x00"), FormatError),
        (header_payload(width=b"\x81\x00"), FormatError),
        (header_payload(step=1409), FormatError),
        (header_payload(step=65535), FormatError),
        (header_payload(seed=leb128(2**32)), FormatError),
        (header_payload(rest=bytes(9)), FormatError),
        (header_payload(rest=bytes(7)), FormatError),
        (b"", FormatError),
        *((header_payload(mode=4 | 1 << bit), TruncatedFile) for bit in (5, 6, 7)),
        (header_payload(mode=4 | 1 << 7, rest=bytes(8) + b"\x80"), UnsupportedVersion),
        (header_payload(mode=4 | 16), FormatError),
        (header_payload(width=leb128(MAX_SIDE + 1)), LimitError),
        (header_payload(height=leb128(2**32 - 1)), LimitError),
        (header_payload(width=leb128(2**14), height=leb128(2**14 + 1)), LimitError),
    ],
)
def test_header_fields(payload: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        read(frame([(0, payload), (1, b"")]))


@given(
    st.binary(max_size=30) | st.builds(lambda head, tail: HEADER_PAYLOAD[:head] + tail, st.integers(0, 16), st.binary(max_size=9))
)
def test_any_header_payload(payload: bytes) -> None:
    """A header is refused, or it is the one form of what it says."""
    data = frame([(0, payload), (1, b"x")])
    try:
        file = read(data)
    except (FormatError, LimitError):
        return
    assert write(file.header, file.boxes) == data


@pytest.mark.parametrize(
    "change",
    [
        {"width": 0},
        {"height": -1},
        {"channels": 2},
        {"step_index": 1409},
        {"step_index": -1},
        {"channel": "vector"},
        {"seed": 2**32},
        {"seed": -1},
        {"model_id": b"short"},
    ],
    ids=str,
)
def test_header_refuses_what_the_format_cannot_express(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        replace(HEADER, **change)


@pytest.mark.parametrize("sides", [(MAX_SIDE + 1, 1), (1, MAX_SIDE + 1), (2**14, 2**14 + 1)])
def test_header_refuses_large_pictures(sides: tuple[int, int]) -> None:
    with pytest.raises(LimitError):
        replace(HEADER, width=sides[0], height=sides[1])


def test_write_refuses_what_read_would() -> None:
    with pytest.raises(LimitError):
        write(HEADER, [Box(BoxKind.LATENT, b"")] * MAX_BOXES)
    with pytest.raises(FormatError):
        write(HEADER, [Box(BoxKind.ICC, b""), Box(BoxKind.LATENT, b"")])
    with pytest.raises(FormatError):
        write(HEADER, [Box(BoxKind.HEADER, HEADER_PAYLOAD)])


def test_golden_bytes() -> None:
    assert write(HEADER, GOLDEN_BOXES) == GOLDEN
    assert read(GOLDEN).header == HEADER
    assert frame([(0, HEADER_PAYLOAD), *map(astuple, GOLDEN_BOXES)]) == GOLDEN


def test_worked_example_of_the_format_document() -> None:
    """The hex column of the example in docs/format.md is the golden file."""
    example = FORMAT_DOCUMENT.read_text(encoding="utf-8").split("Worked example", 1)[1]
    rows = re.findall(r"^\| +\d+ \| `([0-9a-f ]+)` \|", example, flags=re.MULTILINE)
    assert bytes.fromhex("".join(rows)) == GOLDEN
