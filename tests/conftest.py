"""Pictures and models shared by the tests."""

import numpy as np
import pytest
from PIL import Image

import flowcodec
from flowcodec.demo import PHOTO
from flowcodec.runtime.bundle import Model


@pytest.fixture(scope="session")
def photograph() -> np.ndarray:
    """The bundled photograph, uint8 (512, 768, 3); held out from training."""
    with Image.open(PHOTO) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="session")
def model() -> Model:
    return flowcodec.load_model()
