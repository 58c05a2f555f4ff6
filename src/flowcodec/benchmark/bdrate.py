"""Rate-distortion curves and the Bjøntegaard difference between two of them.

With r(q) the interpolated log rate of a curve at quality q,
``BD-rate = exp(mean over the window of r_test(q) - r_anchor(q)) - 1``, in per cent; negative means fewer bits at equal quality.
Curves are interpolated by PCHIP (Fritsch and Carlson, Monotone piecewise cubic interpolation, 1980) and integrated exactly.
Reference: Bjøntegaard, Calculation of average PSNR differences between RD-curves, ITU-T VCEG-M33, 2001.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flowcodec.errors import InputError

Window = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """Points of one codec, both columns strictly rising: mean rate (bits per pixel) and mean PSNR (dB) at each setting."""

    name: str
    bpp: tuple[float, ...]
    psnr_db: tuple[float, ...]

    def __post_init__(self) -> None:
        counts = len(self.bpp), len(self.psnr_db)
        if counts[0] != counts[1] or counts[0] < 2:
            raise InputError(f"{self.name}: expected at least 2 rates and as many PSNRs, found {counts[0]} and {counts[1]}")
        if not np.isfinite([self.bpp, self.psnr_db]).all():
            raise InputError(f"{self.name}: a rate or PSNR is not finite; leave out settings that are lossless")
        if self.bpp[0] <= 0 or min(np.diff(self.bpp).min(), np.diff(self.psnr_db).min()) <= 0:
            raise InputError(f"{self.name}: rate and PSNR must rise together from point to point, from a positive rate")

    @classmethod
    def from_points(cls, name: str, bpp: Sequence[float], psnr_db: Sequence[float]) -> "Curve":
        """A curve from points in any order."""
        points = sorted(zip(bpp, psnr_db, strict=True))
        return cls(name, tuple(rate for rate, _ in points), tuple(quality for _, quality in points))

    @property
    def log_bpp(self) -> np.ndarray:
        return np.log(self.bpp)

    def psnr_at(self, bpp: np.ndarray) -> np.ndarray:
        """PSNR in dB at the rates ``bpp``, which must lie within the curve."""
        self._check(self.bpp, (float(np.min(bpp)), float(np.max(bpp))), "bpp")
        return Pchip(self.log_bpp, np.array(self.psnr_db))(np.log(bpp))

    def bpp_at(self, psnr_db: np.ndarray) -> np.ndarray:
        """Rate in bits per pixel at the qualities ``psnr_db``, which must lie within the curve."""
        self._check(self.psnr_db, (float(np.min(psnr_db)), float(np.max(psnr_db))), "dB")
        return np.exp(Pchip(np.array(self.psnr_db), self.log_bpp)(psnr_db))

    def covers_psnr(self, window: Window) -> bool:
        return self.psnr_db[0] <= window[0] and window[1] <= self.psnr_db[-1]

    def check_psnr(self, window: Window) -> None:
        """Raises InputError unless the curve reaches both ends of ``window`` (dB): nothing is extrapolated."""
        self._check(self.psnr_db, window, "dB")

    def check_bpp(self, window: Window) -> None:
        """Raises InputError unless the curve reaches both ends of ``window`` (bits per pixel)."""
        self._check(self.bpp, window, "bpp")

    def _check(self, column: tuple[float, ...], window: Window, unit: str) -> None:
        if not column[0] <= window[0] <= window[1] <= column[-1]:
            raise InputError(
                f"{self.name}: the curve spans {column[0]:.4g} to {column[-1]:.4g} {unit}, which does not cover "
                f"{window[0]:.4g} to {window[1]:.4g}; measure more settings or narrow the window"
            )


class Pchip:
    """Monotone piecewise cubic Hermite interpolation through (x, y), x strictly rising, at least 2 points."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y, self.slope = x, y, _slopes(x, y)

    def __call__(self, at: np.ndarray) -> np.ndarray:
        piece = np.clip(np.searchsorted(self.x, at, side="right") - 1, 0, len(self.x) - 2)
        width = self.x[piece + 1] - self.x[piece]
        t = (at - self.x[piece]) / width
        u = 1 - t
        ends = u * u * (1 + 2 * t) * self.y[piece] + t * t * (1 + 2 * u) * self.y[piece + 1]
        return ends + width * t * u * (u * self.slope[piece] - t * self.slope[piece + 1])

    def mean(self, low: float, high: float) -> float:
        """Mean over [low, high]; exact, since Simpson's rule is exact for each cubic piece."""
        inner = self.x[(self.x > low) & (self.x < high)]
        edges = np.concatenate([[low], inner, [high]])
        values, middles = self(edges), self((edges[:-1] + edges[1:]) / 2)
        return float(np.sum(np.diff(edges) * (values[:-1] + 4 * middles + values[1:]) / 6) / (high - low))


def bd_rate(anchor: Curve, test: Curve, window: Window) -> float:
    """Mean difference in rate at equal PSNR over ``window`` (dB), per cent; negative: ``test`` needs fewer bits."""
    for curve in (anchor, test):
        curve.check_psnr(window)
    means = [Pchip(np.array(curve.psnr_db), curve.log_bpp).mean(*window) for curve in (anchor, test)]
    return float(100 * np.expm1(means[1] - means[0]))


def bd_psnr(anchor: Curve, test: Curve, window: Window) -> float:
    """Mean difference in PSNR (dB) at equal rate over ``window`` (bits per pixel), log-uniform; positive: ``test`` is better."""
    for curve in (anchor, test):
        curve.check_bpp(window)
    low, high = np.log(window)
    means = [Pchip(curve.log_bpp, np.array(curve.psnr_db)).mean(low, high) for curve in (anchor, test)]
    return means[1] - means[0]


def overlap(anchor: Curve, test: Curve) -> Window:
    """The PSNR range (dB) that both curves cover."""
    return max(anchor.psnr_db[0], test.psnr_db[0]), min(anchor.psnr_db[-1], test.psnr_db[-1])


def _slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Slopes at the points: inside, a weighted harmonic mean of the secants, or 0 at a turn; three-point formula at the ends."""
    width = np.diff(x)
    secant = np.diff(y) / width
    if len(x) == 2:
        return np.repeat(secant, 2)
    before, after = 2 * width[1:] + width[:-1], width[1:] + 2 * width[:-1]
    same_sign = secant[:-1] * secant[1:] > 0
    safe = np.where(same_sign, secant[:-1], 1.0), np.where(same_sign, secant[1:], 1.0)
    inner = np.where(same_sign, (before + after) / (before / safe[0] + after / safe[1]), 0.0)
    return np.concatenate([[_end_slope(width[:2], secant[:2])], inner, [_end_slope(width[:-3:-1], secant[:-3:-1])]])


def _end_slope(width: np.ndarray, secant: np.ndarray) -> float:
    """One-sided slope from the two pieces nearest to an end, limited so that the end piece stays monotone."""
    slope = ((2 * width[0] + width[1]) * secant[0] - width[0] * secant[1]) / (width[0] + width[1])
    if slope * secant[0] <= 0:
        return 0.0
    if secant[0] * secant[1] < 0 and abs(slope) > 3 * abs(secant[0]):
        return 3 * secant[0]
    return slope
