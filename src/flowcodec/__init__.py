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
    channel: str | None = None,
    model: str = "default",
    threads: int | None = None,
    seed: int = 0,
    verify: bool = False,
    size: int | None = None,
    bpp: float | None = None,
    psnr: float | None = None,
    roi: Any = None,
    lossless: bool = False,
    max_error: int | None = None,
    effort: int = 3,
) -> bytes:
    """A FlowCodec file of a PIL image or an array (H, W), (H, W, 3) or (H, W, 4): uint8, or in the lossless modes uint16.

    Instead of a ``quality``: ``step`` (grey levels), ``size`` (bytes, never exceeded), ``bpp`` or ``psnr`` (dB);
    or ``lossless``, or ``max_error``: grey levels by which each component of each pixel may be wrong. ``roi``: a mask,
    uint8 (H, W), of what matters (255) and what does not (0), which moves bits from the one to the other.
    ``channel``: how the noise is simulated, ``trellis`` (default), ``round``, ``dither`` or ``gaussian``.
    ``effort``: 1 to 9; above 3 the encoder searches for better symbols with PyTorch (extra ``train``), with each twice as long.
    Raises FlowCodecError.
    """
    from flowcodec.model.effort import DEFAULT_EFFORT, refiner_of
    from flowcodec.runtime.encode import EncodeSettings, encode_picture
    from flowcodec.runtime.image import to_picture

    settings = EncodeSettings(
        quality,
        step,
        channel,
        model,
        threads,
        seed,
        verify,
        size,
        bpp,
        psnr,
        roi=roi,
        lossless=lossless,
        max_error=max_error,
        refiner=refiner_of(effort, model, threads, channel),
        feedback=effort >= DEFAULT_EFFORT,
    )
    return encode_picture(to_picture(image), settings)


def decode(data: bytes, *, threads: int | None = None, model: str | None = None, levels: int = 0, partial: bool = False) -> Any:
    """The uint8 (or uint16) array (H, W), (H, W, 3) or (H, W, 4) of a file, the same on every machine. Raises FlowCodecError.

    ``model``: name or path of the model, for files of models that are not shipped. ``levels``: leave out so many of the finest
    levels, for 1/2^levels of the size from the front of the file alone, without alpha. ``partial``: take a file that ends too
    early, or is damaged from some place on, for the best picture that its whole boxes give.
    """
    from flowcodec.runtime.image import to_array

    loaded = None if model is None else load_model(model)
    if levels or partial:
        from flowcodec.runtime.progressive import decode_prefix

        return to_array(decode_prefix(data, threads, levels=levels, partial=partial, model=loaded))
    from flowcodec.runtime.decode import decode_picture

    return to_array(decode_picture(data, threads, model=loaded))


def info(data: bytes, *, partial: bool = False) -> dict[str, Any]:
    """Header, sizes and channel of a file, or with ``partial`` of what is whole of it. Raises FlowCodecError."""
    from flowcodec.runtime.info import describe

    return describe(data, partial)


def load_model(name: str = "default") -> Any:
    """A shipped model by name, or a model file by path. Raises MissingModel, ModelError."""
    from flowcodec.runtime.bundle import load_model

    return load_model(name)
