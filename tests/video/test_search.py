"""The motion search finds what moved, and scene cuts."""

import numpy as np
import pytest

from flowcodec.runtime.motion import compensate
from flowcodec.video.search import estimate, is_cut


def view(photograph: np.ndarray, top: int, left: int) -> np.ndarray:
    return np.ascontiguousarray(photograph[top : top + 96, left : left + 128])


@pytest.mark.parametrize("move", [(0, 0), (3, -2), (-7, 5)])
def test_a_pan_is_found(move: tuple[int, int], photograph: np.ndarray) -> None:
    before, now = view(photograph, 200, 300), view(photograph, 200 + move[0], 300 + move[1])
    motion = estimate(now, before)
    inner = motion.vectors[1:-1, 1:-1].reshape(-1, 2)
    assert np.mean(np.all(np.abs(inner - 4 * np.array(move)) <= 1, axis=1)) > 0.9
    assert not is_cut(now, before)


def test_prediction_beats_the_frame_before(photograph: np.ndarray) -> None:
    before, now = view(photograph, 200, 300), view(photograph, 202, 303)
    motion = estimate(now, before)
    planes = before.transpose(2, 0, 1).astype(np.int32) * 64
    predicted = compensate(planes, motion.vectors, motion.block).transpose(1, 2, 0) / 64
    assert np.mean((predicted - now) ** 2) < 0.2 * np.mean((before.astype(float) - now) ** 2)


def test_a_cut_is_found_and_noise_is_none(photograph: np.ndarray) -> None:
    before = view(photograph, 200, 300)
    noisy = np.clip(before + np.random.default_rng(0).normal(0, 6, before.shape), 0, 255).astype(np.uint8)
    assert is_cut(view(photograph, 40, 10), before)
    assert not is_cut(noisy, before)


def test_vectors_cost_more_where_the_step_is_coarse(photograph: np.ndarray) -> None:
    """At a coarse step few different vectors are worth their bits."""
    before, now = view(photograph, 200, 300), view(photograph, 202, 303)
    noisy = np.clip(now + np.random.default_rng(0).normal(0, 10, now.shape), 0, 255).astype(np.uint8)
    kinds = [len(np.unique(estimate(noisy, before, step).vectors.reshape(-1, 2), axis=0)) for step in (2.0, 100.0)]
    assert kinds[1] < kinds[0]
