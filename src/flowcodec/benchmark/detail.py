"""Does fine detail survive? Measures beside PSNR, which a blurred picture can win.

All are taken on luma (BT.601, full range, not rounded) of 8-bit RGB. The pyramid is the undecimated B3-spline wavelet: it does
not move with the picture, and it is the transform of none of the codecs compared, so it favours none.
Reference: Starck, Fadili and Murtagh, The undecimated wavelet decomposition and its reconstruction, 2007.
"""

import math

import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114])
SCALES = 4
"""Bands of the pyramid: details of about 1, 2, 4 and 8 pixels."""
EDGE_SHARE = 0.1
"""The tenth of the pixels with the steepest gradient counts as edges."""
_DIGITS = 6
_SIMILARITY_CONSTANT = 170.0
"""Keeps the gradient similarity finite in flat places; the value of its authors, for 8-bit images."""


def luma(pixels: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) -> float64 (H, W): 0.299 R + 0.587 G + 0.114 B."""
    return pixels.astype(np.float64) @ _LUMA


def psnr_y_db(reference: np.ndarray, image: np.ndarray) -> float:
    """10 log10(255^2 / MSE) of luma, dB; infinite for equal luma."""
    return _psnr_db(luma(reference) - luma(image))


def detail_energy(reference: np.ndarray, image: np.ndarray) -> dict[str, list[float | None]]:
    """Two shares for each scale j, fine to coarse, with the bands d_j of the reference and e_j of the image.

    ``detail_energy``: sum e_j^2 / sum d_j^2; below 1 is blur, above 1 is added noise or ringing.
    ``detail_kept``: sum d_j e_j / sum d_j^2; what is still there of the detail itself: ringing and noise do not count.
    None where the reference has no detail at that scale.
    """
    energy: list[float | None] = []
    kept: list[float | None] = []
    for d, e in zip(_pyramid(luma(reference)), _pyramid(luma(image)), strict=True):
        norm = float(np.sum(d * d))
        energy.append(round(float(np.sum(e * e)) / norm, _DIGITS) if norm > 0 else None)
        kept.append(round(float(np.sum(d * e)) / norm, _DIGITS) if norm > 0 else None)
    return {"detail_energy": energy, "detail_kept": kept}


def gradient_similarity(reference: np.ndarray, image: np.ndarray) -> float:
    """Mean of (2 g h + c) / (g^2 + h^2 + c), 0 to 1, with g, h the Prewitt gradient magnitudes of 2x2 means of luma.

    Reference: Xue, Zhang, Mou and Bovik, Gradient magnitude similarity deviation, 2014 (its map, averaged).
    """
    g, h = (_gradient(_half(luma(x))) for x in (reference, image))
    return float(np.mean((2 * g * h + _SIMILARITY_CONSTANT) / (g * g + h * h + _SIMILARITY_CONSTANT)))


def edge_psnr_db(reference: np.ndarray, image: np.ndarray) -> float:
    """PSNR of luma, dB, over the EDGE_SHARE of the pixels where the reference is steepest; infinite where those are equal.

    Fewer pixels where more than the rest are flat, all where there is no edge at all.
    """
    original = luma(reference)
    steepness = _gradient(original)
    least = np.quantile(steepness, 1 - EDGE_SHARE)
    edges = steepness >= least if least > 0 or not steepness.any() else steepness > 0
    return _psnr_db((original - luma(image))[edges])


def _psnr_db(difference: np.ndarray) -> float:
    error = float(np.mean(difference * difference))
    return math.inf if error == 0 else 10 * math.log10(255.0**2 / error)


def _pyramid(plane: np.ndarray) -> list[np.ndarray]:
    """SCALES detail bands, fine to coarse: what each further smoothing takes away."""
    bands = []
    for scale in range(SCALES):
        smooth = _smooth(_smooth(plane, 1 << scale).T, 1 << scale).T
        bands.append(plane - smooth)
        plane = smooth
    return bands


def _smooth(plane: np.ndarray, spacing: int) -> np.ndarray:
    """B3-spline taps ``spacing`` rows apart; borders mirrored as often as a small picture needs."""
    rows = len(plane)
    padded = np.pad(plane, [(2 * spacing, 2 * spacing), (0, 0)], mode="symmetric")
    a, b, c, d, e = (padded[k * spacing : k * spacing + rows] for k in range(5))
    return (a + e + 4 * (b + d) + 6 * c) / 16


def _gradient(plane: np.ndarray) -> np.ndarray:
    """(H, W) -> (H, W): Prewitt magnitude, one third of each mask's sum."""
    p = np.pad(plane, 1, mode="edge")
    across = p[:, 2:] - p[:, :-2]
    down = p[2:] - p[:-2]
    dx = (across[:-2] + across[1:-1] + across[2:]) / 3
    dy = (down[:, :-2] + down[:, 1:-1] + down[:, 2:]) / 3
    return np.hypot(dx, dy)


def _half(plane: np.ndarray) -> np.ndarray:
    """2x2 means; a last odd row or column is left out, a single row or column kept."""
    rows, columns = (max(extent // 2, 1) for extent in plane.shape)
    tall, wide = (min(extent, 2) for extent in plane.shape)
    return plane[: rows * tall, : columns * wide].reshape(rows, tall, columns, wide).mean(axis=(1, 3))
