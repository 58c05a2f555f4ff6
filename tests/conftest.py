"""Pictures, models and a stand-in of the codec, shared by the tests."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import flowcodec
import flowcodec.runtime.decode
import flowcodec.runtime.encode
from flowcodec.demo import PHOTO
from flowcodec.errors import FormatError
from flowcodec.runtime.bundle import Model
from flowcodec.runtime.container import MAGIC
from flowcodec.runtime.image import Picture, to_array, to_picture


@pytest.fixture(scope="session")
def photograph() -> np.ndarray:
    """The bundled photograph, uint8 (512, 768, 3); held out from training."""
    with Image.open(PHOTO) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="session")
def model() -> Model:
    return flowcodec.load_model()


@pytest.fixture
def settings_seen(monkeypatch) -> list:
    """Stands in for the codec by one that stores arrays as they are; gives the settings of each encoding."""
    seen = []

    def encode_picture(picture: Picture, settings) -> bytes:
        seen.append(settings)
        stream = io.BytesIO()
        np.save(stream, to_array(picture))
        return MAGIC + stream.getvalue()

    def decode_picture(data: bytes, threads=None, *, model=None) -> Picture:
        if not data.startswith(MAGIC):
            raise FormatError("not a FlowCodec file")
        return to_picture(np.load(io.BytesIO(data[len(MAGIC) :])))

    monkeypatch.setattr(flowcodec.runtime.encode, "encode_picture", encode_picture)
    monkeypatch.setattr(flowcodec.runtime.decode, "decode_picture", decode_picture)
    return seen


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)).save(path)
    return path
