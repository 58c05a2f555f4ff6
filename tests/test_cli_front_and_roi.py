"""The command line on fronts of files: --levels, --partial; exit codes, errors of one line, outputs that stay as they were."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import flowcodec
from command_line import error_of, run
from flowcodec.runtime import container


@pytest.fixture(scope="module")
def data(photograph: np.ndarray) -> bytes:
    return flowcodec.encode(photograph[:60, :81], step=12, threads=1)


@pytest.fixture
def whole(data: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "whole.flow"
    path.write_bytes(data)
    return path


@pytest.fixture
def cut(data: bytes, tmp_path: Path) -> Path:
    """Without its last box, and a little more."""
    path = tmp_path / "cut.flow"
    path.write_bytes(data[: -len(container.read(data).latents[-1]) // 2])
    return path


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_levels(data: bytes, whole: Path, cut: Path, tmp_path: Path) -> None:
    for levels, size in ((0, "81x60"), (1, "41x30"), (2, "21x15"), (7, "1x1")):
        result = run("decode", whole, tmp_path / "out.png", "--levels", levels)
        assert result.stderr == f"{tmp_path / 'out.png'}: {size}\n"
        np.testing.assert_array_equal(pixels_of(tmp_path / "out.png"), flowcodec.decode(data, levels=levels))
    run("decode", cut, tmp_path / "cut.png", "--levels", 1)
    np.testing.assert_array_equal(pixels_of(tmp_path / "cut.png"), flowcodec.decode(data, levels=1))


def test_levels_that_there_are_not(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "out.png").write_bytes(b"before")
    line = error_of("decode", whole, tmp_path / "out.png", "--levels", 8)
    assert "levels: expected 0 to 7 for a picture of 81x60, found 8; give a smaller number" in line
    assert (tmp_path / "out.png").read_bytes() == b"before"
    run("decode", whole, tmp_path / "out.png", "--levels", -1, code=2)
    run("decode", whole, tmp_path / "out.png", "--levels", "many", code=2)


def test_a_cut_file_needs_partial(data: bytes, cut: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    out.write_bytes(b"before")
    assert "expected" in error_of("decode", cut, out)
    assert out.read_bytes() == b"before"
    run("decode", cut, out, "--partial")
    np.testing.assert_array_equal(pixels_of(out), flowcodec.decode(cut.read_bytes(), partial=True))
    cut.write_bytes(data[:30])
    out.write_bytes(b"before")
    assert "0 of the 4 latent boxes" in error_of("decode", cut, out, "--partial")
    assert out.read_bytes() == b"before"


def test_info_of_a_cut_file(cut: Path, whole: Path) -> None:
    assert "expected" in error_of("info", cut)
    assert "ends_early" in run("info", cut, "--partial").stdout
    assert "ends_early" not in run("info", whole).stdout


# --- --roi ----------------------------------------------------------------------------------------------------------------


def test_roi(photograph: np.ndarray, tmp_path: Path) -> None:
    pixels, mask = photograph[:60, :81], np.zeros((60, 81), np.uint8)
    mask[:30] = 255
    photo, mask_file, out = tmp_path / "photo.png", tmp_path / "mask.png", tmp_path / "out.flow"
    Image.fromarray(pixels).save(photo)
    Image.fromarray(mask).convert("1").save(mask_file)
    run("encode", photo, out, "--roi", mask_file, "--threads", 1)
    assert out.read_bytes() == flowcodec.encode(pixels, roi=mask, threads=1)


def test_masks_that_do_not_fit(photograph: np.ndarray, tmp_path: Path) -> None:
    photo, mask_file, out = tmp_path / "photo.png", tmp_path / "mask.png", tmp_path / "out.flow"
    Image.fromarray(photograph[:60, :81]).save(photo)
    out.write_bytes(b"before")
    Image.fromarray(photograph[:60, :80, 0]).save(mask_file)
    assert "expected a mask of 81x60 like the picture, found 80x60; resize the mask" in error_of(
        "encode", photo, out, "--roi", mask_file
    )
    Image.fromarray(photograph[:60, :81]).save(mask_file)
    assert "expected a grey image as a mask" in error_of("encode", photo, out, "--roi", mask_file)
    assert "no-such.png" in error_of("encode", photo, out, "--roi", tmp_path / "no-such.png")
    assert out.read_bytes() == b"before"
