"""Which file becomes which, reading and writing them, and - for stdin and stdout: what the commands share."""

import io
import os
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowcodec.errors import FlowCodecError, InputError
from flowcodec.text import one_line

if TYPE_CHECKING:
    import numpy as np

    from flowcodec.runtime.bundle import Model
    from flowcodec.runtime.image import Picture

STANDARD = "-"
"""stdin where an input is expected, stdout where an output is."""
_LOSSY_SUFFIXES = {".jpg", ".jpeg", ".webp", ".avif", ".jp2", ".j2k"}


@dataclass(frozen=True)
class Job:
    source: str
    target: str


@dataclass(frozen=True)
class Plan:
    jobs: list[Job]
    into_folder: bool
    """Whether the outputs go to a folder, named after the inputs."""


def plan(inputs: Sequence[str], out: str, wanted: Collection[str], suffix: str) -> Plan:
    """What becomes what: one file, or files and folders (of their files with ``wanted`` extensions) into a folder.

    Creates the folder. Raises InputError where a file would be written twice or over an input, or where there is none.
    """
    folders = {name for name in inputs if name != STANDARD and Path(name).is_dir()}
    out_is_folder = out != STANDARD and (out.endswith(os.sep) or Path(out).is_dir())
    if len(inputs) == 1 and not folders and not out_is_folder:
        jobs = [Job(inputs[0], out)]
        _refuse_overwriting(jobs)
        return Plan(jobs, into_folder=False)
    if out == STANDARD or STANDARD in inputs:
        raise InputError("- stands for a single file; give one input and one output, or files and a folder")
    sources: list[Path] = []
    for name in inputs:
        sources += _files_of(Path(name), wanted) if name in folders else [Path(name)]
    jobs = [Job(str(source), str(Path(out) / f"{source.stem}{suffix}")) for source in sources]
    _refuse_overwriting(jobs)
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: expected a folder for several outputs ({error.strerror})") from error
    return Plan(jobs, into_folder=True)


def _files_of(folder: Path, wanted: Collection[str]) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in wanted)
    if not found:
        raise InputError(f"{folder}: no files to work on; expected names ending in {', '.join(sorted(wanted))}")
    return found


def _refuse_overwriting(jobs: Sequence[Job]) -> None:
    made_of: dict[str, str] = {}
    for job in jobs:
        if job.target != STANDARD and os.path.realpath(job.target) == os.path.realpath(job.source):
            raise InputError(f"{job.target}: is both input and output; give another output")
        other = made_of.setdefault(job.target, job.source)
        if other != job.source:
            raise InputError(f"{job.target}: would be made of both {other} and {job.source}; rename one or use two folders")


def run(plan: Plan, work: Callable[[Job], str], description: str) -> None:
    """One file: the line that ``work`` returns goes to stderr. A folder: a bar; files that fail are reported, the others done."""
    if not plan.into_folder:
        print(work(plan.jobs[0]), file=sys.stderr)
        return
    from flowcodec.progress import over

    failed = 0
    with over(plan.jobs, description) as (counted, say):
        for job in counted:
            try:
                work(job)
            except FlowCodecError as error:
                failed += 1
                text = one_line(error)
                say(f"error: {text}" if job.source in text else f"error: {job.source}: {text}")
    if failed:
        raise InputError(f"{failed} of {len(plan.jobs)} files failed; the others are done")


def read_bytes(source: str) -> bytes:
    """Raises InputError."""
    if source == STANDARD:
        return sys.stdin.buffer.read()
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror})") from error


def read_image(source: str) -> "Picture":
    """Raises InputError, LimitError."""
    from flowcodec.runtime.image import read_picture

    return read_picture(Path(source)) if source != STANDARD else read_picture(_stream(read_bytes(source), "standard input"))


def read_mask(source: str) -> "np.ndarray":
    """uint8 (H, W) of a grey image. Raises InputError, LimitError."""
    picture = read_image(source)
    if picture.pixels.shape[2] != 1:
        raise InputError(f"{source}: expected a grey image as a mask, found colours; save it as grey")
    return picture.pixels[:, :, 0]


def read_any(source: str, model: "Model | None") -> "tuple[Picture, float | None]":
    """(picture, bits per pixel) of an image or a .flow file; the rate is None for formats that are not meant to be small."""
    from flowcodec.runtime.container import MAGIC
    from flowcodec.runtime.decode import decode_picture
    from flowcodec.runtime.image import read_picture

    data = read_bytes(source)
    is_ours = data.startswith(MAGIC)
    picture = decode_picture(data, model=model) if is_ours else read_picture(_stream(data, source))
    if not is_ours and Path(source).suffix.lower() not in _LOSSY_SUFFIXES:
        return picture, None
    return picture, 8 * len(data) / (picture.width * picture.height)


def _stream(data: bytes, name: str) -> io.BytesIO:
    stream = io.BytesIO(data)
    stream.name = name  # for messages
    return stream


def write_bytes(target: str, data: bytes) -> None:
    """A file, whole or not at all, or stdout unless it is a terminal. Raises InputError."""
    if target != STANDARD:
        from flowcodec.runtime.image import write_whole

        write_whole(Path(target), data)
    elif sys.stdout.isatty():
        raise InputError("standard output is a terminal; give a file, or send it through a pipe")
    else:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
