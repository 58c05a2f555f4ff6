"""One frame of a video <-> one payload: an I-frame is an image, a P-frame is coded under a prior that also sees a prediction.

The prediction is a picture that both sides have, such as the motion-compensated previous reconstruction; making it is another's
work. Reconstructions are kept as integer planes, the same on every machine, so that encoder and decoder never drift apart.
"""

from dataclasses import dataclass

import numpy as np

from flowcodec.errors import FormatError, InputError
from flowcodec.runtime.bundle import Model
from flowcodec.runtime.channel import make_channel
from flowcodec.runtime.coder import SymbolDecoder, SymbolEncoder, Tables
from flowcodec.runtime.color import NO_TURN, Turn
from flowcodec.runtime.encode import DEFAULT_CHANNEL, analyse
from flowcodec.runtime.flow import level_count
from flowcodec.runtime.header import SEEDED
from flowcodec.runtime.integer import Runner
from flowcodec.runtime.latent import LatentDecoder, LatentEncoder
from flowcodec.runtime.prediction import Prediction, Unpredicted, analyse_prediction
from flowcodec.runtime.prior import PLANES, Walk
from flowcodec.runtime.restore import restore


@dataclass(frozen=True)
class EncodedFrame:
    """A frame's payload and what its decoder will see."""

    payload: bytes
    planes: np.ndarray
    """int32 (3, H, W): the reconstruction in 1/64 pixel units; ``color.ycc_to_rgb`` makes a picture of it."""
    ideal_bits: float
    """Sum of -log2 of the coded probabilities."""


def frame_tables(model: Model, channel: str = DEFAULT_CHANNEL) -> Tables:
    """The coder's tables of a frame."""
    return make_channel(channel, model.channels, 0).symbol_tables(model.tables)


def encode_frame(
    pixels: np.ndarray,
    prediction: np.ndarray | None,
    model: Model,
    runner: Runner,
    step_index: int,
    channel: str = DEFAULT_CHANNEL,
    coder: SymbolEncoder | None = None,
    unpredicted: Unpredicted | None = None,
    turn: Turn = NO_TURN,
) -> EncodedFrame:
    """Encodes uint8 (H, W, 3) given a prediction, integer planes (3, H, W) in 1/64 pixel units, or None for an I-frame.

    All planes have the axes of the ``turn``.

    ``model`` is one of pictures without a prediction and one of P-frames with it. ``coder``: an encoder with ``frame_tables``
    into which something, such as motion vectors, was pushed already; the frame goes behind it and finishes it. ``unpredicted``:
    blocks of a P-frame that do without its prediction.
    Raises InputError, ModelError.
    """
    height, width, channels = pixels.shape
    if channels != PLANES:
        raise InputError(f"frame: expected pixels of {PLANES} components, found {channels}")
    pyramid = _pyramid(model, runner, prediction, height, width, step_index)
    feedback = channel not in SEEDED
    lows: list[np.ndarray] = []
    latent = analyse(model, runner, pixels, step_index, lows if feedback else None, turn)
    exchange = LatentEncoder(
        model,
        make_channel(channel, model.channels, 0),
        latent,
        PLANES,
        step_index,
        lows=lows,
        coder=coder or SymbolEncoder(frame_tables(model, channel)),
        threads=runner.threads,
    )
    walk = Walk(model, runner, height, width, PLANES, step_index, pyramid, unpredicted)
    planes = walk.run(exchange, level_begun=exchange.begin_feedback if feedback else None)
    return EncodedFrame(exchange.boxes[0], _finish(model, runner, planes, step_index, pyramid, unpredicted), exchange.ideal_bits)


def decode_frame(
    payload: bytes,
    size: tuple[int, int],
    prediction: np.ndarray | None,
    model: Model,
    runner: Runner,
    step_index: int,
    channel: str = DEFAULT_CHANNEL,
    coder: SymbolDecoder | None = None,
    unpredicted: Unpredicted | None = None,
) -> np.ndarray:
    """The planes of a frame of the given (height, width), equal to the encoder's. Raises FormatError, ModelError.

    ``coder``: a decoder of the payload from which what was pushed before the frame has been popped.
    """
    height, width = size
    if prediction is not None and prediction.shape != (PLANES, height, width):
        raise FormatError(f"frame: expected a prediction of {width}x{height}, found {prediction.shape[2]}x{prediction.shape[1]}")
    pyramid = _pyramid(model, runner, prediction, height, width, step_index)
    exchange = LatentDecoder(
        model,
        make_channel(channel, model.channels, 0),
        (),
        PLANES,
        level_count(height, width),
        coder=coder or SymbolDecoder(frame_tables(model, channel), payload),
    )
    planes = Walk(model, runner, height, width, PLANES, step_index, pyramid, unpredicted).run(exchange)
    return _finish(model, runner, planes, step_index, pyramid, unpredicted)


def _pyramid(
    model: Model, runner: Runner, prediction: np.ndarray | None, height: int, width: int, step_index: int
) -> Prediction | None:
    if prediction is None:
        return None
    if prediction.shape != (PLANES, height, width):
        raise InputError(f"prediction: expected planes {(PLANES, height, width)}, found {prediction.shape}")
    return analyse_prediction(model, runner, prediction, step_index)


def _finish(
    model: Model,
    runner: Runner,
    planes: np.ndarray,
    step_index: int,
    pyramid: Prediction | None,
    unpredicted: Unpredicted | None,
) -> np.ndarray:
    if pyramid is None:
        return restore(model, runner, planes, step_index).astype(np.int32)
    alone = None if unpredicted is None else restore(unpredicted.model, unpredicted.runner, planes.copy(), step_index)
    restored = restore(model, runner, planes, step_index, pyramid.planes).astype(np.int32)
    if unpredicted is not None and alone is not None:
        np.copyto(restored, alone, where=unpredicted.at_level(0, *planes.shape[1:]), casting="same_kind")
    return restored
