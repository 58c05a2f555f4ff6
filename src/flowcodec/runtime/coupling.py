"""The learned couplings between the bands of a level, as integers: U(detail) and P(ll) in 1/64 pixel units.

The encoder adds U to ``ll`` and then takes P off ``detail``; the decoder undoes both in the opposite order.
"""

from collections.abc import Callable

import numpy as np

from flowcodec.runtime.bundle import Model
from flowcodec.runtime.context import (
    condition_planes,
    contrast_planes,
    filled,
    in_steps,
    level_group,
    to_pixels,
    two_ranges,
)
from flowcodec.runtime.integer import CORRECTION_BITS, Runner
from flowcodec.runtime.step import step_fixed
from flowcodec.runtime.tiles import Place, Whole, even, run_in_tiles


class Coupling:
    """The coupling of one level at one step. Where it is the identity there are no graphs, and ``present`` is False."""

    def __init__(self, model: Model, runner: Runner, level: int, step_index: int) -> None:
        self.model, self.runner, self.level, self.step_index = model, runner, level, step_index
        self.group = level_group(level)
        self.present = f"update_{self.group}" in model.graph_info

    def update(self, detail: np.ndarray) -> np.ndarray:
        """U(detail): (9, h, w) -> (3, h, w), added to ``ll`` by the encoder."""
        return self._run("update", detail.shape, lambda place: two_ranges(in_steps(detail[:, *place], self.step_index)))

    def prediction(self, ll: np.ndarray) -> np.ndarray:
        """P(ll): (3, h, w) -> (9, h, w), taken off ``detail`` by the encoder; to be masked where coefficients do not exist."""
        return self._run("predict", ll.shape, lambda place: contrast_planes(ll, self.step_index, place))

    def _run(self, name: str, shape: tuple[int, ...], seen: Callable[[Place], np.ndarray]) -> np.ndarray:
        graph = f"{name}_{self.group}"
        height, width = shape[1:]
        step = step_fixed(self.step_index)
        # At most 16 Delta, so 32 bits hold it.
        pixels = Whole(height, width, [np.int32])

        def read(place: Place) -> list[np.ndarray]:
            planes = filled(seen(place), place)
            return [planes, condition_planes(self.step_index, self.level, *planes.shape[1:])]

        def write(place: Place, outputs: list[np.ndarray]) -> None:
            pixels(place, [to_pixels(outputs[0], step, CORRECTION_BITS)])

        run_in_tiles(self.runner, graph, self.model.graph_info[graph], (even(height), even(width)), read, write)
        return pixels.arrays[0]
