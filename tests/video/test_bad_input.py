"""What is broken gives one line of an error and no output; what can still be read is right."""

from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from coding import code, film_with_sound
from hypothesis import given, settings
from hypothesis import strategies as st
from test_source import smooth, write
from typer.testing import CliRunner

from flowcodec.cli import app
from flowcodec.errors import FlowCodecError, FormatError
from flowcodec.runtime.video import FrameDecoder
from flowcodec.video.decoder import Film
from flowcodec.video.source import FilmSource, Frame

runner = CliRunner()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film with sound in two formats, and one of this codec."""
    folder = tmp_path_factory.mktemp("broken")
    for suffix in (".mp4", ".mkv"):
        film_with_sound(folder / f"film{suffix}")
    frames = [smooth(24, 32, number) for number in range(5)]
    (folder / "film.flow").write_bytes(code(frames, step=60, gop=2).data)
    return folder


def damaged(data: bytes, size: float, bits: list[float]) -> bytes:
    """``data`` cut to a share of its size, with some bits flipped, each place a share too."""
    result = bytearray(data[: int(size * len(data))])
    for share in bits:
        bit = min(int(share * 8 * len(data)), 8 * len(data) - 1)
        if bit // 8 < len(result):
            result[bit // 8] ^= 1 << bit % 8
    return bytes(result)


SHARE = st.floats(0, 1)
BITS = st.lists(SHARE, max_size=4)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_broken_films_of_other_formats(suffix: str, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    data = (folder / f"film{suffix}").read_bytes()
    path = tmp_path_factory.mktemp("one") / f"film{suffix}"

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(st.just(1.0) | SHARE, BITS)
    def check(size: float, bits: list[float]) -> None:
        path.write_bytes(damaged(data, size, bits))
        try:
            with FilmSource(path) as source:
                frames = [item for item in source if isinstance(item, Frame)]
        except FlowCodecError as error:
            assert len(str(error).splitlines()) == 1 and path.name in str(error)
        else:
            assert frames and all(a.time < b.time for a, b in pairwise(frames))
            assert {frame.pixels.shape for frame in frames} == {(source.info.height, source.info.width, 3)}

    check()


@pytest.mark.parametrize("threads", [1, 2])
def test_broken_films_of_this_codec(threads: int, folder: Path) -> None:
    data = (folder / "film.flow").read_bytes()
    right = [frame.pixels for frame in Film(data, threads=1)]

    @settings(max_examples=15, deadline=None, derandomize=True)
    @given(st.just(1.0) | SHARE, BITS)
    def check(size: float, bits: list[float]) -> None:
        broken = damaged(data, size, bits)
        try:
            shown = [frame.pixels for frame in Film(broken, threads=threads)]
        except FlowCodecError as error:
            assert broken != data and isinstance(error, FormatError) and len(str(error).splitlines()) == 1
        else:
            assert broken == data and all(np.array_equal(a, b) for a, b in zip(shown, right, strict=True))
        try:
            played = [frame.pixels for frame in Film(broken, threads=threads, partial=True)]
        except FormatError:  # not even a header
            return
        assert len(played) <= len(right) and all(np.array_equal(a, b) for a, b in zip(played, right, strict=False))

    check()


def refused(*arguments: object) -> str:
    result = runner.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1 and "unexpected" not in result.stderr, result.output
    return result.stderr


def test_nothing_half_written_on_the_command_line(folder: Path, tmp_path: Path) -> None:
    inputs, out = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    out.mkdir()
    film, flow = (folder / "film.mp4").read_bytes(), (folder / "film.flow").read_bytes()
    flipped = bytearray(flow)
    flipped[len(flow) * 2 // 3] ^= 8
    for name, data in {"empty.mp4": b"", "cut.mp4": film[: len(film) // 3], "text.mkv": b"\x1aE\xdf\xa3 no film"}.items():
        (inputs / name).write_bytes(data)
        refused("encode", inputs / name, out / "film.flow")
    for name, data in {"empty": b"", "head": flow[:9], "cut": flow[: len(flow) // 2], "flipped": bytes(flipped)}.items():
        (inputs / f"{name}.flow").write_bytes(data)
        for target in ("film.mkv", "film.y4m", "frames/%d.png"):
            refused("decode", inputs / f"{name}.flow", out / target, "--threads", "2")
    parts = []
    for number, size in enumerate([(32, 48), (48, 32)]):
        write(inputs / f"{number}.h264", "libx264", "yuv420p", [smooth(*size, k) for k in range(3)], g="1")
        parts.append((inputs / f"{number}.h264").read_bytes())
    (inputs / "both.h264").write_bytes(b"".join(parts))
    assert "48x32" in refused("encode", inputs / "both.h264", out / "film.flow", "--gop", "1", "--threads", "2", "-q", "5")
    assert not list(out.iterdir())


def test_odd_sizes_and_ten_bits(tmp_path: Path) -> None:
    for name, pix_fmt in (("odd", "yuv420p"), ("deep", "yuv420p10le"), ("deepest", "yuv444p12le")):
        write(tmp_path / f"{name}.mkv", "ffv1", pix_fmt, [smooth(17, 23, k) for k in range(2)])
        for command in (
            ["encode", tmp_path / f"{name}.mkv", tmp_path / f"{name}.flow", "-q", "70", "--threads", "1"],
            ["decode", tmp_path / f"{name}.flow", tmp_path / "back.mkv", "--threads", "1"],
        ):
            assert runner.invoke(app, [str(part) for part in command]).exit_code == 0
        with av.open(str(tmp_path / "back.mkv")) as film:
            shown = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        assert len(shown) == 2 and np.abs(shown[0].astype(int) - smooth(17, 23)).mean() < 6


def test_a_frame_of_a_long_film_needs_its_group_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """600 frames, most of them repeated, in groups of 60."""
    texture = np.random.default_rng(0).integers(0, 250, (16, 16, 3), dtype=np.uint8)
    frames = [texture + np.uint8(number // 30 % 5) for number in range(600)]
    coded = code(frames, step=100, gop=60)
    counted = []
    frame = FrameDecoder.frame
    monkeypatch.setattr(FrameDecoder, "frame", lambda self, part: (counted.append(part), frame(self, part))[1])
    film = Film(coded.data, threads=2)
    assert film.frames == 600 and max(group.frames for group in film.groups) <= 60
    for wanted in (0, 59, 60, 333, 599):
        counted.clear()
        picture = film[wanted]
        assert picture.number == wanted and np.array_equal(picture.pixels, coded.pictures[wanted])
        assert len(counted) == wanted % 60 + 1
