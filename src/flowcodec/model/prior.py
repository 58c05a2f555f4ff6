"""The flow prior of one level: (location, scale) of every detail coefficient, from all that is decoded before it.

Stages, each parallel over its sites: luma on even checkerboard sites, luma on odd ones, chroma on even, chroma on odd.
Values given to the networks are in units of a step, on the grids of ``runtime.context``.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowcodec.model.channel import Channel
from flowcodec.model.density import ScaleMixture
from flowcodec.model.networks import (
    Arithmetic,
    FixedConv2d,
    ResidualBlock,
    clip,
    pack,
    packed_conv,
    rectify,
    unpack,
)
from flowcodec.runtime.channel import SCALE_BITS, SCALE_COUNT, SCALE_LOG2_FIRST
from flowcodec.runtime.context import CARRIED_CHANNELS, CHROMA_BANDS, CONDITION_CHANNELS, LUMA_BANDS, RANGE_BITS
from flowcodec.runtime.integer import FRACTION_BITS, LOCATION_MAX

CONTRAST_CHANNELS = 9
_SCALE_MAX = (SCALE_COUNT - 1) / (1 << SCALE_BITS)
_SCALE_MIN = -5.0


def two_ranges(x: Tensor, arithmetic: Arithmetic) -> Tensor:
    """(N, C, H, W) -> (N, 2C, H, W): clipped fine copies, then coarse ones; the torch twin of ``runtime.context``."""
    x = arithmetic.round(x)
    return clip(torch.cat([x, arithmetic.round(x * 2.0**-RANGE_BITS)], 1))


class Trunk(nn.Module):
    """Features of a level from contrast, carried features and the condition planes; computed once."""

    def __init__(self, width: int, blocks: int, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.enter = FixedConv2d(CONTRAST_CHANNELS + CARRIED_CHANNELS + CONDITION_CHANNELS, width, 3, arithmetic)
        self.blocks = nn.ModuleList(ResidualBlock(width, 3, arithmetic) for _ in range(blocks))

    def forward(self, inputs: Tensor) -> Tensor:
        x = rectify(self.enter(inputs))
        for block in self.blocks:
            x = block(x)
        return x


class Stage(nn.Module):
    """Location and scale of ``outputs`` coefficients at the sites of one parity, given ``seen`` decoded channels."""

    def __init__(self, width: int, seen: int, size: int, outputs: int, parity: int, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.parity = parity
        self.from_trunk = FixedConv2d(width, width, 1, arithmetic)
        self.from_seen = FixedConv2d(2 * seen, width, size, arithmetic, gain=0.5) if seen else None
        self.block = ResidualBlock(width, 1, arithmetic)
        self.location = FixedConv2d(width, outputs, 1, arithmetic, gain=0.05)
        self.scale = FixedConv2d(width, outputs, 1, arithmetic, out_bits=SCALE_BITS, gain=0.1)
        nn.init.constant_(self.scale.bias, 2.0)

    def forward(self, trunk: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor]:
        """Packed (location in steps, log2 scale + 2.75) from the trunk's features and the two-range copies of what is decoded."""
        x = self.from_trunk(pack(trunk, self.parity))
        if self.from_seen is not None and seen is not None:
            x = x + packed_conv(self.from_seen, seen, self.parity)
        x = rectify(self.block(rectify(x)))
        # bf16 has too few digits for a location of many steps.
        with torch.autocast(x.device.type, enabled=False):
            return self.location(x.float()), self.scale(x.float())


class Carry(nn.Module):
    """Features for the next finer level: two-range details and trunk -> (N, CARRIED_CHANNELS, 2H, 2W)."""

    def __init__(self, width: int, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.from_trunk = FixedConv2d(width, width, 1, arithmetic)
        self.from_seen = FixedConv2d(2 * (LUMA_BANDS + CHROMA_BANDS), width, 3, arithmetic, gain=0.5)
        self.leave = FixedConv2d(width, 4 * CARRIED_CHANNELS, 1, arithmetic)

    def forward(self, trunk: Tensor, seen: Tensor) -> Tensor:
        x = rectify(self.from_trunk(trunk) + self.from_seen(seen))
        return F.pixel_shuffle(clip(self.leave(x)), 2)


@dataclass
class LevelResult:
    reconstruction: Tensor
    """(N, 9, H, W) conditional mean of the details, in steps."""
    bits: Tensor
    """(N,)"""
    carried: Tensor | None
    """(N, 16, 2H, 2W)"""


class LevelPrior(nn.Module):
    """p(detail | coarser): trunk, four stages and, unless it is the finest level's, the carry."""

    def __init__(self, width: int, blocks: int, carries: bool, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.arithmetic = arithmetic
        luma, both = LUMA_BANDS, LUMA_BANDS + CHROMA_BANDS
        self.trunk = Trunk(width, blocks, arithmetic)
        self.stages = nn.ModuleList(
            [
                Stage(width, 0, 1, luma, 0, arithmetic),
                Stage(width, luma, 5, luma, 1, arithmetic),
                Stage(width, luma, 3, CHROMA_BANDS, 0, arithmetic),
                Stage(width, both, 3, CHROMA_BANDS, 1, arithmetic),
            ]
        )
        self.carry = Carry(width, arithmetic) if carries else None

    def forward(self, inputs: Tensor, detail: Tensor, mask: Tensor, channel: Channel, density: ScaleMixture) -> LevelResult:
        """``inputs`` (N, 27, H, W) on an even grid, ``detail`` (N, 9, H, W) in steps, ``mask`` (9, H, W) of real coefficients."""
        trunk = self.trunk(inputs)
        bits = detail.new_zeros(len(detail))
        decoded: list[Tensor] = []
        for kind, bands in enumerate((slice(0, LUMA_BANDS), slice(LUMA_BANDS, LUMA_BANDS + CHROMA_BANDS))):
            target, valid = detail[:, bands], mask[bands].expand(len(detail), -1, -1, -1)
            halves: list[Tensor] = []
            for parity in (0, 1):
                seen = list(decoded)
                if parity:
                    seen.append(unpack(halves[0], torch.zeros_like(halves[0])))
                elif kind == 0:
                    seen = []
                stage = self.stages[2 * kind + parity]
                location, scale = stage(trunk, two_ranges(torch.cat(seen, 1), self.arithmetic) if seen else None)
                location, log2_scale = self.predictions(location, scale)
                z, keep = pack(target, parity), pack(valid, parity)
                received, cost = channel(z, location, log2_scale, density, kind)
                bits = bits + (cost * keep).view(2, len(detail), -1).sum((0, 2))
                halves.append(received * keep)
            decoded.append(unpack(halves[0], halves[1]))
        reconstruction = torch.cat(decoded, 1)
        carried = self.carry(trunk, two_ranges(reconstruction, self.arithmetic)) if self.carry is not None else None
        return LevelResult(reconstruction, bits, carried)

    def predictions(self, location: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Clips of the integer format; log2 of the scale in steps.

        A file's scales end at index 0, where nothing is coded. In training they may go below: noise costs bits even there.
        """
        limit = LOCATION_MAX / (1 << FRACTION_BITS)
        scale = scale.clamp(_SCALE_MIN, _SCALE_MAX)
        return location.clamp(-limit, limit), scale + SCALE_LOG2_FIRST
