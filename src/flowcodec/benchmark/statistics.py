"""How far a figure would move with other images of the same kind: percentile bootstrap over images.

Images are drawn with replacement; all settings of a drawn image stay together, and so do all codecs, so that the interval of a
difference between codecs is that of the difference. Reference: Efron and Tibshirani, An introduction to the bootstrap, 1993,
ch. 13.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowcodec.benchmark.bdrate import Curve, Window, bd_rate
from flowcodec.errors import InputError

LEVEL = 0.95
RESAMPLES = 400
SEED = 20


@dataclass(frozen=True)
class Points:
    """One codec's measurements as arrays (images, settings), settings by rising mean rate; ``quality`` by column name."""

    settings: tuple[float, ...]
    bpp: np.ndarray
    quality: Mapping[str, np.ndarray]

    def curve(self, name: str, chosen: np.ndarray, column: str = "psnr_db") -> Curve:
        """The mean curve over the chosen images (indices, repeats allowed). Raises InputError where it is no curve."""
        mean_bpp, mean_quality = self.bpp[chosen].mean(axis=0), self.quality[column][chosen].mean(axis=0)
        finite = np.isfinite(mean_quality)
        return Curve.from_points(name, list(mean_bpp[finite]), list(mean_quality[finite]))


def draws(images: int, resamples: int = RESAMPLES) -> np.ndarray:
    """(resamples, images) indices; the same for every codec of a data set."""
    return np.random.default_rng(SEED).integers(0, images, (resamples, images))


def interval(values: Sequence[float] | np.ndarray) -> list[float]:
    """[low, high]: the central LEVEL of ``values``."""
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(values, [tail, 100 - tail])
    return [float(low), float(high)]


def mean_interval(values: Sequence[float]) -> list[float] | None:
    """Bootstrap interval of the mean of one value per image; None for fewer than 2."""
    if len(values) < 2:
        return None
    return interval(np.asarray(values)[draws(len(values))].mean(axis=1))


def bd_rate_interval(anchor: Callable[[np.ndarray], Curve], test: Points, window: Window) -> list[float] | None:
    """Interval of the BD-rate (per cent) of ``test`` over ``window`` (dB); None for fewer than 2 images, or where curves end
    inside.

    ``anchor`` gives the anchor's curve for the drawn images: for a published curve, of which only the mean is known, always the
    same one; the interval is then that of ``test`` alone and wider than the difference's would be.
    """
    images = len(test.bpp)
    if images < 2:
        return None
    values = []
    for chosen in draws(images):
        try:
            values.append(bd_rate(anchor(chosen), test.curve("test", chosen), window))
        except InputError:
            continue
    return interval(values) if len(values) > RESAMPLES // 2 else None


def band(points: Points, column: str) -> dict[str, list[float | None]] | None:
    """Interval of the mean curve of ``column``, at the mean rate of every setting; None for fewer than 2 images.

    Each resample's curve is interpolated (linearly over log rate) at those rates, so the band stands above the rate axis.
    """
    images = len(points.bpp)
    measured = np.isfinite(points.quality[column]).all(axis=0)
    if images < 2 or measured.sum() < 2:
        return None
    log_bpp, quality = np.log(points.bpp[:, measured]), points.quality[column][:, measured]
    at = np.log(points.bpp[:, measured].mean(axis=0))
    curves = [np.interp(at, np.log(np.exp(log_bpp[c]).mean(axis=0)), quality[c].mean(axis=0)) for c in draws(images)]
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(curves, [tail, 100 - tail], axis=0)
    result: dict[str, list[float | None]] = {}
    for name, edge in (("low", low), ("high", high)):
        filled = np.full(len(measured), np.nan)
        filled[measured] = edge
        result[name] = [None if np.isnan(value) else float(value) for value in filled]
    return result


def to_points(
    rows: Sequence[Mapping[str, Any]], images: Sequence[str], settings: Sequence[float], columns: Sequence[str]
) -> Points:
    """Arrays of the rows of one codec, which must hold every image at every one of ``settings``; what is missing or None is
    NaN.
    """
    found = {(row["image"], row["setting"]): row for row in rows}

    def table(column: str) -> np.ndarray:
        values = [[found[image, setting].get(column) for setting in settings] for image in images]
        return np.array(values, dtype=np.float64)

    return Points(tuple(settings), table("bpp"), {column: table(column) for column in columns})
