"""Pictures in and out: colour models, orientation, metadata, refusals, and files that appear whole or not at all."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageCms, PngImagePlugin

from flowcodec.errors import FlowCodecError, InputError, LimitError
from flowcodec.runtime import image as image_module
from flowcodec.runtime.image import Picture, format_of, read_picture, to_array, to_picture, write_picture, write_whole

ORIENTATION = 0x0112
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/><tiff:Orientation>6</tiff:Orientation></x:xmpmeta>'
UPRIGHT = {  # orientation -> what a viewer does to the stored array (EXIF 2.32, tag 0x0112)
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def file_of(image: Image.Image, format: str, **options) -> io.BytesIO:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    stream.seek(0)
    return stream


def exif_block(orientation: int, big_endian: bool = False) -> bytes:
    tags = Image.Exif()
    tags.endian = ">" if big_endian else "<"
    tags[0x010F] = "Maker of cameras"
    tags[ORIENTATION] = orientation
    tags.get_ifd(0x8769)[0x829A] = 0.004
    return tags.tobytes().removeprefix(b"Exif\0\0")


# --- arrays and PIL images -----------------------------------------------------------------------------------------------

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(lambda hw: st.sampled_from([hw, (*hw, 3), (*hw, 4)]))


@given(SHAPES.flatmap(lambda shape: arrays(np.uint8, shape)))
def test_arrays_survive(array):
    assert np.array_equal(to_array(to_picture(array)), array)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
@pytest.mark.parametrize("format", ["png", "tiff", "webp"])
def test_lossless_files_hold_what_arrays_hold(shape, format):
    array, stream = noise(*shape), io.BytesIO()
    write_picture(to_picture(array), stream, format)
    found = to_array(read_picture(io.BytesIO(stream.getvalue())))
    expected = np.repeat(array[:, :, None], 3, axis=2) if format == "webp" and array.ndim == 2 else array
    assert np.array_equal(found, expected)


def test_grey_with_alpha_becomes_rgba_in_an_array():
    grey, alpha = noise(4, 5, 1), noise(4, 5, seed=1)
    array = to_array(Picture(grey, alpha))
    assert array.shape == (4, 5, 4)
    assert all(np.array_equal(array[:, :, c], grey[:, :, 0]) for c in range(3))
    assert np.array_equal(array[:, :, 3], alpha)


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_stays_grey(mode):
    image = Image.fromarray(noise(6, 5)).convert(mode)
    picture = read_picture(file_of(image, "PNG"))
    assert picture.pixels.shape == (6, 5, 1)
    assert np.array_equal(picture.pixels[:, :, 0], np.asarray(image.convert("L")))
    assert (picture.alpha is not None) == (mode == "LA")


def test_a_palette_of_greys_is_grey_and_one_of_colours_is_not():
    grey = Image.fromarray(noise(16, 16) // 64 * 64)
    assert read_picture(file_of(grey.convert("P"), "PNG")).pixels.shape[2] == 1
    colour = Image.fromarray(noise(16, 16, 3)).quantize(16)
    picture = read_picture(file_of(colour, "PNG"))
    assert np.array_equal(picture.pixels, np.asarray(colour.convert("RGB")))


@pytest.mark.parametrize(("mode", "key"), [("P", 3), ("L", 64), ("RGB", (64, 64, 0)), ("1", 0)])
def test_a_transparent_colour_becomes_alpha(mode, key):
    base = noise(16, 16, 3) // 64 * 64
    base[:4] = (64, 64, 0)
    image = Image.fromarray(base).quantize(8) if mode == "P" else Image.fromarray(base).convert(mode, dither=Image.Dither.NONE)
    if mode == "L":
        image = Image.fromarray(np.where(noise(16, 16) < 128, 64, 200).astype(np.uint8))
    picture = read_picture(file_of(image, "PNG", transparency=key))
    raw = np.asarray(image).astype(int)
    clear = (raw == np.array(key)).all(axis=2) if mode == "RGB" else raw == key
    assert clear.any()
    assert not clear.all()
    assert np.array_equal(picture.alpha, np.where(clear, 0, 255))
    assert picture.pixels.shape[2] == (1 if mode in ("L", "1") else 3)


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "RGBX", "RGBa", "La", "PA"])
def test_other_modes_of_pil_images_are_converted(mode):
    source = Image.fromarray(noise(8, 8, 3))
    via = {"RGBa": "RGBA", "La": "LA", "PA": "P"}.get(mode)
    image = (source.convert(via) if via else source).convert(mode)
    picture = to_picture(image)
    expected = image.convert("LA") if mode == "La" else image.convert("RGBA")
    assert np.array_equal(picture.pixels[:, :, 0], np.asarray(expected)[:, :, 0])
    assert (picture.alpha is not None) == (mode in ("RGBa", "La", "PA"))


def test_cmyk_becomes_rgb_and_loses_its_profile():
    image = Image.fromarray(noise(8, 8, 3)).convert("CMYK")
    picture = read_picture(file_of(image, "TIFF", icc_profile=b"not a usable profile"))
    assert picture.icc is None
    assert np.array_equal(picture.pixels, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(
    "image",
    [
        "photo.png",
        [[1, 2], [3, 4]],
        np.zeros((4, 4)),
        np.zeros((4, 4), np.uint32),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4,), np.uint8),
        np.zeros((0, 4), np.uint8),
        Image.new("I;16", (4, 4)),
        Image.new("I", (4, 4)),
        Image.new("F", (4, 4)),
        Image.new("LAB", (4, 4)),
    ],
    ids=lambda image: str(getattr(image, "dtype", getattr(image, "mode", type(image).__name__))),
)
def test_unsupported_images_are_refused(image):
    with pytest.raises(InputError) as caught:
        to_picture(image)
    assert "\n" not in str(caught.value)


def test_too_many_pixels_are_refused_before_any_work():
    wide = np.broadcast_to(np.uint8(0), (1 << 14, (1 << 14) + 1))
    with pytest.raises(LimitError):
        to_picture(wide)


# --- files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [b"P5", b"P6"])
def test_16_bit_ppm_is_refused(kind):
    read_picture(io.BytesIO(kind + b" 2 2 255\n" + bytes(12)))
    with pytest.raises(InputError, match="8 bits"):
        read_picture(io.BytesIO(kind + b" 2 2 65535\n" + bytes(24)))


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_several_frames_are_refused(format):
    frames = [Image.fromarray(noise(16, 16, 3, seed=s)) for s in range(3)]
    with pytest.raises(InputError, match="3 frames"):
        read_picture(file_of(frames[0], format, save_all=True, append_images=frames[1:]))
    read_picture(file_of(frames[0], format))


def test_a_camera_jpeg_with_a_second_picture_counts_as_its_first():
    first, second = (Image.fromarray(np.full((16, 24, 3), value, np.uint8)) for value in (200, 20))
    picture = read_picture(file_of(first, "MPO", save_all=True, append_images=[second]))
    assert picture.pixels.shape == (16, 24, 3)
    assert picture.pixels.mean() > 190


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation_is_applied_and_reset(orientation, format):
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :8], stored[:8, 24:], stored[8:, :8] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    options = {} if format in ("PNG", "TIFF") else {"quality": 100}
    source = file_of(Image.fromarray(stored), format, exif=b"Exif\0\0" + exif_block(orientation), **options)
    picture = read_picture(source)
    expected = UPRIGHT[orientation](stored)
    assert picture.pixels.shape == expected.shape
    assert np.abs(picture.pixels.astype(int) - expected).mean() < 20
    assert picture.exif is not None
    tags = Image.Exif()
    tags.load(picture.exif)
    assert tags.get(ORIENTATION, 1) == 1
    assert tags[0x010F] == "Maker of cameras"
    again = io.BytesIO()
    write_picture(picture, again, "png")
    assert np.array_equal(read_picture(io.BytesIO(again.getvalue())).pixels, picture.pixels)


@pytest.mark.parametrize("big_endian", [False, True])
def test_only_the_orientation_of_an_exif_block_changes(big_endian):
    block = exif_block(6, big_endian)
    picture = read_picture(file_of(Image.fromarray(noise(8, 8, 3)), "PNG", exif=block))
    assert picture.exif == exif_block(1, big_endian)
    assert sum(a != b for a, b in zip(picture.exif, block, strict=True)) == 1


@pytest.mark.parametrize("cut", [3, 9, 20, 33])
def test_damaged_exif_does_not_make_pixels_unreadable(cut):
    array = noise(8, 8, 3)
    picture = read_picture(file_of(Image.fromarray(array), "PNG", exif=exif_block(6)[:cut]))
    assert sorted(picture.pixels.shape) == [3, 8, 8]


def test_orientation_in_xmp_is_reset_too():
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    stored = noise(4, 8, 3)
    picture = read_picture(file_of(Image.fromarray(stored), "PNG", pnginfo=text))
    assert np.array_equal(picture.pixels, UPRIGHT[6](stored))
    assert picture.xmp == XMP.replace(b"6", b"1")


@pytest.mark.parametrize("format", ["png", "jpg", "webp", "tiff", "avif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_metadata_passes_through(format, channels):
    exif, xmp = exif_block(1), XMP.replace(b"6", b"1")
    stream = io.BytesIO()
    write_picture(Picture(noise(16, 16, channels), None, SRGB, exif, xmp), stream, format)
    found = read_picture(io.BytesIO(stream.getvalue()))
    assert found.icc == SRGB
    assert found.xmp == xmp
    assert found.exif is not None
    if format in ("png", "jpg", "webp"):
        assert found.exif == exif
    tags = Image.Exif()
    tags.load(found.exif)
    assert tags[0x010F] == "Maker of cameras"
    assert float(tags.get_ifd(0x8769)[0x829A]) == pytest.approx(0.004)


def test_no_metadata_in_none_out():
    stream = file_of(Image.fromarray(noise(8, 8, 3)), "TIFF")
    picture = read_picture(stream)
    assert (picture.icc, picture.exif, picture.xmp) == (None, None, None)


def test_a_picture_read_twice_leaves_the_image_of_the_caller_alone():
    image = Image.open(file_of(Image.fromarray(noise(8, 8, 3)), "TIFF", exif=exif_block(1)))
    before = dict(image.getexif())
    to_picture(image)
    assert dict(image.getexif()) == before


@pytest.mark.parametrize("format", ["png", "jpg", "webp", "avif", "tiff", "bmp", "ppm"])
@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3)])
def test_every_format_holds_grey_and_colour(format, shape, tmp_path):
    smooth = np.add.outer(np.arange(9) * 9, np.arange(7) * 11).astype(np.uint8)
    array = smooth if len(shape) == 2 else np.dstack([smooth, 255 - smooth, smooth // 2])
    target = tmp_path / f"picture.{format}"
    write_picture(to_picture(array), target)
    found = read_picture(target).pixels
    assert np.abs(found.astype(int) - array.reshape(9, 7, -1)).max() <= (0 if format not in ("jpg", "avif") else 12)


@pytest.mark.parametrize("format", ["jpg", "avif"])
def test_lossy_formats_keep_colour_at_full_resolution(format):
    stripes, stream = np.zeros((16, 16, 3), np.uint8), io.BytesIO()
    stripes[:, ::2], stripes[:, 1::2] = (200, 60, 60), (60, 60, 200)
    write_picture(to_picture(stripes), stream, format)
    assert np.abs(read_picture(io.BytesIO(stream.getvalue())).pixels.astype(int) - stripes).mean() < 8


@pytest.mark.parametrize("format", ["jpg", "bmp", "ppm"])
def test_transparency_is_never_dropped_unseen(format, tmp_path):
    target = tmp_path / f"picture.{format}"
    opaque = to_picture(np.dstack([noise(8, 8, 3), np.full((8, 8), 255, np.uint8)]))
    write_picture(opaque, target)
    assert read_picture(target).alpha is None
    before = target.read_bytes()
    with pytest.raises(InputError, match="transparency"):
        write_picture(to_picture(noise(8, 8, 4)), target)
    assert target.read_bytes() == before


def test_unknown_extensions_are_refused():
    for name in ("picture", "picture.xyz", "picture.flow", ".png"):
        with pytest.raises(InputError, match="expected a name ending in"):
            format_of(Path(name))
    with pytest.raises(InputError, match="expected one of"):
        write_picture(to_picture(noise(4, 4)), io.BytesIO(), "xyz")


def test_a_missing_file_and_other_bytes_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.png: .*No such file"):
        read_picture(tmp_path / "nothing.png")
    with pytest.raises(InputError, match="not an image"):
        read_picture(io.BytesIO(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"))
    with pytest.raises(InputError):
        read_picture(tmp_path)


def test_a_decompression_bomb_is_a_limit(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(LimitError):
        read_picture(file_of(Image.new("L", (10, 10)), "PNG"))
    monkeypatch.setattr(image_module, "MAX_PIXELS", 99)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(LimitError):
        read_picture(file_of(Image.new("L", (10, 10)), "PNG"))


@given(st.sampled_from(["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF"]), st.data())
def test_damaged_images_raise_nothing_foreign(format, data):
    options = {"exif": exif_block(6)} if format in ("PNG", "JPEG", "WEBP") else {}
    whole = bytearray(file_of(Image.fromarray(noise(12, 12, 3)), format, **options).getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_picture(io.BytesIO(bytes(whole[: data.draw(st.integers(1, len(whole)))])))
    except FlowCodecError as error:
        assert str(error)


# --- whole or not at all -------------------------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    target = tmp_path / "file.flow"
    write_whole(target, b"old")

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        write_whole(target, b"new")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.flow"]


def test_links_are_followed_and_places_that_cannot_be_written_are_named(tmp_path):
    target, link = tmp_path / "file.flow", tmp_path / "link.flow"
    link.symlink_to(target)
    write_whole(link, b"data")
    assert link.is_symlink()
    assert target.read_bytes() == b"data"
    with pytest.raises(InputError, match="is a folder"):
        write_whole(tmp_path, b"data")
    with pytest.raises(InputError, match="No such file"):
        write_whole(tmp_path / "missing" / "file.flow", b"data")


def test_a_device_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(pipe, b"data")
        assert os.read(reader, 10) == b"data"
    finally:
        os.close(reader)
    assert not pipe.is_file()
