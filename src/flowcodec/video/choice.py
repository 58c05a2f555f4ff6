"""Whether a frame is better coded with its prediction or without: a forecast, and the cost of what was coded."""

import numpy as np

from flowcodec.runtime.color import NO_TURN, Turn, rgb_to_ycc
from flowcodec.runtime.flow import plain_details
from flowcodec.runtime.integer import FRACTION_BITS
from flowcodec.runtime.video import CodedFrame

_NOISE = 1 / 12
_DB_PER_OCTAVE = 3.4
"""PSNR that twice the bytes buy; of I-frames of training clips."""


def kept_share(pixels: np.ndarray, prediction: np.ndarray, step: float, turn: Turn = NO_TURN) -> float:
    """Share of the bits of luma that remains beside a prediction of uint8 (H, W, 3), planes (3, H, W) in 1/64 pixel unit.

    Bits are counted as sum 1/2 log2(1 + 12 c^2 / step^2) over the coefficients c of the plain wavelet.
    """
    luma = rgb_to_ycc(pixels, turn)[:1].astype(np.float32)
    rest = luma - prediction[:1].astype(np.float32) / (1 << FRACTION_BITS)
    return _bits(rest, step) / max(_bits(luma, step), 1.0)


def _bits(planes: np.ndarray, step: float) -> float:
    noise = np.float32(_NOISE * step**2)
    return sum(float(np.log2(1 + detail * detail / noise).sum()) / 2 for detail in plain_details(planes))


def cost(frame: CodedFrame, pixels: np.ndarray) -> float:
    """log2 of the bytes that a frame would take at the same PSNR, but for a constant that all ways to code it share."""
    error = frame.planes.astype(np.float32) / (1 << FRACTION_BITS) - rgb_to_ycc(pixels, frame.turn)
    noise_db = 10 * np.log10(max(float(np.mean(error * error)), 1e-6))
    return float(np.log2(max(len(frame.stream), 1)) + noise_db / _DB_PER_OCTAVE)
