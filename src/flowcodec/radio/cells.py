"""How large the quantisation errors of a file are, by what sender and receiver both know of each coefficient.

A coefficient of a ``trellis`` file has a scale s of the prior, a symbol k, and the quantiser Q0 or Q1 that it was coded with, or
it lies outside the trellises, where the quantiser is ``round``'s, or nothing of it is coded. The path through a trellis is chosen
with the coefficients around it, so that a symbol does not confine its coefficient to an interval. What it says of the error
e = z - z^ is its variance E[e^2 | kind, s, cell] in squared steps, the *cell* being the quantiser and min(|k|, 2). It is measured
on training photographs, errors.json.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np

from flowcodec.runtime.channel import SCALE_COUNT, Block, ChannelTables
from flowcodec.runtime.trellis import Trellis, quantisers

CHANNEL = "trellis"
"""Of the files of all layers."""
MAGNITUDES = 3
"""Symbols 0, 1 and larger."""
OUTSIDE = 2
"""Takes the place of the quantiser, 0 or 1, of a coefficient that is in no trellis."""
UNCODED = MAGNITUDES * (OUTSIDE + 1)
CELL_COUNT = UNCODED + 1
KINDS = 2
NOWHERE = KINDS * SCALE_COUNT * CELL_COUNT
"""The state of a place without a coefficient. Other states: (kind * SCALE_COUNT + scale index) * CELL_COUNT + cell."""
ERROR_FILE = Path(__file__).with_name("errors.json")
"""benchmarks/radio_errors.py writes it."""
_NOTHING = 1e-12
"""Variance of what is known exactly, so that it is never chosen."""


class Watched(Trellis):
    """The ``trellis`` channel of a decoder, and in which cells the coefficients are that it has read."""

    def __init__(self, tables: ChannelTables) -> None:
        super().__init__(tables)
        self._cells: list[np.ndarray] = []

    def reconstruct(self, symbols: np.ndarray, kind: int, scales: np.ndarray, block: Block) -> np.ndarray:
        inside, _ = self.split(scales)
        chosen = np.full(len(symbols), OUTSIDE, np.uint8)
        if len(inside):
            chosen[inside] = quantisers(symbols[inside])
        self._cells.append(MAGNITUDES * chosen + np.minimum(np.abs(symbols), MAGNITUDES - 1).astype(np.uint8))
        return super().reconstruct(symbols, kind, scales, block)

    def take_cells(self) -> np.ndarray:
        """uint8 (n,) 0 ... UNCODED - 1: of all coefficients read since the last call."""
        found = np.concatenate([*self._cells, np.zeros(0, np.uint8)])
        self._cells = []
        return found


def states(kind: int, scales: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """uint16, shaped like ``cells``."""
    return (kind * SCALE_COUNT + scales.astype(np.uint16)) * np.uint16(CELL_COUNT) + cells


@cache
def error_variances() -> np.ndarray:
    """float64 (NOWHERE + 1,): E[e^2] in squared steps by state."""
    octaves = json.loads(ERROR_FILE.read_text())["log2_variances"]
    return np.append(np.exp2(np.array(octaves, float).reshape(-1)), _NOTHING)


@cache
def state_classes() -> np.ndarray:
    """uint8 (NOWHERE + 1,): 0 ... KINDS * (MAGNITUDES + 1) - 1 by state: kind, and symbol 0, 1, larger, or nothing coded."""
    cells = np.arange(CELL_COUNT)
    symbols = np.where(cells == UNCODED, MAGNITUDES, cells % MAGNITUDES)
    classes = np.arange(KINDS)[:, None, None] * (MAGNITUDES + 1) + np.broadcast_to(symbols, (SCALE_COUNT, CELL_COUNT))
    return np.append(classes.reshape(-1), 0).astype(np.uint8)
