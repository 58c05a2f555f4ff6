"""Writing films: every pixel, every packet, whole or not at all."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from coding import film_with_sound
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_source import smooth

from flowcodec.errors import FormatError, InputError
from flowcodec.runtime.film import FilmHeader
from flowcodec.video.packets import audio_payload, pack, parse_audio, unpack
from flowcodec.video.sink import Output, check_target, open_sink
from flowcodec.video.source import AudioPacket, FilmSource, Frame
from flowcodec.video.yuv import rgb_to_yuv

HEADER = FilmHeader(50, 38, 1, 1000, 40, 1, b"intramod", b"intermod", primaries=1, transfer=1, matrix=1)
FRAMES = [smooth(38, 50, number) for number in range(4)]
TIMES = [Fraction(0), Fraction(40, 1000), Fraction(200, 1000), Fraction(240, 1000)]
OUTPUT = Output(HEADER, Fraction(25), Fraction(1, 1000))


def write(target: Path, output: Output = OUTPUT) -> None:
    with open_sink(str(target), output) as sink:
        for pixels, time in zip(FRAMES, TIMES, strict=True):
            sink.frame(pixels, time)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_containers_keep_every_pixel_and_time(suffix: str, tmp_path: Path) -> None:
    write(tmp_path / f"film{suffix}")
    with FilmSource(tmp_path / f"film{suffix}") as source:
        frames = [item for item in source if isinstance(item, Frame)]
        assert all(np.array_equal(frame.pixels, pixels) for frame, pixels in zip(frames, FRAMES, strict=True))
        assert [round(frame.time * source.info.time_base, 3) for frame in frames] == TIMES
    assert [file.name for file in tmp_path.iterdir()] == [f"film{suffix}"]


def test_h264_on_demand(tmp_path: Path) -> None:
    write(tmp_path / "film.mp4", Output(HEADER, Fraction(25), Fraction(1, 1000), crf=10))
    with av.open(str(tmp_path / "film.mp4")) as film:
        context = film.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.colorspace, context.color_primaries) == ("h264", "yuv420p", 1, 1)
    with FilmSource(tmp_path / "film.mp4") as source:
        for item, pixels in zip(source, FRAMES, strict=True):
            assert np.abs(item.pixels.astype(int) - pixels).mean() < 3


def test_y4m_holds_the_planes(tmp_path: Path) -> None:
    write(tmp_path / "film.y4m")
    data = (tmp_path / "film.y4m").read_bytes()
    assert data.startswith(b"YUV4MPEG2 W50 H38 F25:1 ")
    planes = b"".join(plane.tobytes() for plane in rgb_to_yuv(FRAMES[3], OUTPUT.matrix, 0))
    assert data.endswith(b"FRAME\n" + planes)


def test_numbered_pngs(tmp_path: Path) -> None:
    write(tmp_path / "frames" / "f%03d.png")
    names = [f"f{number:03d}.png" for number in range(4)]
    assert sorted(file.name for file in (tmp_path / "frames").iterdir()) == names
    for name, pixels in zip(names, FRAMES, strict=True):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "frames" / name)), pixels)


@pytest.mark.parametrize("name", ["film.mkv", "film.mp4", "film.y4m", "frames/f%d.png"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError])
def test_what_is_broken_off_leaves_nothing(name: str, error: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(error), open_sink(str(tmp_path / name), OUTPUT) as sink:
        sink.frame(FRAMES[0], TIMES[0])
        raise error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["film", "film.txt", "film.png", "film%.png", "film%d%d.png"])
def test_names_that_cannot_be_written(name: str) -> None:
    with pytest.raises(InputError):
        check_target(name)


# --- sound --------------------------------------------------------------------------------------------------------------


def packets_of(path: Path) -> list[tuple[bytes, Fraction]]:
    with av.open(str(path)) as film:
        return [(bytes(packet), packet.pts * packet.time_base) for packet in film.demux(audio=0) if packet.size]


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "aac"), (".mkv", "libopus"), (".mkv", "libmp3lame")])
def test_sound_comes_back_bit_by_bit(suffix: str, codec: str, tmp_path: Path) -> None:
    before, after = tmp_path / f"before{suffix}", tmp_path / f"after{suffix}"
    film_with_sound(before, codec)
    with FilmSource(before) as source:
        items = list(source)
        template = source.audio_template()
        assert template is not None
        payload = audio_payload(template, source.audio_time_bases())
        bases, template = parse_audio(payload)
        sound = pack([item for item in items if isinstance(item, AudioPacket)])
        header = FilmHeader(32, 24, 1, 1000, 125, 1, b"intramod", b"intermod")
        with open_sink(str(after), Output(header, Fraction(8), Fraction(1, 1000), template)) as sink:
            for item in items:
                if isinstance(item, Frame):
                    sink.frame(item.pixels, item.time * source.info.time_base)
            for packet in unpack(sound, bases):
                sink.packet(packet)
    assert packets_of(after) == packets_of(before) and len(packets_of(before)) > 10


TIME = st.none() | st.integers(-(1 << 40), 1 << 40)
PACKET = st.builds(
    AudioPacket, st.integers(0, 2), st.binary(max_size=20), TIME, TIME, st.integers(0, 1 << 31), st.just(Fraction(1, 9))
)


@settings(max_examples=200, deadline=None)
@given(st.lists(PACKET, max_size=8))
def test_packets_come_back(packets: list[AudioPacket]) -> None:
    assert list(unpack(pack(packets), [Fraction(1, 9)] * 3)) == packets


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_packets_or_an_error(data: bytes) -> None:
    for read in (lambda: list(unpack(data, [Fraction(1)])), lambda: parse_audio(data)):
        try:
            read()
        except FormatError as error:
            assert len(str(error).splitlines()) == 1
