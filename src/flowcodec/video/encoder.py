"""Frames -> film: groups of pictures, motion, steps; written as a stream, groups side by side."""

import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from flowcodec.errors import InputError
from flowcodec.runtime.bundle import Model, load_model, shipped_models
from flowcodec.runtime.film import FilmBox, FilmHeader, FilmWriter
from flowcodec.runtime.step import log2_step, quality_to_step_index, step_index
from flowcodec.runtime.video import CodedFrame, FrameEncoder, FrameHead
from flowcodec.video import search
from flowcodec.video.choice import cost, kept_share
from flowcodec.video.control import BitRate, Control, FixedStep
from flowcodec.video.packets import audio_payload, pack
from flowcodec.video.pool import GroupPool, frames_ahead, make_coders
from flowcodec.video.source import AudioPacket, FilmInfo, Frame

DEFAULT_GOP = 128
SHIPPED_INTER = "video"
MAX_GOP = 1 << 16
_PACKET_BYTES = 1 << 16
"""Audio is written when so much has come together, or with the next group."""
_HEADER_BYTES = 160
_DOUBTFUL = {False: 0.5, True: 0.6}
"""From this share of its wavelet coefficients' bits that a frame keeps beside its prediction, it is also coded without: in soft
clips P-frames then begin to cost more than I-frames, in others at 0.75. Frames with unpredicted blocks: from such a share of
these."""
_CLEAR, _ROOM = 0.25, 1.1
"""Where P-frames win by so many octaves of bytes, doubt begins for the rest of the group at so many times that frame's share."""
_WORTH = 0.03
"""Octaves that a frame with unpredicted blocks has to save beside an INTRA one, which takes half the time."""


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


@dataclass(frozen=True)
class _Planned:
    """What a box of a group is to be made of."""

    kind: FilmBox
    time: int = 0
    """In ticks: of a group's first frame its time, of others the difference from that at a constant rate."""
    pixels: np.ndarray | None = None
    packets: bytes = b""


@dataclass(frozen=True)
class _Coded:
    planned: _Planned
    kind: FilmBox
    """What it has become."""
    payload: bytes
    step_index: int
    picture: np.ndarray | None


class _GroupCoder:
    """Frames of a group, one after the other, to payloads."""

    def __init__(self, coder: FrameEncoder, control: Control, shown: bool) -> None:
        self._coder, self._control, self._shown = coder, control, shown
        self._group_step = self._index = 0
        self._doubtful = dict(_DOUBTFUL)

    def __call__(self, planned: _Planned) -> _Coded:
        if planned.kind == FilmBox.PACKETS:
            return _Coded(planned, planned.kind, planned.packets, 0, None)
        kind, payload = self._code(planned)
        picture = self._coder.picture() if self._shown else None
        return _Coded(replace(planned, pixels=None), kind, payload, self._index, picture)

    def _code(self, planned: _Planned) -> tuple[FilmBox, bytes]:
        coder, pixels = self._coder, planned.pixels
        if pixels is None:
            return FilmBox.REPEAT, FrameHead(planned.time).to_bytes()
        if planned.kind == FilmBox.INTRA:
            self._group_step = self._index = self._control.choose(intra=True)
            self._doubtful = dict(_DOUBTFUL)
            frame, head = coder.intra(pixels, self._index), FrameHead()
        else:
            motion = search.estimate(pixels, coder.picture(), 2.0 ** log2_step(self._index), coder.vectors)
            self._index = self._control.choose(intra=False)
            frame = self._cheaper(pixels, motion)
            head = FrameHead(planned.time, self._index - self._group_step)
            if frame.kind == FilmBox.INTER:
                head = replace(head, block=motion.block, some_unpredicted=motion.unpredicted is not None)
        coder.keep(frame)
        if frame.kind == FilmBox.INTRA:
            head = replace(head, turn=frame.turn)
        return frame.kind, head.to_bytes() + frame.stream

    def _cheaper(self, pixels: np.ndarray, motion: search.Motion) -> CodedFrame:
        """With the prediction or without."""
        prediction = self._coder.predict(motion.vectors, motion.block, motion.unpredicted)
        inter = self._coder.inter(pixels, motion.vectors, prediction, self._index, motion.unpredicted, motion.block)
        partial = motion.unpredicted is not None
        step = 2.0 ** log2_step(self._index)
        share = motion.unpredicted_share if partial else kept_share(pixels, prediction, step, self._coder.turn)
        if share < self._doubtful[partial]:
            return inter
        intra = self._coder.intra(pixels, self._index)
        gain = cost(intra, pixels) - cost(inter, pixels)
        if gain > _CLEAR:
            self._doubtful[partial] = _ROOM * share
        return inter if gain > (_WORTH if partial else 0) else intra


def _make_coder(settings: tuple[Any, ...], control: Control, shown: bool) -> _GroupCoder:
    """``settings``: the arguments of ``FrameEncoder``."""
    return _GroupCoder(FrameEncoder(*settings), control, shown)


class FilmEncoder:
    """Takes frames and audio packets as they come; ``finish`` ends the file. Raises InputError.

    With several threads as many groups of pictures are coded side by side, to the same bytes; a bit rate, which needs the size of
    every frame before the next, and a film of one group leave the threads to the networks instead. ``shown`` is called with each
    frame as it will be decoded, uint8 (H, W, 3), in order. To be used in a ``with`` block, which ends the threads.
    """

    def __init__(
        self,
        stream: BinaryIO,
        info: FilmInfo,
        settings: VideoSettings,
        audio: tuple[bytes, list[Fraction]] | None = None,
        shown: Callable[[np.ndarray], None] | None = None,
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
        self._intra_only = inter is intra
        self._control = self._make_control(info, inter is intra)
        self._shown = shown
        self._pool = self._make_pool(info, intra, inter)
        self._packets: list[AudioPacket] = []
        self._packet_bytes = 0
        self._previous: np.ndarray | None = None
        self._group_frames = self._time = self.frames = 0
        self._first_time: int | None = None
        self.kinds = {kind: 0 for kind in (FilmBox.INTRA, FilmBox.INTER, FilmBox.REPEAT)}
        """How many frames of each kind were written."""

    def _make_control(self, info: FilmInfo, all_intra: bool) -> Control:
        settings = self.settings
        if settings.bitrate_kbps is None:
            return FixedStep(settings.step_index, all_intra)
        overhead = 8.0 * (self._writer.size_bytes + _HEADER_BYTES)
        return BitRate(1000 * settings.bitrate_kbps, float(info.rate), info.width * info.height, info.frames, overhead, all_intra)

    def _make_pool(self, info: FilmInfo, intra: Model, inter: Model) -> GroupPool[_Planned, _Coded]:
        threads = self.settings.threads or os.cpu_count() or 1
        longest = 1 if self._intra_only else self.settings.gop
        one_group = info.frames is not None and info.frames <= longest
        workers = 1 if one_group or self.settings.bitrate_kbps is not None else threads
        pixels = None if info.frames is None else info.frames * info.width * info.height
        settings = intra, inter, threads // workers
        coders: list[Callable[[_Planned], _Coded]] = make_coders(
            workers, pixels, _make_coder, settings, self._control, self._shown is not None
        )
        waiting = frames_ahead(workers, longest, info.width * info.height)
        return GroupPool(coders, waiting, max(longest, waiting) * workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.close()

    @property
    def size_bytes(self) -> int:
        """Written so far; after ``finish`` all."""
        return self._writer.size_bytes

    @property
    def seconds(self) -> float:
        """From the first frame to the end of the last one."""
        first = self._first_time or 0
        last = self.header.ticks_numerator / self.header.ticks_denominator
        return (self._time - first + last) * self.header.time_numerator / self.header.time_denominator

    def packet(self, packet: AudioPacket) -> None:
        self._packets.append(packet)
        self._packet_bytes += len(packet.data)
        if self._packet_bytes >= _PACKET_BYTES and self.frames:
            self._flush_packets()

    def _flush_packets(self) -> None:
        if self._packets:
            self._put(_Planned(FilmBox.PACKETS, packets=pack(self._packets)))
            self._packets, self._packet_bytes = [], 0

    def frame(self, frame: Frame) -> FilmBox:
        """Takes a frame; returns what it is planned as: INTRA begins a group, an INTER frame may yet become INTRA.

        Its array must stay as it is.
        """
        pixels = frame.pixels
        expected = (self.header.height, self.header.width, 3)
        if pixels.dtype != np.uint8 or pixels.shape != expected:
            raise InputError(f"frame {self.frames}: expected uint8 {expected}, found {pixels.dtype} {pixels.shape}")
        kind = self._kind(pixels)
        if kind == FilmBox.INTRA:
            if self.frames:
                self._flush_packets()
            self._pool.begin()
            self._group_frames = 0
        if self._first_time is None:
            self._first_time = frame.time
        time = frame.time if kind == FilmBox.INTRA else self._late(frame.time)
        self._put(_Planned(kind, time, None if kind == FilmBox.REPEAT else pixels))
        self._time, self._previous = frame.time, pixels
        self._group_frames += 1
        self.frames += 1
        return kind

    def _kind(self, pixels: np.ndarray) -> FilmBox:
        previous = self._previous if self._group_frames < self.settings.gop else None
        if previous is None or self.settings.intra:
            return FilmBox.INTRA
        if np.array_equal(pixels, previous):
            return FilmBox.REPEAT
        return FilmBox.INTRA if self._intra_only or search.is_cut(pixels, previous) else FilmBox.INTER

    def _late(self, time: int) -> int:
        """Ticks after the time that a constant rate leads one to expect."""
        return time - self._time - (self.header.ticks_before(self.frames) - self.header.ticks_before(self.frames - 1))

    def _put(self, planned: _Planned) -> None:
        self._pool.put(planned)
        for coded in self._pool.ready():
            self._write(coded)
        while self._pool.full:
            self._write(self._pool.take())

    def _write(self, coded: _Coded) -> None:
        kind, before = coded.kind, self._writer.size_bytes
        if kind == FilmBox.PACKETS:
            self._writer.packets(coded.payload)
            self._control.charge(8 * (self._writer.size_bytes - before))
            return
        begins = coded.planned.kind == FilmBox.INTRA
        if begins:
            self._writer.group(coded.planned.time, coded.step_index)
        self._writer.frame(kind, coded.payload)
        self.kinds[kind] += 1
        self._control.spent(self._writer.size_bytes - before, begins)
        if self._shown is not None and coded.picture is not None:
            self._shown(coded.picture)

    def finish(self) -> None:
        if not self.frames:
            raise InputError("expected at least one frame, found none")
        self._flush_packets()
        for coded in self._pool.rest():
            self._write(coded)
        self._writer.finish()


def encode_frames(
    stream: BinaryIO, frames: Iterable[np.ndarray], rate: Fraction, settings: VideoSettings, count: int | None = None
) -> FilmEncoder:
    """Frames uint8 (H, W, 3) at a constant rate, to a stream."""
    encoder: FilmEncoder | None = None
    with ExitStack() as stack:
        for number, pixels in enumerate(frames):
            pixels = np.array(pixels)  # a copy: the caller may fill the same array again
            if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
                raise InputError(f"frame {number}: expected uint8 (H, W, 3), found {pixels.dtype} {pixels.shape}")
            if encoder is None:
                height, width = pixels.shape[:2]
                info = FilmInfo(width, height, 1 / rate, rate, full_range=True, subsampling=2, frames=count)
                encoder = stack.enter_context(FilmEncoder(stream, info, settings))
            encoder.frame(Frame(pixels, number))
        if encoder is None:
            raise InputError("expected at least one frame, found none")
        encoder.finish()
        return encoder
