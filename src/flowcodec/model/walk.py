"""The decoder's walk over the fine levels in torch, differentiable, on the networks and tables of a model file.

The networks compute the decoder's integers; planes between them are float, where the decoder rounds to 1/64, so that symbols
agree with those of ``runtime`` but for a few at the edges of their cells. Gradients pass straight through floors and roundings.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flowcodec.model.bijections import ColorRotation, Lifting
from flowcodec.model.coupling import contrast_planes, local_contrast
from flowcodec.model.flow import condition_planes, detail_mask, pad_even
from flowcodec.model.graphs import DifferentiableGraphs
from flowcodec.model.networks import Arithmetic, merge_phases, phase_of
from flowcodec.model.prior import two_ranges
from flowcodec.runtime.bundle import Model
from flowcodec.runtime.channel import NEAR_CELLS, SCALE_COUNT
from flowcodec.runtime.color import NO_TURN, Turn
from flowcodec.runtime.context import (
    CARRIED_CHANNELS,
    DETAIL_CHANNELS,
    LUMA,
    LUMA_BANDS,
    PHASES,
    RESTORATION_GAIN_BITS,
    STAGES,
    Stage,
    level_group,
)
from flowcodec.runtime.flow import level_shapes
from flowcodec.runtime.integer import CORRECTION_BITS, FRACTION_BITS
from flowcodec.runtime.step import log2_step

PLANES = 3
_UNIT = float(1 << FRACTION_BITS)
MAGNITUDES = 512
"""Magnitudes with costs of their own; larger ones have the cost of the last, whose derivative by the scale is all that counts."""
_NEVER = 1e9


def slopes_of(values: np.ndarray) -> Tensor:
    """Derivatives of values (kinds, scales, ...) by the scale index."""
    return torch.from_numpy(np.gradient(values, axis=1)).float()


class Cells:
    """Quantiser cells and costs of the ``round`` channel as tensors, by kind, scale index and magnitude; values in steps."""

    def __init__(self, model: Model) -> None:
        tables, channels = model.tables, model.channels
        magnitudes = np.arange(MAGNITUDES)
        near = np.minimum(magnitudes, NEAR_CELLS)
        centroids = (channels.centroids[:, :, near] + (magnitudes - near) * _UNIT) / _UNIT
        costs = np.empty(centroids.shape)
        for index in np.ndindex(costs.shape[:2]):
            table = index[0] * SCALE_COUNT + index[1]
            bits, reach = int(tables.low_bits[table]), int(tables.reach[table])
            high = magnitudes >> bits
            beyond = np.maximum(high - reach, 0)
            costs[index] = tables.costs[tables.starts[table] + reach + high - beyond] + bits + 2 * np.log2(1 + beyond)
        centroids[channels.free], costs[channels.free] = 0, 0
        thresholds = channels.thresholds / _UNIT
        thresholds[channels.free] = _NEVER
        self._thresholds = torch.from_numpy(thresholds).float().flatten(1)
        self._centroids, self._costs = (torch.from_numpy(x).float().flatten(1) for x in (centroids, costs))
        self._centroid_slopes, self._cost_slopes = (slopes_of(x).flatten(1) for x in (centroids, costs))

    @torch.no_grad()
    def quantise(self, magnitudes: Tensor, kind: int, scales: Tensor) -> Tensor:
        """Symbols of |value|; the threshold of symbol k lies between k - 1/2 and k + 1/2."""
        below = torch.floor(magnitudes - 0.5).clamp(min=0)
        near = below.clamp(max=NEAR_CELLS - 1)
        threshold = self._thresholds[kind][scales * NEAR_CELLS + near.long()] + (below - near)
        return below + (magnitudes >= threshold)

    def code(self, offset: Tensor, scale: Tensor, kind: int) -> tuple[Tensor, Tensor]:
        """(reconstructed offset, bits) of the cells of offsets; both differentiable in the scale index, the symbols held."""
        with torch.no_grad():
            scales = scale.long()
            symbols = self.quantise(offset.abs(), kind, scales)
            near = symbols.clamp(max=MAGNITUDES - 1)
            flat = scales * MAGNITUDES + near.long()
            sign = torch.sign(offset)
            centroid = (self._centroids[kind][flat] + (symbols - near)) * sign
            centroid_slope = self._centroid_slopes[kind][flat] * sign
        moved = scale - scale.detach()
        return centroid + centroid_slope * moved, self._costs[kind][flat] + self._cost_slopes[kind][flat] * moved


@dataclass
class Outcome:
    """What one walk over some targets gives."""

    bits: Tensor
    squared_error: Tensor
    """Of the restored picture, in Delta^2; a grey level of a grey picture counts as one in each component."""
    own_error: Tensor
    """Sum of m^2 (z - mu - c)^2 over the coefficients, z held: differentiable in locations and scales alone."""
    received: list[Tensor] = field(default_factory=list)
    """Reconstructed values in steps, stage by stage: the leaves of the gradient."""


class DifferentiableWalk:
    """The walk over a picture or a tile of one, from the planes above its levels down to the pixels."""

    def __init__(
        self,
        model: Model,
        cells: Cells,
        graphs: DifferentiableGraphs,
        pixels: np.ndarray,
        step_index: int,
        turn: Turn = NO_TURN,
    ) -> None:
        """``pixels`` uint8 (H, W, C), coded with the axes of the ``turn``."""
        self.model, self.cells, self.graphs = model, cells, graphs
        self.channels = pixels.shape[2]
        self.image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].float()
        self.shapes = level_shapes(*pixels.shape[:2])
        self.stages = STAGES if self.channels == PLANES else [stage for stage in STAGES if stage.kind == LUMA]
        self.index = torch.tensor([step_index])
        self.step = 2.0 ** log2_step(step_index)
        multipliers = model.step_multipliers[step_index].astype(np.float32) / (1 << 12)
        self._multipliers = torch.from_numpy(multipliers)[:, None, :, None, None]
        self._arithmetic = Arithmetic(fixed=True)
        self._color, self._lifting = ColorRotation(turn), Lifting()

    def multipliers(self, level: int) -> Tensor:
        """(1, 9, 1, 1): steps of the bands over Delta."""
        return self._multipliers[level_group(level)]

    def __call__(self, ll: Tensor, carried: Tensor | None, targets: Sequence[Tensor], origins: Sequence[Tensor]) -> Outcome:
        """``ll`` (1, 3, h, w) in pixel units and the features ``carried`` (1, 16, h, w) to the coarsest level of ``targets``.

        ``targets`` and ``origins``: what is quantised and what it was at first, (1, 9, h, w) on even grids in band steps, coarse
        to fine down to level 1.
        """
        zero = ll.new_zeros(())
        outcome = Outcome(zero, zero, zero)
        for level, target, origin in zip(range(len(targets), 0, -1), targets, origins, strict=True):
            detail, carried = self._details(level, ll, carried, target, origin, outcome)
            ll = self._synthesise(level, ll, detail)
        planes = self._restored(ll)
        image = self._color.inverse(planes) if self.channels == PLANES else planes[:, :1] / PLANES**0.5
        outcome.squared_error = PLANES / self.channels * (image - self.image).square().sum() / self.step**2
        return outcome

    def _details(
        self, level: int, ll: Tensor, carried: Tensor | None, target: Tensor, origin: Tensor, outcome: Outcome
    ) -> tuple[Tensor, Tensor | None]:
        """Details (1, 9, H, W) in steps on the even grid, and the features for the next level."""
        group, finer = level_group(level), self.shapes[level - 1]
        contrast = pad_even(contrast_planes(ll, self._delta, self._arithmetic) * _UNIT)
        height, width = contrast.shape[2:]
        carried = ll.new_zeros(1, CARRIED_CHANNELS, height, width) if carried is None else pad_even(carried)
        trunk = self.graphs(f"trunk_{group}", [contrast, carried, self._condition(level, height, width)])[0]
        trunks = [phase_of(trunk, phase) for phase in range(len(PHASES))]
        mask = pad_even(detail_mask(*finer))[None]
        seen: list[Tensor] = []
        bands: list[list[Tensor]] = [[] for _ in PHASES]
        for stage in self.stages:
            inputs = [trunks[stage.phase], *([torch.cat(seen, 1)] if seen else [])]
            location, scale = self.graphs(f"stage{stage.number}_{group}", inputs)
            wanted, held, keep = (phase_of(x[:, stage.bands], stage.phase) for x in (target, origin, mask))
            values = self._exchange(level, stage, location / _UNIT, scale, wanted, held, keep, outcome)
            bands[stage.phase].append(values)
            seen.append(two_ranges(values, self._arithmetic) * _UNIT)
        if self.channels != PLANES:
            blank = ll.new_zeros(1, DETAIL_CHANNELS - LUMA_BANDS, height // 2, width // 2)
            bands = [[*each, blank] for each in bands]
        detail = merge_phases([torch.cat(each, 1) for each in bands])
        if level == 1:
            return detail, None
        carried = self.graphs(f"carry_{group}", [trunk, two_ranges(detail, self._arithmetic) * _UNIT])[0]
        return detail, carried[:, :, : finer[0], : finer[1]]

    def _exchange(
        self,
        level: int,
        stage: Stage,
        location: Tensor,
        scale: Tensor,
        target: Tensor,
        origin: Tensor,
        keep: Tensor,
        out: Outcome,
    ) -> Tensor:
        """Quantises the targets of a stage and adds their bits to the outcome; the reconstructed values are new leaves."""
        offset, bits = self.cells.code((target - location).detach(), scale, stage.kind)
        value = location + offset
        weight = self.multipliers(level)[:, stage.bands].square() * keep
        out.bits = out.bits + (bits * keep).sum()
        out.own_error = out.own_error + ((origin - value).square() * weight).sum()
        received = (value.detach() * keep).requires_grad_(torch.is_grad_enabled())
        out.received.append(received)
        return received

    def _synthesise(self, level: int, ll: Tensor, detail: Tensor) -> Tensor:
        """Couplings undone, then the lifting: planes of the next finer level, pixel units."""
        height, width = ll.shape[2:]
        pixels = detail[:, :, :height, :width] * (self.step * self.multipliers(level))
        if f"update_{level_group(level)}" in self.model.graph_info:
            prediction = self._transformation("predict", level, contrast_planes(ll, self._delta, self._arithmetic))
            pixels = pixels + prediction * detail_mask(*self.shapes[level - 1])
            ll = ll - self._transformation("update", level, two_ranges(pixels / self.step, self._arithmetic))
        if self.channels != PLANES:
            ll, pixels = _first_only(ll, 1), _first_only(pixels, LUMA_BANDS)
        return self._lifting.inverse((ll, pixels), self.shapes[level - 1])

    def _transformation(self, name: str, level: int, values: Tensor) -> Tensor:
        height, width = values.shape[2:]
        padded = pad_even(values * _UNIT)
        output = self.graphs(f"{name}_{level_group(level)}", [padded, self._condition(level, *padded.shape[2:])])[0]
        return output[:, :, :height, :width] * (self.step / (1 << CORRECTION_BITS))

    def _restored(self, planes: Tensor) -> Tensor:
        if "restoration" not in self.model.graph_info:
            return planes
        height, width = planes.shape[2:]
        contrast = local_contrast(planes) * (2.0**RESTORATION_GAIN_BITS / self.step)
        squeezed = F.pixel_unshuffle(pad_even(two_ranges(contrast, self._arithmetic) * _UNIT), 2)
        correction = self.graphs("restoration", [squeezed, self._condition(0, *squeezed.shape[2:])])[0]
        return planes + correction[:, :, :height, :width] * (self.step / (1 << CORRECTION_BITS))

    def _condition(self, level: int, height: int, width: int) -> Tensor:
        return condition_planes(self.index, level, height, width) * _UNIT

    @property
    def _delta(self) -> Tensor:
        return torch.full((1, 1, 1, 1), self.step)


def _first_only(x: Tensor, count: int) -> Tensor:
    """x with all but the first channels zero."""
    return torch.cat([x[:, :count], torch.zeros_like(x[:, count:])], 1)
