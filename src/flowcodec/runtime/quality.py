"""Picture quality in NumPy: PSNR and MS-SSIM of 8-bit images."""

import math

import numpy as np

from flowcodec.errors import InputError

_PEAK = 255.0
_WINDOW, _SIGMA = 11, 1.5
_WEIGHTS = np.exp(-((np.arange(_WINDOW) - _WINDOW // 2) ** 2) / (2 * _SIGMA**2))
_WEIGHTS /= _WEIGHTS.sum()
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SMALLEST_MS_SSIM_SIDE = (_WINDOW - 1) * 2 ** (len(_SCALE_WEIGHTS) - 1) + 1
"""Pixels; below this the coarsest scale has no whole window."""
_STRIP_ROWS = 64
"""Few enough that what is computed of a strip stays in a core's cache."""


def psnr_db(reference: np.ndarray, image: np.ndarray) -> float:
    """10 log10(255^2 / MSE) over all pixels and channels, dB; infinite for equal images.

    Shapes: uint8 (H, W), (H, W, 1) or (H, W, 3); grey beside RGB counts as R = G = B. Raises InputError if sizes differ.
    """
    a, b = _same_channels(reference, image)
    total = 0
    for top in range(0, len(a), _STRIP_ROWS):
        difference = a[top : top + _STRIP_ROWS].astype(np.int32) - b[top : top + _STRIP_ROWS]
        total += int(np.sum(difference * difference, dtype=np.int64))
    return math.inf if total == 0 else 10 * math.log10(_PEAK**2 * a.size / total)


def ms_ssim(reference: np.ndarray, image: np.ndarray) -> float | None:
    """Multi-scale structural similarity, 0 to 1: prod_j cs_j^w_j * ssim_5^w_5 per channel, then the mean of the channels.

    11-tap Gaussian windows of sigma 1.5 that lie wholly in the image; five scales, each half the one before by 2x2 means.
    None where the shorter side is below SMALLEST_MS_SSIM_SIDE. Shapes and errors as psnr_db.
    Reference: Wang, Simoncelli and Bovik, Multi-scale structural similarity for image quality assessment, 2003; odd sides are
    halved as in the package pytorch-msssim, so that the values can be compared with published ones.
    """
    a, b = _same_channels(reference, image)
    if min(a.shape[:2]) < SMALLEST_MS_SSIM_SIDE:
        return None
    return float(np.mean([_channel_ms_ssim(a[:, :, c], b[:, :, c]) for c in range(a.shape[2])]))


def _same_channels(reference: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = (x[:, :, None] if x.ndim == 2 else x for x in (reference, image))
    if a.shape[:2] != b.shape[:2]:
        raise InputError(f"expected an image of {a.shape[1]}x{a.shape[0]} like the reference, found {b.shape[1]}x{b.shape[0]}")
    for x in (a, b):
        if x.dtype != np.uint8 or x.ndim != 3 or x.shape[2] not in (1, 3):
            raise InputError(f"expected uint8 (H, W), (H, W, 1) or (H, W, 3), found {x.dtype} {x.shape}")
    shape = (*a.shape[:2], max(a.shape[2], b.shape[2]))
    return np.broadcast_to(a, shape), np.broadcast_to(b, shape)


def _channel_ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """One channel (H, W) of each."""
    product = 1.0
    for scale, weight in enumerate(_SCALE_WEIGHTS, start=1):
        last = scale == len(_SCALE_WEIGHTS)
        product *= max(_similarity(a, b, luminance=last), 0.0) ** weight
        if not last:
            a, b = _half(a), _half(b)
    return product


def _similarity(a: np.ndarray, b: np.ndarray, *, luminance: bool) -> float:
    """Mean over all whole windows of SSIM's contrast-structure factor, or of the whole of SSIM with ``luminance``.

    The factor is (2 cov(x, y) + C2) / (var x + var y + C2), and only the sum of the variances is needed.
    """
    rows, columns = (extent - _WINDOW + 1 for extent in a.shape)
    total = 0.0
    for top in range(0, rows, _STRIP_ROWS):
        x, y = (image[top : top + _STRIP_ROWS + _WINDOW - 1].astype(np.float64) for image in (a, b))
        mean_x, mean_y = _blur(x), _blur(y)
        products, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
        similarity = (2 * (_blur(x * y) - products) + _C2) / (_blur(x * x + y * y) - squares + _C2)
        if luminance:
            similarity *= (2 * products + _C1) / (squares + _C1)
        total += float(similarity.sum())
    return total / (rows * columns)


def _blur(image: np.ndarray) -> np.ndarray:
    """(H, W) -> (H - 10, W - 10): Gaussian-weighted means over whole windows."""
    down = _weigh([image[k : len(image) - _WINDOW + 1 + k] for k in range(_WINDOW)])
    return _weigh([down[:, k : down.shape[1] - _WINDOW + 1 + k] for k in range(_WINDOW)])


def _weigh(shifted: list[np.ndarray]) -> np.ndarray:
    """Mean of the _WINDOW shifted copies by the Gaussian's weights, which are the same on both sides."""
    half = _WINDOW // 2
    total = shifted[half] * _WEIGHTS[half]
    pair = np.empty_like(total)
    for weight, before, after in zip(_WEIGHTS[:half], shifted[:half], shifted[::-1], strict=False):
        np.add(before, after, out=pair)
        pair *= weight
        total += pair
    return total


def _half(image: np.ndarray) -> np.ndarray:
    """(H, W) -> (ceil(H/2), ceil(W/2)): 2x2 means; an odd side is bordered by zeros on both ends, as pytorch-msssim does."""
    odd = [(extent % 2, extent % 2) for extent in image.shape]
    image = np.pad(image.astype(np.float64), odd)
    rows, columns = (extent // 2 * 2 for extent in image.shape)
    image = image[:rows, :columns]
    pairs = image[0::2] + image[1::2]
    return (pairs[:, 0::2] + pairs[:, 1::2]) / 4
