"""A moving picture, and a film of it."""

import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("cv2")
from coding import Coded, code


@pytest.fixture(scope="session")
def clip(photograph: np.ndarray) -> list[np.ndarray]:
    """Twelve frames of 71x58 uint8: a pan over the photograph, frame 5 the same as 4, another place from frame 8 on."""
    frames = []
    for number in range(12):
        top, left = (100 + number, 200 + 2 * number) if number < 8 else (300, 40 + number)
        frames.append(np.ascontiguousarray(photograph[top : top + 58, left : left + 71]))
    frames[5] = frames[4].copy()
    return frames


@pytest.fixture(scope="session")
def coded(clip: list[np.ndarray]) -> Coded:
    """The clip, in groups of at most six frames."""
    return code(clip, step=20, gop=6)
