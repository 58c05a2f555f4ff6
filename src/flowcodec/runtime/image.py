"""Pictures in and out: files, PIL images and arrays on one side, 8-bit grey or RGB with its companions on the other.

What is kept: grey as grey, transparency, ICC profile, EXIF, XMP. What is settled at reading: palettes, CMYK and other colour
models become grey or RGB; the EXIF orientation is applied to the pixels and its tag set to 1. What is refused: more than
8 bits a channel and files of several frames.
"""

import io
import os
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin, UnidentifiedImageError

from flowcodec.errors import FlowCodecError, InputError, LimitError
from flowcodec.runtime.header import MAX_PIXELS, MAX_SIDE
from flowcodec.runtime.metadata import EXIF_PREFIX, exif_of, orientation_of, photograph_tags, upright_exif, upright_xmp, xmp_of
from flowcodec.runtime.png16 import is_readable, read_samples, write_png16

READABLE = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "JPEG2000")
"""Formats that are read. Pillow knows more, some of which start other programs."""

_SUFFIX_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".avif": "AVIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pnm": "PPM",
}
READ_SUFFIXES = frozenset(_SUFFIX_FORMATS) | {".gif", ".jp2", ".j2k", ".pbm"}
"""What is taken for an image when a folder is searched."""
_WITHOUT_ALPHA = ("JPEG", "BMP", "PPM")
_WITHOUT_METADATA = ("BMP", "PPM")
_WITHOUT_GREY = ("WEBP",)
_WITHOUT_GREY_ALPHA = ("WEBP", "AVIF")
_JPEG_QUALITY = _AVIF_QUALITY = 95
_PNG_LEVEL = 3
"""Photographs come out smaller than at Pillow's default of 6, in half the time."""
_TIFF_XMP = 700
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what turns the stored pixels upright."""


@dataclass(frozen=True, eq=False)
class Picture:
    """What a file stores: pixels of 8 or 16 bits, grey or RGB, and their companions.

    Raises InputError for arrays of another type or shape, LimitError beyond the limits of the format.
    """

    pixels: np.ndarray
    """uint8 or uint16, (H, W, 1) grey or (H, W, 3) RGB"""
    alpha: np.ndarray | None = None
    """(H, W), of the type of the pixels"""
    icc: bytes | None = None
    exif: bytes | None = None
    """From its byte order mark ("II" or "MM") on."""
    xmp: bytes | None = None

    def __post_init__(self) -> None:
        shape, kind = self.pixels.shape, self.pixels.dtype
        if kind not in (np.uint8, np.uint16) or len(shape) != 3 or shape[2] not in (1, 3):
            raise InputError(f"pixels: expected uint8 or uint16 (H, W, 1) or (H, W, 3), found {kind} {shape}")
        _check_size(width=shape[1], height=shape[0])
        if self.alpha is not None and (self.alpha.dtype != kind or self.alpha.shape != shape[:2]):
            raise InputError(f"alpha: expected {kind} {shape[:2]}, found {self.alpha.dtype} {self.alpha.shape}")

    @property
    def depth(self) -> int:
        """Bits of a component."""
        return 8 * self.pixels.itemsize

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        return self.pixels.shape[1]


def to_picture(image: Any) -> Picture:
    """A PIL image, or a uint8 or uint16 array (H, W), (H, W, 3) or (H, W, 4), as a Picture. Raises InputError or LimitError."""
    if isinstance(image, Image.Image):
        with _reading("image"):
            return _from_pil(image, "image")
    if not isinstance(image, np.ndarray):
        raise InputError(f"image: expected a PIL image or a uint8 or uint16 array, found {type(image).__name__}")
    if image.dtype not in (np.uint8, np.uint16) or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))):
        raise InputError(f"image: expected uint8 or uint16 (H, W), (H, W, 3) or (H, W, 4), found {image.dtype} {image.shape}")
    if image.ndim == 2:
        return Picture(image[:, :, None])
    return Picture(image[:, :, :3], image[:, :, 3] if image.shape[2] == 4 else None)


def to_array(picture: Picture) -> np.ndarray:
    """uint8 or uint16 (H, W) for grey, (H, W, 3) for RGB, (H, W, 4) for either with alpha."""
    if picture.alpha is not None:
        rgb = np.broadcast_to(picture.pixels, (picture.height, picture.width, 3))
        return np.dstack([rgb, picture.alpha])
    return picture.pixels[:, :, 0] if picture.pixels.shape[2] == 1 else picture.pixels


def to_pil(picture: Picture) -> Image.Image:
    """A PIL image of mode L, LA, RGB or RGBA, without metadata. Raises InputError for 16 bits, which Pillow has in grey alone."""
    if picture.depth != 8:
        raise InputError("pixels: expected 8 bits a channel, found 16, for which Pillow has no colour; convert them to 8 bits")
    if picture.alpha is None:
        return Image.fromarray(to_array(picture))
    return Image.fromarray(np.dstack([picture.pixels, picture.alpha]))


# --- reading ------------------------------------------------------------------------------------------------------------


def read_picture(source: Path | BinaryIO) -> Picture:
    """Reads an image file of one of the READABLE formats. Raises InputError or LimitError, whatever the bytes."""
    name = str(source if isinstance(source, Path) else getattr(source, "name", "image"))
    with _reading(name):
        stream: Any = source
        if not isinstance(source, Path) and not source.seekable():
            stream = io.BytesIO(source.read())
        with Image.open(stream, formats=READABLE) as image:
            return _from_pil(image, name)


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turns what Pillow raises into one line about the input. Its own size warning is silent: limits are checked here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except FlowCodecError:
        raise
    except Image.DecompressionBombError as error:
        raise LimitError(f"{name}: more pixels than Pillow decodes (see PIL.Image.MAX_IMAGE_PIXELS)") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: not an image of a format that can be read ({', '.join(READABLE)})") from error
    except MemoryError as error:
        raise LimitError(f"{name}: not enough memory to read the image") from error
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a damaged file can make Pillow raise nearly anything
        raise InputError(f"{name}: damaged image ({type(error).__name__}: {error})") from error


def _from_pil(image: Image.Image, name: str) -> Picture:
    _check_size(image.width, image.height, name)
    _refuse_frames(image, name)
    deep = None
    if is_readable(image):
        deep = read_samples(image)
    else:
        _refuse_deep(image, name)
    image.load()
    icc, exif, xmp = image.info.get("icc_profile") or None, exif_of(image), xmp_of(image)
    orientation = orientation_of(image)
    if deep is not None:
        exif, xmp = exif and upright_exif(exif), xmp and upright_xmp(xmp)
        return _deep_picture(_upright(deep, orientation), icc, exif, xmp)
    turn = _UPRIGHT.get(orientation)
    if turn is not None:
        image = image.transpose(turn)
        exif, xmp = exif and upright_exif(exif), xmp and upright_xmp(xmp)
    image, icc = _grey_or_rgb(image, icc, name)
    pixels = np.asarray(image)
    if image.mode in ("LA", "RGBA"):
        return Picture(pixels[:, :, :-1], pixels[:, :, -1], icc, exif, xmp)
    return Picture(pixels if pixels.ndim == 3 else pixels[:, :, None], None, icc, exif, xmp)


def _upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, C) as stored -> as it is to be seen, by EXIF's rule: 2 to 4 mirror, 5 to 8 swap the sides first."""
    turned = samples.swapaxes(0, 1) if orientation >= 5 else samples
    down, right = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return turned[:: -1 if down else 1, :: -1 if right else 1]


def _deep_picture(samples: np.ndarray, icc: bytes | None, exif: bytes | None, xmp: bytes | None) -> Picture:
    colours = samples.shape[2] - 1 + samples.shape[2] % 2
    alpha = np.ascontiguousarray(samples[:, :, -1]) if colours < samples.shape[2] else None
    return Picture(np.ascontiguousarray(samples[:, :, :colours]), alpha, icc, exif, xmp)


def _check_size(width: int, height: int, name: str = "image") -> None:
    if min(width, height) < 1:
        raise InputError(f"{name}: size {width}x{height}; both sides must be at least 1")
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise LimitError(f"{name}: size {width}x{height}; at most {MAX_PIXELS} pixels and {MAX_SIDE} a side are allowed")


def _refuse_frames(image: Image.Image, name: str) -> None:
    """A camera's JPEG with a second picture inside (MPO: previews, gain maps) counts as its first picture."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise InputError(f"{name}: has {frames} frames or pages; only still images are supported, extract one first")


def _refuse_deep(image: Image.Image, name: str) -> None:
    """Pillow names the stored samples in the tiles to decode, and silently halves those of 16-bit colour."""
    arguments = [tile[3] for tile in getattr(image, "tile", [])]
    stored = " ".join(str(a) for a in arguments)
    deep_ppm = any(tile[0] == "ppm" and tile[3][1] > 255 for tile in getattr(image, "tile", []))
    if image.mode.startswith(("I", "F")) or ";16" in stored or ";32" in stored or deep_ppm:
        raise InputError(
            f"{name}: more than 8 bits a channel, not in a plain PNG or TIFF of 16 (Pillow mode {image.mode}); convert it first"
        )


def _grey_or_rgb(image: Image.Image, icc: bytes | None, name: str) -> tuple[Image.Image, bytes | None]:
    """The image in mode L, LA, RGB or RGBA, and the profile if it still describes the pixels."""
    if image.mode == "CMYK":
        return _cmyk_to_rgb(image, icc), None
    if image.mode == "LAB":
        raise InputError(f"{name}: colour model LAB is not supported; convert it to RGB first")
    transparent = image.has_transparency_data
    grey = image.mode in ("1", "L", "LA", "La")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
        red, green, blue = (np.asarray(image.getchannel(channel)) for channel in "RGB")
        grey = np.array_equal(red, green) and np.array_equal(green, blue)
    mode = ("L" if grey else "RGB") + ("A" if transparent else "")
    return (image if image.mode == mode else image.convert(mode)), icc


def _cmyk_to_rgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    """Through the file's own profile into sRGB where it has a usable one."""
    if icc is not None:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            converted = None
        if converted is not None:
            return converted
    return image.convert("RGB")


# --- writing ------------------------------------------------------------------------------------------------------------


def format_of(target: Path) -> str:
    """Pillow's name of the format that a file name's extension stands for. Raises InputError."""
    return _format(target.suffix, f"{target}: expected a name ending in")


def _format(suffix: str, expectation: str) -> str:
    try:
        return _SUFFIX_FORMATS[suffix.lower()]
    except KeyError:
        raise InputError(f"{expectation} {', '.join(sorted(_SUFFIX_FORMATS))}") from None


def write_picture(picture: Picture, target: Path | BinaryIO, format: str | None = None) -> None:
    """Writes an image file, whole or not at all; its format is the given one ("png"), else that of the name, else PNG.

    PNG, WebP, TIFF, BMP and PPM hold the pixels exactly, JPEG and AVIF at quality 95 without chroma subsampling. JPEG, BMP
    and PPM have no alpha: an opaque one is dropped, any other is an InputError. WebP and (with alpha) AVIF have no grey: it
    is written as RGB. BMP and PPM have no metadata: it is dropped.
    """
    name = str(target) if isinstance(target, Path) else "output"
    if format is not None:
        format = _format("." + format.lstrip("."), f"format {format!r}: expected one of")
    else:
        format = format_of(target) if isinstance(target, Path) else "PNG"
    data = _encode_file(picture, format, name)
    if isinstance(target, Path):
        write_whole(target, data)
    else:
        target.write(data)


def _encode_file(picture: Picture, format: str, name: str) -> bytes:
    alpha = picture.alpha
    if picture.depth == 16:
        if format != "PNG":
            raise InputError(
                f"{name}: pictures of 16 bits a channel are written as PNG alone, found {format}; choose a name in .png"
            )
        samples = picture.pixels if alpha is None else np.dstack([picture.pixels, alpha])
        return write_png16(samples, picture.icc, picture.exif, picture.xmp)
    if alpha is not None and format in _WITHOUT_ALPHA:
        if alpha.min() < 255:
            raise InputError(f"{name}: {format} has no transparency and this picture has; choose PNG, WebP, AVIF or TIFF")
        alpha = None
    image = to_pil(Picture(picture.pixels, alpha))
    icc = picture.icc
    if (format in _WITHOUT_GREY and image.mode == "L") or (format in _WITHOUT_GREY_ALPHA and image.mode == "LA"):
        image = image.convert("RGB" if alpha is None else "RGBA")
        icc = None if icc is not None and icc[16:20] == b"GRAY" else icc
    options = _options(format, image.mode)
    if format not in _WITHOUT_METADATA:
        options |= _metadata(format, icc, picture.exif, picture.xmp)
    stream = io.BytesIO()
    try:
        image.save(stream, format, **options)
    except Exception as error:
        raise InputError(f"{name}: cannot be written as {format} ({error})") from error
    return stream.getvalue()


def _options(format: str, mode: str) -> dict[str, Any]:
    if format == "JPEG":
        return {"quality": _JPEG_QUALITY, "subsampling": 0}
    if format == "WEBP":
        return {"lossless": True, "exact": True}
    if format == "AVIF":
        return {"quality": _AVIF_QUALITY, "subsampling": "4:0:0" if mode == "L" else "4:4:4"}
    return {"compress_level": _PNG_LEVEL} if format == "PNG" else {}


def _metadata(format: str, icc: bytes | None, exif: bytes | None, xmp: bytes | None) -> dict[str, Any]:
    """Metadata as arguments of Pillow's save."""
    options: dict[str, Any] = {}
    if icc is not None:
        options["icc_profile"] = icc
    if format == "TIFF":  # one directory holds everything
        tags = photograph_tags(exif or b"")
        if xmp is not None:
            tags[_TIFF_XMP] = xmp
        return options | ({"exif": tags} if len(tags) else {})
    if exif is not None:
        options["exif"] = EXIF_PREFIX + exif if format == "JPEG" else exif
    if xmp is not None and format == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp)
        options["pnginfo"] = text
    elif xmp is not None:
        options["xmp"] = xmp
    return options


def write_whole(target: Path, data: bytes) -> None:
    """Writes a file whole or not at all, through a neighbour that is renamed; devices and pipes are written directly.

    Raises InputError if the place cannot be written to.
    """
    place = Path(os.path.realpath(target))
    try:
        if place.is_dir():
            raise InputError(f"{target}: is a folder; expected a file name")
        if place.exists() and not place.is_file():
            place.write_bytes(data)
            return
        partial = place.with_name(f".{place.name[:100]}.{secrets.token_hex(4)}.partial")
        try:
            partial.write_bytes(data)
            os.replace(partial, place)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror or error})") from error
