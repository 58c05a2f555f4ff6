"""Colour rotation: lengths kept, and every 8-bit colour comes back through the fixed-point planes."""

import itertools

import numpy as np

from flowcodec.runtime.color import RGB_TO_YCC, rgb_to_ycc, ycc_to_rgb
from flowcodec.runtime.flow import to_fixed
from flowcodec.runtime.integer import FRACTION_BITS


def sample_colours(count: int = 100_000) -> np.ndarray:
    """uint8 (n, 1, 3): all corners, edge values and greys, and ``count`` random colours."""
    corners = list(itertools.product((0, 1, 127, 128, 254, 255), repeat=3))
    greys = np.repeat(np.arange(256)[:, None], 3, axis=1)
    drawn = np.random.default_rng(0).integers(0, 256, (count, 3))
    return np.concatenate([corners, greys, drawn]).astype(np.uint8)[:, None]


def test_the_rotation_is_orthonormal() -> None:
    assert np.allclose(RGB_TO_YCC @ RGB_TO_YCC.T, np.eye(3), atol=1e-15)


def test_planes_follow_the_formula() -> None:
    red, green, blue = np.array([200, 30, 90], np.uint8)
    planes = rgb_to_ycc(np.array([[[red, green, blue]]]))
    r, g, b = 200.0, 30.0, 90.0
    expected = [(r + g + b) / np.sqrt(3), (r - b) / np.sqrt(2), (2 * g - r - b) / np.sqrt(6)]
    assert planes.dtype == np.float32
    assert np.allclose(planes[:, 0, 0], expected, atol=1e-4)


def test_lengths_are_kept() -> None:
    pixels = sample_colours(1000)
    planes = rgb_to_ycc(pixels)
    assert np.allclose((planes.astype(np.float64) ** 2).sum(0), (pixels.astype(np.float64) ** 2).sum(2), rtol=1e-6)


def test_every_colour_survives_the_fixed_point() -> None:
    pixels = sample_colours()
    assert np.array_equal(ycc_to_rgb(to_fixed(rgb_to_ycc(pixels))), pixels)


def test_every_grey_survives_the_fixed_point() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    planes = to_fixed(rgb_to_ycc(pixels))
    assert planes.shape == (1, 16, 16)
    assert np.array_equal(ycc_to_rgb(planes), pixels)


def test_a_grey_plane_is_the_luma_of_the_same_grey_in_colour() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(1, 256, 1)
    luma, first, second = rgb_to_ycc(np.repeat(grey, 3, axis=2))
    assert np.allclose(luma, rgb_to_ycc(grey)[0], atol=1e-4)
    assert np.abs([first, second]).max() < 1e-4


def test_the_inverse_rounds_the_exact_rotation() -> None:
    """Planes off the 8-bit lattice: within half a grey level of the real-valued inverse, and 0.03 for the 14-bit matrix."""
    planes = np.random.default_rng(1).integers(-2000, 2000, (3, 50, 50)) + np.array([14000, 0, 0])[:, None, None]
    exact = np.tensordot(RGB_TO_YCC.T, planes / (1 << FRACTION_BITS), axes=1).transpose(1, 2, 0)
    assert np.abs(ycc_to_rgb(planes) - np.clip(exact, 0, 255)).max() < 0.53


def test_planes_beyond_the_range_saturate() -> None:
    """Values far outside, as a damaged file may hold, end at 0 or 255 and never wrap."""
    huge = np.iinfo(np.int64).max // 2
    white, black = np.array([huge, 0, 0]).reshape(3, 1, 1), np.array([-huge, 0, 0]).reshape(3, 1, 1)
    assert ycc_to_rgb(white).tolist() == [[[255, 255, 255]]]
    assert ycc_to_rgb(black).tolist() == [[[0, 0, 0]]]
    for signs in itertools.product((-1, 1), repeat=3):
        planes = np.array(signs).reshape(3, 1, 1) * (1 << 15)
        exact = np.tensordot(RGB_TO_YCC.T, planes / (1 << FRACTION_BITS), axes=1).reshape(3)
        assert np.abs(ycc_to_rgb(planes).reshape(3) - np.clip(exact, 0, 255)).max() < 0.55
