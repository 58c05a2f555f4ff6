"""The learned couplings between the bands of a level, as integers: U(detail) and P(ll) in 1/64 pixel units.

The encoder adds U to ``ll`` and then takes P off ``detail``; the decoder undoes both in the opposite order.
"""

import numpy as np

from flowcodec.runtime.bundle import Model
from flowcodec.runtime.context import (
    condition_planes,
    contrast_planes,
    in_steps,
    level_group,
    pad_even,
    row_chunks,
    to_pixels,
    two_ranges,
)
from flowcodec.runtime.integer import CORRECTION_BITS, Runner, run_in_strips
from flowcodec.runtime.step import step_fixed


class Coupling:
    """The coupling of one level at one step. Where it is the identity there are no graphs, and ``present`` is False."""

    def __init__(self, model: Model, runner: Runner, level: int, step_index: int) -> None:
        self.model, self.runner, self.level, self.step_index = model, runner, level, step_index
        self.group = level_group(level)
        self.present = f"update_{self.group}" in model.graph_info

    def update(self, detail: np.ndarray) -> np.ndarray:
        """U(detail): (9, h, w) -> (3, h, w), added to ``ll`` by the encoder."""
        ranges = np.empty((2 * len(detail), *detail.shape[1:]), np.int16)
        for top, bottom in row_chunks(*detail.shape[1:]):
            ranges[:, top:bottom] = two_ranges(in_steps(detail[:, top:bottom], self.step_index))
        return self._run("update", ranges)

    def prediction(self, ll: np.ndarray) -> np.ndarray:
        """P(ll): (3, h, w) -> (9, h, w), taken off ``detail`` by the encoder; to be masked where coefficients do not exist."""
        return self._run("predict", contrast_planes(ll, self.step_index))

    def _run(self, name: str, planes: np.ndarray) -> np.ndarray:
        graph = f"{name}_{self.group}"
        height, width = planes.shape[1:]
        padded = pad_even(planes)
        condition = condition_planes(self.step_index, self.level, *padded.shape[1:])
        output = run_in_strips(self.runner, graph, self.model.graph_info[graph], [padded, condition], [np.int16])[0][0]
        # At most 16 Delta, so 32 bits hold it.
        pixels = np.empty((len(output), height, width), np.int32)
        for top, bottom in row_chunks(height, width):
            pixels[:, top:bottom] = to_pixels(output[:, top:bottom, :width], step_fixed(self.step_index), CORRECTION_BITS)
        return pixels
