"""Golden files: committed bytes and pixel hashes that every machine must reproduce."""

import json

import pytest
from regenerate import FOLDER, HASHES, cases, pixel_hash

import flowcodec

NAMES = sorted(json.loads(HASHES.read_text()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("threads", [1, 2])
def test_golden_file_decodes_to_the_pinned_pixels(name: str, threads: int) -> None:
    assert (
        pixel_hash(flowcodec.decode((FOLDER / f"{name}.flow").read_bytes(), threads=threads))
        == json.loads(HASHES.read_text())[name]
    )


def test_every_case_is_pinned() -> None:
    assert sorted(cases()) == NAMES == sorted(path.stem for path in FOLDER.glob("*.flow"))


def test_encoder_writes_the_golden_bytes() -> None:
    """The encoder's analysis is in floating point, so only a picture that leaves no doubt is asked: a single pixel."""
    pixels, settings = cases()["pixel"]
    assert flowcodec.encode(pixels, **settings) == (FOLDER / "pixel.flow").read_bytes()


@pytest.mark.parametrize("name", ["lossless", "lossless_grey", "near_lossless"])
def test_lossless_encoder_writes_the_golden_bytes(name: str) -> None:
    """Both sides of the pixel model are integers, so the bytes are the same on every machine too."""
    pixels, settings = cases()[name]
    assert flowcodec.encode(pixels, **settings) == (FOLDER / f"{name}.flow").read_bytes()
