"""What the prior of a P-frame also sees: the flow transform of a prediction of the picture, level by level, in integers.

A prediction is a picture that encoder and decoder both have, such as the motion-compensated previous reconstruction. No residual
is coded: at each level the networks see the prediction's coefficients beside what is decoded, and a location moves towards the
predicted coefficient by a share (the gate) that the network gives: mu <- mu + g (p - mu).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flowcodec.runtime.bundle import Model
from flowcodec.runtime.context import in_band_steps, in_steps, two_ranges, valid_coefficients
from flowcodec.runtime.coupling import Coupling
from flowcodec.runtime.flow import analyse_level_fixed, level_count
from flowcodec.runtime.integer import FRACTION_BITS, LOCATION_MAX, Runner
from flowcodec.runtime.step import STEP_BITS
from flowcodec.runtime.tiles import Place

_PLANE_LIMIT = (1 << 16) - 1
"""Predictions are clipped to it: twice what a picture needs, and little enough for the analysis in 32 bits."""
_NARROW_LEVELS = 2


@dataclass(frozen=True)
class Prediction:
    """The pyramid of a prediction, in 1/64 pixel units; index 0 of the lists is level 1."""

    planes: np.ndarray
    """int32 (3, H, W)"""
    low: list[np.ndarray]
    """``ll`` (3, h, w) of each level."""
    details: list[np.ndarray]
    """(9, h, w) of each level."""

    def coarsest(self, step: int) -> np.ndarray:
        """int64 (3,): the coarsest sample in steps, rounded; ``step`` has STEP_BITS fractional bits."""
        top = (self.low[-1] if self.low else self.planes).reshape(-1).astype(np.int64)
        inverse = (1 << (2 * STEP_BITS)) // step
        shift = STEP_BITS + FRACTION_BITS
        return (top * inverse + (1 << (shift - 1))) >> shift


def analyse_prediction(model: Model, runner: Runner, planes: np.ndarray, step_index: int) -> Prediction:
    """Integer planes (3, H, W) in 1/64 pixel units -> their pyramid under the model's flow at a step."""
    planes = np.clip(planes, -_PLANE_LIMIT, _PLANE_LIMIT).astype(np.int32)
    low, details = [], []
    current = planes
    for level in range(1, level_count(*planes.shape[1:]) + 1):
        valid = valid_coefficients(*current.shape[1:])
        ll, detail = analyse_level_fixed(current if level <= _NARROW_LEVELS else current.astype(np.int64))
        coupling = Coupling(model, runner, level, step_index)
        if coupling.present:
            ll = ll + coupling.update(detail)
            detail = detail - coupling.prediction(ll) * valid
        low.append(ll)
        details.append(detail)
        current = ll
    return Prediction(planes, low, details)


class LevelPrediction:
    """A prediction at one level, as the networks see it."""

    def __init__(self, prediction: Prediction, level: int, steps: Sequence[int], step_index: int) -> None:
        self._low, self._step_index = prediction.low[level - 1], step_index
        detail = in_band_steps(prediction.details[level - 1], steps)
        self.detail = np.clip(detail, -LOCATION_MAX, LOCATION_MAX).astype(np.int32)
        """(9, h, w) in 1/64 band step."""

    def planes(self, ll: np.ndarray, place: Place) -> np.ndarray:
        """int16 (24, h, w) for the trunk: the prediction's ``ll`` less the reconstruction's, then its details, in two ranges."""
        difference = self._low[:, *place] - ll[:, *place]
        return np.concatenate([two_ranges(in_steps(difference, self._step_index)), two_ranges(self.detail[:, *place])])


@dataclass(frozen=True)
class Unpredicted:
    """Blocks of a P-frame that are coded without its prediction: by the networks of pictures, in the midst of the others."""

    model: Model
    """Of pictures; the steps and the tables stay those of the P-frame's model."""
    runner: Runner
    blocks: np.ndarray
    """bool (rows, columns)"""
    size: int
    """Pixels a side of a block."""

    def at_level(self, level: int, height: int, width: int) -> np.ndarray:
        """bool (height, width): for each sample of a level whether its centre lies in such a block; level 0 are the pixels."""
        half = (1 << level) >> 1
        row, column = (
            np.minimum(((np.arange(count) << level) + half) // self.size, blocks - 1)
            for count, blocks in zip((height, width), self.blocks.shape, strict=True)
        )
        return self.blocks[row[:, None], column]


def blend(locations: np.ndarray, gates: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """int32 locations moved towards the predicted coefficients by gates/64 of the way, rounded."""
    distance = predicted - locations.astype(np.int32)
    return locations + ((gates.astype(np.int32) * distance + (1 << (FRACTION_BITS - 1))) >> FRACTION_BITS)
