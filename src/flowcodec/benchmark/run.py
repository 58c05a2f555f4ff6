"""The benchmark: every codec, image and setting as one row with real bytes and a real decode, kept in one JSON file.

A run can be stopped and started again at any time: rows are kept as they come (the file is replaced whole, never in part), and
a row is measured again only when the image, or what its codec says of itself (version, options, model), is no longer the same.
"""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from flowcodec.benchmark.datasets import DatasetImage, find_images, pixel_hash
from flowcodec.benchmark.environment import environment
from flowcodec.benchmark.summary import read_anchors, summarise
from flowcodec.errors import InputError
from flowcodec.runtime.quality import ms_ssim, psnr_db

FORMAT = 1
Progress = Callable[[int, int], None]


class Codec(Protocol):
    """What the benchmark asks of a codec."""

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> tuple[float, ...]: ...

    def describe(self) -> dict[str, Any]:
        """Everything that decides the bytes: version, options, model."""

    def encode(self, pixels: np.ndarray, setting: float) -> bytes:
        """uint8 (H, W, 3) -> a whole file"""

    def decode(self, data: bytes) -> np.ndarray:
        """A file -> uint8 (H, W, 3)"""


@dataclass(frozen=True)
class Row:
    """One measurement. Times are of one call in a warm process, None where nothing was timed; MS-SSIM is None for tiny images."""

    codec: str
    image: str
    setting: float
    size_bytes: int
    bpp: float
    psnr_db: float
    ms_ssim: float | None
    encode_s: float | None
    decode_s: float | None


@dataclass(frozen=True)
class Task:
    """All settings of one codec that are still to be measured on one image."""

    codec: Codec
    image: DatasetImage
    settings: tuple[float, ...]
    timing: bool


def run_benchmark(
    paths: Sequence[Path],
    codecs: Sequence[Codec],
    out: Path,
    *,
    workers: int = 1,
    timing: bool = True,
    resume: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measures ``codecs`` on the images of ``paths`` and writes ``out``; returns what it wrote.

    Published curves are read from ``anchors/kodak_anchors.json`` beside ``out``, where that exists. Rows of codecs that are not
    in this run stay. ``timing=False`` is for a machine that is busy with something else; ``resume=False`` measures anew.
    ``progress(done, total)`` counts rows. Raises InputError.
    """
    if workers < 1:
        raise InputError(f"workers: expected at least 1, found {workers}")
    images = find_images(paths)
    document = _Document(out, images)
    surroundings = environment() | {"workers": workers, "timed": timing}
    tasks = []
    for codec in codecs:
        document.begin(codec, surroundings, resume)
        for image in images:
            missing = tuple(s for s in codec.settings if (codec.name, image.name, s) not in document.rows)
            if missing:
                tasks.append(Task(codec, image, missing, timing))
    total = sum(len(task.settings) for task in tasks)
    done = 0
    for rows in _execute(tasks, workers):
        document.add(rows)
        done += len(rows)
        if progress is not None:
            progress(done, total)
    return document.write()


def measure(task: Task) -> list[Row]:
    """The rows of one task. Raises InputError where a decoded picture is not as large as the image."""
    pixels = task.image.pixels()
    codec = task.codec
    if task.timing:
        codec.decode(codec.encode(pixels, task.settings[0]))
    return [_measure_one(task, pixels, setting) for setting in task.settings]


def _measure_one(task: Task, pixels: np.ndarray, setting: float) -> Row:
    start = perf_counter()
    data = task.codec.encode(pixels, setting)
    encoded = perf_counter()
    decoded = task.codec.decode(data)
    end = perf_counter()
    if decoded.shape != pixels.shape or decoded.dtype != np.uint8:
        raise InputError(f"{task.codec.name}: expected uint8 {pixels.shape}, decoded {decoded.dtype} {decoded.shape}")
    return Row(
        codec=task.codec.name,
        image=task.image.name,
        setting=setting,
        size_bytes=len(data),
        bpp=8 * len(data) / (pixels.shape[0] * pixels.shape[1]),
        psnr_db=psnr_db(pixels, decoded),
        ms_ssim=ms_ssim(pixels, decoded),
        encode_s=encoded - start if task.timing else None,
        decode_s=end - encoded if task.timing else None,
    )


def _execute(tasks: Sequence[Task], workers: int) -> Iterable[list[Row]]:
    """Rows of each task as they come; several workers are processes, each bound to a core of its own."""
    if workers == 1:
        yield from map(measure, tasks)
        return
    context = multiprocessing.get_context("spawn")
    cores = context.SimpleQueue()
    available = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    for worker in range(workers):
        cores.put(available[worker % len(available)] if available else None)
    with ProcessPoolExecutor(workers, context, initializer=_bind, initargs=(cores,)) as pool:
        for future in as_completed([pool.submit(measure, task) for task in tasks]):
            yield future.result()


def _bind(cores: Any) -> None:
    core = cores.get()
    if core is not None:
        os.sched_setaffinity(0, {core})


class _Document:
    """The results file: images, codecs, rows, and the summary made of them."""

    def __init__(self, path: Path, images: Sequence[DatasetImage]) -> None:
        self.path = path
        self.images = {image.name: _identity(image.pixels()) for image in images}
        old = _read(path)
        same = {name for name, identity in old.get("images", {}).items() if self.images.get(name) == identity}
        self.codecs: dict[str, dict[str, Any]] = old.get("codecs", {})
        self.rows = {_key(row): row for row in (Row(**fields) for fields in old.get("rows", [])) if row.image in same}
        anchors = path.parent / "anchors" / "kodak_anchors.json"
        self.anchors = read_anchors(anchors) if anchors.exists() else None

    def begin(self, codec: Codec, surroundings: dict[str, Any], resume: bool) -> None:
        """Keeps the rows of a codec that are still valid, and notes under what the others are measured."""
        description = codec.describe()
        old = self.codecs.get(codec.name, {})
        kept = []
        if resume and _without(old, "environment") == json.loads(json.dumps(description)):
            kept = [row for row in self.rows.values() if row.codec == codec.name and row.setting in codec.settings]
            same_machine = _machine(old["environment"]) == _machine(surroundings)
            if surroundings["timed"]:
                kept = [row for row in kept if same_machine and row.encode_s is not None]
            elif not same_machine:
                kept = [replace(row, encode_s=None, decode_s=None) for row in kept]
        self.rows = {key: row for key, row in self.rows.items() if row.codec != codec.name} | {_key(row): row for row in kept}
        complete = len(kept) == len(codec.settings) * len(self.images)
        self.codecs[codec.name] = {**description, "environment": old["environment"] if complete else surroundings}

    def add(self, rows: Iterable[Row]) -> None:
        self.rows |= {_key(row): row for row in rows}
        self.write()

    def write(self) -> dict[str, Any]:
        """Replaces the file; rows in a fixed order, so that equal measurements give equal files."""
        order = {name: position for position, name in enumerate(self.codecs)}
        rows = sorted(self.rows.values(), key=lambda row: (order[row.codec], row.image, row.setting))
        plain = [asdict(row) for row in rows]
        codecs = {name: codec for name, codec in self.codecs.items() if any(row.codec == name for row in rows)}
        summary = summarise(plain, list(self.images), self.anchors)
        document = {"format": FORMAT, "images": self.images, "codecs": codecs, **summary, "rows": plain}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".partial")
        partial.write_text(_dump(document))
        os.replace(partial, self.path)
        return document


def _key(row: Row) -> tuple[str, str, float]:
    return row.codec, row.image, row.setting


def _identity(pixels: np.ndarray) -> dict[str, Any]:
    height, width = pixels.shape[:2]
    return {"width": width, "height": height, "sha256": pixel_hash(pixels)}


def _machine(surroundings: dict[str, Any]) -> tuple[Any, Any]:
    """What times may be compared under."""
    return surroundings["machine"], surroundings["workers"]


def _without(mapping: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key != name}


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        document = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: cannot read earlier results ({error}); move the file away to begin anew") from error
    if document.get("format") != FORMAT:
        raise InputError(f"{path}: expected results of format {FORMAT}, found {document.get('format')}; move the file away")
    return document


def _dump(document: dict[str, Any]) -> str:
    """JSON with a row on each line, so that a changed measurement is a changed line."""
    head = json.dumps(_without(document, "rows"), indent=1)
    rows = ",\n".join("  " + json.dumps(row) for row in document["rows"])
    return f'{head[:-2]},\n "rows": [\n{rows}\n ]\n}}\n'
