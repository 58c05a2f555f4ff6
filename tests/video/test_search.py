"""The motion search finds what moved, and scene cuts."""

import cv2
import numpy as np
import pytest

from flowcodec.runtime.motion import compensate, grid_shape
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


def test_a_cut_is_found_and_noise_and_fast_motion_are_none(photograph: np.ndarray) -> None:
    before = np.ascontiguousarray(photograph[200:400, 300:600])
    noisy = np.clip(before + np.random.default_rng(0).normal(0, 6, before.shape), 0, 255).astype(np.uint8)
    assert is_cut(photograph[40:240, 10:310], before)
    assert not is_cut(noisy, before)
    assert not is_cut(photograph[170:370, 335:635], before)


def test_vectors_cost_more_where_the_step_is_coarse(photograph: np.ndarray) -> None:
    """A zoom, of which every block would have a vector of its own: at a coarse step few are worth their bits."""
    before = view(photograph, 200, 300)
    zoom = np.array([[1.06, 0, -3.8], [0, 1.06, -2.9]])
    now = cv2.warpAffine(photograph[200:300, 300:432], zoom, (128, 96), flags=cv2.INTER_CUBIC)
    kinds = [len(np.unique(estimate(now, before, step).vectors.reshape(-1, 2), axis=0)) for step in (4.0, 400.0)]
    assert kinds[1] < kinds[0] / 2


@pytest.mark.parametrize("move", [(28, -3), (-5, 31)])
def test_fast_motion_is_found(move: tuple[int, int], photograph: np.ndarray) -> None:
    """Half of the picture moves by what the optical flow alone does not follow."""
    before = np.ascontiguousarray(photograph[100:292, 200:456])
    now = before.copy()
    now[:, 128:] = photograph[100 + move[0] : 292 + move[0], 328 + move[1] : 456 + move[1]]
    motion = estimate(now, before, 20.0)
    places = np.add.outer(np.arange(motion.vectors.shape[0]), np.zeros(motion.vectors.shape[1], int)) * motion.block
    columns = np.add.outer(np.zeros(motion.vectors.shape[0], int), np.arange(motion.vectors.shape[1])) * motion.block
    # Blocks whose source lies inside the picture.
    rows_inside = (places + move[0] >= 0) & (places + motion.block + move[0] <= 192)
    inside = rows_inside & (columns >= 136) & (columns + motion.block + move[1] <= 256)
    found = motion.vectors[inside]
    assert np.mean(np.all(np.abs(found - 4 * np.array(move)) <= 1, axis=1)) > 0.9


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (17, 15), (1, 40000), (9000, 20)])
def test_pictures_of_any_size(size: tuple[int, int]) -> None:
    now, before = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    motion = estimate(now, before)
    assert motion.vectors.shape == (*grid_shape(*size, motion.block), 2)
    is_cut(now, before)
