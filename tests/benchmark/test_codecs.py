"""The codecs of the benchmark: real bytes, real decodes, and the options that a fair comparison needs."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import flowcodec
from flowcodec.benchmark.classical import CLASSICAL, Jpeg2000, PillowCodec
from flowcodec.benchmark.codecs import Thinned, choose_codecs, every_codec
from flowcodec.benchmark.datasets import find_images, pixel_hash
from flowcodec.benchmark.modern import MODERN, HevcIntra, JpegXl, is_available
from flowcodec.benchmark.ours import FlowCodec
from flowcodec.errors import InputError
from flowcodec.runtime.quality import psnr_db


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """A smooth scene with texture in brightness and little colour, as photographs have; uint8 (176, 208, 3)."""
    rows, columns = np.mgrid[0:176, 0:208] / 32
    brightness = 60 * np.sin(rows) * np.cos(3 * columns) + np.random.default_rng(5).normal(0, 6, rows.shape)
    colour = np.stack([10 * np.sin(rows + k) for k in range(3)], axis=2)
    return np.clip(128 + brightness[:, :, None] + colour, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("codec", CLASSICAL, ids=lambda codec: codec.name)
def test_settings_are_in_order_and_move_rate_and_quality(codec: PillowCodec, pixels: np.ndarray) -> None:
    chosen = [codec.settings[k] for k in (0, len(codec.settings) // 2, -1)]
    files = [codec.encode(pixels, setting) for setting in chosen]
    pictures = [codec.decode(data) for data in files]
    sizes, qualities = [len(data) for data in files], [psnr_db(pixels, picture) for picture in pictures]
    assert all(picture.shape == pixels.shape and picture.dtype == np.uint8 for picture in pictures)
    assert sizes == sorted(sizes) and qualities == sorted(qualities)
    assert codec.describe()["options"] == codec.fixed and "None" not in codec.describe()["version"]


def test_names_differ() -> None:
    assert len({codec.name for codec in CLASSICAL}) == len(CLASSICAL)


def test_jpeg_and_avif_keep_colour_at_full_resolution(pixels: np.ndarray) -> None:
    """Red and green columns alternate: at half resolution their colour would be lost."""
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, 0::2, 0], stripes[:, 1::2, 1] = 200, 100
    psnr = {codec.name: psnr_db(stripes, codec.decode(codec.encode(stripes, codec.settings[-1]))) for codec in CLASSICAL}
    assert psnr["JPEG"] > 30 and psnr["AVIF"] > 30 and psnr["WebP"] < 25


def test_jpeg2000_meets_its_ratio_and_its_colour_transform_pays(pixels: np.ndarray) -> None:
    codec = Jpeg2000()
    data = codec.encode(pixels, 24)
    assert 8 * len(data) / (176 * 208) == pytest.approx(1.0, abs=0.03)
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG2000", **(codec.options(24) | {"mct": 0}))
    assert psnr_db(pixels, codec.decode(data)) > psnr_db(pixels, codec.decode(stream.getvalue()))


def test_ours_passes_step_and_channel_on(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(flowcodec, "encode", lambda pixels, **options: calls.append(options) or b"file")
    monkeypatch.setattr(flowcodec, "decode", lambda data, **options: calls.append(options) or "picture")
    codec = FlowCodec(channel="dither", threads=2)
    assert codec.encode(np.zeros((2, 2, 3), np.uint8), 8.0) == b"file" and codec.decode(b"file") == "picture"
    options = {"model": "default", "threads": 2}
    assert calls == [{"step": 8.0, "channel": "dither", "effort": 3, **options}, options]
    assert FlowCodec().name == "FlowCodec" and codec.name == "FlowCodec (dither)"


def test_images_of_folders_and_files(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for name, shade in (("b.png", 3), ("a.png", 9), ("list.txt", None)):
        if shade is None:
            (folder / name).write_text("no image")
        else:
            Image.new("RGB", (5, 4), (shade, 0, 0)).save(folder / name)
    images = find_images([folder])
    assert [image.name for image in images] == ["a", "b"]
    assert images[0].pixels().shape == (4, 5, 3) and images[0].pixels()[0, 0, 0] == 9
    assert pixel_hash(images[0].pixels()) != pixel_hash(images[0].pixels().reshape(5, 4, 3))
    with pytest.raises(InputError, match="same name"):
        find_images([folder, folder / "a.png"])
    with pytest.raises(InputError, match="no such"):
        find_images([tmp_path / "absent"])
    Image.new("L", (5, 4)).save(tmp_path / "grey.png")
    with pytest.raises(InputError, match="expected 8-bit RGB, found mode L"):
        find_images([tmp_path / "grey.png"])[0].pixels()
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match="cannot be read"):
        find_images([tmp_path / "bad.png"])[0].pixels()


@pytest.mark.parametrize("codec", MODERN, ids=lambda codec: codec.name)
def test_modern_codecs_move_in_order_and_say_what_they_are(codec: JpegXl | HevcIntra, pixels: np.ndarray) -> None:
    if not is_available(codec):
        pytest.skip(f"{codec.package} is not installed")
    before = codec.describe()
    files = [codec.encode(pixels, codec.settings[k]) for k in (0, len(codec.settings) // 2, -1)]
    pictures = [codec.decode(data) for data in files]
    qualities = [psnr_db(pixels, picture) for picture in pictures]
    assert [len(data) for data in files] == sorted(len(data) for data in files) and qualities == sorted(qualities)
    assert all(picture.shape == pixels.shape and picture.dtype == np.uint8 for picture in pictures)
    assert codec.describe() == before, "encoding leaves the options as they are, so that a later run goes on"
    assert "None" not in before["version"] and before["options"]
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, 0::2, 0], stripes[:, 1::2, 1] = 200, 100
    assert psnr_db(stripes, codec.decode(codec.encode(stripes, codec.settings[-1]))) > 30, "colour at full resolution"


def test_codecs_are_chosen_by_name_and_missing_packages_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [codec.name for codec in choose_codecs(["WebP", "FlowCodec", "WebP"])] == ["WebP", "FlowCodec"]
    assert len(every_codec()) == len(CLASSICAL) + len(MODERN) + 1
    (slow,) = choose_codecs(["FlowCodec (effort 6)"])
    assert slow.describe()["options"]["effort"] == 6 and "effort" not in FlowCodec().describe()["options"]
    with pytest.raises(InputError, match=r"--codec: expected one of JPEG, .* found 'GIF'"):
        choose_codecs(["GIF"])
    monkeypatch.setattr("flowcodec.benchmark.modern.find_spec", lambda _: None)
    assert {codec.name for codec in choose_codecs(None)} == {*(codec.name for codec in CLASSICAL), "FlowCodec"}
    assert [codec.name for codec in choose_codecs(["FlowCodec (dither)"])] == ["FlowCodec (dither)"]
    with pytest.raises(InputError, match="'JPEG XL': needs the package imagecodecs"):
        choose_codecs(["JPEG XL"])


def test_a_quick_look_keeps_the_ends_of_the_curve() -> None:
    thinned = Thinned(Jpeg2000())
    assert len(thinned.settings) == 5 and {Jpeg2000.settings[0], Jpeg2000.settings[-1]} <= set(thinned.settings)
    assert thinned.name == "JPEG 2000" and thinned.describe() == Jpeg2000().describe()
