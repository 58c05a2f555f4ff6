"""Pairs of 8-bit values: a certain sandwich, against histograms whose R(D) is known."""

import math

import numpy as np
import pytest

from flowcodec.bounds import pixel_pairs
from flowcodec.errors import InputError


def test_sandwich_on_a_photograph(photograph: np.ndarray) -> None:
    histogram = pixel_pairs.pair_histogram([photograph[..., 1]])
    assert histogram.sum() == pytest.approx(1)
    last = math.inf
    for slope in (0.5, 0.05, 0.005):
        found = pixel_pairs.pair_bounds(histogram, slope, rounds=60)
        assert 0 < found.lower_bits <= found.upper_bits < min(found.lower_bits + 0.1, pixel_pairs.entropy_bits(histogram))
        # Shannon's bound is another lower bound of the same thing.
        assert pixel_pairs.shannon_bits(histogram, found.distortion) <= found.upper_bits
        assert found.upper_bits < last
        last = found.upper_bits


def test_independent_gaussians_on_the_grid() -> None:
    """Two samples of N(128, 20^2) rounded: between the bounds lies (1/2) log2(v / D), up to the rounding to integers."""
    values = np.exp(-((np.arange(256) - 128) ** 2) / 800)
    histogram = np.outer(values, values) / values.sum() ** 2
    found = pixel_pairs.pair_bounds(histogram, 0.01, rounds=200)
    truth = 0.5 * math.log2((400 + 1 / 12) / found.distortion)
    assert found.lower_bits - 0.01 <= truth <= found.upper_bits + 0.01
    assert found.upper_bits - found.lower_bits < 0.02


def test_pairs_are_neighbours() -> None:
    plane = np.array([[1, 2, 3, 4, 9]], np.uint8)
    histogram = pixel_pairs.pair_histogram([plane])
    assert histogram[1, 2] == histogram[3, 4] == 0.5
    assert pixel_pairs.entropy_bits(histogram) == pytest.approx(0.5)
    with pytest.raises(InputError, match="two columns"):
        pixel_pairs.pair_histogram([plane[:, :1]])
    with pytest.raises(InputError, match="slope"):
        pixel_pairs.pair_bounds(histogram, 0.0)
