"""Frames through the codec: exactness, groups, seeking, times, truncation."""

import hashlib
import io
from fractions import Fraction

import numpy as np
import pytest
from coding import Coded, code, needs_inter

import flowcodec.video
from flowcodec.errors import FlowCodecError, FormatError, InputError, MissingModel, TruncatedFile
from flowcodec.runtime.film import FRAMES, FilmBox, FilmHeader, FilmReader, FilmWriter
from flowcodec.runtime.quality import psnr_db
from flowcodec.runtime.video import FrameDecoder
from flowcodec.video.decoder import Film


def hashes(pictures: list[np.ndarray]) -> list[str]:
    return [hashlib.sha256(picture.tobytes()).hexdigest() for picture in pictures]


def decoded(data: bytes, **options) -> list[np.ndarray]:
    return [frame.pixels for frame in Film(data, **options)]


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 2}, {"threads": 4}, {"threads": 1, "optimise": False}])
def test_every_decoder_shows_what_the_encoder_saw(coded: Coded, options: dict) -> None:
    assert hashes(decoded(coded.data, **options)) == hashes(coded.pictures)


@pytest.mark.parametrize(
    ("threads", "options"),
    [
        (2, {"step": 20, "gop": 2}),
        (4, {"step": 30, "gop": 2}),
        (2, {"step": 60, "intra": True}),
        (2, {"bitrate_kbps": 300, "gop": 4}),
    ],
)
def test_threads_change_no_byte(threads: int, options: dict, clip: list[np.ndarray]) -> None:
    one, more = (code(clip[4:9], threads=count, **options) for count in (1, threads))
    assert more.data == one.data and more.kinds == one.kinds
    assert hashes(more.pictures) == hashes(one.pictures)


def test_the_pictures_are_those_of_the_clip(coded: Coded, clip: list[np.ndarray]) -> None:
    assert min(psnr_db(a, b) for a, b in zip(clip, coded.pictures, strict=True)) > 28


@needs_inter
def test_kinds_of_frames(coded: Coded) -> None:
    expected = [FilmBox.INTRA] + [FilmBox.INTER] * 4 + [FilmBox.REPEAT]  # frame 5 is frame 4
    expected += [FilmBox.INTRA, FilmBox.INTER, FilmBox.INTRA] + [FilmBox.INTER] * 3  # six frames on; a cut at 8
    assert coded.kinds == expected


def test_intra_only(clip: list[np.ndarray]) -> None:
    coded = code(clip[3:7], step=40, intra=True)
    assert coded.kinds == [FilmBox.INTRA] * 4
    assert hashes(decoded(coded.data)) == hashes(coded.pictures)


@pytest.mark.parametrize("wanted", [0, 3, 6, 10, 11])
def test_a_frame_needs_its_group_only(coded: Coded, wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    frame = FrameDecoder.frame
    monkeypatch.setattr(FrameDecoder, "frame", lambda self, part: (counted.append(part), frame(self, part))[1])
    film = Film(coded.data, threads=1)
    picture = film[wanted]
    assert picture.number == wanted and np.array_equal(picture.pixels, coded.pictures[wanted])
    group = max(entry.first_frame for entry in film.groups if entry.first_frame <= wanted)
    assert len(counted) == wanted - group + 1 <= 6


def test_ranges_and_the_python_interface(coded: Coded) -> None:
    frames = list(flowcodec.video.decode(coded.data, first=2, last=8, threads=1))
    assert hashes(frames) == hashes(coded.pictures[2:8])
    assert len(list(Film(coded.data)[10:])) == 2 and not list(Film(coded.data)[4:4])
    with pytest.raises(InputError):
        list(Film(coded.data).items(5, 3))


def test_encode_gives_bytes_or_a_file(clip: list[np.ndarray], tmp_path) -> None:
    data = flowcodec.video.encode(iter(clip[:2]), fps=24, step=60, threads=1)
    assert flowcodec.video.encode(clip[:2], fps=24, step=60, threads=1, out=tmp_path / "film.flow") is None
    assert (tmp_path / "film.flow").read_bytes() == data and [file.name for file in tmp_path.iterdir()] == ["film.flow"]
    assert Film(data).rate == 24


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [np.zeros((8, 8, 3), np.float32)],
        [np.zeros((8, 8), np.uint8)],
        [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)],
        [np.zeros((0, 8, 3), np.uint8)],
    ],
)
def test_frames_that_are_not_a_film_leave_nothing(frames: list[np.ndarray], tmp_path) -> None:
    with pytest.raises(InputError):
        flowcodec.video.encode(frames, fps=25, threads=1, out=tmp_path / "film.flow")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (17, 3), (16, 16)])
def test_small_and_odd_sizes(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(2)]
    coded = code(frames, step=8)
    assert hashes(decoded(coded.data, threads=1)) == hashes(coded.pictures)


def test_times_are_kept(clip: list[np.ndarray]) -> None:
    times = [-40, 0, 33, 67, 500, 501]
    film = Film(code(clip[:6], times, step=60, gop=4).data, threads=1)
    assert [frame.time for frame in film] == [Fraction(time, 1000) for time in times]
    assert film.frame_at(0) == 0 and film.frame_at(0.04) == 1


def test_a_film_that_is_cut_plays_up_to_its_last_whole_frame(coded: Coded) -> None:
    boxes = FilmReader(io.BytesIO(coded.data)).boxes()
    ends = [part.offset + len(part.payload) for part in boxes if part.kind in (FilmBox.INTRA, FilmBox.INTER, FilmBox.REPEAT)]
    for frames, size in ((0, ends[0]), (2, ends[2]), (12, len(coded.data) - 1)):
        with pytest.raises(TruncatedFile):
            Film(coded.data[:size])
        played = decoded(coded.data[:size], threads=1, partial=True)
        assert hashes(played) == hashes(coded.pictures[:frames])


def test_damage_ends_a_partial_film_and_refuses_a_whole_one(coded: Coded) -> None:
    damaged = bytearray(coded.data)
    second = Film(coded.data).groups[1]
    damaged[second.offset + 40] ^= 1
    with pytest.raises(FormatError):
        decoded(bytes(damaged), threads=1)
    played = decoded(bytes(damaged), threads=1, partial=True)
    assert hashes(played) == hashes(coded.pictures[: second.first_frame])


def hostile(boxes: list[tuple[FilmBox, bytes]], width: int = 71, height: int = 58, step: int = 500) -> bytes:
    """A film of such boxes, with right checksums."""
    model = flowcodec.load_model().id
    stream = io.BytesIO()
    writer = FilmWriter(stream, FilmHeader(width, height, 1, 30, 1, 1, model, model))
    writer.group(0, step)
    for kind, payload in boxes:
        writer.frame(kind, payload)
    writer.finish()
    return stream.getvalue()


@pytest.mark.parametrize(
    "boxes",
    [
        [(FilmBox.REPEAT, b"\0")],
        [(FilmBox.INTER, b"\0")],
        [(FilmBox.INTRA, b"")],
        [(FilmBox.INTRA, b"\0abc")],
        [(FilmBox.INTRA, b"\x08" + bytes(8))],
        [(FilmBox.INTRA, b"\x02\xff\xff\x01" + bytes(8))],
        [(FilmBox.INTRA, b"\0" + bytes(range(1, 41)))],
    ],
)
def test_frames_that_cannot_be_are_refused(boxes: list[tuple[FilmBox, bytes]]) -> None:
    with pytest.raises(FormatError) as caught:
        decoded(hostile(boxes), threads=1)
    assert len(str(caught.value).splitlines()) == 1


def test_a_short_film_cannot_ask_for_large_pictures() -> None:
    """The entropy decoder has been through its bits long before the fine levels, whose memory would be gigabytes."""
    with pytest.raises(FormatError):
        decoded(hostile([(FilmBox.INTRA, b"\0" + bytes(range(1, 201)))], 1 << 14, 1 << 14), threads=1)


def test_unknown_models_are_named() -> None:
    stream = io.BytesIO()
    writer = FilmWriter(stream, FilmHeader(8, 8, 1, 30, 1, 1, b"nosuchmo", b"nosuchmo"))
    writer.group(0, 1)
    writer.frame(FilmBox.INTRA, b"\0")
    writer.finish()
    with pytest.raises(MissingModel):
        decoded(stream.getvalue())


def test_mutated_streams_with_right_checksums(coded: Coded) -> None:
    """Any stream gives pictures or one line of an error."""
    rng = np.random.default_rng(3)
    reader = FilmReader(io.BytesIO(coded.data))
    parts = [part for part in reader.boxes() if part.kind in FRAMES][:3]
    for _ in range(12):
        stream = io.BytesIO()
        writer = FilmWriter(stream, reader.header)
        writer.group(0, 700)
        for part in parts:
            payload = bytearray(part.payload)
            if rng.random() < 0.6:
                payload[rng.integers(len(payload))] ^= 1 << rng.integers(8)
            if rng.random() < 0.2:
                payload = payload[: rng.integers(len(payload))]
            writer.frame(FilmBox(part.kind), bytes(payload))
        writer.finish()
        try:
            assert len(decoded(stream.getvalue(), threads=1)) == len(parts)
        except FlowCodecError as error:
            assert len(str(error).splitlines()) == 1
