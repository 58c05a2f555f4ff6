"""Calibration: one number for a stage, added to its scale indices, where the prior is far off on a picture.

The prior expects what photographs have. Of fine texture that they do not have, such as denim at the resolution limit, sharpened
or reduced without a filter, it expects nothing at all: coefficients of several steps fall to scales at which no symbol is
sent, and since it sees only zeros it goes on expecting nothing. The encoder, which knows the coefficients, tries larger scales
for each stage before it is coded, by D + price * R of the ``round`` channel under the model's tables on a sample of them, and the
header tells the shifts of the stages where that falls by much. Later stages then see what is there, and need less.
"""

import numpy as np

from flowcodec.runtime.bundle import Model
from flowcodec.runtime.channel import SCALE_BITS, SCALE_COUNT, SCALE_LOG2_FIRST, Rounding
from flowcodec.runtime.integer import FRACTION_BITS
from flowcodec.runtime.region import SLOPE, symbol_bits

LEAST_GAIN = 0.02
"""Share of D + price * R of the stage that a shift must save: prior and price are not exact, and photographs need no shifts."""
LEAST_BITS = 64
"""What it must save in bits; a shift takes two bytes."""
SAMPLE = 4096
"""Coefficients of a stage that are looked at."""
_UNEXPECTED = 1.5
"""Energy over the expected one below which nothing is tried."""
_STRIDE, _PATIENCE, _LARGEST = 2, 8, 48
_FEWEST = 256
_BLOCK = (0, 0)
_VARIANCES = 4.0 ** (np.arange(SCALE_COUNT) / (1 << SCALE_BITS) + SCALE_LOG2_FIRST + FRACTION_BITS)


def shifted(scales: np.ndarray, shift: int) -> np.ndarray:
    """Scale indices uint8 plus a shift, limited to those there are."""
    if not shift:
        return scales
    return np.clip(scales.astype(np.int16) + shift, 0, SCALE_COUNT - 1).astype(scales.dtype)


def scale_shift(values: np.ndarray, scales: np.ndarray, kind: int, model: Model, stride: int = 1) -> int:
    """The best shift of a stage, mostly 0. ``values`` (n,): 1/64 step relative to the location; ``scales`` (n,): of the prior.

    Each of them stands for ``stride`` coefficients.
    """
    if len(values) < _FEWEST or np.square(values).mean() < _UNEXPECTED * _VARIANCES[scales].mean():
        return 0
    costs = {0: _cost(values, scales, kind, model)}
    best = 0
    for shift in range(_STRIDE, _LARGEST + 1, _STRIDE):
        costs[shift] = _cost(values, shifted(scales, shift), kind, model)
        if costs[shift] < costs[best]:
            best = shift
        elif shift >= best + _PATIENCE:
            break
    saved = costs[0] - costs[best]
    return best if saved > LEAST_GAIN * costs[0] and stride * saved > LEAST_BITS * SLOPE else 0


def _cost(values: np.ndarray, scales: np.ndarray, kind: int, model: Model) -> float:
    """D + price * R in (1/64 step)^2."""
    channel = Rounding(model.channels)
    coded = ~model.channels.free[kind][scales]
    symbols = channel.quantise(values, kind, scales, _BLOCK) * coded
    errors = values - channel.reconstruct(symbols, kind, scales, _BLOCK) * coded
    bits = symbol_bits(model.tables, symbols, channel.table_ids(kind, scales, _BLOCK)) * coded
    return float((errors**2).sum(dtype=np.float64) + SLOPE * bits.sum(dtype=np.float64))
