"""Reading films of other formats: colours, depths, times, rotation, sound, and what is no film."""

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from flowcodec.errors import InputError
from flowcodec.video.sniff import is_film
from flowcodec.video.source import FilmSource, Frame
from flowcodec.video.yuv import Matrix, rgb_to_yuv, yuv_to_rgb


def smooth(height: int, width: int, number: int = 0) -> np.ndarray:
    """A colourful picture without edges, uint8 (H, W, 3)."""
    y, x = np.mgrid[:height, :width]
    waves = [128 + 80 * np.sin(x / 17 + y / 23 + number / 3 + phase) for phase in (0, 2, 4)]
    return np.stack(waves, axis=-1).astype(np.uint8)


def write(path: Path, codec: str, pix_fmt: str, frames: list[np.ndarray], pts: list[int] | None = None, **options: str) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = 40 * number if pts is None else pts[number], Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def read(path: Path) -> tuple[FilmSource, list[Frame]]:
    with FilmSource(path) as source:
        return source, [item for item in source if isinstance(item, Frame)]


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "subsampling"),
    [("ffv1", "yuv420p", 0), ("ffv1", "yuv422p", 1), ("ffv1", "yuv444p", 2), ("ffv1", "yuv420p10le", 0), ("ffv1", "bgr0", 2)],
)
def test_colours_of_every_format(codec: str, pix_fmt: str, subsampling: int, tmp_path: Path) -> None:
    pixels = smooth(51, 67)
    write(tmp_path / "film.mkv", codec, pix_fmt, [pixels] * 2)
    source, frames = read(tmp_path / "film.mkv")
    assert source.info.subsampling == subsampling and (source.info.width, source.info.height) == (67, 51)
    for frame in frames:
        assert np.abs(frame.pixels.astype(int) - pixels).mean() < 1.5
    assert len(frames) == 2


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("code", [1, 2, 6, 9])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_planes_survive_the_way_to_rgb_and_back(subsampling: int, code: int, full_range: bool) -> None:
    matrix = Matrix(code, full_range, 49)
    planes = rgb_to_yuv(smooth(49, 63), matrix, subsampling)
    for before, after in zip(planes, rgb_to_yuv(yuv_to_rgb(planes, matrix), matrix, subsampling), strict=True):
        assert before.shape == after.shape and np.abs(before.astype(int) - after).max() <= 2


def test_grey_is_grey_in_every_matrix() -> None:
    for depth in (8, 10):
        y = np.full((4, 6), 126 << (depth - 8), np.uint16)
        chroma = np.full((2, 3), 128 << (depth - 8), np.uint16)
        assert set(yuv_to_rgb((y, chroma, chroma), Matrix(1, False, 4, depth)).reshape(-1).tolist()) == {128}


def test_times_of_a_variable_rate(tmp_path: Path) -> None:
    times = [0, 40, 300, 310, 2000]
    write(tmp_path / "film.mkv", "ffv1", "yuv420p", [smooth(16, 16, k) for k in range(5)], times)
    source, frames = read(tmp_path / "film.mkv")
    assert [frame.time * source.info.time_base for frame in frames] == [Fraction(time, 1000) for time in times]


def test_missing_and_falling_times_go_on_at_the_rate() -> None:
    source = FilmSource.__new__(FilmSource)
    source._rate, source._base, source._last = Fraction(25), Fraction(1, 1000), None
    given = [SimpleNamespace(pts=pts, time_base=Fraction(1, 1000)) for pts in (None, None, 200, 150, None, 400)]
    assert [source._time(frame) for frame in given] == [0, 40, 200, 240, 280, 400]


def test_a_film_without_times_goes_on_at_its_rate(tmp_path: Path) -> None:
    """A plain stream of H.264 has none."""
    write(tmp_path / "film.h264", "libx264", "yuv420p", [smooth(32, 48, k) for k in range(4)], bf="0")
    source, frames = read(tmp_path / "film.h264")
    assert [frame.time * source.info.time_base for frame in frames] == [k / source.info.rate for k in range(4)]


@pytest.mark.parametrize(("rotation", "turns"), [(0, 0), (90, 1), (-90, 3), (180, 2)])
def test_rotated_films_are_turned_upright(rotation: int, turns: int) -> None:
    frame = av.VideoFrame.from_ndarray(smooth(16, 24), format="rgb24")
    source = FilmSource.__new__(FilmSource)
    source._tags, source._size, source._last, source._base = None, None, None, Fraction(1, 25)
    source._rate, source.name = Fraction(25), "film"
    turned = SimpleNamespace(rotation=rotation, pts=0, time_base=None, width=24, height=16, format=frame.format)
    turned.to_ndarray = frame.to_ndarray
    assert np.array_equal(source._frame(turned).pixels, np.rot90(smooth(16, 24), turns))


def test_a_change_of_size_is_named(tmp_path: Path) -> None:
    parts = []
    for number, (height, width) in enumerate([(32, 48), (48, 32)]):
        write(tmp_path / f"{number}.h264", "libx264", "yuv420p", [smooth(height, width, k) for k in range(3)], g="1")
        parts.append((tmp_path / f"{number}.h264").read_bytes())
    (tmp_path / "both.h264").write_bytes(b"".join(parts))
    with (
        pytest.raises(InputError, match=r"expected all frames to be 48x32, frame \d is 32x48"),
        FilmSource(tmp_path / "both.h264") as source,
    ):
        list(source)


@pytest.mark.parametrize("content", [b"", b"no film", b"\x1aE\xdf\xa3" + bytes(200), b"YUV4MPEG2 W0 H0\n"])
def test_what_is_no_film(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "film.mkv").write_bytes(content)
    with pytest.raises(InputError) as caught:
        FilmSource(tmp_path / "film.mkv")
    assert len(str(caught.value).splitlines()) == 1 and "film.mkv" in str(caught.value)


def test_sound_alone_is_no_film(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mka"), "w", format="matroska") as output:
        sound = output.add_stream("flac", rate=48000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 48000), np.int16), format="s16", layout="stereo")
        samples.sample_rate, samples.pts = 48000, 0
        output.mux(sound.encode(samples))
        output.mux(sound.encode(None))
    with pytest.raises(InputError, match="holds no pictures"):
        FilmSource(tmp_path / "sound.mka")


def test_films_are_known_by_content(tmp_path: Path) -> None:
    for name, codec in (
        ("a.mkv", "ffv1"),
        ("a.mp4", "libx264"),
        ("a.avi", "mpeg4"),
        ("a.ts", "libx264"),
        ("a.y4m", "wrapped_avframe"),
    ):
        write(tmp_path / name, codec, "yuv420p", [smooth(32, 32)] * 3)
        assert is_film((tmp_path / name).read_bytes()[:4096]), name
    assert (
        not is_film(b"\x89PNG\r\n\x1a\n")
        and not is_film(b"\0\0\0\x20ftypavif")
        and not is_film(b"RIFF\0\0\0\0WEBP")
        and not is_film(b"")
    )
