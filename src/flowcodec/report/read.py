"""Reads results files and says what each is; refuses what cannot be shown together before any page is made.

| kind | made by | known by |
|---|---|---|
| benchmark | `flowcodec benchmark` | "format" and "curves" |
| generations, films, study | `flowcodec generations`, `flowcodec benchmark` of films, benchmarks/study.py | "kind" |
| ablation | benchmarks/ablation.py | rows with an "arm" |
| speed, memory | benchmarks/speed.py, benchmarks/memory.py | "decoder_kmac_per_pixel", "photographs" |
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowcodec.errors import InputError

FORMAT = 1
OTHER = "other, not shown here"


@dataclass(frozen=True)
class Results:
    """One file: its name on the page, its kind and content, and the SHA-256 that the page can be checked against."""

    name: str
    kind: str
    content: dict[str, Any]
    sha256: str


@dataclass(frozen=True)
class Dataset:
    """Benchmark files of the same images, shown as one; ``parts`` keep which curve is from which file."""

    name: str
    parts: tuple[Results, ...]

    @property
    def images(self) -> dict[str, Any]:
        return self.parts[0].content["images"]


def place(file: str, *keys: str | int) -> str:
    """``file#/key/key``: where a number is, as a JSON pointer (RFC 6901)."""
    return file + "#" + "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)


def read_all(paths: Sequence[Path]) -> list[Results]:
    """Results of other parts of the project are listed on the page, not shown, so that ``results/*.json`` may be given.

    Raises InputError for a missing or unreadable file, for two of the same name, and where there is nothing to show.
    """
    found = [_read(path) for path in paths]
    if all(results.kind == OTHER for results in found):
        given = ", ".join(str(path) for path in paths)
        raise InputError(f"{given}: expected results of `flowcodec benchmark`, `generations`, or a script of benchmarks/")
    names = [results.name for results in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{name}: two files of this name; the page names its sources by file name, so rename one")
    return found


def datasets(found: Sequence[Results]) -> list[Dataset]:
    """Benchmark files grouped by their images.

    Raises InputError where two files share images but not all of them (their means could not be compared), and where two files
    of the same images both measured a codec.
    """
    groups: list[Dataset] = []
    for results in (entry for entry in found if entry.kind == "benchmark"):
        for position, group in enumerate(groups):
            if results.content["images"] == group.images:
                _check_codecs(group, results)
                groups[position] = Dataset(group.name, (*group.parts, results))
                break
            common = set(results.content["images"]) & set(group.images)
            if common:
                raise InputError(
                    f"{results.name}: has the image {min(common)} in common with {group.parts[0].name}, but not the same images "
                    "in all; measure both on the same images, or make two reports"
                )
        else:
            groups.append(Dataset(Path(results.name).stem, (results,)))
    return groups


def _check_codecs(group: Dataset, results: Results) -> None:
    for part in group.parts:
        both = set(part.content["codecs"]) & set(results.content["codecs"])
        if both:
            raise InputError(f"{results.name}: {min(both)} is in {part.name} too; show one of the two")


def _read(path: Path) -> Results:
    try:
        data = path.read_bytes()
        content = json.loads(data)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    except ValueError as error:
        raise InputError(f"{path}: expected JSON written by a benchmark ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected an object of results, found a {type(content).__name__}")
    kind = _kind(content)
    if kind == "benchmark" and content["format"] != FORMAT:
        raise InputError(f"{path}: expected results of format {FORMAT}, found {content['format']}")
    return Results(path.name, kind, content, hashlib.sha256(data).hexdigest())


def _kind(content: dict[str, Any]) -> str:
    if content.get("kind") in ("generations", "films", "study"):
        return content["kind"]
    if {"format", "images", "codecs", "curves", "rows"} <= set(content):
        return "benchmark"
    if "decoder_kmac_per_pixel" in content:
        return "speed"
    if "photographs" in content:
        return "memory"
    rows = content.get("rows")
    return "ablation" if isinstance(rows, list) and rows and "arm" in rows[0] else OTHER
