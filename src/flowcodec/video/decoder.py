"""Film -> frames and audio packets, from any frame on: only the group of pictures that it is in is decoded before it."""

import io
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from flowcodec.errors import FormatError, InputError, WrongModel
from flowcodec.runtime.bundle import Model, find_model
from flowcodec.runtime.film import FRAMES, Entry, FilmBox, FilmPart, FilmReader, Group
from flowcodec.runtime.video import FrameDecoder
from flowcodec.video.packets import parse_audio, unpack
from flowcodec.video.pool import GroupPool, frames_ahead, in_order, make_coders
from flowcodec.video.source import AudioPacket

_AUDIO_APART_S = 2
"""Audio may lie this far, in the film's time, from the frames that it is heard with."""


@dataclass(frozen=True)
class DecodedFrame:
    """A frame, the same on every machine."""

    pixels: np.ndarray
    """uint8 (H, W, 3)"""
    number: int
    """In the film, from 0."""
    time: Fraction
    """Seconds."""


class Film:
    """A film of this codec, from a file, bytes or a stream that can seek. Iterating gives its frames.

    ``threads``: so many groups of pictures are decoded side by side, as many as there are cores by default.
    ``partial``: of a film that is cut short or damaged, what there is up to there. Raises FormatError and its kinds, LimitError,
    InputError, MissingModel, WrongModel.
    """

    def __init__(
        self,
        source: Path | str | bytes | BinaryIO,
        *,
        threads: int | None = None,
        models: tuple[Model, ...] = (),
        partial: bool = False,
        optimise: bool = True,
    ) -> None:
        self._threads, self._given, self._partial, self._optimise = threads, models, partial, optimise
        self._owned = isinstance(source, (Path, str))
        self._stream = _open(source)
        try:
            self._reader = FilmReader(self._stream)
            self.header = self._reader.header
            self.groups = self._index()
            self.audio_time_bases: list[Fraction] = []
            self.audio_template: bytes | None = None
            if self._reader.audio is not None:
                self.audio_time_bases, self.audio_template = parse_audio(self._reader.audio)
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._owned:
            self._stream.close()

    def _index(self) -> list[Entry]:
        if not self._partial:
            return self._reader.index()
        with suppress(FormatError):
            return self._reader.index()
        return self._reader.scan()

    @property
    def size_bytes(self) -> int:
        return self._reader.size_bytes

    @property
    def frames(self) -> int:
        """How many there are; of a damaged film, at most."""
        return self.groups[-1].first_frame + self.groups[-1].frames if self.groups else 0

    @property
    def time_base(self) -> Fraction:
        """Seconds of a tick."""
        return Fraction(self.header.time_numerator, self.header.time_denominator)

    @property
    def rate(self) -> Fraction:
        """Frames per second, where the times do not say otherwise."""
        return 1 / (self.time_base * Fraction(self.header.ticks_numerator, self.header.ticks_denominator))

    def frame_at(self, seconds: float) -> int:
        """Number of the frame that is seen at a time after the first one. Raises InputError beyond the end."""
        ticks = self.groups[0].time + Fraction(seconds) / self.time_base if self.groups else Fraction(0)
        group = self.groups[max(bisect_right([entry.time for entry in self.groups], ticks) - 1, 0)] if self.groups else None
        number = group.first_frame if group else 0
        if group:
            ahead = int((ticks - group.time) * self.time_base * self.rate)
            number += min(max(ahead, 0), group.frames - 1)
            last = group is self.groups[-1] and ahead >= group.frames
            if last:
                raise InputError(f"start: the film ends before {seconds:g} s")
        return number

    def __iter__(self) -> Iterator[DecodedFrame]:
        return (item for item in self.items(audio=False) if isinstance(item, DecodedFrame))

    def __getitem__(self, wanted: slice | int) -> Any:
        """A frame by number, or an iterator over some, of which only what they need is decoded."""
        if isinstance(wanted, slice):
            first, last, stride = wanted.indices(self.frames)
            if stride != 1:
                raise InputError(f"expected a range of frames with stride 1, found {stride}")
            return (item for item in self.items(first, last, audio=False) if isinstance(item, DecodedFrame))
        number = range(self.frames)[wanted]
        return next(iter(self[number : number + 1]))

    def items(self, first: int = 0, last: int | None = None, audio: bool = True) -> Iterator[DecodedFrame | AudioPacket]:
        """Frames ``first`` ... ``last - 1`` and the audio packets between, as they lie in the file."""
        last = self.frames if last is None else min(last, self.frames)
        if not 0 <= first <= last:
            raise InputError(f"frames: expected a range inside 0 to {self.frames}, found {first} to {last}")
        if first == last:
            return
        entry = self.groups[bisect_right([group.first_frame for group in self.groups], first) - 1]
        try:
            if audio and entry.offset != self.groups[0].offset:
                yield from self._packets_before(entry)
            yield from self._decode(entry, first, last, audio)
        except FormatError:
            if not self._partial:
                raise

    def _packets_before(self, entry: Entry) -> Iterator[AudioPacket]:
        """Audio of the seconds before a group: some of it may belong to its frames."""
        earliest = entry.time - _AUDIO_APART_S / self.time_base
        before = next(group for group in self.groups if group.time >= earliest or group is entry)
        for part in self._reader.boxes(before.offset):
            if part.offset >= entry.offset:
                return
            if part.kind == FilmBox.PACKETS:
                yield from unpack(part.payload, self.audio_time_bases)

    def _decode(self, entry: Entry, first: int, last: int, audio: bool) -> Iterator[DecodedFrame | AudioPacket]:
        audio = audio and bool(self.audio_time_bases)
        chosen = [group for group in self.groups if group.first_frame + group.frames > first and group.first_frame < last]
        threads = self._threads or os.cpu_count() or 1
        workers = min(threads, len(chosen))
        longest = max(group.frames for group in chosen)
        pixels = self.header.width * self.header.height
        settings = self.header, *self._models(), threads // workers, self._optimise
        coders: list[_PartCoder] = make_coders(
            workers, pixels * (last - first), _make_coder, settings, first, self.audio_time_bases
        )
        ahead = frames_ahead(workers, longest, pixels)
        with GroupPool(coders, workers * longest, ahead) as pool:
            for items in in_order(pool, self._parts(entry, last, audio), lambda part: part.kind == FilmBox.GROUP):
                yield from items

    def _parts(self, entry: Entry, last: int, audio: bool) -> Iterator[FilmPart]:
        """The boxes to decode from a group on: frames before ``last``, and the audio that may belong to them."""
        number, end = entry.first_frame, None
        for part in self._reader.boxes(entry.offset):
            if part.kind == FilmBox.GROUP:
                group = Group.parse(part.payload)
                if group.first_frame != number:
                    raise FormatError(f"expected a group from frame {number} on, found {group.first_frame}; the file is damaged")
                if number < last:
                    yield part
                    continue
                end = group.time if end is None else end
                if not audio or group.time > end + _AUDIO_APART_S / self.time_base:
                    return
            elif part.kind in FRAMES:
                if number < last:
                    yield part
                number += 1
                if number == last and not audio:
                    return
            elif part.kind == FilmBox.PACKETS and audio:
                yield part
        if number < last:
            raise FormatError(f"expected {last} frames, found {number}; the file is damaged")

    def _models(self) -> tuple[Model, Model]:
        return self._model(self.header.intra_model), self._model(self.header.inter_model)

    def _model(self, model_id: bytes) -> Model:
        for model in self._given:
            if model.id == model_id:
                return model
        if self._given:
            found = ", ".join(model.id.hex() for model in self._given)
            with suppress(Exception):
                return find_model(model_id)
            raise WrongModel(f"the film needs model {model_id.hex()}, found {found}; pass another --model")
        return find_model(model_id)


_PartCoder = Callable[[FilmPart], list[DecodedFrame | AudioPacket]]


class _PartDecoder:
    """Boxes of a group, one after the other, to what is shown and heard of them."""

    def __init__(self, decoder: FrameDecoder, first: int, audio_time_bases: list[Fraction]) -> None:
        self._decoder, self._first, self._bases = decoder, first, audio_time_bases
        header = decoder.header
        self._time_base = Fraction(header.time_numerator, header.time_denominator)

    def __call__(self, part: FilmPart) -> list[DecodedFrame | AudioPacket]:
        decoder = self._decoder
        if part.kind == FilmBox.PACKETS:
            return list(unpack(part.payload, self._bases))
        if part.kind == FilmBox.GROUP:
            decoder.begin(Group.parse(part.payload))
            return []
        decoder.frame(part)
        if decoder.number < self._first:
            return []
        return [DecodedFrame(decoder.picture(), decoder.number, decoder.time * self._time_base)]


def _make_coder(settings: tuple[Any, ...], first: int, audio_time_bases: list[Fraction]) -> _PartCoder:
    """``settings``: the arguments of ``FrameDecoder``."""
    return _PartDecoder(FrameDecoder(*settings), first, audio_time_bases)


def _open(source: Path | str | bytes | BinaryIO) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not isinstance(source, (Path, str)):
        return source
    try:
        return Path(source).open("rb")
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror})") from error


def shifted(packet: AudioPacket, seconds: Fraction) -> AudioPacket:
    """The packet so much earlier."""
    ticks = round(seconds / packet.time_base)
    pts, dts = (None if time is None else time - ticks for time in (packet.pts, packet.dts))
    return replace(packet, pts=pts, dts=dts)
