"""Made-up graphics: something is drawn, most of the crop stays, the same numbers draw the same."""

import numpy as np
import pytest

from flowcodec.training.config import DataConfig
from flowcodec.training.data import CropSampler, PixelStore
from flowcodec.training.graphics import KINDS, with_graphics

SIDE = 64
PHOTOGRAPH = np.random.default_rng(0).integers(40, 215, (SIDE, SIDE, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_changes_a_part_of_the_crop_and_leaves_the_original(kind: str) -> None:
    original, shares = PHOTOGRAPH.copy(), []
    for seed in range(40):
        drawn = with_graphics(PHOTOGRAPH, np.random.default_rng(seed), kind)
        assert np.array_equal(drawn, with_graphics(PHOTOGRAPH, np.random.default_rng(seed), kind))
        shares.append((drawn != PHOTOGRAPH).any(2).mean())
    assert np.array_equal(PHOTOGRAPH, original)
    assert np.mean(np.array(shares) > 0) > 0.8
    assert 0.002 < np.mean(shares) < 0.5


def test_a_frame_lies_along_the_sides_alone() -> None:
    for seed in range(20):
        drawn = with_graphics(PHOTOGRAPH, np.random.default_rng(seed), "frame")
        assert np.array_equal(drawn[8:-8, 8:-8], PHOTOGRAPH[8:-8, 8:-8])


def test_the_sampler_draws_on_the_asked_share_of_its_crops() -> None:
    store = PixelStore(np.full(3 * 96 * 96 * 8, 128, np.uint8), np.full((8, 2), 96), np.arange(8))

    def share(probability: float) -> float:
        config = DataConfig(crop=48, graphics_probability=probability)
        batches = [CropSampler(store, config, 1).batch(step, 0, 20) for step in range(10)]
        return float(np.mean((np.concatenate(batches) != 128).any((1, 2, 3))))

    assert share(0.0) == 0
    assert 0.3 < share(0.5) < 0.6
    assert share(1.0) > 0.85
