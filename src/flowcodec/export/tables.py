"""The learned density frozen into integers: quantiser cells, reconstructions, and the coder's frequencies.

The ``round`` channel of each scale is an entropy-constrained scalar quantiser: thresholds minimise D + lambda * R for the density
of that scale, lambda being the slope of the high-rate theory, (ln 2 / 6) * step^2 per bit; centroids are conditional means.
Reference: Chou, Lookabaugh & Gray, Entropy-constrained vector quantization, 1989, sec. III, for one dimension.
"""

import numpy as np
import torch

from flowcodec.export.statistics import BINS
from flowcodec.model.codec import FlowCodecModel
from flowcodec.model.density import KINDS, ScaleMixture
from flowcodec.model.objective import BIT_PRICE
from flowcodec.runtime.channel import DITHER_LEVELS, NEAR_CELLS, SCALE_BITS, SCALE_COUNT, SCALE_LOG2_FIRST, ChannelTables
from flowcodec.runtime.coder import TABLE_BITS, Tables
from flowcodec.runtime.integer import FRACTION_BITS
from flowcodec.runtime.step import STEP_COUNT

RATE_WEIGHT = 0.7
"""Below 1, since a coefficient that is sent also serves as context: see docs/ablations.md."""
_UNIT = 1 << FRACTION_BITS
_TAIL = 2.0**-18
_FREE_PROBABILITY = 0.999
_ITERATIONS = 60
_PRIOR_COUNT = 3000
_EMPTY = 1e-12
_FIRST_WIDE = 54
"""First scale index (s = 16 steps) whose coefficients are coded as a table's high part and raw low bits."""
_DITHER_FROM = -0.75
"""log2 of the scale from which the dither's amplitude rises, over one octave."""
_CELLS = 1 << 11
"""Cells on either side that a table is computed from; at s < 32 (in coded units) the mass beyond is far below the tail."""


class _Shape:
    """The distribution at one kind and scale index, in float64: cumulative mass and first moment on a grid.

    The grid is of 1/64 step as far as counts go, then of a quarter. The learned density is worth ``_PRIOR_COUNT`` observations
    beside those that were counted.
    """

    def __init__(self, density: ScaleMixture, kind: int, scale: int, counts: np.ndarray | None) -> None:
        self.log2_scale = scale / (1 << SCALE_BITS) + SCALE_LOG2_FIRST
        near, far = np.arange(BINS) / _UNIT, np.arange(4 * BINS // _UNIT, 4 * (_CELLS + 2)) / 4
        self._edges = np.concatenate([near, far])
        edges = torch.from_numpy(self._edges)
        log2_scale = torch.full((len(edges) - 1,), self.log2_scale, dtype=torch.float64)
        mass, mean = (x.numpy() for x in density.cell(edges[:-1], edges[1:], log2_scale, kind))
        if counts is not None:
            mass = 2 * _PRIOR_COUNT * mass
            mass[: len(counts)] += counts
            mass /= 2 * mass.sum()
        self._mass = np.concatenate([[0.0], np.cumsum(mass)])
        self._moment = np.concatenate([[0.0], np.cumsum(mass * mean)])

    def cells(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(mass, mean) of each interval [low, high] of one sign; an empty one has its centre for a mean."""
        mass, moment = (np.interp(high, self._edges, f) - np.interp(low, self._edges, f) for f in (self._mass, self._moment))
        mean = np.where(mass > _EMPTY, moment / np.maximum(mass, _EMPTY), (low + high) / 2)
        return mass, np.clip(mean, low, high)


def _thresholds_of(near: np.ndarray, count: int) -> np.ndarray:
    """Thresholds of the symbols 1 ... count from those of the near cells."""
    return np.concatenate([near, near[-1] + np.arange(1, count - len(near) + 1)])


def _design_quantiser(shape: _Shape, rate_weight: float) -> tuple[np.ndarray, np.ndarray]:
    """(thresholds (8,), centroids (9,)) in 1/64 step of the entropy-constrained quantiser."""
    price = rate_weight * BIT_PRICE
    thresholds = np.arange(NEAR_CELLS) + 0.5
    for _ in range(_ITERATIONS):
        edges = _thresholds_of(thresholds, NEAR_CELLS + 2)
        mass, centroids = shape.cells(edges[:-1], edges[1:])
        zero_mass = 2 * shape.cells(np.zeros(1), thresholds[:1])[0]
        bits = -np.log2(np.maximum(np.concatenate([zero_mass, mass]), 1e-12))
        points = np.concatenate([[0.0], centroids])
        gaps = np.maximum(points[1 : NEAR_CELLS + 1] - points[:NEAR_CELLS], 0.25)
        wanted = points[:NEAR_CELLS] + gaps / 2 + price * (bits[1 : NEAR_CELLS + 1] - bits[:NEAR_CELLS]) / (2 * gaps)
        thresholds = np.maximum.accumulate(np.maximum(wanted, np.arange(NEAR_CELLS) + 0.5))
        thresholds = np.minimum(thresholds, np.arange(NEAR_CELLS) + 1.5)
    grid = np.rint(thresholds * _UNIT)
    edges = _thresholds_of(grid / _UNIT, NEAR_CELLS + 1)
    centroids = shape.cells(edges[:-1], edges[1:])[1]
    return grid.astype(np.int32), np.concatenate([[0], np.rint(centroids * _UNIT)]).astype(np.int32)


def _frequencies(mass: np.ndarray) -> np.ndarray:
    """Masses -> integers >= 1 that sum to 2^20."""
    total = 1 << TABLE_BITS
    frequencies = np.floor(mass / mass.sum() * (total - len(mass))).astype(np.int64) + 1
    frequencies[np.argmax(frequencies)] += total - frequencies.sum()
    return frequencies.astype(np.uint32)


def table_of_masses(mass_of_cells: np.ndarray) -> np.ndarray:
    """Masses of the cells -n ... n -> frequencies of -reach ... reach, the ends holding the tails."""
    n = len(mass_of_cells) // 2
    inner = np.minimum(np.cumsum(mass_of_cells), np.cumsum(mass_of_cells[::-1])[::-1])
    beyond = np.maximum(inner[: n + 1][::-1], inner[n:])
    reach = max(int(np.argmax(beyond < _TAIL)) if (beyond < _TAIL).any() else n, 2)
    kept = mass_of_cells[n - reach : n + reach + 1].copy()
    kept[0] += mass_of_cells[: n - reach].sum()
    kept[-1] += mass_of_cells[n + reach + 1 :].sum()
    return _frequencies(kept)


def _signed_masses(shape: _Shape, edges: np.ndarray) -> np.ndarray:
    """Masses between consecutive edges of either sign."""
    low, high = edges[:-1], edges[1:]
    crossing = (low < 0) & (high > 0)
    flipped = high <= 0
    a, b = np.where(flipped, -high, low), np.where(flipped, -low, high)
    mass = shape.cells(np.where(crossing, 0.0, a), np.where(crossing, 0.0, b))[0]
    mass[crossing] = (
        shape.cells(np.zeros(int(crossing.sum())), high[crossing])[0]
        + shape.cells(np.zeros(int(crossing.sum())), -low[crossing])[0]
    )
    return mass


def _conditional_means(shape: _Shape, received: np.ndarray) -> np.ndarray:
    """E[v | received - 1/2 < v < received + 1/2] for received >= 0."""
    low, high = received - 0.5, received + 0.5
    right_mass, right_mean = shape.cells(np.maximum(low, 0), high)
    # What of the cell lies below zero counts with the other sign.
    left_mass, left_mean = shape.cells(np.zeros(len(low)), np.maximum(-low, 0))
    return (right_mass * right_mean - left_mass * left_mean) / np.maximum(right_mass + left_mass, 1e-30)


def build_tables(
    model: FlowCodecModel, rate_weight: float = RATE_WEIGHT, counts: np.ndarray | None = None
) -> tuple[Tables, ChannelTables]:
    """All tables of a model. Tables 0 ... 255 of the coder are those of ``round`` by kind and scale, then those of ``dither``.

    ``rate_weight``: price of a bit in the design of the quantisers over its theory value; ``counts``: those of ``count_latents``.
    """
    density = ScaleMixture().double()
    density.load_state_dict(model.density.state_dict())
    density.requires_grad_(False)
    shape = (KINDS, SCALE_COUNT)
    thresholds = np.zeros((*shape, NEAR_CELLS), np.int32)
    centroids = np.zeros((*shape, NEAR_CELLS + 1), np.int32)
    free = np.zeros(shape, bool)
    amplitude = np.zeros(shape, np.int64)
    shrink = np.zeros((*shape, 8 * DITHER_LEVELS + 1), np.int32)
    dither_tables = np.zeros((*shape, DITHER_LEVELS), np.uint16)
    tables: list[np.ndarray] = []
    low_bits: list[int] = []
    shapes = {
        (kind, scale): _Shape(density, kind, scale, None if counts is None else counts[kind, scale])
        for kind in range(KINDS)
        for scale in range(SCALE_COUNT)
    }
    for (kind, scale), density_shape in shapes.items():
        bits = max(int(np.floor(density_shape.log2_scale)) - 3, 0) if scale >= _FIRST_WIDE else 0
        if scale < _FIRST_WIDE:
            near, points = _design_quantiser(density_shape, rate_weight)
        else:
            near, points = (np.arange(NEAR_CELLS) * _UNIT + _UNIT // 2, np.arange(NEAR_CELLS + 1) * _UNIT)
        thresholds[kind, scale], centroids[kind, scale] = near, points
        if bits == 0:
            positive = _thresholds_of(near / _UNIT, _CELLS + 1)
            edges = np.concatenate([-positive[::-1], positive])
        else:
            edges = np.arange(-_CELLS, _CELLS + 2) * float(1 << bits) - 0.5
        mass = _signed_masses(density_shape, edges)
        free[kind, scale] = scale == 0 or mass[len(mass) // 2] > _FREE_PROBABILITY
        tables.append(table_of_masses(mass))
        low_bits.append(bits)
    for (kind, scale), density_shape in shapes.items():
        dither_tables[kind, scale] = kind * SCALE_COUNT + scale
        amplitude[kind, scale] = np.clip(round(DITHER_LEVELS * (density_shape.log2_scale - _DITHER_FROM)), 0, DITHER_LEVELS)
        if amplitude[kind, scale] == 0 or scale >= _FIRST_WIDE:
            continue
        received = np.arange(shrink.shape[2]) / DITHER_LEVELS
        shrink[kind, scale] = np.rint((received - _conditional_means(density_shape, received)) * _UNIT)
        known: dict[int, int] = {}
        for level in range(DITHER_LEVELS):
            offset = ((level - DITHER_LEVELS // 2) * int(amplitude[kind, scale])) >> 4
            if offset not in known:
                edges = np.arange(-_CELLS, _CELLS + 2) - 0.5 - offset / DITHER_LEVELS
                known[offset] = len(tables)
                tables.append(table_of_masses(_signed_masses(density_shape, edges)))
                low_bits.append(0)
            dither_tables[kind, scale, level] = known[offset]
    starts = np.concatenate([[0], np.cumsum([len(t) for t in tables])]).astype(np.int64)
    return (
        Tables(np.concatenate(tables), starts, np.array(low_bits, np.int64)),
        ChannelTables(thresholds, centroids, free, amplitude, shrink, dither_tables),
    )


def build_step_multipliers(model: FlowCodecModel) -> np.ndarray:
    """uint16 (1409, 3, 9): step of each band over Delta, 12 fractional bits."""
    indices = torch.arange(STEP_COUNT)
    with torch.no_grad():
        groups = [model.step_multipliers(indices, group)[:, :, 0, 0] for group in range(model.log2_multipliers.shape[0])]
    return torch.stack(groups, 1).mul(1 << 12).round().clamp(1 << 9, (1 << 16) - 1).numpy().astype(np.uint16)
