"""The benchmark of films: every codec, clip and setting as one row with real bytes and a real decode, kept in one JSON file.

A run that is stopped goes on where it was. A row is measured again when the frames of its clip, or what its codec says of itself,
are no longer the same, or when it failed. Clips and codecs that a run does not name stay as they are.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from flowcodec.benchmark.document import write_rows
from flowcodec.benchmark.environment import environment
from flowcodec.benchmark.film_codecs import FilmCodec
from flowcodec.benchmark.film_summary import summary
from flowcodec.benchmark.films import Clip, about, measure, read_clip
from flowcodec.benchmark.run import execute
from flowcodec.errors import InputError

KIND = "films"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class FilmTask:
    """One setting of a codec on a clip."""

    codec: FilmCodec
    film: Path
    limit: int | None
    setting: float
    wall: bool


def run_films(
    films: Sequence[Path],
    codecs: Sequence[FilmCodec],
    out: Path,
    *,
    limit: int | None = None,
    workers: int = 1,
    busy: bool = False,
    resume: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measures ``codecs`` on the first ``limit`` frames of each film and writes ``out``; returns what it wrote.

    ``busy``: the machine does other work too, so that only CPU time counts; so it is with more than one of ``workers``, which are
    processes on a core each. ``resume=False`` measures anew. Raises InputError.
    """
    names = [path.stem for path in films]
    if len(set(names)) < len(names):
        raise InputError("two films have the same name; results are kept by name, so give each its own")
    document = _read(out)
    for path in films:
        _begin_film(document, path, limit)
    for codec in codecs:
        _begin_codec(document, codec, names, {"busy": busy, "workers": workers}, resume)
    known = {_key(row) for row in document["rows"] if "error" not in row}
    tasks = [
        FilmTask(codec, path, limit, setting, not busy and workers == 1)
        for path in films
        for codec in codecs
        for setting in codec.settings
        if (codec.name, path.stem, setting) not in known
    ]
    document["summary"] = summary(document["rows"])
    try:
        for done, row in enumerate(execute(measure_film, tasks, workers), start=1):
            document["rows"] = [*(old for old in document["rows"] if _key(old) != _key(row)), row]
            _write(document, out)
            if progress is not None:
                progress(done, len(tasks))
    finally:
        read_once.cache_clear()
        document["summary"] = summary(document["rows"])
        _write(document, out)
    return document


def _key(row: dict[str, Any]) -> tuple[str, str, float]:
    return row["codec"], row["film"], row["setting"]


def _read(out: Path) -> dict[str, Any]:
    document: dict[str, Any] = {"kind": KIND, "films": {}, "codecs": {}, "rows": []}
    if out.exists():
        try:
            document |= json.loads(out.read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{out}: cannot be read as results ({error}); move it away") from error
        if document["kind"] != KIND or not isinstance(document["rows"], list):
            raise InputError(f"{out}: expected results of films, found others; give another file")
    return document


def _begin_film(document: dict[str, Any], path: Path, limit: int | None) -> None:
    """Notes the clip; drops rows of one of this name with other frames."""
    facts = about(read_once(path, limit))
    if document["films"].get(path.stem, {}).get("sha256") != facts["sha256"]:
        document["rows"] = [row for row in document["rows"] if row["film"] != path.stem]
    document["films"][path.stem] = facts


def _begin_codec(document: dict[str, Any], codec: FilmCodec, films: Sequence[str], how: dict[str, Any], resume: bool) -> None:
    description = json.loads(json.dumps(codec.describe()))
    same = document["codecs"].get(codec.name, {}).get("description") == description
    if not same:
        document["rows"] = [row for row in document["rows"] if row["codec"] != codec.name]
    elif not resume:
        document["rows"] = [row for row in document["rows"] if row["codec"] != codec.name or row["film"] not in films]
    document["codecs"][codec.name] = {"description": description, "environment": environment() | how}


@lru_cache(maxsize=2)
def read_once(path: Path, limit: int | None) -> Clip:
    return read_clip(path, limit)


def measure_film(task: FilmTask) -> dict[str, Any]:
    """The row of a task; whatever a rival's library raises is a result too. RGB is made of the planes before the clock starts."""
    clip = read_once(task.film, task.limit)
    row: dict[str, Any] = {"codec": task.codec.name, "film": clip.name, "setting": task.setting, "frames": len(clip.rgb)}
    try:
        return row | _measured(task, clip)
    except Exception as error:
        return row | {"error": f"{type(error).__name__}: {error}"}


def _measured(task: FilmTask, clip: Clip) -> dict[str, Any]:
    count = len(clip.rgb)
    start = perf_counter(), process_time()
    data = task.codec.encode(clip, task.setting)
    middle = perf_counter(), process_time()
    planes, rgb = task.codec.decode(data, clip)
    end = perf_counter(), process_time()
    row: dict[str, Any] = {"megapixels": count * clip.size[0] * clip.size[1] / 1e6, "size_bytes": len(data)}
    row |= {"kbps": 8 * len(data) / 1000 / clip.seconds, **measure(clip, planes, rgb)}
    row |= {"encode_cpu_s": middle[1] - start[1], "decode_cpu_s": end[1] - middle[1]}
    if task.wall:
        row |= {"encode_fps": count / (middle[0] - start[0]), "decode_fps": count / (end[0] - middle[0])}
    return row


def _write(document: dict[str, Any], out: Path) -> None:
    """Rows in a fixed order, whatever the order of measuring."""
    document["rows"].sort(key=_key)
    write_rows(out, document)
