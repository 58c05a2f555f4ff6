"""The benchmark of films: every codec, clip and setting as one row with real bytes and a real decode, kept in one JSON file.

A run that is stopped goes on where it was. A row is measured again only when what its codec says of itself has changed.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from flowcodec.benchmark.bdrate import Curve, bd_rate, overlap
from flowcodec.benchmark.environment import environment
from flowcodec.benchmark.film_codecs import ANCHOR, FilmCodec
from flowcodec.benchmark.films import Clip, measure, read_clip
from flowcodec.errors import InputError

Progress = Callable[[int, int], None]


def run_films(
    films: Sequence[Path],
    codecs: Sequence[FilmCodec],
    out: Path,
    *,
    limit: int | None = None,
    busy: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measures ``codecs`` on the first ``limit`` frames of each film and writes ``out``; returns what it wrote.

    ``busy``: the machine does other work too, so that only CPU time counts. Raises InputError.
    """
    document: dict[str, Any] = {"films": {}, "codecs": {}, "rows": []}
    if out.exists():
        try:
            document |= json.loads(out.read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise InputError(f"{out}: cannot be read as results ({error}); move it away") from error
    for codec in codecs:
        description = codec.describe()
        if document["codecs"].get(codec.name, {}).get("description") != description:
            document["rows"] = [row for row in document["rows"] if row["codec"] != codec.name]
        document["codecs"][codec.name] = {"description": description, "environment": environment() | {"busy": busy}}
    total, done = sum(len(codec.settings) for codec in codecs) * len(films), 0
    for path in films:
        known = {(row["codec"], row["film"], row["setting"]) for row in document["rows"]}
        clip: Clip | None = None
        for codec in codecs:
            for setting in codec.settings:
                done += 1
                if (codec.name, path.stem, setting) not in known:
                    clip = clip or read_clip(path, limit)
                    document["films"][clip.name] = _about(clip)
                    document["rows"].append(_row(codec, clip, setting, busy))
                    _write(document, out)
                if progress is not None:
                    progress(done, total)
    document["summary"] = summary(document["rows"])
    _write(document, out)
    return document


def _about(clip: Clip) -> dict[str, Any]:
    height, width = clip.size
    return {"width": width, "height": height, "frames": len(clip.planes), "fps": float(clip.rate), "seconds": clip.seconds}


def _row(codec: FilmCodec, clip: Clip, setting: float, busy: bool) -> dict[str, Any]:
    """RGB is made of the planes before the clock starts."""
    count = len(clip.rgb)
    start = perf_counter(), process_time()
    data = codec.encode(clip, setting)
    middle = perf_counter(), process_time()
    planes, rgb = codec.decode(data, clip)
    end = perf_counter(), process_time()
    row = {"codec": codec.name, "film": clip.name, "setting": setting, "frames": count, "size_bytes": len(data)}
    row |= {"kbps": 8 * len(data) / 1000 / clip.seconds, **measure(clip, planes, rgb)}
    row |= {"encode_cpu_s": middle[1] - start[1], "decode_cpu_s": end[1] - middle[1]}
    if not busy:
        row |= {"encode_fps": count / (middle[0] - start[0]), "decode_fps": count / (end[0] - middle[0])}
    return row


def _write(document: dict[str, Any], out: Path) -> None:
    partial = out.with_name(out.name + ".partial")
    partial.write_text(json.dumps(document, indent=1) + "\n")
    partial.replace(out)


def curve(rows: Sequence[dict[str, Any]], codec: str, film: str, quality: str = "psnr_yuv_db") -> Curve | None:
    """Rate (kbit/s) and quality of a codec on a film; None with fewer than two points. Points that do not rise are left out."""
    points = sorted((row["kbps"], row[quality]) for row in rows if row["codec"] == codec and row["film"] == film)
    rising: list[tuple[float, float]] = []
    for point in points:
        if not rising or (point[0] > rising[-1][0] and point[1] > rising[-1][1]):
            rising.append(point)
    return Curve(codec, *map(tuple, zip(*rising, strict=True))) if len(rising) > 1 else None


def saved(anchor: Curve, test: Curve) -> float | None:
    """BD-rate of ``test`` in per cent over the qualities that both reach; None where these are less than a decibel."""
    window = overlap(anchor, test)
    return bd_rate(anchor, test, window) if window[1] - window[0] >= 1 else None


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """BD-rate of each codec against the anchor, and of FlowCodec against each, per film and on the mean."""
    codecs, films = (list(dict.fromkeys(row[name] for row in rows)) for name in ("codec", "film"))
    result: dict[str, Any] = {}
    for title, pairs in (
        (f"bd_rate_percent_against_{ANCHOR}", [(ANCHOR, codec) for codec in codecs if codec != ANCHOR]),
        ("bd_rate_percent_of_FlowCodec_against", [(codec, "FlowCodec") for codec in codecs if codec != "FlowCodec"]),
    ):
        result[title] = {}
        for quality in ("psnr_yuv_db", "psnr_rgb_db"):
            found = {
                (test if anchor == ANCHOR and title.endswith(ANCHOR) else anchor): _over_films(rows, anchor, test, films, quality)
                for anchor, test in pairs
            }
            result[title][quality] = {name: values for name, values in found.items() if values}
    return result


def _over_films(rows: Sequence[dict[str, Any]], anchor: str, test: str, films: Sequence[str], quality: str) -> dict[str, float]:
    values: dict[str, float] = {}
    for film in films:
        curves = [curve(rows, codec, film, quality) for codec in (anchor, test)]
        if curves[0] is not None and curves[1] is not None:
            value = saved(curves[0], curves[1])
            if value is not None:
                values[film] = round(value, 2)
    if values:
        values["mean"] = round(float(np.mean(list(values.values()))), 2)
    return values
