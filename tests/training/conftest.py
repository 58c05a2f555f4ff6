"""A folder of small synthetic images and the smallest configuration that trains on it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

VALIDATION_EVERY = 4


def synthetic_image(index: int, height: int, width: int) -> np.ndarray:
    """uint8 (H, W, 3): waves of a direction and colour of their own under some grain, so that there is something to predict."""
    random = np.random.default_rng(index)
    y, x = np.mgrid[:height, :width]
    wave = np.sin(0.2 * (np.cos(index) * x + np.sin(index) * y))[..., None]
    colour = 128 + 80 * wave * random.uniform(0.3, 1, 3) + random.normal(0, 4, (height, width, 3))
    return np.clip(colour, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine PNG images of 40x56 and less; the first, fifth and ninth by name are held out."""
    folder = tmp_path_factory.mktemp("images")
    for index in range(9):
        Image.fromarray(synthetic_image(index, 40 - index, 56)).save(folder / f"{index:02d}.png")
    return folder


def tiny_tables(**changes: dict[str, Any]) -> dict[str, Any]:
    """Tables of a configuration whose steps take milliseconds; ``changes`` are merged into them."""
    tables: dict[str, dict[str, Any]] = {
        "model": {"widths": [4, 4, 4], "blocks": [1, 1, 1], "coupling_width": 4, "restoration_width": 4},
        "data": {"crop": 16, "batch": 2, "validation_every": VALIDATION_EVERY, "validation_crops": 2, "validation_crop": 32},
        "objective": {},
        "optimizer": {"steps": 6, "warmup": 2},
        "run": {"precision": "f32", "log_every": 1, "validate_every": 1000, "checkpoint_every": 1000},
    }
    for table, values in changes.items():
        tables[table] |= values
    return tables


@pytest.fixture(scope="session", name="tiny_tables")
def tiny_tables_fixture() -> Callable[..., dict[str, Any]]:
    return tiny_tables
