"""The results file of a benchmark: images, codecs, rows, and the summary made of them; always whole, never in part."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from flowcodec.benchmark.datasets import SourceImage, pixel_hash
from flowcodec.benchmark.rows import TIMES, Row
from flowcodec.benchmark.summary import read_anchors, summarise
from flowcodec.errors import InputError

FORMAT = 1
KODAK = frozenset(f"kodim{number:02d}" for number in range(1, 25))


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


class Document:
    """Reads what ``path`` holds, drops rows of images that are not the same any more, and replaces the file at every ``write``.

    Raises InputError for a file that cannot be read, an image that cannot be read, or results of other images.
    """

    def __init__(self, path: Path, images: Sequence[SourceImage]) -> None:
        self._begun = perf_counter()
        self.path = path
        self.images = {image.name: _identity(image.pixels()) for image in images}
        old = read_results(path) if path.exists() else {}
        if old.get("images") and not set(old["images"]) & set(self.images):
            raise InputError(
                f"{path}: holds results of other images ({', '.join(list(old['images'])[:3])} ...); give another --out"
            )
        same = {name for name, identity in old.get("images", {}).items() if self.images.get(name) == identity}
        self.codecs: dict[str, dict[str, Any]] = old.get("codecs", {})
        self.rows = {row.key: row for row in map(Row.from_json, old.get("rows", [])) if row.image in same}
        self.runs: list[dict[str, Any]] = old.get("runs", [])
        self._run: dict[str, Any] = {}
        anchors = path.parent / "anchors" / "kodak_anchors.json"
        # Published curves are means over all of Kodak: beside other images, or some of these, they would mean nothing.
        self.anchors = read_anchors(anchors) if anchors.exists() and set(self.images) == KODAK else None

    def begin(self, codec: Codec, surroundings: dict[str, Any], resume: bool) -> None:
        """Keeps the rows of a codec that are still valid, and notes under what the others are measured."""
        description = codec.describe()
        old = self.codecs.get(codec.name, {})
        kept = []
        if resume and _without(old, "environment") == json.loads(json.dumps(description)):
            kept = [row for row in self.rows.values() if row.codec == codec.name and row.setting in codec.settings]
            same_machine = _machine(old["environment"]) == _machine(surroundings)
            if surroundings["timed"]:
                kept = [row for row in kept if same_machine and (row.encode_s is not None or row.error)]
            elif not same_machine:
                untimed: dict[str, Any] = dict.fromkeys(TIMES)
                kept = [replace(row, **untimed) for row in kept]
        self.rows = {key: row for key, row in self.rows.items() if row.codec != codec.name} | {row.key: row for row in kept}
        complete = len(kept) == len(codec.settings) * len(self.images)
        self.codecs[codec.name] = {**description, "environment": old["environment"] if complete else surroundings}

    def begin_run(self, codecs: Sequence[Codec], surroundings: dict[str, Any], metrics: Sequence[str], rows: int) -> None:
        """Adds this run to ``runs``, of which ``write`` notes how far it came and how long it took; ``rows`` are to be measured.

        A run that measures all of its codecs anew takes the place of earlier ones of no other codecs.
        """
        if not rows:
            return
        names = [codec.name for codec in codecs]
        if rows == sum(len(codec.settings) for codec in codecs) * len(self.images):
            self.runs = [run for run in self.runs if not set(run["codecs"]) <= set(names)]
        kept = {key: surroundings[key] for key in ("workers", "timed", "machine", "commit")}
        self._run = {"seconds": 0.0, "rows": 0, "of": rows, "codecs": names, "metrics": list(metrics), **kept}
        self.runs.append(self._run)

    def lacks(self, codec: Codec, image: str, setting: float, columns: Iterable[str]) -> bool:
        """Whether this must be measured: never was, failed the last time, or a wanted column is not there."""
        row = self.rows.get((codec.name, image, setting))
        return row is None or row.error is not None or not set(columns) <= set(row.measures)

    def add(self, rows: Iterable[Row]) -> None:
        """New rows; what an equally large file of an earlier run has and these have not, columns or times, is kept."""
        for row in rows:
            self._run["rows"] += 1
            old = self.rows.get(row.key)
            if old is not None and old.size_bytes == row.size_bytes and row.error is None:
                times = {name: getattr(old, name) for name in TIMES if getattr(row, name) is None}
                row = replace(row, measures=old.measures | row.measures, **times)
            self.rows[row.key] = row

    def write(self, *, intervals: bool = False) -> dict[str, Any]:
        """Replaces the file; rows in a fixed order, so that equal measurements give equal files; intervals take seconds."""
        order = {name: position for position, name in enumerate(self.codecs)}
        rows = sorted(self.rows.values(), key=lambda row: (order[row.codec], row.image, row.setting))
        plain = [row.to_json() for row in rows]
        codecs = {name: codec for name, codec in self.codecs.items() if any(row.codec == name for row in rows)}
        summary = summarise(plain, list(self.images), self.anchors, intervals=intervals)
        self._run["seconds"] = round(perf_counter() - self._begun, 1)
        runs = [run for run in self.runs if run["rows"]]
        head = {"format": FORMAT, "images": self.images, "codecs": codecs} | ({"runs": runs} if runs else {})
        document = {**head, **summary, "rows": plain}
        write_rows(self.path, document)
        return document


def read_results(path: Path) -> dict[str, Any]:
    """The document in ``path``. Raises InputError."""
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot read earlier results ({error}); move the file away to begin anew") from error
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        raise InputError(f"{path}: expected results of format {FORMAT}, found {found}; move the file away")
    return document


def replace_file(path: Path, text: str) -> None:
    """Writes beside ``path``, then renames: a reader finds the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    os.replace(partial, path)


def write_rows(path: Path, document: dict[str, Any]) -> None:
    """Replaces the file by a document with ``rows``, each on a line, so that a changed measurement is a changed line."""
    head = json.dumps(_without(document, "rows"), indent=1)
    rows = ",\n".join("  " + json.dumps(row) for row in document["rows"])
    replace_file(path, f'{head[:-2]},\n "rows": [\n{rows}\n ]\n}}\n')


def store_section(path: Path, name: str, section: dict[str, Any]) -> None:
    """Replaces one section of a results file made of sections; the others stay, also those written since this program began."""
    document = json.loads(path.read_text()) if path.exists() else {}
    replace_file(path, json.dumps(document | {name: section}, indent=1) + "\n")


def _identity(pixels: np.ndarray) -> dict[str, Any]:
    height, width = pixels.shape[:2]
    return {"width": width, "height": height, "sha256": pixel_hash(pixels)}


def _machine(surroundings: dict[str, Any]) -> tuple[Any, Any]:
    """What times may be compared under."""
    return surroundings["machine"], surroundings["workers"]


def _without(mapping: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key != name}
