"""Codecs of films: x264, x265 and SVT-AV1 through PyAV, AVIF frame by frame, and FlowCodec. One thread each.

All get the planes of the file, but for FlowCodec and AVIF's RGB, which is made of them; files are whole. FFmpeg's codecs write
plain streams without the encoder's comments (SEI): on short clips a container and they would be a good part of the file.
Needs the extra 'video'.
"""

import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version
from itertools import chain, pairwise
from typing import Any, Protocol

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from PIL import Image

import flowcodec
from flowcodec.benchmark.codecs import named
from flowcodec.benchmark.films import Clip, frame_planes
from flowcodec.errors import InputError
from flowcodec.video.decoder import Film
from flowcodec.video.encoder import FilmEncoder, VideoSettings
from flowcodec.video.source import FilmInfo, Frame
from flowcodec.video.yuv import Planes, rgb_to_yuv, yuv_to_rgb

Decoded = tuple[list[Planes], list[np.ndarray]]
ANCHOR = "x264 medium zerolatency"
OURS = "FlowCodec"
_LONG_GOP = 250
_CRF = (20.0, 26.0, 32.0, 38.0)
_LIMITED, _FULL = 1, 2
os.environ.setdefault("SVT_LOG", "1")  # errors only; otherwise it prints its settings for every file


class FilmCodec(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> tuple[float, ...]: ...

    def describe(self) -> dict[str, Any]:
        """Version, options and meaning of the setting: everything that decides the bytes."""

    def encode(self, clip: Clip, setting: float) -> bytes:
        """A whole file."""

    def decode(self, data: bytes, clip: Clip) -> Decoded:
        """Planes and RGB of every frame."""


_STREAMS = {
    "libx264": ("h264", "filter_units=remove_types=6"),
    "libx265": ("hevc", "filter_units=remove_types=39"),
    "libsvtav1": ("obu", "null"),
}
"""Of each encoder the format of its plain stream, and the filter that leaves out what no decoder needs."""


@dataclass(frozen=True)
class FFmpegCodec:
    """A codec of FFmpeg's as a plain stream; a setting is a constant rate factor."""

    name: str
    codec: str
    options: dict[str, str]
    settings: tuple[float, ...]
    smallest_side: int = 2

    def describe(self) -> dict[str, Any]:
        text = f"PyAV {version('av')}, FFmpeg {av.ffmpeg_version_info}, {self.codec}"
        options = self.options | dict(zip(("stream", "filter"), _STREAMS[self.codec], strict=True))
        return {"version": text, "options": options, "setting": "crf"}

    def encode(self, clip: Clip, setting: float) -> bytes:
        height, width = clip.size
        if min(clip.size) < self.smallest_side:
            raise InputError(f"{self.name}: needs at least {self.smallest_side} pixels a side, found {width}x{height}")
        buffer = io.BytesIO()
        container, clean = _STREAMS[self.codec]
        with av.open(buffer, "w", format=container) as output:
            stream: Any = output.add_stream(self.codec, rate=clip.rate, options=self.options | {"crf": f"{setting:g}"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.thread_count = 1
            stream.codec_context.color_range = _FULL if clip.matrix.full_range else _LIMITED
            pictures = (_frame(planes, number, clip.rate) for number, planes in enumerate(clip.planes))
            packets = (packet for picture in chain(pictures, [None]) for packet in stream.encode(picture))
            cleaner = None
            for packet in packets:
                cleaner = cleaner or BitStreamFilterContext(clean, stream)  # its headers are known from the first packet on
                output.mux(cleaner.filter(packet))
            output.mux(cleaner.filter(None) if cleaner else [])
        return buffer.getvalue()

    def decode(self, data: bytes, clip: Clip) -> Decoded:
        with av.open(io.BytesIO(data), format=_STREAMS[self.codec][0]) as film:
            film.streams.video[0].codec_context.thread_count = 1
            planes = [frame_planes(frame) for frame in film.decode(video=0)]
        return planes, [yuv_to_rgb(frame, clip.matrix) for frame in planes]


def _frame(planes: Planes, number: int, rate: Fraction) -> Any:
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, "yuv420p")
    for plane, values in zip(frame.planes, planes, strict=True):
        lines = np.zeros((plane.height, plane.line_size), np.uint8)
        lines[:, : values.shape[1]] = values
        plane.update(lines.tobytes())
    frame.pts, frame.time_base = number, 1 / rate
    return frame


def _x264(name: str, **options: str) -> FFmpegCodec:
    fixed = {"preset": "medium", "g": str(_LONG_GOP)} | options
    return FFmpegCodec(f"x264 medium {name}", "libx264", fixed, _CRF)


def _x265(name: str, **options: str) -> FFmpegCodec:
    intra = ":keyint=1" if options.get("g") == "1" else f":keyint={_LONG_GOP}"
    fixed = {"preset": "medium", "x265-params": f"log-level=error:pools=none:frame-threads=1{intra}"} | options
    return FFmpegCodec(f"x265 medium {name}", "libx265", fixed, _CRF)


def _svt_av1(preset: int) -> FFmpegCodec:
    options = {"preset": str(preset), "g": str(_LONG_GOP), "svtav1-params": "lp=1"}
    return FFmpegCodec(f"SVT-AV1 preset {preset}", "libsvtav1", options, (22, 34, 46, 58), smallest_side=64)


@dataclass(frozen=True)
class AvifFrames:
    """An AVIF file (libaom, 4:2:0) for each frame; the bytes of all of them. A setting is a quality."""

    name: str = "AVIF all-intra"
    settings: tuple[float, ...] = (15, 35, 55, 75)
    options = {"subsampling": "4:2:0", "speed": 6, "advanced": {"tune": "psnr"}, "max_threads": 1}  # noqa: RUF012

    def describe(self) -> dict[str, Any]:
        return {"version": f"Pillow {version('pillow')}", "options": self.options, "setting": "quality"}

    def encode(self, clip: Clip, setting: float) -> bytes:
        files = []
        for pixels in clip.rgb:
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "AVIF", quality=int(setting), **self.options)
            files.append(buffer.getvalue())
        return b"".join(files)

    def decode(self, data: bytes, clip: Clip) -> Decoded:
        starts = [match.start() - 4 for match in re.finditer(rb"ftypavif", data)] + [len(data)]
        rgb = []
        for begin, end in pairwise(starts):
            with Image.open(io.BytesIO(data[begin:end])) as image:
                rgb.append(np.asarray(image.convert("RGB")))
        return [rgb_to_yuv(pixels, clip.matrix) for pixels in rgb], rgb


@dataclass(frozen=True)
class FlowFilms:
    """FlowCodec; a setting is a quantiser step."""

    intra: bool = False
    inter_model: str | None = None
    threads: int = 1
    settings: tuple[float, ...] = (10, 18, 34, 64)

    @property
    def name(self) -> str:
        return f"{OURS} all-intra" if self.intra else OURS

    def _settings(self, step: float) -> VideoSettings:
        return VideoSettings(step=step, gop=_LONG_GOP, intra=self.intra, inter_model=self.inter_model, threads=self.threads)

    def describe(self) -> dict[str, Any]:
        models = [model.id.hex() for model in self._settings(1.0).models()]
        options = {"gop": 1 if self.intra else _LONG_GOP, "models": models}
        return {"version": f"flowcodec {flowcodec.__version__}", "options": options, "setting": "step"}

    def encode(self, clip: Clip, setting: float) -> bytes:
        height, width = clip.size
        info = FilmInfo(width, height, 1 / clip.rate, clip.rate, matrix=clip.matrix.code, frames=len(clip.planes))
        buffer = io.BytesIO()
        with FilmEncoder(buffer, info, self._settings(setting)) as encoder:
            for number, pixels in enumerate(clip.rgb):
                encoder.frame(Frame(pixels, number))
            encoder.finish()
        return buffer.getvalue()

    def decode(self, data: bytes, clip: Clip) -> Decoded:
        with Film(data, threads=self.threads, models=self._settings(1.0).models()) as film:
            rgb = [frame.pixels for frame in film]
        return [rgb_to_yuv(pixels, clip.matrix) for pixels in rgb], rgb


RIVALS: tuple[FilmCodec, ...] = (
    _x264("zerolatency", tune="zerolatency"),
    _x264("B-frames"),
    _x264("all-intra", g="1"),
    _x265("zerolatency", tune="zerolatency"),
    _x265("B-frames"),
    _x265("all-intra", g="1"),
    _svt_av1(8),
    _svt_av1(5),
    AvifFrames(),
)


def choose_film_codecs(names: Sequence[str] | None = None, inter_model: str | None = None) -> list[FilmCodec]:
    """The codecs of these names, or all. Raises InputError."""
    every: list[FilmCodec] = [FlowFilms(inter_model=inter_model), FlowFilms(intra=True, settings=(12, 26, 58)), *RIVALS]
    return named(names, {codec.name: codec for codec in every}) if names else every


@dataclass(frozen=True)
class ThinnedFilms:
    """A codec of films at the first and last of its settings: a quick look."""

    codec: FilmCodec

    @property
    def name(self) -> str:
        return self.codec.name

    @property
    def settings(self) -> tuple[float, ...]:
        return self.codec.settings[:: len(self.codec.settings) - 1]

    def describe(self) -> dict[str, Any]:
        return self.codec.describe()

    def encode(self, clip: Clip, setting: float) -> bytes:
        return self.codec.encode(clip, setting)

    def decode(self, data: bytes, clip: Clip) -> Decoded:
        return self.codec.decode(data, clip)
