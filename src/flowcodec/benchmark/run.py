"""The benchmark: every codec, image and setting as one row with real bytes and a real decode, kept in one JSON file.

A run can be stopped and started again at any time: rows are kept as they come (the file is replaced whole, never in part), and
a row is measured again only when the image, or what its codec says of itself (version, options, model), is no longer the same,
when it failed, or when a metric is asked for that it lacks.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any, TypeVar

import numpy as np

from flowcodec.benchmark.datasets import Kind, SourceImage, find_images
from flowcodec.benchmark.document import Codec, Document
from flowcodec.benchmark.environment import environment
from flowcodec.benchmark.metrics import METRICS, Compare, Metric
from flowcodec.benchmark.rows import Row
from flowcodec.errors import InputError

Progress = Callable[[int, int], None]
Result = TypeVar("Result")
Work = TypeVar("Work")
WRITE_EVERY_S = 30.0
"""What a power cut may cost; an interrupt costs nothing."""
USUAL = (METRICS["psnr"], METRICS["ms-ssim"])
_WARM: set[tuple[str, tuple[int, ...]]] = set()
"""Codecs that this process has run, and on what shape of picture: the first call takes longer than others."""


@dataclass(frozen=True)
class Wanted:
    """A setting that is still to be measured, and the metrics of the picture."""

    setting: float
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """All settings of one codec that are still to be measured on one image."""

    codec: Codec
    image: SourceImage
    wanted: tuple[Wanted, ...]
    wall: bool
    cpu: bool
    repeats: int


def run_benchmark(
    paths: Sequence[Path],
    codecs: Sequence[Codec],
    out: Path,
    *,
    kind: Kind = "auto",
    limit: int | None = None,
    metrics: Sequence[Metric] = USUAL,
    workers: int = 1,
    timing: bool = True,
    busy: bool = False,
    repeats: int = 1,
    resume: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measures ``codecs`` on the images of ``paths`` and writes ``out``; returns what it wrote.

    For the 24 Kodak images, published curves are read from ``anchors/kodak_anchors.json`` beside ``out``, where that exists.
    Rows of codecs that are not in this run stay; ``runs`` of the document says how long this one took. ``busy`` is for a machine
    that does other work too: CPU seconds are kept, wall seconds are not; without ``timing`` neither is. ``repeats`` is over how
    many calls a time is the median; ``resume=False`` measures anew. ``progress(done, total)`` counts rows. A codec that fails on
    an image gets a row that says so. Everything that
    can be refused is refused before the first codec runs. Raises InputError.
    """
    if workers < 1 or repeats < 1:
        raise InputError(f"workers, repeats: expected at least 1, found {workers}, {repeats}")
    images = find_images(paths, kind, limit)
    document = Document(out, images)
    surroundings = environment() | {"workers": workers, "timed": timing and not busy}
    for codec in codecs:
        document.begin(codec, surroundings, resume)
    tasks = []
    for image in images:
        for codec in reversed(codecs):  # ours, the slowest, is the last of the list: no worker shall wait for it at the end
            wanted = tuple(_missing(document, codec, image.name, metrics))
            if wanted:
                tasks.append(Task(codec, image, wanted, timing and not busy, timing, repeats))
    total = sum(len(task.wanted) for task in tasks)
    document.begin_run(codecs, surroundings, [metric.name for metric in metrics], total)
    done, written = 0, perf_counter()
    _WARM.clear()
    try:
        for rows in execute(measure, tasks, min(workers, len(tasks)) or 1):
            document.add(rows)
            if perf_counter() - written > WRITE_EVERY_S:
                document.write()
                written = perf_counter()
            done += len(rows)
            if progress is not None:
                progress(done, total)
    except BaseException:
        document.write()
        raise
    return document.write(intervals=True)


def _missing(document: Document, codec: Codec, image: str, metrics: Sequence[Metric]) -> Iterable[Wanted]:
    """Settings of ``codec`` on ``image`` to measure; a metric with ``every`` n counts at each n-th setting only."""
    for position, setting in enumerate(codec.settings):
        due = [metric for metric in metrics if position % metric.every == 0]
        if document.lacks(codec, image, setting, [column for metric in due for column in metric.columns]):
            yield Wanted(setting, tuple(metric.name for metric in due))


def measure(task: Task) -> list[Row]:
    """The rows of one task."""
    pixels = task.image.pixels()
    kind = task.codec.name, pixels.shape
    if task.cpu and kind not in _WARM:
        _WARM.add(kind)
        with suppress(Exception):  # what fails here fails again, and is noted, below
            task.codec.decode(task.codec.encode(pixels, task.wanted[0].setting))

    @cache
    def against_original(metric: str) -> Compare:
        return METRICS[metric].against(pixels)

    return [_measure_or_note(task, pixels, wanted, against_original) for wanted in task.wanted]


def _measure_or_note(task: Task, pixels: np.ndarray, wanted: Wanted, against_original: Callable[[str], Compare]) -> Row:
    """Whatever a rival's library raises is a result too: it failed on this image."""
    try:
        return _measure_one(task, pixels, wanted, against_original)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        return Row(task.codec.name, task.image.name, wanted.setting, size_bytes=None, bpp=None, error=text)


def _measure_one(task: Task, pixels: np.ndarray, wanted: Wanted, against_original: Callable[[str], Compare]) -> Row:
    data, encode_s, encode_cpu_s = _timed(lambda: task.codec.encode(pixels, wanted.setting), task.repeats)
    decoded, decode_s, decode_cpu_s = _timed(lambda: task.codec.decode(data), task.repeats)
    if decoded.shape != pixels.shape or decoded.dtype != np.uint8:
        raise InputError(f"{task.codec.name}: expected uint8 {pixels.shape}, decoded {decoded.dtype} {decoded.shape}")
    return Row(
        codec=task.codec.name,
        image=task.image.name,
        setting=wanted.setting,
        size_bytes=len(data),
        bpp=8 * len(data) / (pixels.shape[0] * pixels.shape[1]),
        measures={column: value for name in wanted.metrics for column, value in against_original(name)(decoded).items()},
        encode_s=encode_s if task.wall else None,
        decode_s=decode_s if task.wall else None,
        encode_cpu_s=encode_cpu_s if task.cpu else None,
        decode_cpu_s=decode_cpu_s if task.cpu else None,
    )


def _timed(call: Callable[[], Result], repeats: int) -> tuple[Result, float, float]:
    """(result, median wall seconds, median CPU seconds of this process)"""
    wall, cpu = [], []
    for _ in range(repeats):
        start = perf_counter(), process_time()
        result = call()
        wall.append(perf_counter() - start[0])
        cpu.append(process_time() - start[1])
    return result, median(wall), median(cpu)


def execute(measure: Callable[[Work], Result], tasks: Sequence[Work], workers: int) -> Iterable[Result]:
    """What is measured of each task, as it comes; several workers are processes, each bound to a core of its own."""
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
