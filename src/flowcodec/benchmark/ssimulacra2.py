"""SSIMULACRA 2 of many pictures against one original: the steps of the package of that name, the original's done only once.

Of the five blurs of a scale two are of the original alone. Values equal those of the package's own function
(``tests/benchmark/test_detail.py``).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from ssimulacra2 import ssimulacra2 as package

SMALLEST_SIDE = 8
"""Pixels; smaller pictures have no score."""


@dataclass(frozen=True)
class Scale:
    """One scale of a picture in XYB colour, float64 (W, H, 3); the blurs are by the package's Gaussian."""

    picture: np.ndarray
    mean: np.ndarray
    mean_of_squares: np.ndarray


def against(reference: np.ndarray) -> Callable[[np.ndarray], float | None]:
    """uint8 (H, W, 3) -> the score of pictures of that shape: 100 is equal, 90 hardly to be told apart, 50 medium, negative very
    poor; None for pictures with a side below SMALLEST_SIDE.
    """
    scales = list(_scales(reference))

    def score(image: np.ndarray) -> float | None:
        found = package.Msssim()
        for original, other in zip(scales, _scales(image), strict=True):
            scale = package.MsssimScale()
            products = package.blur_image(original.picture * other.picture)
            means = original.mean, other.mean
            scale.avg_ssim = package.ssim_map(*means, original.mean_of_squares, other.mean_of_squares, products)
            scale.avg_edgediff = package.edge_diff_map(original.picture, original.mean, other.picture, other.mean)
            found.scales.append(scale)
        return float(found.score()) if scales else None

    return score


def _scales(pixels: np.ndarray) -> Iterator[Scale]:
    """Fine to coarse, each half the one before in linear light."""
    linear = package.srgb_to_linear(np.arange(256))[pixels]
    for scale in range(package.kNumScales):
        if scale:
            linear = package.downsample(linear, 2, 2)
        if min(linear.shape[:2]) < SMALLEST_SIDE:
            return
        picture = package.make_positive_xyb(package.linear_rgb_to_xyb(linear))
        yield Scale(picture, package.blur_image(picture), package.blur_image(picture * picture))
