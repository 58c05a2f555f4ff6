"""FlowCodec: image compression with a normalizing flow.

data = flowcodec.encode(image, quality=60)    # PIL image or uint8 array -> bytes
array = flowcodec.decode(data)                # -> uint8 array, the same on every machine
"""

from typing import Any

from flowcodec.errors import FlowCodecError

__version__ = "0.1.0"
__all__ = ["FlowCodecError", "__version__", "decode", "encode", "info", "load_model"]


def encode(
    image: Any,
    quality: float = 60,
    *,
    step: float | None = None,
    channel: str = "round",
    model: str = "default",
    threads: int | None = None,
    seed: int = 0,
    verify: bool = False,
    size: int | None = None,
    bpp: float | None = None,
    psnr: float | None = None,
    lossless: bool = False,
    max_error: int | None = None,
) -> bytes:
    """A FlowCodec file of a PIL image or a uint8 array (H, W), (H, W, 3) or (H, W, 4).

    Instead of a ``quality``: ``step`` (grey levels), ``size`` (bytes, never exceeded), ``bpp`` or ``psnr`` (dB);
    or ``lossless``, or ``max_error``: grey levels by which each component of each pixel may be wrong.
    Raises FlowCodecError.
    """
    from flowcodec.runtime.encode import EncodeSettings, encode_picture
    from flowcodec.runtime.image import to_picture

    settings = EncodeSettings(quality, step, channel, model, threads, seed, verify, size, bpp, psnr, lossless, max_error)
    return encode_picture(to_picture(image), settings)


def decode(data: bytes, *, threads: int | None = None, model: str | None = None) -> Any:
    """The uint8 array (H, W), (H, W, 3) or (H, W, 4) of a file, the same on every machine. Raises FlowCodecError.

    ``model``: name or path of the model, for files of models that are not shipped.
    """
    from flowcodec.runtime.decode import decode_picture
    from flowcodec.runtime.image import to_array

    return to_array(decode_picture(data, threads, model=None if model is None else load_model(model)))


def info(data: bytes) -> dict[str, Any]:
    """Header, sizes and channel of a file, without decoding it. Raises FlowCodecError."""
    from flowcodec.runtime.info import describe

    return describe(data)


def load_model(name: str = "default") -> Any:
    """A shipped model by name, or a model file by path. Raises MissingModel, ModelError."""
    from flowcodec.runtime.bundle import load_model

    return load_model(name)
