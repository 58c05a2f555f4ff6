"""From rows to statements: mean curves, BD-rates, and whether the bars that the project sets itself are met.

A curve's point is the mean rate and the mean PSNR over all images at one setting, as the published curves are made.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from flowcodec.benchmark.bdrate import Curve, Window, bd_rate, overlap
from flowcodec.errors import InputError

ANCHOR = "VTM (CompressAI)"
PUBLISHED = (ANCHOR, "AV1", "BPG 4:4:4", "mbt2018-mean")
"""Published curves that are shown beside the measured ones."""

WINDOWS: dict[str, Window] = {"all": (28.2, 40.6), "middle": (30.5, 36.5), "high": (37.0, 40.5)}
"""PSNR windows in dB. The first, VTM's 0.1 to 1.5 bpp, is the one that counts."""

OURS = "FlowCodec"
RIVALS = ("JPEG 2000", "WebP")
RIVAL_WINDOW: Window = (0.2, 2.0)
"""Rates in bits per pixel at which ours must be above the rivals."""
BD_RATE_BAR = 30.0


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


def summarise(rows: Sequence[Mapping[str, Any]], images: Sequence[str], anchors: Mapping[str, Any] | None) -> dict[str, Any]:
    """Curves, BD-rates against the anchor and checks; only settings measured on every image count."""
    measured = [mean_points(rows, images, codec) for codec in dict.fromkeys(row["codec"] for row in rows)]
    published = [_published_points(name, anchors[name]) for name in PUBLISHED] if anchors else []
    points = [points for points in measured if points["bpp"]] + published
    curves = dict(_curves(points))
    return {
        "curves": points,
        "bd_rate_percent": {"anchor": ANCHOR, "windows_db": WINDOWS, "values": _bd_rates(curves)},
        "image_by_image": _image_by_image(rows, images),
        "checks": {"above_rivals": _above_rivals(curves), "bd_rate": _bd_rate_bar(curves)},
    }


def mean_points(rows: Iterable[Mapping[str, Any]], images: Sequence[str], codec: str) -> dict[str, Any]:
    """The mean curve of one codec, by rising rate."""
    by_setting: dict[float, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["codec"] == codec and row["image"] in images:
            by_setting.setdefault(row["setting"], []).append(row)
    whole = [(setting, found) for setting, found in by_setting.items() if len(found) == len(images)]
    whole.sort(key=lambda item: fmean(row["bpp"] for row in item[1]))
    columns = {name: [_mean(row[name] for row in found) for _, found in whole] for name in ("bpp", "psnr_db", "ms_ssim")}
    return {"name": codec, "kind": "measured", "settings": [setting for setting, _ in whole], **columns}


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
        try:
            yield point["name"], Curve.from_points(point["name"], point["bpp"], point["psnr_db"])
        except InputError:
            continue


def _bd_rates(curves: Mapping[str, Curve]) -> dict[str, dict[str, float | None]]:
    """Per curve and window; None where a curve does not cover the window."""
    if ANCHOR not in curves:
        return {}

    def percent(curve: Curve, window: Window) -> float | None:
        return bd_rate(curves[ANCHOR], curve, window) if curve.covers_psnr(window) else None

    return {name: {key: percent(curve, window) for key, window in WINDOWS.items()} for name, curve in curves.items()}


def _image_by_image(rows: Sequence[Mapping[str, Any]], images: Sequence[str]) -> dict[str, Any]:
    """BD-rate (per cent) of ours against each measured codec on single images, over all that both curves cover.

    Free of how a codec's settings spread bits over the images of a set, which moves mean curves by many per cent.
    """
    result = {}
    for rival in dict.fromkeys(row["codec"] for row in rows):
        values = []
        for image in images:
            curves = dict(_curves(mean_points(rows, [image], codec) for codec in (OURS, rival)))
            if len(curves) == 2:
                values.append(bd_rate(curves[rival], curves[OURS], overlap(curves[rival], curves[OURS])))
        if values:
            result[rival] = {"mean": fmean(values), "best": min(values), "worst": max(values), "images": len(values)}
    return {"codec": OURS, "bd_rate_percent_against": result}


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


def _bd_rate_bar(curves: Mapping[str, Curve]) -> dict[str, Any]:
    verdict: dict[str, Any] = {"codec": OURS, "anchor": ANCHOR, "window_db": WINDOWS["all"], "at_most_percent": BD_RATE_BAR}
    try:
        value = bd_rate(curves[ANCHOR], curves[OURS], WINDOWS["all"])
    except KeyError as error:
        return verdict | {"passed": None, "reason": f"no curve of {error.args[0]}"}
    except InputError as error:
        return verdict | {"passed": None, "reason": str(error)}
    return verdict | {"percent": value, "passed": value <= BD_RATE_BAR}


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    """True if all passed, False if one failed, None if something is still unknown."""
    found = list(verdicts)
    return False if False in found else None if None in found else True
