"""Convolutions whose values fit the decoder's integer format, and the blocks built from them.

Two arithmetics, one code path. ``float``: plain convolutions with the clips of the integer format. ``fixed``: weights on the
grid that the exporter ships and floors after each convolution, with straight-through gradients. All factors are powers of
two, so in float32 the fixed mode computes the decoder's integers exactly, scaled by 2^-FRACTION_BITS.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowcodec.runtime.context import PHASES
from flowcodec.runtime.integer import ACCUMULATOR_LIMIT, ACTIVATION_MAX, FRACTION_BITS

ACTIVATION_LIMIT = ACTIVATION_MAX / (1 << FRACTION_BITS)
_MAX_WEIGHT_BITS = 14


def straight_through(rounded: Tensor, exact: Tensor) -> Tensor:
    """Value of ``rounded`` to the last digit, gradient of ``exact``."""
    return rounded.detach() + (exact - exact.detach())


class Arithmetic:
    """Which arithmetic the layers of one model use; shared by all of them."""

    def __init__(self, fixed: bool = False) -> None:
        self.fixed = fixed

    def round(self, x: Tensor) -> Tensor:
        """In fixed arithmetic rounded to 1/64, the grid of every network's inputs."""
        if not self.fixed:
            return x
        unit = float(1 << FRACTION_BITS)
        return straight_through(torch.floor(x * unit + 0.5) / unit, x)


class FixedConv2d(nn.Module):
    """y = conv(x, w) + b, in fixed mode floored to 2^-out_bits after rounding w to 2^-shift per output channel.

    The shift of a channel is the largest for which sum|w|*ACTIVATION_MAX + |b| stays below 2^24, the bound the exporter proves.
    The weight is held as a matrix (C_out, C_in*k*k), the form that Muon orthogonalises.
    Shapes: x (N, C_in, H, W), y (N, C_out, H, W).
    """

    def __init__(
        self, inputs: int, outputs: int, size: int, arithmetic: Arithmetic, out_bits: int = FRACTION_BITS, gain: float = 1.0
    ):
        super().__init__()
        self.inputs, self.outputs, self.size, self.out_bits = inputs, outputs, size, out_bits
        self.arithmetic = arithmetic
        self.weight = nn.Parameter(torch.randn(outputs, inputs * size * size) * gain * (2.0 / (inputs * size * size)) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def shift(self) -> Tensor:
        """(C_out,) fractional bits of each channel's weights."""
        reach = self.weight.abs().sum(1) * ACTIVATION_MAX + self.bias.abs() * (1 << FRACTION_BITS)
        # Rounding moves each weight by up to half a unit and the bias by one; the floor's half is at most 2^(shift + 5).
        slack = self.weight.shape[1] * 0.5 * ACTIVATION_MAX + 2
        room = (ACCUMULATOR_LIMIT - 1 - slack) / (reach + (1 << FRACTION_BITS))
        return torch.floor(torch.log2(room)).clamp(max=_MAX_WEIGHT_BITS)

    def fixed_parameters(self) -> tuple[Tensor, Tensor]:
        """Weight and bias on their grids (straight-through); the bias includes the half that turns the floor into a rounding."""
        with torch.no_grad():
            unit = torch.exp2(self.shift())
            half = 2.0 ** -(self.out_bits + 1)
            weight = torch.round(self.weight * unit[:, None]) / unit[:, None]
            grid = unit * (1 << FRACTION_BITS)
            bias = torch.round((self.bias + half) * grid) / grid
        return straight_through(weight, self.weight), straight_through(bias, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.fixed_parameters() if self.arithmetic.fixed else (self.weight, self.bias)
        kernel = weight.view(self.outputs, self.inputs, self.size, self.size)
        y = F.conv2d(x, kernel, bias, padding=self.size // 2)
        if not self.arithmetic.fixed:
            return y
        unit = float(1 << self.out_bits)
        return straight_through(torch.floor(y * unit) / unit, y)


def rectify(x: Tensor) -> Tensor:
    """Clipped ReLU, [0, ACTIVATION_LIMIT]."""
    return F.hardtanh(x, 0.0, ACTIVATION_LIMIT)


def clip(x: Tensor) -> Tensor:
    """Clip to +-ACTIVATION_LIMIT; ``hardtanh`` because its gradient is one pass, that of ``clamp`` three."""
    return F.hardtanh(x, -ACTIVATION_LIMIT, ACTIVATION_LIMIT)


class ResidualBlock(nn.Module):
    """x + conv1x1(rectify(conv_k(x))), clipped to the activation range."""

    def __init__(self, channels: int, size: int, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.inner = FixedConv2d(channels, channels, size, arithmetic)
        self.outer = FixedConv2d(channels, channels, 1, arithmetic, gain=0.1)

    def forward(self, x: Tensor) -> Tensor:
        return clip(x + self.outer(rectify(self.inner(x))))


def phase_of(x: Tensor, phase: int) -> Tensor:
    """(N, C, H, W) of an even grid -> (N, C, H/2, W/2): the sites of one phase; twin of ``runtime.context.phase_of``."""
    row, column = PHASES[phase]
    return x[:, :, row::2, column::2]


def merge_phases(phases: list[Tensor]) -> Tensor:
    """Inverse of ``phase_of`` for all four phases, in their order."""
    n, c, h, w = phases[0].shape
    x = phases[0].new_empty(n, c, 2 * h, 2 * w)
    for (row, column), values in zip(PHASES, phases, strict=True):
        x[:, :, row::2, column::2] = values
    return x
