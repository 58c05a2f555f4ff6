"""Restoration after the synthesis: removes what the noise left, at no rate."""

import torch.nn.functional as F
from torch import Tensor, nn

from flowcodec.model.networks import Arithmetic, FixedConv2d, ResidualBlock, clip, rectify
from flowcodec.runtime.context import CONDITION_CHANNELS
from flowcodec.runtime.integer import CORRECTION_BITS

PLANES = 3


class Restoration(nn.Module):
    """planes + Delta * net(two-range contrast of the planes, condition), on 2x2-unshuffled pixels, zero at the start.

    That of a P-frame also sees the two-range difference of the prediction and the planes, by a layer that is zero at the start.
    Shapes: contrast, difference (N, 6, H, W) in steps, condition (N, 2, H/2, W/2); returns (N, 3, H, W) in steps, H and W even.
    """

    def __init__(self, width: int, arithmetic: Arithmetic, predicts: bool = False) -> None:
        super().__init__()
        self.from_prediction = FixedConv2d(2 * PLANES * 4, width, 3, arithmetic, gain=0.0) if predicts else None
        self.enter = FixedConv2d(2 * PLANES * 4 + CONDITION_CHANNELS, width, 3, arithmetic)
        self.block = ResidualBlock(width, 3, arithmetic)
        self.leave = FixedConv2d(width, PLANES * 4, 3, arithmetic, out_bits=CORRECTION_BITS, gain=0.0)

    def forward(self, inputs: Tensor, difference: Tensor | None = None) -> Tensor:
        """``inputs`` (N, 26, H/2, W/2): contrast and condition; ``difference`` (N, 24, H/2, W/2); both unshuffled."""
        x = self.enter(inputs)
        if self.from_prediction is not None:
            x = x + self.from_prediction(difference)
        x = rectify(self.block(rectify(x)))
        return F.pixel_shuffle(clip(self.leave(x)), 2)
