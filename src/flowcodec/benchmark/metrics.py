"""What is measured of a decoded picture: groups of columns of a result row, some through optional packages.

A metric compares uint8 (H, W, 3) arrays of equal shape and returns values by column name. None means "not defined for these
pixels": the PSNR of equal pictures, MS-SSIM of pictures too small for it. Many pictures are compared with one original, so a
metric takes the original first, and may keep what it computes of it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from flowcodec.benchmark import detail
from flowcodec.errors import InputError
from flowcodec.runtime.quality import ms_ssim, psnr_db

Values = dict[str, Any]
Compare = Callable[[np.ndarray], Values]


@dataclass(frozen=True)
class Metric:
    """``against(reference)`` gives the function that measures a picture; ``columns`` are what that returns.

    ``package`` is the one it needs, if any. ``every``: only every so many-th setting of a codec is measured, for what takes
    longer than a codec.
    """

    name: str
    columns: tuple[str, ...]
    against: Callable[[np.ndarray], Compare]
    package: str | None = None
    every: int = 1
    by_default: bool = True

    def available(self) -> bool:
        return self.package is None or find_spec(self.package) is not None

    def measure(self, reference: np.ndarray, image: np.ndarray) -> Values:
        return self.against(reference)(image)


def _pairwise(measure: Callable[[np.ndarray, np.ndarray], Values]) -> Callable[[np.ndarray], Compare]:
    """A metric that keeps nothing of the original."""
    return lambda reference: partial(measure, reference)


def _psnr(reference: np.ndarray, image: np.ndarray) -> Values:
    return {"psnr_db": finite(psnr_db(reference, image))}


def _ms_ssim(reference: np.ndarray, image: np.ndarray) -> Values:
    return {"ms_ssim": ms_ssim(reference, image)}


def _detail(reference: np.ndarray, image: np.ndarray) -> Values:
    return {
        "psnr_y_db": finite(detail.psnr_y_db(reference, image)),
        **detail.detail_energy(reference, image),
        "gradient_similarity": detail.gradient_similarity(reference, image),
        "edge_psnr_db": finite(detail.edge_psnr_db(reference, image)),
    }


def _ssimulacra2(reference: np.ndarray) -> Compare:
    from flowcodec.benchmark.ssimulacra2 import against

    score = against(reference)
    return lambda image: {"ssimulacra2": score(image)}


def _st_lpips(reference: np.ndarray) -> Compare:
    """ST-LPIPS, AlexNet, lower is better: shift-tolerant LPIPS, whose values are not those of LPIPS.

    Reference: Ghildyal and Liu, Shift-tolerant perceptual similarity metric, 2022.
    """
    import torch

    from flowcodec.benchmark.st_lpips import load

    network = _cached(load)

    def features(pixels: np.ndarray) -> Any:
        with torch.no_grad():
            return network.features(torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None])

    original = features(reference)
    return lambda image: {"st_lpips": float(network.distance(original, features(image)))}


@cache
def _cached(load: Callable[[], Any]) -> Any:
    return load()


def finite(value: float) -> float | None:
    """JSON has no infinity: the PSNR of equal pictures is None."""
    return value if math.isfinite(value) else None


THINNED = 3
"""Metrics slower than most codecs are measured at every third setting: four points make their curve."""
_DETAIL = ("detail_energy", "detail_kept", "gradient_similarity", "edge_psnr_db")

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("psnr", ("psnr_db",), _pairwise(_psnr)),
        Metric("ms-ssim", ("ms_ssim",), _pairwise(_ms_ssim)),
        Metric("detail", ("psnr_y_db", *_DETAIL), _pairwise(_detail), every=THINNED),
        Metric("ssimulacra2", ("ssimulacra2",), _ssimulacra2, "ssimulacra2", every=THINNED),
        Metric("st-lpips", ("st_lpips",), _st_lpips, "stlpips_pytorch", every=THINNED, by_default=False),
    )
}
COLUMNS = tuple(column for metric in METRICS.values() for column in metric.columns)


def choose(names: Sequence[str] | None) -> tuple[Metric, ...]:
    """The metrics of these names, psnr always; without names all usual ones whose package is there.

    Raises InputError for a name that is unknown or whose package is missing.
    """
    if names is None:
        return tuple(metric for metric in METRICS.values() if metric.by_default and metric.available())
    for name in names:
        if name not in METRICS:
            raise InputError(f"--metric: expected one of {', '.join(METRICS)}, found {name!r}")
        if not METRICS[name].available():
            package = (METRICS[name].package or "").replace("_", "-")
            raise InputError(f"--metric {name}: needs the package {package}: pip install {package}")
    return tuple(metric for metric in METRICS.values() if metric.name in {"psnr", *names})
