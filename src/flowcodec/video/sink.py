"""Writing decoded films: Matroska or MP4 through PyAV (lossless, or H.264), Y4M, or numbered PNGs; whole or not at all."""

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import av
import numpy as np
from PIL import Image

from flowcodec.errors import InputError
from flowcodec.runtime.film import FilmHeader
from flowcodec.video.place import whole_file, whole_files
from flowcodec.video.source import REPRODUCIBLE, AudioPacket
from flowcodec.video.yuv import Matrix, rgb_to_yuv

_FORMATS = {".mkv": "matroska", ".mp4": "mp4", ".mov": "mov"}
_LOSSLESS: dict[str, tuple[str, str, dict[str, str]]] = {
    "matroska": ("ffv1", "bgr0", {"level": "3", "slicecrc": "1"}),
    "mp4": ("libx264rgb", "rgb24", {"qp": "0", "preset": "medium"}),
    "mov": ("libx264rgb", "rgb24", {"qp": "0", "preset": "medium"}),
}
"""(codec, pixel format, options) that keep every pixel, of each container."""
_YUV_FORMATS = ("yuv420p", "yuv422p", "yuv444p")
_Y4M_COLOURS = ("420mpeg2", "422", "444")
_LIMITED, _FULL = 1, 2
SUFFIXES = (*_FORMATS, ".y4m", ".png")


@dataclass(frozen=True)
class Output:
    """What a sink must know of a film."""

    header: FilmHeader
    rate: Fraction
    time_base: Fraction
    audio_template: bytes | None = None
    crf: float | None = None
    """H.264 with this constant rate factor instead of a lossless codec."""

    @property
    def matrix(self) -> Matrix:
        return Matrix(self.header.matrix, self.header.full_range, self.header.height)


class Sink(Protocol):
    def frame(self, pixels: np.ndarray, time: Fraction) -> None:
        """The next frame, uint8 (H, W, 3), at a time in seconds."""

    def packet(self, packet: AudioPacket) -> None:
        """An audio packet."""


@contextmanager
def open_sink(target: str | BinaryIO, output: Output) -> Iterator[Sink]:
    """The sink for a name; a pattern such as frames/%05d.png stands for numbered PNGs. A stream gets Y4M."""
    with ExitStack() as stack:
        if not isinstance(target, str):
            yield Y4mSink(target, output)
            return
        path, suffix = Path(target), Path(target).suffix.lower()
        check_target(target)
        if suffix == ".png":
            yield PngSink(stack.enter_context(whole_files(path.parent)), path.name)
        elif suffix == ".y4m":
            yield Y4mSink(stack.enter_context(stack.enter_context(whole_file(path)).open("wb")), output)
        else:
            sink = ContainerSink(stack.enter_context(whole_file(path)), _FORMATS[suffix], output)
            with sink:
                yield sink


def check_target(target: str) -> None:
    """Raises InputError for a name that cannot be written, before anything is decoded."""
    path, suffix = Path(target), Path(target).suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{target}: expected a name ending in {', '.join(SUFFIXES)} (for PNGs a pattern such as %05d.png)")
    if suffix == ".png":
        try:
            distinct = path.name % 1 != path.name % 2
        except (TypeError, ValueError):
            distinct = False
        if not distinct:
            raise InputError(f"{target}: expected a pattern for the numbers of frames, such as frame-%05d.png")


class PngSink:
    def __init__(self, folder: Path, pattern: str) -> None:
        self._folder, self._pattern, self._number = folder, pattern, 0

    def frame(self, pixels: np.ndarray, time: Fraction) -> None:
        Image.fromarray(pixels).save(self._folder / (self._pattern % self._number), compress_level=3)
        self._number += 1

    def packet(self, packet: AudioPacket) -> None:
        pass


class Y4mSink:
    """Y4M at the film's rate; times that differ from it are lost."""

    def __init__(self, stream: BinaryIO, output: Output) -> None:
        self._stream, self._matrix, self._subsampling = stream, output.matrix, output.header.subsampling
        header, rate = output.header, output.rate
        aspect = f"{header.aspect_numerator}:{header.aspect_denominator}"
        colours = f"C{_Y4M_COLOURS[self._subsampling]} XCOLORRANGE={'FULL' if header.full_range else 'LIMITED'}"
        size = f"W{header.width} H{header.height} F{rate.numerator}:{rate.denominator}"
        stream.write(f"YUV4MPEG2 {size} Ip A{aspect} {colours}\n".encode())

    def frame(self, pixels: np.ndarray, time: Fraction) -> None:
        self._stream.write(b"FRAME\n")
        for plane in rgb_to_yuv(pixels, self._matrix, self._subsampling):
            self._stream.write(plane.tobytes())

    def packet(self, packet: AudioPacket) -> None:
        pass


class ContainerSink:
    """Matroska, MP4 or QuickTime, with the audio as it was."""

    def __init__(self, path: Path, format: str, output: Output) -> None:
        self._output, self._name = output, str(path)
        header = output.header
        try:
            self._container: Any = av.open(str(path), "w", format=format, options=REPRODUCIBLE)
            if output.crf is None:
                codec, self._format, options = _LOSSLESS[format]
            else:
                codec, options = "libx264", {"crf": f"{output.crf:g}", "preset": "medium"}
                self._format = _YUV_FORMATS[header.subsampling]
            self._stream: Any = self._container.add_stream(codec, rate=output.rate, options=options)
            self._stream.width, self._stream.height = header.width, header.height
            self._stream.pix_fmt = self._format
            context = self._stream.codec_context
            context.time_base = output.time_base
            context.sample_aspect_ratio = Fraction(header.aspect_numerator, header.aspect_denominator)
            context.color_primaries, context.color_trc = header.primaries, header.transfer
            if output.crf is not None:
                context.colorspace = header.matrix
                context.color_range = _FULL if header.full_range else _LIMITED
            self._audio = self._audio_streams(output.audio_template)
        except (av.FFmpegError, ValueError) as error:
            raise InputError(f"cannot be written as {format} ({error}); try another format") from error

    def _audio_streams(self, template: bytes | None) -> list[Any]:
        if template is None:
            return []
        with av.open(io.BytesIO(template)) as source:
            return [self._container.add_stream_from_template(stream) for stream in source.streams.audio]

    def __enter__(self) -> "ContainerSink":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if kind is None:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def frame(self, pixels: np.ndarray, time: Fraction) -> None:
        if self._output.crf is None:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            if self._format != "rgb24":
                frame = frame.reformat(format=self._format)
        else:
            frame = self._yuv(pixels)
        frame.time_base = self._output.time_base
        frame.pts = round(time / self._output.time_base)
        self._container.mux(self._stream.encode(frame))

    def _yuv(self, pixels: np.ndarray) -> Any:
        frame = av.VideoFrame(pixels.shape[1], pixels.shape[0], self._format)
        planes = rgb_to_yuv(pixels, self._output.matrix, self._output.header.subsampling)
        for plane, values in zip(frame.planes, planes, strict=True):
            lines = np.zeros((plane.height, plane.line_size), np.uint8)
            lines[:, : values.shape[1]] = values
            plane.update(lines.tobytes())
        frame.colorspace, frame.color_range = self._output.header.matrix, _FULL if self._output.header.full_range else _LIMITED
        return frame

    def packet(self, packet: AudioPacket) -> None:
        if packet.stream >= len(self._audio):
            return
        copy = av.Packet(packet.data)
        copy.stream = self._audio[packet.stream]
        copy.time_base = packet.time_base
        copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
        self._container.mux(copy)
