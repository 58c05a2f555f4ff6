"""PSNR by its definition; MS-SSIM against an independent implementation."""

import itertools
import math

import numpy as np
import pytest

from flowcodec.errors import InputError
from flowcodec.runtime.quality import SMALLEST_MS_SSIM_SIDE, ms_ssim, psnr_db


def photo_like(height: int, width: int, channels: int, seed: int) -> np.ndarray:
    """Smooth waves with a little noise, uint8 (H, W, C)."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    planes = [
        128 + 80 * np.sin(rows / random.uniform(3, 30) + columns / random.uniform(3, 30)) + random.normal(0, 6, (height, width))
        for _ in range(channels)
    ]
    return np.clip(np.stack(planes, axis=-1), 0, 255).astype(np.uint8)


def with_noise(image: np.ndarray, sigma: float) -> np.ndarray:
    return np.clip(image + np.random.default_rng(1).normal(0, sigma, image.shape), 0, 255).astype(np.uint8)


def test_psnr_of_a_known_error():
    image = np.full((300, 40, 3), 100, np.uint8)
    assert psnr_db(image, image) == math.inf
    assert psnr_db(image, image + 5) == pytest.approx(20 * math.log10(255 / 5), abs=1e-12)
    one = image.copy()
    one[299, 39, 2] = 0
    assert psnr_db(image, one) == pytest.approx(10 * math.log10(255**2 * image.size / 100**2), abs=1e-12)


def test_psnr_counts_a_negative_difference_like_a_positive_one():
    low, high = np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8)
    assert psnr_db(low, high) == psnr_db(high, low) == 0


def test_grey_counts_as_equal_channels():
    grey, colour = photo_like(200, 180, 1, 0), photo_like(200, 180, 3, 1)
    triple = np.repeat(grey, 3, axis=2)
    assert psnr_db(grey, colour) == psnr_db(triple, colour)
    assert psnr_db(grey[:, :, 0], triple) == math.inf
    assert ms_ssim(colour, grey) == ms_ssim(colour, triple)


@pytest.mark.parametrize("size", [(161, 161), (176, 256), (233, 322), (600, 170)])
@pytest.mark.parametrize("sigma", [2, 15, 60])
def test_ms_ssim_equals_pytorch_msssim(size, sigma):
    torch = pytest.importorskip("torch")
    package = pytest.importorskip("pytorch_msssim")
    image = photo_like(*size, 3, seed=sigma)
    worse = with_noise(image * 0.6 + 90, sigma)  # another brightness and contrast as well
    a, b = (torch.from_numpy(x.transpose(2, 0, 1).copy()).double()[None] for x in (image, worse))
    assert ms_ssim(image, worse) == pytest.approx(package.ms_ssim(a, b, data_range=255).item(), abs=1e-5)


def test_ms_ssim_is_one_for_equal_images_and_falls_with_noise():
    image = photo_like(176, 200, 3, 0)
    values = [ms_ssim(image, with_noise(image, sigma)) for sigma in (0, 4, 12, 40)]
    assert values[0] == pytest.approx(1, abs=1e-12)
    assert all(a > b for a, b in itertools.pairwise(values))


def test_small_images_have_no_ms_ssim():
    side = SMALLEST_MS_SSIM_SIDE
    assert ms_ssim(np.zeros((side - 1, 500), np.uint8), np.zeros((side - 1, 500), np.uint8)) is None
    assert ms_ssim(np.zeros((side, side), np.uint8), np.zeros((side, side), np.uint8)) is not None


@pytest.mark.parametrize("metric", [psnr_db, ms_ssim])
def test_unequal_sizes_and_other_types_are_refused(metric):
    with pytest.raises(InputError, match="4x5"):
        metric(np.zeros((5, 4), np.uint8), np.zeros((4, 5), np.uint8))
    with pytest.raises(InputError, match="uint8"):
        metric(np.zeros((5, 4)), np.zeros((5, 4)))
