"""From rows to statements: mean curves, BD-rates, and whether the bars that the project sets itself are met.

A curve's point is the mean rate and the mean PSNR over all images at one setting, as the published curves are made.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from flowcodec.benchmark.bdrate import Curve, Window, bd_rate, overlap
from flowcodec.benchmark.statistics import LEVEL, RESAMPLES, band, bd_rate_interval, mean_interval, to_points
from flowcodec.errors import InputError

ANCHOR = "VTM (CompressAI)"
PUBLISHED = (ANCHOR, "AV1", "BPG 4:4:4", "mbt2018-mean")
"""Published curves that are shown beside the measured ones."""

WINDOWS: dict[str, Window] = {"all": (28.2, 40.6), "middle": (30.5, 36.5), "high": (37.0, 40.5), "from 1.5 bpp": (40.7, 46.5)}
"""PSNR windows in dB. The first, VTM's 0.1 to 1.5 bpp, is the one that counts; the last is VTM's 1.5 to 3.6 bpp."""

QUALITIES = (
    "psnr_db",
    "psnr_y_db",
    "ms_ssim",
    "ssimulacra2",
    "st_lpips",
    "gradient_similarity",
    "edge_psnr_db",
    "detail_kept_1",
    "detail_kept_2",
    "detail_energy_1",
    "detail_energy_2",
)
"""Columns that have a mean curve; the numbers are scales of the pyramid, 1 the finest."""

OURS = "FlowCodec"
RIVALS = ("JPEG 2000", "WebP")
RIVAL_WINDOW: Window = (0.2, 2.0)
"""Rates in bits per pixel at which ours must be above the rivals."""
BD_RATE_BAR = 12.0
FINE_BD_RATE_BAR = 0.0
"""At 1.5 bits per pixel and more."""
EVERY_IMAGE_RIVAL = "WebP"
"""Ours must be above it at every rate on every single image."""


def read_anchors(path: Path) -> dict[str, Any]:
    """Published curves: name -> {bpp, psnr_rgb, ms_ssim or null, source, notes}."""
    try:
        anchors = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: cannot read the published curves ({error})") from error
    missing = [name for name in PUBLISHED if name not in anchors]
    if missing:
        raise InputError(f"{path}: no curve named {missing[0]!r}; expected the published Kodak curves")
    return anchors


def summarise(
    rows: Sequence[Mapping[str, Any]], images: Sequence[str], anchors: Mapping[str, Any] | None, *, intervals: bool = False
) -> dict[str, Any]:
    """Curves, BD-rates against the anchor and checks; only settings measured on every image count.

    ``intervals`` adds bootstrap intervals over the images (seconds of work). ``failures`` lists what a codec could not do.
    """
    good = [row for row in rows if row.get("error") is None]
    names = list(dict.fromkeys(row["codec"] for row in good))
    measured = [mean_points(good, images, codec) for codec in names]
    published = [_published_points(name, anchors[name]) for name in PUBLISHED] if anchors else []
    points = [points for points in measured if points["bpp"]] + published
    curves = dict(_curves(points))
    result: dict[str, Any] = {
        "curves": points,
        "bd_rate_percent": {"anchor": ANCHOR, "windows_db": WINDOWS, "values": _bd_rates(curves)},
        "image_by_image": _image_by_image(good, images, intervals),
        "checks": {
            "above_rivals": _above_rivals(curves),
            "bd_rate": _bd_rate_bar(curves, "all", BD_RATE_BAR),
            "bd_rate_from_1.5_bpp": _bd_rate_bar(curves, "from 1.5 bpp", FINE_BD_RATE_BAR),
            "every_image": _every_image(good, images),
        },
    }
    speed = _speeds(good)
    if speed:
        result["speed"] = speed
    failed = [{key: row[key] for key in ("codec", "image", "setting", "error")} for row in rows if row.get("error") is not None]
    if failed:
        result["failures"] = failed
    if intervals:
        result["bd_rate_percent"]["intervals"] = _add_intervals(good, images, points, curves)
    return result


def mean_points(rows: Iterable[Mapping[str, Any]], images: Sequence[str], codec: str) -> dict[str, Any]:
    """The mean curve of one codec, by rising rate; a quality is None where an image lacks it, or its PSNR is infinite."""
    by_setting: dict[float, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["codec"] == codec and row["image"] in images and row.get("error") is None:
            by_setting.setdefault(row["setting"], []).append(row)
    whole = [(setting, found) for setting, found in by_setting.items() if len(found) == len(images)]
    whole.sort(key=lambda item: fmean(row["bpp"] for row in item[1]))
    found_columns = [
        "bpp",
        *(column for column in QUALITIES if any(_value(row, column) is not None for _, f in whole for row in f)),
    ]
    columns = {name: [_mean(_value(row, name) for row in found) for _, found in whole] for name in found_columns}
    for name in ("psnr_db", "ms_ssim"):
        columns.setdefault(name, [None] * len(whole))
    return {"name": codec, "kind": "measured", "settings": [setting for setting, _ in whole], **columns}


def _value(row: Mapping[str, Any], column: str) -> float | None:
    """A column of a row; ``detail_kept_2`` is the second scale of ``detail_kept``."""
    if column in row:
        return row[column]
    name, _, scale = column.rpartition("_")
    values = row.get(name) if scale.isdecimal() else None
    return values[int(scale) - 1] if values else None


def _speeds(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Median CPU seconds per megapixel of each codec over all its rows that have them: every image, every rate."""
    result = {}
    for codec in dict.fromkeys(row["codec"] for row in rows):
        found = [row for row in rows if row["codec"] == codec and row.get("encode_cpu_s") is not None]
        if found:
            megapixels = [8e-6 * row["size_bytes"] / row["bpp"] for row in found]
            result[codec] = {
                f"{side}_cpu_s_per_megapixel": median(
                    row[f"{side}_cpu_s"] / size for row, size in zip(found, megapixels, strict=True)
                )
                for side in ("encode", "decode")
            } | {"rows": len(found)}
    return result


def _add_intervals(
    rows: Sequence[Mapping[str, Any]], images: Sequence[str], points: Iterable[dict[str, Any]], curves: Mapping[str, Curve]
) -> dict[str, Any]:
    """Puts ``bands`` into the measured curves; returns the intervals of the BD-rates against the anchor."""
    values: dict[str, dict[str, list[float] | None]] = {}
    for point in points:
        if point["kind"] != "measured":
            continue
        columns = [column for column in QUALITIES if column in point]
        flat = [{**row, **{c: _value(row, c) for c in columns}} for row in rows if row["codec"] == point["name"]]
        table = to_points(flat, images, point["settings"], columns)
        point["bands"] = {column: band(table, column) for column in columns}
        if ANCHOR in curves and point["name"] in curves:
            anchor = curves[ANCHOR]
            values[point["name"]] = {
                key: bd_rate_interval(lambda _, anchor=anchor: anchor, table, window)  # type: ignore[misc]
                if curves[point["name"]].covers_psnr(window)
                else None
                for key, window in WINDOWS.items()
            }
    return {"level": LEVEL, "resamples": RESAMPLES, "over": "images", "values": values}


def _mean(values: Iterable[float | None]) -> float | None:
    found = list(values)
    return None if None in found else fmean(value for value in found if value is not None)


def _published_points(name: str, anchor: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "published",
        "source": anchor["source"],
        "bpp": anchor["bpp"],
        "psnr_db": anchor["psnr_rgb"],
        "ms_ssim": anchor["ms_ssim"],
    }


def _curves(points: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, Curve]]:
    """The curves that can be interpolated."""
    for point in points:
        pairs = [(bpp, psnr) for bpp, psnr in zip(point["bpp"], point["psnr_db"], strict=True) if psnr is not None]
        try:
            yield point["name"], Curve.from_points(point["name"], [bpp for bpp, _ in pairs], [psnr for _, psnr in pairs])
        except InputError:
            continue


def _bd_rates(curves: Mapping[str, Curve]) -> dict[str, dict[str, float | None]]:
    """Per curve and window; None where a curve does not cover the window."""
    if ANCHOR not in curves:
        return {}

    def percent(curve: Curve, window: Window) -> float | None:
        return bd_rate(curves[ANCHOR], curve, window) if curve.covers_psnr(window) else None

    return {name: {key: percent(curve, window) for key, window in WINDOWS.items()} for name, curve in curves.items()}


def _image_by_image(rows: Sequence[Mapping[str, Any]], images: Sequence[str], intervals: bool) -> dict[str, Any]:
    """BD-rate (per cent) of ours against each measured codec on single images, over all that both curves cover.

    Free of how a codec's settings spread bits over the images of a set, which moves mean curves by many per cent.
    """
    result: dict[str, Any] = {}
    by_image: dict[str, dict[str, float]] = {}
    of: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        of.setdefault((row["codec"], row["image"]), []).append(row)
    for rival in dict.fromkeys(row["codec"] for row in rows):
        values = {}
        for image in images:
            curves = dict(_curves(mean_points(of.get((codec, image), ()), [image], codec) for codec in (OURS, rival)))
            if len(curves) == 2:
                common = overlap(curves[rival], curves[OURS])
                if common[0] < common[1]:
                    values[image] = bd_rate(curves[rival], curves[OURS], common)
        if values:
            found = list(values.values())
            result[rival] = {"mean": fmean(found), "best": min(found), "worst": max(found), "images": len(found)}
            if intervals and rival != OURS:
                result[rival]["mean_interval"] = mean_interval(found)
                by_image[rival] = values
    return {"codec": OURS, "bd_rate_percent_against": result} | ({"values": by_image} if by_image else {})


def _above_rivals(curves: Mapping[str, Curve]) -> dict[str, Any]:
    """PSNR of ours less a rival's at every rate of the window: the least margin, where it is, and the verdict."""
    rates = np.geomspace(*RIVAL_WINDOW, 401)
    margins: dict[str, Any] = {}
    for rival in RIVALS:
        try:
            difference = curves[OURS].psnr_at(rates) - curves[rival].psnr_at(rates)
        except KeyError as error:
            margins[rival] = {"passed": None, "reason": f"no curve of {error.args[0]}"}
        except InputError as error:
            margins[rival] = {"passed": None, "reason": str(error)}
        else:
            least = int(np.argmin(difference))
            margins[rival] = {
                "least_margin_db": float(difference[least]),
                "at_bpp": float(rates[least]),
                "mean_margin_db": float(difference.mean()),
                "passed": bool(difference[least] > 0),
            }
    passed = _all(margin["passed"] for margin in margins.values())
    return {"codec": OURS, "bpp": RIVAL_WINDOW, "rivals": margins, "passed": passed}


def _every_image(rows: Sequence[Mapping[str, Any]], images: Sequence[str]) -> dict[str, Any]:
    """PSNR of ours less the rival's at equal rate, over all rates that both curves of an image reach.

    ``below``: the images where ours is worse somewhere, with the margin there; ``unknown``: those without two curves.
    """
    of: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        of.setdefault((row["codec"], row["image"]), []).append(row)
    margins: dict[str, tuple[float, float]] = {}
    for image in images:
        points = [mean_points(of.get((codec, image), ()), [image], codec) for codec in (OURS, EVERY_IMAGE_RIVAL)]
        curves = dict(_curves(points))
        if len(curves) < 2:
            continue
        ours, rival = curves[OURS], curves[EVERY_IMAGE_RIVAL]
        low, high = max(ours.bpp[0], rival.bpp[0]), min(ours.bpp[-1], rival.bpp[-1])
        if low < high:
            rates = np.geomspace(low, high, 101).clip(low, high)
            difference = ours.psnr_at(rates) - rival.psnr_at(rates)
            least = int(np.argmin(difference))
            margins[image] = float(difference[least]), float(rates[least])
    unknown = [image for image in images if image not in margins]
    below = {image: {"margin_db": margin, "at_bpp": rate} for image, (margin, rate) in margins.items() if margin <= 0}
    verdict: dict[str, Any] = {"codec": OURS, "rival": EVERY_IMAGE_RIVAL, "images": len(margins), "below": below}
    if margins:
        worst = min(margins, key=lambda image: margins[image])
        verdict["least"] = {"image": worst, "margin_db": margins[worst][0], "at_bpp": margins[worst][1]}
    if unknown:
        verdict["unknown"] = unknown
    return verdict | {"passed": False if below else None if unknown else True}


def _bd_rate_bar(curves: Mapping[str, Curve], window: str, at_most: float) -> dict[str, Any]:
    verdict: dict[str, Any] = {"codec": OURS, "anchor": ANCHOR, "window_db": WINDOWS[window], "at_most_percent": at_most}
    try:
        value = bd_rate(curves[ANCHOR], curves[OURS], WINDOWS[window])
    except KeyError as error:
        return verdict | {"passed": None, "reason": f"no curve of {error.args[0]}"}
    except InputError as error:
        return verdict | {"passed": None, "reason": str(error)}
    return verdict | {"percent": value, "passed": value <= at_most}


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    """True if all passed, False if one failed, None if something is still unknown."""
    found = list(verdicts)
    return False if False in found else None if None in found else True
