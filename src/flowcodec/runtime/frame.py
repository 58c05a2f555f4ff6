"""One frame of a film: pixels <-> payload, with or without a prediction."""

from dataclasses import dataclass

import numpy as np

from flowcodec.runtime.bundle import Model
from flowcodec.runtime.channel import make_channel
from flowcodec.runtime.coder import SymbolDecoder, SymbolEncoder
from flowcodec.runtime.encode import analyse
from flowcodec.runtime.flow import level_count
from flowcodec.runtime.integer import Runner
from flowcodec.runtime.latent import LatentDecoder, LatentEncoder
from flowcodec.runtime.prior import PLANES, Walk
from flowcodec.runtime.restore import restore


@dataclass(frozen=True)
class EncodedFrame:
    payload: bytes
    planes: np.ndarray
    ideal_bits: float


def encode_frame(
    pixels: np.ndarray,
    prediction: np.ndarray | None,
    model: Model,
    runner: Runner,
    step_index: int,
    channel: str = "round",
    coder: SymbolEncoder | None = None,
) -> EncodedFrame:
    latent = analyse(model, runner, pixels, step_index)
    exchange = LatentEncoder(model, make_channel(channel, model.channels, 0), latent, PLANES, step_index)
    exchange._ends = [1]
    if coder is not None:
        exchange._coder = coder
    planes = Walk(model, runner, *pixels.shape[:2], PLANES, step_index).run(exchange)
    return EncodedFrame(exchange.boxes[0], restore(model, runner, planes, step_index), exchange.ideal_bits)


def decode_frame(
    payload: bytes,
    size: tuple[int, int],
    prediction: np.ndarray | None,
    model: Model,
    runner: Runner,
    step_index: int,
    coder: SymbolDecoder | None = None,
) -> np.ndarray:
    exchange = LatentDecoder(model, make_channel("round", model.channels, 0), [payload] * 4, PLANES, level_count(*size))
    exchange._ends = [1]
    exchange._coders = [coder or SymbolDecoder(model.tables, payload)]
    planes = Walk(model, runner, *size, PLANES, step_index).run(exchange)
    return restore(model, runner, planes, step_index)
