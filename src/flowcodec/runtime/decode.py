"""Bytes -> picture: the container, then level by level prior, coder, channel and synthesis, then restoration and colour."""

import os

import numpy as np

from flowcodec.errors import FormatError, WrongModel
from flowcodec.runtime import container
from flowcodec.runtime.alpha import decode_alpha
from flowcodec.runtime.bundle import Model, find_model
from flowcodec.runtime.channel import make_channel
from flowcodec.runtime.color import ycc_to_rgb
from flowcodec.runtime.container import BoxKind, File
from flowcodec.runtime.flow import level_count
from flowcodec.runtime.header import Header
from flowcodec.runtime.image import Picture
from flowcodec.runtime.integer import OrtRunner, Runner
from flowcodec.runtime.latent import LatentDecoder
from flowcodec.runtime.lossless import decode_lossless
from flowcodec.runtime.margins import paint
from flowcodec.runtime.prior import Walk
from flowcodec.runtime.restore import restore

_runners: dict[tuple[bytes, int, bool], OrtRunner] = {}
_MAX_RUNNERS = 8


def make_runner(model: Model, threads: int | None = None, optimise: bool = True) -> Runner:
    """An ONNX Runtime runner for the model, kept for the next call; all cores by default."""
    key = (model.id, threads or os.cpu_count() or 1, optimise)
    if key not in _runners:
        if len(_runners) >= _MAX_RUNNERS:
            _runners.pop(next(iter(_runners)))
        _runners[key] = OrtRunner(model.graphs, key[1], optimise)
    return _runners[key]


def model_of(header: Header, model: Model | None) -> Model:
    """The model that a file needs: the given one, or a shipped one. Raises MissingModel, WrongModel."""
    if model is None:
        return find_model(header.model_id)
    if model.id != header.model_id:
        raise WrongModel(f"the file needs model {header.model_id.hex()}, found {model.id.hex()}; pass another --model")
    return model


def decode_latent(latents: tuple[bytes, ...], header: Header, model: Model, runner: Runner) -> np.ndarray:
    """Boxes -> uint8 (H, W, C). Raises FormatError."""
    channel = make_channel(header.channel, model.channels, header.seed)
    size = header.coded_size
    exchange = LatentDecoder(model, channel, latents, header.channels, level_count(*size), scale_shifts=header.scale_shifts)
    planes = Walk(model, runner, *size, header.channels, header.step_index).run(exchange)
    planes = restore(model, runner, planes, header.step_index)
    return paint(ycc_to_rgb(planes[: header.channels], runner.threads, header.turn), header.margins)


def decode_picture(data: bytes, threads: int | None = None, *, model: Model | None = None, optimise: bool = True) -> Picture:
    """The picture of a file, identical on every machine. ``model`` is needed only for files of models that are not shipped.

    Raises FormatError (and its kinds) for anything that is not a whole, undamaged file, LimitError, MissingModel, WrongModel.
    """
    file = container.read(data)
    header = file.header
    if header.lossless:
        return with_companions(decode_lossless(file), file)
    if any(box.kind in (BoxKind.PIXELS, BoxKind.STORED) for box in file.boxes):
        raise FormatError("expected latents only in a lossy file, found pixels; the file is damaged")
    model = model_of(header, model)
    pixels = decode_latent(file.latents, header, model, make_runner(model, threads, optimise))
    return with_companions(pixels, file)


def with_companions(pixels: np.ndarray, file: File) -> Picture:
    """Pixels (H, W, C) and what the boxes behind the pixels hold. Raises FormatError."""
    alpha = file.first(BoxKind.ALPHA)
    return Picture(
        pixels=pixels,
        alpha=None if alpha is None else decode_alpha(alpha, file.header.height, file.header.width, file.header.depth),
        icc=file.first(BoxKind.ICC),
        exif=file.first(BoxKind.EXIF),
        xmp=file.first(BoxKind.XMP),
    )
