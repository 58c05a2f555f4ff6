"""Invertible maps with log-determinants: y, logdet = forward(x); x = inverse(y)."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from flowcodec.runtime.color import NO_TURN, Turn, rgb_to_axes
from flowcodec.runtime.flow import HIGH_GAIN, LIFT_BITS, LIFT_STEPS, LOW_GAIN, band_shapes


class Bijection(nn.Module):
    """y = f(x) with ``forward(x) -> (y, logdet)``, logdet (N,) in nats, and ``inverse(y) -> x``."""

    def forward(self, x: Any, *condition: Any) -> Any:
        raise NotImplementedError

    def inverse(self, y: Any, *condition: Any) -> Any:
        raise NotImplementedError


class ColorRotation(Bijection):
    """(Y, C1, C2) = A (R, G, B) with A orthonormal, or the axes of a turn; logdet = 0.

    Shapes: x, y (N, 3, H, W).
    """

    def __init__(self, turn: Turn = NO_TURN) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.tensor(rgb_to_axes(turn), dtype=torch.float32), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._rotate("ij,njhw->nihw", x), x.new_zeros(len(x))

    def inverse(self, y: Tensor) -> Tensor:
        return self._rotate("ji,njhw->nihw", y)

    def _rotate(self, equation: str, x: Tensor) -> Tensor:
        # Under autocast a product would round pixels to the 8 bits of bf16.
        with torch.autocast(x.device.type, enabled=False):
            return torch.einsum(equation, self.matrix, x)


def _even_pairs(even: Tensor, count: int, dim: int) -> Tensor:
    following = torch.cat([even.narrow(dim, 1, even.shape[dim] - 1), even.narrow(dim, even.shape[dim] - 1, 1)], dim)
    return (even + following).narrow(dim, 0, count)


def _odd_pairs(odd: Tensor, count: int, dim: int) -> Tensor:
    last = odd.shape[dim] - 1
    padded = torch.cat([odd.narrow(dim, 0, 1), odd, odd.narrow(dim, last, 1)], dim)
    return padded.narrow(dim, 0, count) + padded.narrow(dim, 1, count)


class Lifting(Bijection):
    """One level of the CDF 9/7 wavelet; the untrained flow is this map.

    Shapes: x (N, C, H, W); y = (ll (N, C, ceil(H/2), ceil(W/2)), detail (N, 3C, ceil(H/2), ceil(W/2))), places that a shorter
    high band lacks holding zero. logdet is the constant sum of the log gains of all samples.
    Reference: Daubechies & Sweldens, Factoring wavelet transforms into lifting steps, 1998, sec. 7.9.
    """

    def _split(self, x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        count = x.shape[dim]
        index = [slice(None)] * x.ndim
        index[dim] = slice(0, None, 2)
        even = x[tuple(index)]
        index[dim] = slice(1, None, 2)
        odd = x[tuple(index)]
        if count == 1:
            return even, odd
        for step, constant in enumerate(LIFT_STEPS):
            factor = constant / (1 << LIFT_BITS)
            if step % 2 == 0:
                odd = odd + factor * _even_pairs(even, odd.shape[dim], dim)
            else:
                even = even + factor * _odd_pairs(odd, even.shape[dim], dim)
        return even * ((1 << LIFT_BITS) / LOW_GAIN), odd * ((1 << LIFT_BITS) / HIGH_GAIN)

    def _merge(self, low: Tensor, high: Tensor, dim: int) -> Tensor:
        if high.shape[dim] == 0:
            return low
        even, odd = low * (LOW_GAIN / (1 << LIFT_BITS)), high * (HIGH_GAIN / (1 << LIFT_BITS))
        for step in reversed(range(len(LIFT_STEPS))):
            factor = LIFT_STEPS[step] / (1 << LIFT_BITS)
            if step % 2 == 0:
                odd = odd - factor * _even_pairs(even, odd.shape[dim], dim)
            else:
                even = even - factor * _odd_pairs(odd, even.shape[dim], dim)
        shape = list(even.shape)
        shape[dim] += odd.shape[dim]
        signal = even.new_empty(shape)
        index = [slice(None)] * even.ndim
        index[dim] = slice(0, None, 2)
        signal[tuple(index)] = even
        index[dim] = slice(1, None, 2)
        signal[tuple(index)] = odd
        return signal

    def forward(self, x: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        n, c, height, width = x.shape
        left, right = self._split(x, 3)
        (ll, lh), (hl, hh) = self._split(left, 2), self._split(right, 2)
        h, w = ll.shape[2:]
        if height % 2 == 0 and width % 2 == 0:
            detail = torch.stack([hl, lh, hh], dim=2)
        else:
            detail = x.new_zeros(n, c, 3, h, w)
            for band, values in enumerate((hl, lh, hh)):
                detail[:, :, band, : values.shape[2], : values.shape[3]] = values
        return (ll, detail.reshape(n, 3 * c, h, w)), x.new_full((n,), c * self.log_det(height, width))

    @staticmethod
    def log_det(height: int, width: int) -> float:
        """log|det| in nats of one plane of the given size."""

        def along(count: int) -> float:
            if count == 1:
                return 0.0
            unit = 1 << LIFT_BITS
            return (count + 1) // 2 * math.log(unit / LOW_GAIN) + count // 2 * math.log(unit / HIGH_GAIN)

        return height * along(width) + width * along(height)

    def inverse(self, y: tuple[Tensor, Tensor], size: tuple[int, int] | None = None) -> Tensor:
        ll, detail = y
        n, c, h, w = ll.shape
        height, width = size or (2 * h, 2 * w)
        bands = detail.reshape(n, c, 3, h, w)
        hl, lh, hh = (bands[:, :, i, :bh, :bw] for i, (bh, bw) in enumerate(band_shapes(height, width)))
        return self._merge(self._merge(ll, lh, 2), self._merge(hl, hh, 2), 3)
