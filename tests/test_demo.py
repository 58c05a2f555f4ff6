"""The demo compares at no more than the same bytes, and its photograph may be passed on."""

import io

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import flowcodec
from flowcodec import demo
from flowcodec.benchmark.classical import Jpeg, WebP
from flowcodec.cli import app
from flowcodec.demo import PHOTO, QUALITIES, nearest_not_above, run_demo, table_rows


@pytest.fixture
def jpeg_as_ours(monkeypatch) -> None:
    """Stands in for the codec by JPEG at the same quality, and leaves one rival."""

    def encode(pixels, quality):
        return Jpeg().encode(pixels, int(quality))

    monkeypatch.setattr(flowcodec, "encode", encode)
    monkeypatch.setattr(flowcodec, "decode", lambda data: np.asarray(Image.open(io.BytesIO(data))))
    monkeypatch.setattr(demo, "RIVALS", (Jpeg(),))


@pytest.mark.parametrize("codec", [Jpeg(), WebP()])
@pytest.mark.parametrize("size_bytes", [3_000, 9_000])
def test_the_largest_file_that_is_not_larger(codec, size_bytes):
    pixels = np.asarray(Image.open(PHOTO))[:256, :256]
    setting, data = nearest_not_above(codec, pixels, size_bytes)
    assert data == codec.encode(pixels, setting)
    assert len(data) <= size_bytes < len(codec.encode(pixels, setting + 1))


def test_a_codec_that_cannot_go_so_low_gives_its_lowest():
    pixels = np.asarray(Image.open(PHOTO))[:256, :256]
    assert nearest_not_above(Jpeg(), pixels, 100) == (1, Jpeg().encode(pixels, 1))


def test_the_photograph_is_small_and_its_licence_is_told():
    assert Image.open(PHOTO).size == (768, 512)
    assert PHOTO.stat().st_size <= 700_000
    assert "CC0" in PHOTO.with_suffix(".txt").read_text()


def test_equal_codecs_give_equal_rows(jpeg_as_ours, tmp_path):
    said = []
    result = run_demo(tmp_path / "out", said.append)
    for quality, (ours, theirs) in zip(QUALITIES, result.rounds, strict=True):
        assert (ours.codec, theirs.codec, ours.setting, theirs.setting) == ("FlowCodec", "JPEG", quality, quality)
        assert (ours.size_bytes, ours.psnr_db, ours.ms_ssim) == (theirs.size_bytes, theirs.psnr_db, theirs.ms_ssim)
        assert (tmp_path / "out" / f"photo_q{quality:g}.flow").stat().st_size == ours.size_bytes
    assert len(table_rows(result)) == 2 * len(QUALITIES) + len(QUALITIES) - 1
    sheet = np.asarray(Image.open(result.picture))
    left, top = demo.CROPS[0]
    original = np.asarray(Image.open(PHOTO))[top : top + demo.CROP_HEIGHT, left : left + demo.CROP_WIDTH]
    height, width = original.shape[0] * demo.ZOOM, original.shape[1] * demo.ZOOM
    shown = sheet[demo._LABEL : demo._LABEL + height, demo._GAP : demo._GAP + width]
    assert np.array_equal(shown[:: demo.ZOOM, :: demo.ZOOM], original)


def test_the_command_prints_a_table_and_where_the_picture_is(jpeg_as_ours, tmp_path):
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0
    assert result.stdout.count("FlowCodec") == result.stdout.count("JPEG") == len(QUALITIES)
    assert (tmp_path / "out" / "side_by_side.png").exists()
    assert "side_by_side.png" in result.stdout
