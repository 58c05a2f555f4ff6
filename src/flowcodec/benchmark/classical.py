"""Classical codecs to compare with, through Pillow, each with the options that give it the best PSNR.

A codec has a ``name``, a grid of ``settings`` from about 0.1 to 4 bits per pixel (as far as the format reaches), and
``encode(pixels, setting) -> bytes``, ``decode(bytes) -> pixels`` with uint8 (H, W, 3) pixels. Sizes are those of whole files.
Ten settings are enough: with fifteen the mean BD-rates of FlowCodec against these codecs on Kodak differ by less than 0.1.
"""

from io import BytesIO
from typing import Any

import numpy as np
import PIL
from PIL import Image, features


class PillowCodec:
    """A format of Pillow: ``fixed`` options, and one named ``setting_name`` that moves along the curve."""

    name: str
    format: str
    library: str
    fixed: dict[str, Any]
    setting_name = "quality"
    settings: tuple[float, ...]

    def options(self, setting: float) -> dict[str, Any]:
        return {**self.fixed, self.setting_name: setting}

    def describe(self) -> dict[str, Any]:
        """Everything that decides the bytes, for the record."""
        version = f"Pillow {PIL.__version__}, {self.library} {features.version(self.library)}"
        return {"version": version, "options": self.fixed, "setting": self.setting_name}

    def encode(self, pixels: np.ndarray, setting: float) -> bytes:
        stream = BytesIO()
        Image.fromarray(pixels).save(stream, self.format, **self.options(setting))
        return stream.getvalue()

    def decode(self, data: bytes) -> np.ndarray:
        with Image.open(BytesIO(data), formats=[self.format]) as image:
            return np.asarray(image.convert("RGB"))


class Jpeg(PillowCodec):
    """Baseline transform, colour at full resolution, Huffman tables fitted to the image."""

    name = "JPEG"
    format = "JPEG"
    library = "libjpeg_turbo"
    fixed = {"subsampling": "4:4:4", "optimize": True, "progressive": True}  # noqa: RUF012
    settings: tuple[float, ...] = (2, 5, 12, 35, 55, 75, 82, 88, 92, 97)


class Jpeg2000(PillowCodec):
    """CDF 9/7 wavelet with the colour transform (``mct``, off by default in Pillow) and without the JP2 wrapper.

    A setting is a compression ratio, 24 / bpp: every image gets the same rate. Asking for a PSNR in dB instead costs 20 % more
    bits on Kodak's mean curve, by the way it spreads bits over the images, and the 5/3 wavelet 12 % more.
    """

    name = "JPEG 2000"
    format = "JPEG2000"
    library = "jpg_2000"
    fixed = {"irreversible": True, "mct": 1, "quality_mode": "rates", "no_jp2": True}  # noqa: RUF012
    setting_name = "ratio"
    settings: tuple[float, ...] = (240, 120, 72, 48, 30, 18, 12, 8, 6.4, 5.3)

    def options(self, setting: float) -> dict[str, Any]:
        return {**self.fixed, "quality_layers": (setting,)}


class WebP(PillowCodec):
    """Lossy WebP at its slowest method; the format has 4:2:0 colour only."""

    name = "WebP"
    format = "WEBP"
    library = "webp"
    fixed = {"method": 6}  # noqa: RUF012
    settings: tuple[float, ...] = (0, 1, 6, 20, 50, 75, 82, 88, 95, 100)


class Avif(PillowCodec):
    """AV1 still pictures by libaom, tuned for PSNR (Pillow's default tunes for perceived quality)."""

    name = "AVIF"
    format = "AVIF"
    library = "avif"
    fixed = {"subsampling": "4:4:4", "speed": 6, "advanced": {"tune": "psnr"}, "max_threads": 1}  # noqa: RUF012
    settings: tuple[float, ...] = (2, 6, 18, 30, 44, 60, 76, 82, 87, 91)


CLASSICAL: tuple[PillowCodec, ...] = (Jpeg(), Jpeg2000(), WebP(), Avif())
