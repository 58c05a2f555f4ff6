"""What follows from the rows of a benchmark of films: curves and BD-rates, per film and on the mean."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

import numpy as np

from flowcodec.benchmark.bdrate import Curve, bd_rate, overlap
from flowcodec.benchmark.film_codecs import ANCHOR, OURS

QUALITIES = ("psnr_yuv_db", "psnr_rgb_db")
_NARROWEST_DB = 1.0


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """BD-rate of each codec against the anchor, and of ours against each, and speeds.

    {title: {quality: {codec: {film or "mean": per cent}}}, "speed": {codec: {what: median over films and settings}}}
    """
    good = [row for row in rows if "error" not in row]
    codecs, films = (list(dict.fromkeys(row[name] for row in good)) for name in ("codec", "film"))
    against_anchor = [(codec, ANCHOR, codec) for codec in codecs if codec != ANCHOR]
    ours = [(codec, codec, OURS) for codec in codecs if codec != OURS]
    return {
        f"bd_rate_percent_against_{ANCHOR}": _tables(good, against_anchor, films),
        f"bd_rate_percent_of_{OURS}_against": _tables(good, ours, films),
        "speed": {codec: _speed([row for row in good if row["codec"] == codec]) for codec in codecs},
    }


def _speed(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    found = {}
    for side in ("encode", "decode"):
        found[f"{side}_cpu_s_per_megapixel"] = median(row[f"{side}_cpu_s"] / row["megapixels"] for row in rows)
        frames_per_s = [row[f"{side}_fps"] for row in rows if f"{side}_fps" in row]
        if frames_per_s:
            found[f"{side}_fps"] = median(frames_per_s)
    return {key: float(f"{value:.4g}") for key, value in found.items()}


def _tables(
    rows: Sequence[dict[str, Any]], pairs: Sequence[tuple[str, str, str]], films: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """``pairs``: (name in the table, anchor, codec under test)."""
    found = {
        quality: {name: _over_films(rows, anchor, test, films, quality) for name, anchor, test in pairs} for quality in QUALITIES
    }
    return {quality: {name: values for name, values in table.items() if values} for quality, table in found.items()}


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


def curve(rows: Iterable[dict[str, Any]], codec: str, film: str, quality: str = QUALITIES[0]) -> Curve | None:
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
    return bd_rate(anchor, test, window) if window[1] - window[0] >= _NARROWEST_DB else None
