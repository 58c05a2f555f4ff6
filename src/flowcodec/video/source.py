"""Reading ordinary films through PyAV: upright 8-bit RGB frames with their times, and the packets of the audio as they are."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np

from flowcodec.errors import InputError, LimitError
from flowcodec.runtime.header import MAX_PIXELS
from flowcodec.video.yuv import Matrix, yuv_to_rgb

_PLANAR = {"yuv420p": 0, "yuvj420p": 0, "yuv422p": 1, "yuvj422p": 1, "yuv444p": 2, "yuvj444p": 2}
"""Formats whose planes are read as they are, and their subsampling; the same with 9 to 16 bits."""
_SAME_SAMPLES = {"nv12": "yuv420p", "nv21": "yuv420p", "yuyv422": "yuv422p", "uyvy422": "yuv422p", "p010le": "yuv420p10le"}
"""Packed formats, and the planar ones that hold the same numbers."""
_FULL_RANGE = 2
REPRODUCIBLE = {"fflags": "+bitexact"}
"""Option of FFmpeg's writers: no random numbers in the file."""
_DEFAULT_RATE = Fraction(25)
_SAME_RATE = 0.25
_TIME_LIMIT = (1 << 32) - 1


@dataclass(frozen=True)
class Frame:
    """One picture of a film."""

    pixels: np.ndarray
    """uint8 (H, W, 3)"""
    time: int
    """In ticks of the film's time base."""


@dataclass(frozen=True)
class AudioPacket:
    """A packet as it was, with its times in ticks of its stream."""

    stream: int
    data: bytes
    pts: int | None
    dts: int | None
    duration: int
    time_base: Fraction


@dataclass(frozen=True)
class FilmInfo:
    """What a film says of itself; sizes are those of upright frames."""

    width: int
    height: int
    time_base: Fraction
    rate: Fraction
    aspect: Fraction = Fraction(1)
    primaries: int = 2
    transfer: int = 2
    matrix: int = 2
    full_range: bool = False
    subsampling: int = 0
    frames: int | None = None
    """About how many, where that is known."""


class FilmSource:
    """A film that FFmpeg reads. Raises InputError for what is not one, has no picture or changes its size on the way."""

    def __init__(self, source: Path | io.BytesIO, name: str | None = None, audio: bool = True) -> None:
        self.name = name or str(source)
        try:
            self._container: Any = av.open(str(source) if isinstance(source, Path) else source)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise InputError(f"{self.name}: cannot be read as a film ({_reason(error)})") from error
        if not self._container.streams.video:
            self._container.close()
            raise InputError(f"{self.name}: holds no pictures")
        self._stream: Any = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._audio = list(self._container.streams.audio) if audio else []
        self._last: int | None = None
        self._ahead: list[Frame | AudioPacket] = []
        self._items: Any = self._read()
        self.info = self._look()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._items.close()
        self._container.close()

    def audio_template(self) -> bytes | None:
        """A Matroska file that says what the audio streams are; None without audio."""
        return audio_template(self._audio) if self._audio else None

    def audio_time_bases(self) -> list[Fraction]:
        return [Fraction(stream.time_base) for stream in self._audio]

    def __iter__(self) -> Iterator[Frame | AudioPacket]:
        while self._ahead:
            yield self._ahead.pop(0)
        yield from self._items

    def _look(self) -> FilmInfo:
        """Reads up to the first frame, whose tags are the film's."""
        stream, context = self._stream, self._stream.codec_context
        self._rate = _frame_rate(stream)
        base = Fraction(stream.time_base or 1 / self._rate)
        while base.numerator > _TIME_LIMIT or base.denominator > _TIME_LIMIT or 1 / self._rate < base:
            base = Fraction(1, max(90000, round(self._rate) * 1000))
        self._base = base
        self._tags: tuple[int, bool] | None = None
        self._size: tuple[int, int] | None = None
        for item in self._items:
            self._ahead.append(item)
            if isinstance(item, Frame):
                break
        else:
            raise InputError(f"{self.name}: holds no pictures that can be decoded")
        height, width = item.pixels.shape[:2]
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        if self._turned:
            aspect = 1 / aspect if aspect else Fraction(1)
        count = stream.frames or None
        duration = float(self._container.duration or 0) / av.time_base
        if count is None and duration > 0:
            seconds = stream.duration * stream.time_base if stream.duration and stream.time_base else duration
            count = round(seconds * self._rate)
        return FilmInfo(
            width,
            height,
            base,
            self._rate,
            aspect if aspect > 0 else Fraction(1),
            _code(context.color_primaries),
            _code(context.color_trc),
            self._tags[0] if self._tags else _code(context.colorspace),
            self._tags[1] if self._tags else False,
            self._subsampling,
            count,
        )

    def _read(self) -> Iterator[Any]:
        audio = {stream.index: number for number, stream in enumerate(self._audio)}
        try:
            for packet in self._container.demux([self._stream, *self._audio]):
                if packet.stream_index in audio:
                    if packet.size:
                        yield _audio_packet(audio[packet.stream_index], packet)
                    continue
                for frame in packet.decode():
                    yield self._frame(frame)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise InputError(f"{self.name}: is damaged after {self._count} frames ({_reason(error)})") from error

    _count = 0
    _turned = False
    _subsampling = 0

    def _frame(self, frame: Any) -> Frame:
        if frame.width * frame.height > MAX_PIXELS:
            raise LimitError(f"{self.name}: {frame.width}x{frame.height}: at most {MAX_PIXELS} pixels are allowed")
        pixels = self._pixels(frame)
        turns = round((frame.rotation or 0) / 90) % 4
        if turns:
            pixels = np.ascontiguousarray(np.rot90(pixels, turns))
        self._turned = turns % 2 == 1
        size = pixels.shape[:2]
        if self._size is None:
            self._size = size
        elif size != self._size:
            expected, found = (f"{width}x{height}" for height, width in (self._size, size))
            raise InputError(f"{self.name}: expected all frames to be {expected}, frame {self._count} is {found}")
        return Frame(pixels, self._time(frame))

    def _time(self, frame: Any) -> int:
        """Ticks; times that are missing or do not rise go on at the film's rate."""
        step = max(round(1 / (self._rate * self._base)), 1)
        time = None
        if frame.pts is not None:
            time = round(frame.pts * Fraction(frame.time_base or self._base) / self._base)
        if time is None or (self._last is not None and time <= self._last):
            time = 0 if self._last is None else self._last + step
        self._last = time
        self._count += 1
        return time

    def _pixels(self, frame: Any) -> np.ndarray:
        """uint8 (H, W, 3), not turned."""
        name = frame.format.name
        if name in _SAME_SAMPLES:
            frame = frame.reformat(format=_SAME_SAMPLES[name])
            name = frame.format.name
        base, depth = name, 8
        for suffix in ("9le", "10le", "12le", "14le", "16le"):
            if name.endswith(suffix) and name.removesuffix(suffix) in _PLANAR:
                base, depth = name.removesuffix(suffix), int(suffix[:-2])
        if base not in _PLANAR:
            self._subsampling = 2 if frame.format.is_rgb else 0
            if self._tags is None:
                self._tags = (2, False)
            return frame.to_ndarray(format="rgb24")
        full = frame.color_range == _FULL_RANGE or base.startswith("yuvj")
        code = _code(frame.colorspace)
        if self._tags is None:
            self._tags, self._subsampling = (code, full), _PLANAR[base]
        planes = tuple(_plane(plane, depth) for plane in frame.planes[:3])
        return yuv_to_rgb(planes, Matrix(code, full, frame.height, depth))  # type: ignore[arg-type]


def audio_template(streams: list[Any]) -> bytes:
    """A Matroska file that says what the streams are. Raises InputError for what Matroska cannot hold."""
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format="matroska", options=REPRODUCIBLE) as output:
            for stream in [output.add_stream_from_template(stream) for stream in streams]:
                # FFmpeg reads no Matroska file that ends before its first packet.
                packet = av.Packet(b"\0")
                packet.stream, packet.pts, packet.dts = stream, 0, 0
                output.mux(packet)
    except (av.FFmpegError, ValueError) as error:
        raise InputError(f"audio: cannot be carried over ({_reason(error)}); leave it out with --no-audio") from error
    return buffer.getvalue()


def _audio_packet(number: int, packet: Any) -> AudioPacket:
    return AudioPacket(number, bytes(packet), packet.pts, packet.dts, packet.duration or 0, Fraction(packet.time_base))


def _frame_rate(stream: Any) -> Fraction:
    """Frames per second: the guess from the times where the mean is about that, which differs at the ends of short films."""
    mean, guess = stream.average_rate, stream.guessed_rate
    rate: Any = guess if mean and guess and abs(guess / mean - 1) < _SAME_RATE else mean or guess
    return Fraction(rate) if rate and rate > 0 else _DEFAULT_RATE


def _plane(plane: Any, depth: int) -> np.ndarray:
    """(H, W) without the padding of its lines."""
    samples = np.frombuffer(plane, np.uint8 if depth == 8 else "<u2")
    return samples.reshape(plane.height, -1)[:, : plane.width]


def _code(value: Any) -> int:
    """A code point of ITU-T H.273; swscale's 'unspecified' and what does not fit a byte count as unknown."""
    number = int(value) if value is not None else 2
    return number if 0 <= number <= 255 else 2


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)
