"""Frames -> film: groups of pictures, motion, steps; written as a stream, a frame at a time."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

import numpy as np

from flowcodec.errors import InputError
from flowcodec.runtime.bundle import Model, load_model, shipped_models
from flowcodec.runtime.film import FilmBox, FilmHeader, FilmWriter
from flowcodec.runtime.step import log2_step, quality_to_step_index, step_index
from flowcodec.runtime.video import FrameEncoder, FrameHead
from flowcodec.video import search
from flowcodec.video.control import BitRate, Control, FixedStep
from flowcodec.video.packets import audio_payload, pack
from flowcodec.video.source import AudioPacket, FilmInfo, Frame

DEFAULT_GOP = 128
SHIPPED_INTER = "video"
MAX_GOP = 1 << 16
_PACKET_BYTES = 1 << 16
"""Audio is written when so much has come together, or with the next group."""
_HEADER_BYTES = 160


@dataclass(frozen=True)
class VideoSettings:
    """How to encode a film; every field has the default of the command line."""

    quality: float = 60
    step: float | None = None
    bitrate_kbps: float | None = None
    """Of the whole file, audio included."""
    gop: int = DEFAULT_GOP
    """Frames from one I-frame to the next, at most."""
    intra: bool = False
    """I-frames only."""
    intra_model: str = "default"
    inter_model: str | None = None
    """The model of P-frames; the shipped one by default, I-frames only where there is none."""
    threads: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.quality <= 100:
            raise InputError(f"quality: expected 0 to 100, found {self.quality}")
        if self.step is not None and not self.step > 0:
            raise InputError(f"step: expected a positive number, found {self.step}")
        if self.bitrate_kbps is not None and not self.bitrate_kbps > 0:
            raise InputError(f"bitrate: expected a positive number of kilobits per second, found {self.bitrate_kbps}")
        if not 1 <= self.gop <= MAX_GOP:
            raise InputError(f"gop: expected 1 to {MAX_GOP} frames, found {self.gop}")
        if self.threads is not None and self.threads < 1:
            raise InputError(f"threads: expected at least 1, found {self.threads}")

    @property
    def step_index(self) -> int:
        return quality_to_step_index(self.quality) if self.step is None else step_index(self.step)

    def models(self) -> tuple[Model, Model]:
        """(for I-frames, for P-frames); one for both where there are no P-frames."""
        intra = load_model(self.intra_model)
        name = self.inter_model or (SHIPPED_INTER if SHIPPED_INTER in shipped_models() else None)
        return intra, intra if self.intra or name is None else load_model(name)


class FilmEncoder:
    """Takes frames and audio packets as they come; ``finish`` ends the file. Raises InputError."""

    def __init__(
        self,
        stream: BinaryIO,
        info: FilmInfo,
        settings: VideoSettings,
        audio: tuple[bytes, list[Fraction]] | None = None,
    ) -> None:
        self.settings = settings
        intra, inter = settings.models()
        ticks = 1 / (info.rate * info.time_base)
        self.header = FilmHeader(
            width=info.width,
            height=info.height,
            time_numerator=info.time_base.numerator,
            time_denominator=info.time_base.denominator,
            ticks_numerator=ticks.numerator,
            ticks_denominator=ticks.denominator,
            intra_model=intra.id,
            inter_model=inter.id,
            aspect_numerator=info.aspect.numerator,
            aspect_denominator=info.aspect.denominator,
            primaries=info.primaries,
            transfer=info.transfer,
            matrix=info.matrix,
            full_range=info.full_range,
            subsampling=info.subsampling,
        )
        self._writer = FilmWriter(stream, self.header, None if audio is None else audio_payload(*audio))
        self._coder = FrameEncoder(intra, inter, settings.threads)
        self._intra_only = inter is intra
        self._control = self._make_control(info)
        self._packets: list[AudioPacket] = []
        self._packet_bytes = 0
        self._previous: np.ndarray | None = None
        self._group_frames = self._group_step = self._time = self._index = 0
        self._first_time: int | None = None
        self.kinds = {kind: 0 for kind in (FilmBox.INTRA, FilmBox.INTER, FilmBox.REPEAT)}

    def _make_control(self, info: FilmInfo) -> Control:
        settings = self.settings
        if settings.bitrate_kbps is None:
            return FixedStep(settings.step_index)
        overhead = 8.0 * (self._writer.size_bytes + _HEADER_BYTES)
        return BitRate(1000 * settings.bitrate_kbps, float(info.rate), info.width * info.height, info.frames, overhead)

    @property
    def size_bytes(self) -> int:
        return self._writer.size_bytes

    @property
    def frames(self) -> int:
        return self._writer.frames

    @property
    def seconds(self) -> float:
        """From the first frame to the end of the last one."""
        first = self._first_time or 0
        last = self.header.ticks_numerator / self.header.ticks_denominator
        return (self._time - first + last) * self.header.time_numerator / self.header.time_denominator

    def picture(self) -> np.ndarray:
        """uint8 (H, W, 3): the last frame as it will be decoded."""
        return self._coder.picture()

    def packet(self, packet: AudioPacket) -> None:
        self._packets.append(packet)
        self._packet_bytes += len(packet.data)
        if self._packet_bytes >= _PACKET_BYTES and self.frames:
            self._flush_packets()

    def _flush_packets(self) -> None:
        if self._packets:
            self._writer.packets(pack(self._packets))
            self._control.charge(8 * self._packet_bytes)
            self._packets, self._packet_bytes = [], 0

    def frame(self, frame: Frame) -> FilmBox:
        """Encodes a frame; returns what it became."""
        pixels = frame.pixels
        expected = (self.header.height, self.header.width, 3)
        if pixels.dtype != np.uint8 or pixels.shape != expected:
            raise InputError(f"frame {self.frames}: expected uint8 {expected}, found {pixels.dtype} {pixels.shape}")
        before = self._writer.size_bytes
        previous = self._previous if self._group_frames < self.settings.gop else None
        if previous is not None and not self.settings.intra and np.array_equal(pixels, previous):
            kind = FilmBox.REPEAT
            self._writer.frame(kind, FrameHead(self._late(frame.time)).to_bytes())
        else:
            kind = self._coded(frame, previous is not None and not self._intra_only)
        self._control.spent(self._writer.size_bytes - before, kind == FilmBox.INTRA)
        self._time, self._previous = frame.time, pixels
        self._first_time = frame.time if self._first_time is None else self._first_time
        self._group_frames += 1
        self.kinds[kind] += 1
        return kind

    def _coded(self, frame: Frame, may_look_back: bool) -> FilmBox:
        motion = None
        if may_look_back:
            motion = search.estimate(frame.pixels, self._coder.picture(), 2.0 ** log2_step(self._index), self._coder.vectors)
        if motion is None or motion.cut:
            self._index = self._control.choose(intra=True)
            self._begin_group(frame.time)
            self._writer.frame(FilmBox.INTRA, FrameHead().to_bytes() + self._coder.intra(frame.pixels, self._index))
            return FilmBox.INTRA
        self._index = self._control.choose(intra=False)
        stream = self._coder.inter(frame.pixels, motion.vectors, motion.block, self._index)
        head = FrameHead(self._late(frame.time), self._index - self._group_step, motion.block)
        self._writer.frame(FilmBox.INTER, head.to_bytes() + stream)
        return FilmBox.INTER

    def _begin_group(self, time: int) -> None:
        if self.frames:
            self._flush_packets()
        self._group_frames = 0
        self._group_step = self._index
        self._writer.group(time, self._group_step)

    def _late(self, time: int) -> int:
        """Ticks after the time that a constant rate leads one to expect."""
        number = self.frames
        return time - self._time - (self.header.ticks_before(number) - self.header.ticks_before(number - 1))

    def finish(self) -> None:
        if not self.frames:
            raise InputError("expected at least one frame, found none")
        self._flush_packets()
        self._writer.finish()


def encode_frames(
    stream: BinaryIO, frames: Iterable[np.ndarray], rate: Fraction, settings: VideoSettings, count: int | None = None
) -> FilmEncoder:
    """Frames uint8 (H, W, 3) at a constant rate, to a stream."""
    encoder: FilmEncoder | None = None
    for number, pixels in enumerate(frames):
        pixels = np.asarray(pixels)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise InputError(f"frame {number}: expected uint8 (H, W, 3), found {pixels.dtype} {pixels.shape}")
        if encoder is None:
            height, width = pixels.shape[:2]
            info = FilmInfo(width, height, 1 / rate, rate, full_range=True, subsampling=2, frames=count)
            encoder = FilmEncoder(stream, info, settings)
        encoder.frame(Frame(pixels, number))
    if encoder is None:
        raise InputError("expected at least one frame, found none")
    encoder.finish()
    return encoder
