"""Films in ``encode``, ``decode`` and ``info``. Imports are inside, as in ``cli``."""

import io
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, BinaryIO

import typer

from flowcodec.errors import InputError
from flowcodec.extras import extra
from flowcodec.jobs import STANDARD, Job

if TYPE_CHECKING:
    from flowcodec.runtime.bundle import Model
    from flowcodec.video.encoder import VideoSettings

_HEAD_BYTES = 4096
FILM_SUFFIXES = frozenset({".mkv", ".mp4", ".mov", ".webm", ".avi", ".y4m", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv"})
OUTPUT_SUFFIX = ".mkv"


@dataclass(frozen=True)
class Part:
    """Which frames of a film: by number, or from a time on."""

    first: int = 0
    last: int | None = None
    start_s: float | None = None

    @classmethod
    def parse(cls, frames: str | None, start: str | None) -> "Part":
        """``A:B`` and ``[[HH:]MM:]SS``. Raises typer.BadParameter."""
        if frames is not None and start is not None:
            raise typer.BadParameter("give only one of these", param_hint="--frames / --start")
        if start is not None:
            return cls(start_s=_seconds(start))
        if frames is None:
            return cls()
        begin, colon, end = frames.partition(":")
        try:
            first, last = int(begin or 0), int(end) if end else None
        except ValueError:
            first, last = -1, None
        if not colon or first < 0 or (last is not None and last <= first):
            raise typer.BadParameter(f"expected A:B with 0 <= A < B, found {frames!r}", param_hint="--frames")
        return cls(first, last)

    @property
    def whole(self) -> bool:
        return self == Part()


def _seconds(text: str) -> float:
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = []
    if not 1 <= len(parts) <= 3 or any(part < 0 for part in parts):
        raise typer.BadParameter(f"expected seconds, MM:SS or HH:MM:SS, found {text!r}", param_hint="--start")
    return sum(part * 60**power for power, part in enumerate(reversed(parts)))


def head_of(source: str) -> bytes:
    """The first bytes of an input; of standard input none, which is looked at when it has been read."""
    if source == STANDARD:
        return b""
    try:
        with Path(source).open("rb") as stream:
            return stream.read(_HEAD_BYTES)
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror})") from error


def encode_film(job: Job, settings: "VideoSettings", part: Part, audio: bool) -> dict[str, Any]:
    """A film of another format -> a .flow file; the facts about it. Needs the extra 'video'."""
    with extra("video"):
        from flowcodec.video.encoder import FilmEncoder
        from flowcodec.video.source import AudioPacket, FilmSource
    from flowcodec.progress import FilmReport

    opened: Path | io.BytesIO = io.BytesIO(sys.stdin.buffer.read()) if job.source == STANDARD else Path(job.source)
    with ExitStack() as stack:
        source = stack.enter_context(FilmSource(opened, "standard input" if job.source == STANDARD else job.source, audio))
        info = source.info
        count = _expected_frames(info.frames, float(info.rate), part)
        template = source.audio_template()
        stream = stack.enter_context(_output(job.target))
        sound = None if template is None else (template, source.audio_time_bases())
        encoder = stack.enter_context(FilmEncoder(stream, replace(info, frames=count), settings, sound))
        report = stack.enter_context(FilmReport("encoding", count))
        begun = perf_counter()
        pixels = info.width * info.height
        number = -1
        origin: int | None = None
        zero: Fraction | None = None
        waiting: list[AudioPacket] = []
        for item in source:
            if isinstance(item, AudioPacket):
                if zero is None:
                    waiting.append(item)
                elif _is_after(item, zero):
                    encoder.packet(_moved(item, zero, part))
                continue
            number += 1
            origin = item.time if origin is None else origin
            late = float((item.time - origin) * info.time_base)
            if part.last is not None and number >= part.last:
                break
            if number < part.first or (part.start_s is not None and late < part.start_s):
                waiting.clear()
                continue
            if zero is None:
                zero = Fraction(0) if part.whole else item.time * info.time_base
                for packet in waiting:
                    if part.whole or _is_after(packet, zero):
                        encoder.packet(_moved(packet, zero, part))
                waiting.clear()
            encoder.frame(item if part.whole else replace(item, time=item.time - round(zero / info.time_base)))
            report(encoder.frames)
        if not encoder.frames:
            raise InputError(f"{job.source}: has {number + 1} frames, none of them in the range asked for")
        encoder.finish()
        elapsed = perf_counter() - begun
    seconds = encoder.seconds
    return {
        "file": job.target,
        "width": info.width,
        "height": info.height,
        "frames": encoder.frames,
        "seconds": round(seconds, 3),
        "size_bytes": encoder.size_bytes,
        "kbps": round(8 * encoder.size_bytes / 1000 / seconds, 2),
        "bpp": round(8 * encoder.size_bytes / pixels / encoder.frames, 4),
        "fps": round(encoder.frames / elapsed, 2),
        "frame_kinds": {kind.name: count for kind, count in encoder.kinds.items()},
    }


def _expected_frames(frames: int | None, rate: float, part: Part) -> int | None:
    if part.last is not None:
        return (part.last if frames is None else min(part.last, frames)) - part.first
    if frames is None:
        return None
    return max(frames - (part.first if part.start_s is None else round(part.start_s * rate)), 1)


def _is_after(packet: Any, seconds: Fraction) -> bool:
    return packet.pts is None or packet.pts * packet.time_base >= seconds


def _moved(packet: Any, seconds: Fraction, part: Part) -> Any:
    from flowcodec.video.decoder import shifted

    return packet if part.whole else shifted(packet, seconds)


@contextmanager
def _output(target: str) -> Iterator[BinaryIO]:
    """A file, whole or not at all, or stdout unless it is a terminal."""
    from flowcodec.video.place import whole_file

    if target != STANDARD:
        with whole_file(Path(target)) as place, place.open("wb") as stream:
            yield stream
    elif sys.stdout.isatty():
        raise InputError("standard output is a terminal; give a file, or send it through a pipe")
    else:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()


def decode_film(
    job: Job, part: Part, threads: int | None, models: "tuple[Model, ...]", partial: bool, crf: float | None, audio: bool
) -> dict[str, Any]:
    """A .flow film -> another format; the facts about it. Needs the extra 'video'."""
    with extra("video"):
        from flowcodec.video.sink import Output, open_sink
    from flowcodec.progress import FilmReport
    from flowcodec.video.decoder import DecodedFrame, Film, shifted

    source: Any = sys.stdin.buffer.read() if job.source == STANDARD else job.source
    with ExitStack() as stack:
        film = stack.enter_context(Film(source, threads=threads, models=models, partial=partial))
        first = part.first if part.start_s is None else film.frame_at(part.start_s)
        last = film.frames if part.last is None else min(part.last, film.frames)
        if first >= last:
            raise InputError(f"{job.source}: has {film.frames} frames, none of them in the range asked for")
        template = film.audio_template if audio else None
        output = Output(film.header, film.rate, film.time_base, template, crf)
        report = stack.enter_context(FilmReport("decoding", last - first))
        if job.target == STANDARD and sys.stdout.isatty():
            raise InputError("standard output is a terminal; give a file, or send it through a pipe")
        sink = stack.enter_context(open_sink(sys.stdout.buffer if job.target == STANDARD else job.target, output))
        begun = perf_counter()
        done = 0
        zero: Fraction | None = Fraction(0) if first == 0 else None
        waiting: list[Any] = []
        end: Fraction | None = None
        for item in film.items(first, last, audio=template is not None):
            if isinstance(item, DecodedFrame):
                if zero is None:
                    zero = item.time
                    for packet in waiting:
                        if _is_after(packet, zero):
                            sink.packet(shifted(packet, zero))
                    waiting.clear()
                sink.frame(item.pixels, item.time - zero)
                done += 1
                report(done)
                end = item.time + 1 / film.rate
            elif zero is None:
                waiting.append(item)
            elif (first == 0 or _is_after(item, zero)) and (last == film.frames or end is None or not _is_after(item, end)):
                sink.packet(shifted(item, zero))
        elapsed = perf_counter() - begun
    header = film.header
    facts = {"file": job.target, "width": header.width, "height": header.height, "frames": done}
    if partial and done < last - first:
        facts["missing_frames"] = last - first - done
    return facts | {"fps": round(done / elapsed, 2)}


def renamed(job: Job) -> Job:
    """A film that is decoded into a folder."""
    return Job(job.source, str(Path(job.target).with_suffix(OUTPUT_SUFFIX)))


def describe_film(source: str, partial: bool) -> dict[str, Any]:
    """What ``info`` shows of a film, without decoding it."""
    from flowcodec.jobs import read_bytes
    from flowcodec.video.decoder import Film

    with Film(read_bytes(source) if source == STANDARD else source, partial=partial) as film:
        header = film.header
        seconds = float(film.frames / film.rate)
        return {
            "width": header.width,
            "height": header.height,
            "frames": film.frames,
            "groups": len(film.groups),
            "fps": round(float(film.rate), 3),
            "seconds": round(seconds, 3),
            "size_bytes": film.size_bytes,
            "kbps": round(8 * film.size_bytes / 1000 / seconds, 2) if seconds else None,
            "audio_streams": len(film.audio_time_bases),
            "intra_model": header.intra_model.hex(),
            "inter_model": header.inter_model.hex(),
        }


def text_of(facts: dict[str, Any], verb: str) -> str:
    """One line about a film that was written."""
    size = f"{facts['width']}x{facts['height']}, {facts['frames']} frames"
    rate = f", {facts['size_bytes']} bytes, {facts['kbps']} kbit/s" if "size_bytes" in facts else ""
    missing = f", {facts['missing_frames']} more are missing or damaged" if facts.get("missing_frames") else ""
    return f"{facts['file']}: {size}{rate}, {verb} at {facts['fps']} fps{missing}"
