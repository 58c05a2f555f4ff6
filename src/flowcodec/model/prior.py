"""The flow prior of one level: (location, scale) of every detail coefficient, from all that is decoded before it.

Stages, each parallel over its sites, in the order of ``runtime.context.STAGES``. Values given to the networks are in units of a
step, on the grids of ``runtime.context``.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowcodec.model.channel import Channel
from flowcodec.model.density import ScaleMixture
from flowcodec.model.networks import Arithmetic, FixedConv2d, ResidualBlock, clip, merge_phases, phase_of, rectify
from flowcodec.runtime.channel import SCALE_BITS, SCALE_COUNT, SCALE_LOG2_FIRST
from flowcodec.runtime.context import (
    CARRIED_CHANNELS,
    CONDITION_CHANNELS,
    DETAIL_CHANNELS,
    GATE_MAX,
    GATE_MIN,
    PHASES,
    PREDICTION_CHANNELS,
    RANGE_BITS,
    STAGES,
)
from flowcodec.runtime.integer import FRACTION_BITS, LOCATION_MAX

CONTRAST_CHANNELS = 9
_SCALE_MAX = (SCALE_COUNT - 1) / (1 << SCALE_BITS)
_SCALE_MIN = -5.0
_LOCATION_LIMIT = LOCATION_MAX / (1 << FRACTION_BITS)


def two_ranges(x: Tensor, arithmetic: Arithmetic) -> Tensor:
    """(N, C, H, W) -> (N, 2C, H, W): clipped fine copies, then coarse ones; the torch twin of ``runtime.context``."""
    x = arithmetic.round(x)
    return clip(torch.cat([x, arithmetic.round(x * 2.0**-RANGE_BITS)], 1))


class Trunk(nn.Module):
    """Features of a level from contrast, carried features and the condition planes; computed once.

    That of a P-frame also sees the prediction, by a layer that is zero at the start.
    """

    def __init__(self, width: int, blocks: int, arithmetic: Arithmetic, predicts: bool = False) -> None:
        super().__init__()
        self.from_prediction = FixedConv2d(PREDICTION_CHANNELS, width, 3, arithmetic, gain=0.0) if predicts else None
        self.enter = FixedConv2d(CONTRAST_CHANNELS + CARRIED_CHANNELS + CONDITION_CHANNELS, width, 3, arithmetic)
        self.blocks = nn.ModuleList(ResidualBlock(width, 3, arithmetic) for _ in range(blocks))

    def forward(self, inputs: Tensor, prediction: Tensor | None = None) -> Tensor:
        x = self.enter(inputs)
        if self.from_prediction is not None:
            x = x + self.from_prediction(prediction)
        x = rectify(x)
        for block in self.blocks:
            x = block(x)
        return x


class StageNetwork(nn.Module):
    """Location and scale of ``outputs`` coefficients at the sites of one phase, given ``seen`` decoded coefficients a site.

    In a P-frame it also sees what the prediction was off by and its coefficients of this stage, and gives the gate: the share of
    the prediction in the location. Both layers are zero at the start.
    """

    def __init__(self, width: int, seen: int, outputs: int, arithmetic: Arithmetic, predicts: bool = False) -> None:
        super().__init__()
        self.from_prediction = self.gate = None
        if predicts:
            self.from_prediction = FixedConv2d(seen + outputs, width, 3, arithmetic, gain=0.0)
            self.gate = FixedConv2d(width, outputs, 1, arithmetic, gain=0.0)
        self.from_trunk = FixedConv2d(width, width, 1, arithmetic)
        self.from_seen = FixedConv2d(2 * seen, width, 3, arithmetic, gain=0.5) if seen else None
        self.block = ResidualBlock(width, 1, arithmetic)
        self.location = FixedConv2d(width, outputs, 1, arithmetic, gain=0.05)
        self.scale = FixedConv2d(width, outputs, 1, arithmetic, out_bits=SCALE_BITS, gain=0.1)
        nn.init.constant_(self.scale.bias, 2.0)

    def forward(self, trunk: Tensor, seen: Tensor | None, compared: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """(location in steps, log2 scale + 2.75, gate) from the trunk's features and the two-range copies, on the phase grid.

        ``compared`` (N, seen + outputs, H, W): what the prediction was off by, then its coefficients here, clipped.
        """
        x = self.from_trunk(trunk)
        if self.from_seen is not None and seen is not None:
            x = x + self.from_seen(seen)
        if self.from_prediction is not None:
            x = x + self.from_prediction(compared)
        x = rectify(self.block(rectify(x)))
        # bf16 has too few digits for a location of many steps.
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            gate = None
            if self.gate is not None:
                gate = F.hardtanh(self.gate(x), GATE_MIN / (1 << FRACTION_BITS), GATE_MAX / (1 << FRACTION_BITS))
            return self.location(x), self.scale(x), gate


class Carry(nn.Module):
    """Features for the next finer level: two-range details and trunk -> (N, CARRIED_CHANNELS, 2H, 2W)."""

    def __init__(self, width: int, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.from_trunk = FixedConv2d(width, width, 1, arithmetic)
        self.from_seen = FixedConv2d(2 * DETAIL_CHANNELS, width, 3, arithmetic, gain=0.5)
        self.leave = FixedConv2d(width, 4 * CARRIED_CHANNELS, 1, arithmetic)

    def forward(self, trunk: Tensor, seen: Tensor) -> Tensor:
        x = rectify(self.from_trunk(trunk) + self.from_seen(seen))
        return F.pixel_shuffle(clip(self.leave(x)), 2)


@dataclass
class LevelPrediction:
    """A prediction at one level, on its even grid; the torch twin of ``runtime.prediction.LevelPrediction``."""

    planes: Tensor
    """(N, 24, H, W) for the trunk."""
    detail: Tensor
    """(N, 9, H, W) in steps."""

    @classmethod
    def of(cls, low_difference: Tensor, detail: Tensor, arithmetic: Arithmetic) -> "LevelPrediction":
        """From the prediction's ``ll`` less the reconstruction (N, 3, H, W) and its details (N, 9, H, W), both in steps."""
        detail = arithmetic.round(detail).clamp(-_LOCATION_LIMIT, _LOCATION_LIMIT)
        return cls(torch.cat([two_ranges(low_difference, arithmetic), two_ranges(detail, arithmetic)], 1), detail)


@dataclass
class LevelResult:
    reconstruction: Tensor
    """(N, 9, H, W) conditional mean of the details, in steps."""
    bits: Tensor
    """(N,)"""
    carried: Tensor | None
    """(N, 16, 2H, 2W)"""


class LevelPrior(nn.Module):
    """p(detail | coarser): trunk, a network for each stage and, unless it is the finest level's, the carry."""

    def __init__(self, width: int, blocks: int, carries: bool, arithmetic: Arithmetic, predicts: bool = False) -> None:
        super().__init__()
        self.arithmetic = arithmetic
        self.trunk = Trunk(width, blocks, arithmetic, predicts)
        self.stages = nn.ModuleList(StageNetwork(width, stage.seen, stage.outputs, arithmetic, predicts) for stage in STAGES)
        self.carry = Carry(width, arithmetic) if carries else None

    def forward(
        self,
        inputs: Tensor,
        detail: Tensor,
        mask: Tensor,
        channel: Channel,
        density: ScaleMixture,
        prediction: LevelPrediction | None = None,
    ) -> LevelResult:
        """``inputs`` (N, 27, H, W) on an even grid, ``detail`` (N, 9, H, W) in steps, ``mask`` (9, H, W) of real coefficients.

        What is decoded is data to later stages: no gradient passes through it.
        """
        trunk = self.trunk(inputs, None if prediction is None else prediction.planes)
        trunks = [phase_of(trunk, phase) for phase in range(len(PHASES))]
        bits = detail.new_zeros(len(detail))
        seen: list[Tensor] = []
        off: list[Tensor] = []
        decoded: list[list[Tensor]] = [[] for _ in PHASES]
        for stage, network in zip(STAGES, self.stages, strict=True):
            predicted = compared = None
            if prediction is not None:
                predicted = phase_of(prediction.detail[:, stage.bands], stage.phase)
                compared = torch.cat([*off, clip(predicted)], 1)
            location, scale, gate = network(trunks[stage.phase], torch.cat(seen, 1) if seen else None, compared)
            location, log2_scale = self.predictions(location, scale)
            if gate is not None and predicted is not None:
                location = location + self.arithmetic.round(gate * (predicted - location))
            z, keep = phase_of(detail[:, stage.bands], stage.phase), phase_of(mask[None, stage.bands], stage.phase)
            received, cost = channel(z, location, log2_scale, density, stage.kind)
            bits = bits + (cost * keep).sum((1, 2, 3))
            decoded[stage.phase].append(received * keep)
            known = decoded[stage.phase][-1].detach()
            seen.append(two_ranges(known, self.arithmetic))
            if predicted is not None:
                off.append(clip(self.arithmetic.round(known - predicted)))
        reconstruction = merge_phases([torch.cat(bands, 1) for bands in decoded])
        carried = None
        if self.carry is not None:
            carried = self.carry(trunk, two_ranges(reconstruction.detach(), self.arithmetic))
        return LevelResult(reconstruction, bits, carried)

    def predictions(self, location: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Clips of the integer format; log2 of the scale in steps.

        A file's scales end at index 0, where nothing is coded. In training they may go below: noise costs bits even there.
        """
        scale = scale.clamp(_SCALE_MIN, _SCALE_MAX)
        return location.clamp(-_LOCATION_LIMIT, _LOCATION_LIMIT), scale + SCALE_LOG2_FIRST
