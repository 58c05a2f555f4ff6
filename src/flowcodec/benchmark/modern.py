"""JPEG XL and HEVC intra, through packages of the extra 'research'; the interface is that of the other codecs.

Imports are inside the methods: the packages are optional, and a codec can be listed without them.
"""

from copy import deepcopy
from importlib.metadata import version
from importlib.util import find_spec
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from flowcodec.errors import InputError


class JpegXl:
    """JPEG XL, lossy mode (XYB colour), one thread; a setting is a distance, 1 being about where loss becomes visible.

    libjxl optimises for its perceptual distance and has no PSNR tuning: read its PSNR beside SSIMULACRA 2.
    """

    name = "JPEG XL"
    package = "imagecodecs"
    effort = 7
    settings: tuple[float, ...] = (25, 15, 8, 3.2, 2.2, 1.5, 1.0, 0.7, 0.45, 0.3)

    def describe(self) -> dict[str, Any]:
        import imagecodecs

        library = next((part for part in str(imagecodecs.version()).split(", ") if part.startswith("libjxl-")), "libjxl")
        text = f"imagecodecs {version('imagecodecs')}, {library.replace('-', ' ')}"
        return {"version": text, "options": {"effort": self.effort, "lossless": False}, "setting": "distance"}

    def encode(self, pixels: np.ndarray, setting: float) -> bytes:
        import imagecodecs

        return bytes(imagecodecs.jpegxl_encode(pixels, distance=setting, effort=self.effort, lossless=False, numthreads=1))

    def decode(self, data: bytes) -> np.ndarray:
        import imagecodecs

        return np.asarray(imagecodecs.jpegxl_decode(data, numthreads=1))


class HevcIntra:
    """HEVC intra in 4:4:4 by x265 in a HEIF file, tuned for PSNR: what BPG is made of, which has no package."""

    name = "HEVC intra"
    package = "pillow_heif"
    fixed = {"chroma": 444, "enc_params": {"preset": "slow", "tune": "psnr"}}  # noqa: RUF012
    settings: tuple[float, ...] = (4, 8, 18, 24, 30, 36, 48, 55, 62, 68)

    def describe(self) -> dict[str, Any]:
        import pillow_heif

        libraries = pillow_heif.libheif_info()
        encoder = libraries.get("HEIF") or "x265"
        text = f"pillow-heif {version('pillow-heif')}, libheif {libraries.get('libheif')}, {encoder}"
        return {"version": text, "options": self.fixed, "setting": "quality"}

    def encode(self, pixels: np.ndarray, setting: float) -> bytes:
        import pillow_heif

        stream = BytesIO()
        options = deepcopy(self.fixed)  # pillow-heif writes into what it is given
        pillow_heif.from_pillow(Image.fromarray(pixels)).save(stream, quality=int(setting), **options)
        return stream.getvalue()

    def decode(self, data: bytes) -> np.ndarray:
        import pillow_heif

        return np.asarray(pillow_heif.open_heif(BytesIO(data), convert_hdr_to_8bit=True).to_pillow().convert("RGB"))


MODERN: tuple[JpegXl | HevcIntra, ...] = (JpegXl(), HevcIntra())


def is_available(codec: object) -> bool:
    """Whether the package that a codec needs is installed."""
    package = getattr(codec, "package", None)
    return package is None or find_spec(package) is not None


def require(codec: Any) -> None:
    """Raises InputError where the package of a codec is missing."""
    if not is_available(codec):
        raise InputError(f"--codec {codec.name!r}: needs the package {codec.package}: pip install 'flowcodec[research]'")
