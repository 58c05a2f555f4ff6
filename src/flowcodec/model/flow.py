"""The multi-scale flow: image <-> latent pyramid, any size from 1x1."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowcodec.model.bijections import Bijection, ColorRotation, Lifting
from flowcodec.model.coupling import AdditiveCoupling, Pair
from flowcodec.model.networks import Arithmetic
from flowcodec.runtime.context import DETAIL_CHANNELS, LEVEL_GROUPS, condition_values, level_group
from flowcodec.runtime.flow import band_shapes, level_shapes
from flowcodec.runtime.integer import FRACTION_BITS
from flowcodec.runtime.step import log2_step


def steps_of(step_index: Tensor) -> Tensor:
    """Grid indices (N,) -> Delta (N, 1, 1, 1) in pixel units."""
    return torch.exp2(log2_step(step_index.float())).view(-1, 1, 1, 1)


def condition_planes(step_index: Tensor, level: int, height: int, width: int) -> Tensor:
    """(N,) -> (N, 2, H, W): the constant planes of step and level, on the decoder's grid."""
    step, at_level = condition_values(step_index.float(), level)
    planes = torch.stack([step, torch.full_like(step, at_level)], 1) / (1 << FRACTION_BITS)
    return planes.view(-1, 2, 1, 1).expand(-1, -1, height, width)


def detail_mask(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """(9, ceil(H/2), ceil(W/2)): 1 where a coefficient of planes of size (H, W) exists."""
    mask = torch.zeros(3, (height + 1) // 2, (width + 1) // 2, device=device)
    for band, (h, w) in enumerate(band_shapes(height, width)):
        mask[band, :h, :w] = 1
    return mask.repeat(DETAIL_CHANNELS // 3, 1, 1)


def pad_even(x: Tensor) -> Tensor:
    """Zeros below and to the right, up to an even size."""
    return F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2))


class MultiscaleFlow(Bijection):
    """z = (ll, details coarse to fine) of RGB images; per level lifting, then a coupling conditioned on Delta.

    Shapes: x (N, 3, H, W); z = [ll (N, 3, 1, 1), detail_L, ..., detail_1 (N, 9, ceil(H/2), ceil(W/2))]; step_index (N,);
    logdet (N,) in nats, constant for a given size.
    """

    def __init__(self, coupling_width: int, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.color, self.lifting = ColorRotation(), Lifting()
        self.couplings = nn.ModuleList(AdditiveCoupling(coupling_width, arithmetic) for _ in range(LEVEL_GROUPS))

    def forward(self, x: Tensor, step_index: Tensor) -> tuple[list[Tensor], Tensor]:
        ll, logdet = self.color(x)
        details = []
        for pair, change in self.levels(ll, step_index):
            ll, detail = pair
            logdet = logdet + change
            details.append(detail)
        return [ll, *reversed(details)], logdet

    def levels(self, planes: Tensor, step_index: Tensor) -> Iterator[tuple[Pair, Tensor]]:
        """((ll, detail), change of logdet) of each level of planes (N, 3, H, W), fine to coarse."""
        for level, (height, width) in enumerate(level_shapes(*planes.shape[2:])[:-1], start=1):
            (planes, detail), change = self.lifting(planes)
            planes, detail = self.coupling(level, "forward", planes, detail, step_index, height, width)
            yield (planes, detail), change

    def inverse(self, z: list[Tensor], step_index: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        ll = z[0]
        shapes = level_shapes(*(size or self._default_size(z)))
        for level, detail in zip(range(len(shapes) - 1, 0, -1), z[1:], strict=True):
            ll = self.inverse_level(level, ll, detail, step_index, shapes[level - 1])
        return self.color.inverse(ll)

    def inverse_level(self, level: int, ll: Tensor, detail: Tensor, step_index: Tensor, size: tuple[int, int]) -> Tensor:
        """(ll, detail) of a level -> planes (N, 3, *size) of the next finer one."""
        ll, detail = self.coupling(level, "inverse", ll, detail, step_index, *size)
        return self.lifting.inverse((ll, detail), size)

    def coupling(self, level: int, way: str, ll: Tensor, detail: Tensor, step_index: Tensor, height: int, width: int) -> Pair:
        module: AdditiveCoupling = self.couplings[level_group(level)]  # type: ignore[assignment]
        h, w = ll.shape[2:]
        arguments = (
            (ll, detail),
            steps_of(step_index),
            condition_planes(step_index, level, h, w),
            detail_mask(height, width, ll.device),
        )
        return module(*arguments)[0] if way == "forward" else module.inverse(*arguments)

    @staticmethod
    def _default_size(z: list[Tensor]) -> tuple[int, int]:
        if len(z) == 1:
            return 1, 1
        return 2 * z[-1].shape[2], 2 * z[-1].shape[3]

    @staticmethod
    def log_det(height: int, width: int) -> float:
        """The constant log|det| in nats of an RGB image of the given size."""
        return 3 * math.fsum(Lifting.log_det(h, w) for h, w in level_shapes(height, width)[:-1])
