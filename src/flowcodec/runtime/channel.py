"""The simulated noise channels: latent <-> integer symbols, under the prior's location and scale.

``round``: the entropy-constrained quantiser of each scale: cells with a dead zone that grows where the scale is small, and the
centroid of the cell as its reconstruction (conditional mean). ``dither``: subtractive dither u/16, u uniform on -8 ... 7 from a
counter-based generator (Philox, key = seed) that encoder and decoder share; its amplitude fades to nothing at small scales, where
the channel is ``round``. Both speak integers only: values in 1/64 of a band's step, relative to the location.

A further channel is one more class with the methods of ``Channel``.
Reference: Zamir & Feder, On universal quantization by randomized uniform/lattice quantizers, 1992; Sullivan, Efficient scalar
quantization of exponential and Laplacian random variables, 1996.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from flowcodec.runtime.coder import Tables
from flowcodec.runtime.integer import FRACTION_BITS

SCALE_BITS = 3
SCALE_COUNT = 128
SCALE_LOG2_FIRST = -2.75
"""A scale index i stands for a standard deviation of 2^(i / 2^SCALE_BITS + SCALE_LOG2_FIRST) steps."""

NEAR_CELLS = 8
"""Cells with thresholds and reconstructions of their own; farther ones continue them at unit distance."""
DITHER_LEVELS = 16
Block = tuple[int, int]
"""Numbers that tell one run of coefficients of a file from every other; they keep their dithers apart."""
_UNIT = 1 << FRACTION_BITS
_DITHER_UNIT = _UNIT // DITHER_LEVELS


@dataclass(frozen=True)
class ChannelTables:
    """Integers that define the channels, for each kind (0 luma, 1 chroma) and scale index."""

    thresholds: np.ndarray
    """(2, 128, 8) |value| from which the symbol's magnitude is at least 1 ... 8, in 1/64 step."""
    centroids: np.ndarray
    """(2, 128, 9) |reconstruction| of the symbols 0 ... 8, in 1/64 step."""
    free: np.ndarray
    """(2, 128) bool: nothing is coded, the coefficient is its location."""
    dither_amplitude: np.ndarray
    """(2, 128) sixteenths of the full dither."""
    dither_shrink: np.ndarray
    """(2, 128, 129) what the conditional mean takes off |received|, by |received| in 1/16 step up to 8; in 1/64 step."""
    dither_tables: np.ndarray
    """(2, 128, 16) table of the coder for each dither u + 8."""


class Push(Protocol):
    def __call__(self, symbols: np.ndarray, table_ids: np.ndarray, piece: int | None = None, /) -> None:
        """Gives the coder symbols and the ids of their tables; with a ``piece``, that many at a time."""


Pop = Callable[[np.ndarray], np.ndarray]
"""Takes the symbols of the tables of the given ids from the coder."""


class Channel(Protocol):
    """``kind``, ``scales`` and ``block`` are those of a run of coefficients; the ids of tables are uint16."""

    def symbol_tables(self, model_tables: Tables) -> Tables:
        """The tables of the coder: the model's, or the channel's own."""

    def quantise(self, values: np.ndarray, kind: int, scales: np.ndarray, block: Block) -> np.ndarray:
        """Symbols k of ``values`` (1/64 step, relative to the location; any float or integer type)."""

    def reconstruct(self, symbols: np.ndarray, kind: int, scales: np.ndarray, block: Block) -> np.ndarray:
        """Conditional means in 1/64 step, relative to the location."""

    def write(self, push: Push, symbols: np.ndarray, kind: int, scales: np.ndarray, block: Block) -> None:
        """Gives all symbols to the coder."""

    def read(self, pop: Pop, kind: int, scales: np.ndarray, block: Block) -> np.ndarray:
        """Takes the symbols in the same order from the coder."""


class ParallelChannel(ABC):
    """The symbols of a run are coded at once: no table depends on a symbol.

    There may be as many symbols as coefficients, or fewer, as ``table_ids`` says.
    """

    @abstractmethod
    def table_ids(self, kind: int, scales: np.ndarray, block: Block) -> np.ndarray:
        """Table of the coder for each symbol."""

    def write(self, push: Push, symbols: np.ndarray, kind: int, scales: np.ndarray, block: Block) -> None:
        push(symbols, self.table_ids(kind, scales, block))

    def read(self, pop: Pop, kind: int, scales: np.ndarray, block: Block) -> np.ndarray:
        return pop(self.table_ids(kind, scales, block))


def signed_points(symbols: np.ndarray, rows: np.ndarray, points: np.ndarray, distance: int | np.ndarray) -> np.ndarray:
    """Integer reconstructions of symbols: of small magnitudes ``points`` (rows, magnitudes), others continue at a distance."""
    count = points.shape[-1]
    magnitudes = np.abs(symbols)
    near = np.minimum(magnitudes, count - 1)
    values = (magnitudes - near) * distance
    values += points.reshape(-1).take(near + rows.astype(np.int64) * count)
    return np.negative(values, out=values, where=symbols < 0)


class Rounding(ParallelChannel):
    """The ``round`` channel; tables 0 ... 255 of the coder are its own, by kind and scale."""

    def __init__(self, tables: ChannelTables) -> None:
        self.tables = tables

    def symbol_tables(self, model_tables: Tables) -> Tables:
        return model_tables

    def quantise(self, values: np.ndarray, kind: int, scales: np.ndarray, block: Block) -> np.ndarray:
        magnitudes = np.abs(values)
        thresholds = self.tables.thresholds[kind]
        symbols = np.zeros(len(values), np.int64)
        for cell in range(NEAR_CELLS):
            symbols += magnitudes >= thresholds[:, cell][scales]
        far = symbols == NEAR_CELLS
        symbols[far] += ((magnitudes[far] - thresholds[:, -1][scales[far]]) // _UNIT).astype(np.int64)
        return np.where(values < 0, -symbols, symbols)

    def reconstruct(self, symbols: np.ndarray, kind: int, scales: np.ndarray, block: Block) -> np.ndarray:
        return signed_points(symbols, scales, self.tables.centroids[kind], _UNIT)

    def table_ids(self, kind: int, scales: np.ndarray, block: Block) -> np.ndarray:
        return scales.astype(np.uint16) + np.uint16(kind * SCALE_COUNT)


class Dither(ParallelChannel):
    """The ``dither`` channel: received = z + u' - u + ..., i.e. round(z + u) - u, then the conditional mean under the prior."""

    def __init__(self, tables: ChannelTables, seed: int) -> None:
        self.tables, self.seed, self._rounding = tables, seed, Rounding(tables)

    def symbol_tables(self, model_tables: Tables) -> Tables:
        return model_tables

    def _draw(self, count: int, block: Block) -> np.ndarray:
        """uint8 dither levels 0 ... 15 of a block of coefficients: the low and high halves of the bytes of Philox words."""
        words = np.random.Philox(key=self.seed, counter=[0, 0, *block]).random_raw((count + 15) // 16)
        halves = np.frombuffer(words.astype("<u8").tobytes(), np.uint8)
        return np.stack([halves & 15, halves >> 4], axis=-1).reshape(-1)[:count]

    def _offsets(self, kind: int, scales: np.ndarray, block: Block) -> np.ndarray:
        """Dither in sixteenths of a step after fading."""
        levels = self._draw(len(scales), block).astype(np.int64) - DITHER_LEVELS // 2
        return (levels * self.tables.dither_amplitude[kind][scales]) >> 4

    def quantise(self, values: np.ndarray, kind: int, scales: np.ndarray, block: Block) -> np.ndarray:
        offsets = self._offsets(kind, scales, block) * _DITHER_UNIT
        dithered = np.floor((values + offsets) / _UNIT + 0.5).astype(np.int64)
        plain = self._rounding.quantise(values, kind, scales, block)
        return np.where(self.tables.dither_amplitude[kind][scales] > 0, dithered, plain)

    def reconstruct(self, symbols: np.ndarray, kind: int, scales: np.ndarray, block: Block) -> np.ndarray:
        received = symbols * DITHER_LEVELS - self._offsets(kind, scales, block)
        shrinks = self.tables.dither_shrink[kind]
        magnitudes = np.abs(received)
        shrunk = magnitudes * _DITHER_UNIT - shrinks[scales, np.minimum(magnitudes, shrinks.shape[1] - 1)]
        dithered = np.where(received < 0, -shrunk, shrunk)
        plain = self._rounding.reconstruct(symbols, kind, scales, block)
        return np.where(self.tables.dither_amplitude[kind][scales] > 0, dithered, plain)

    def table_ids(self, kind: int, scales: np.ndarray, block: Block) -> np.ndarray:
        levels = self._draw(len(scales), block)
        return self.tables.dither_tables[kind][scales, levels].astype(np.uint16)


def make_channel(name: str, tables: ChannelTables, seed: int) -> Channel:
    if name == "gaussian":
        from flowcodec.runtime.simulation import GaussianSimulation  # it builds on this module

        return GaussianSimulation(seed)
    if name == "trellis":
        from flowcodec.runtime.trellis import Trellis  # likewise

        return Trellis(tables)
    return Dither(tables, seed) if name == "dither" else Rounding(tables)
