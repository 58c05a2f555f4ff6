"""Learned couplings after the lifting of a level."""

import torch
from torch import Tensor, nn

from flowcodec.model.bijections import Bijection
from flowcodec.model.networks import Arithmetic, FixedConv2d, clip, rectify
from flowcodec.model.prior import CONTRAST_CHANNELS, two_ranges
from flowcodec.runtime.context import CONDITION_CHANNELS, DETAIL_CHANNELS
from flowcodec.runtime.integer import CORRECTION_BITS, FRACTION_BITS

PLANES = 3
Pair = tuple[Tensor, Tensor]
"""``ll`` and ``detail``."""


def local_contrast(x: Tensor) -> Tensor:
    """x minus its 5x5 binomial mean, edges replicated; the torch twin of ``runtime.context.local_contrast``."""
    blurred = torch.nn.functional.pad(x, (2, 2, 2, 2), mode="replicate")
    for _ in range(4):
        blurred = blurred[..., 1:] + blurred[..., :-1]
    for _ in range(4):
        blurred = blurred[..., 1:, :] + blurred[..., :-1, :]
    return x - blurred / 256


def contrast_planes(planes: Tensor, step: Tensor, arithmetic: Arithmetic) -> Tensor:
    """(N, 3, H, W) pixel units -> (N, 9, H, W): local contrast in steps (fine, coarse) and in pixel units over 64."""
    contrast = local_contrast(planes)
    pixel = clip(arithmetic.round(contrast / (1 << FRACTION_BITS)))
    return torch.cat([two_ranges(contrast / step, arithmetic), pixel], 1)


class Transformation(nn.Module):
    """Two 3x3 convolutions, the last one zero at the start; output in steps."""

    def __init__(self, inputs: int, width: int, outputs: int, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.enter = FixedConv2d(inputs + CONDITION_CHANNELS, width, 3, arithmetic)
        self.leave = FixedConv2d(width, outputs, 3, arithmetic, out_bits=CORRECTION_BITS, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        return clip(self.leave(rectify(self.enter(x))))


class AdditiveCoupling(Bijection):
    """ll' = ll + Delta*U(detail/Delta);  detail' = detail - Delta*P(contrast(ll')/Delta). Volume preserving: logdet = 0.

    Shapes: x, y = (ll (N, 3, H, W), detail (N, 9, H, W)); step (N, 1, 1, 1); condition (N, 2, H, W); mask (9, H, W) of the
    coefficients that exist on a grid of odd size.
    Reference: Dinh et al., NICE, 2015, sec. 3.2; as lifting steps: Sweldens, 1996.
    """

    def __init__(self, width: int, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.arithmetic = arithmetic
        self.update = Transformation(2 * DETAIL_CHANNELS, width, PLANES, arithmetic)
        self.predict = Transformation(CONTRAST_CHANNELS, width, DETAIL_CHANNELS, arithmetic)

    def updated(self, detail: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        return step * self.update(torch.cat([two_ranges(detail / step, self.arithmetic), condition], 1))

    def predicted(self, ll: Tensor, step: Tensor, condition: Tensor, mask: Tensor) -> Tensor:
        return step * self.predict(torch.cat([contrast_planes(ll, step, self.arithmetic), condition], 1)) * mask

    def forward(self, x: Pair, step: Tensor, condition: Tensor, mask: Tensor) -> tuple[Pair, Tensor]:
        ll, detail = x
        ll = ll + self.updated(detail, step, condition)
        return (ll, detail - self.predicted(ll, step, condition, mask)), ll.new_zeros(len(ll))

    def inverse(self, y: Pair, step: Tensor, condition: Tensor, mask: Tensor) -> Pair:
        ll, detail = y
        detail = detail + self.predicted(ll, step, condition, mask)
        return ll - self.updated(detail, step, condition), detail
