"""Noise channels seen in training: z -> (conditional mean of z given what was received, bits).

All values are in units of the band's step. ``density`` is the prior's shape, ``location`` and ``log2_scale`` what it predicts.
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from flowcodec.model.density import ScaleMixture

NOISE_VARIANCE = 1.0 / 12.0
"""Variance of the training noise in squared steps: that of a uniform quantiser's error."""


class Channel(Protocol):
    def __call__(
        self, z: Tensor, location: Tensor, log2_scale: Tensor, density: ScaleMixture, kind: int
    ) -> tuple[Tensor, Tensor]:
        """Returns (reconstruction, bits), both shaped like z."""


class GaussianNoise:
    """z_hat = z + n, n ~ N(0, 1/12); bits = log2 q(z_hat | z) - log2 p(z_hat), the Monte-Carlo KL with analytic entropy.

    The mean over n is KL(q(z|x) || p(z)) in bits: what an ideal simulation of the channel costs, not the size of a file.
    """

    def __init__(self, generator: torch.Generator | None = None, variance: float = NOISE_VARIANCE) -> None:
        self.generator, self.variance = generator, variance
        self.entropy = 0.5 * math.log(2 * math.pi * math.e * variance)

    def __call__(
        self, z: Tensor, location: Tensor, log2_scale: Tensor, density: ScaleMixture, kind: int
    ) -> tuple[Tensor, Tensor]:
        noise = torch.empty_like(z).normal_(generator=self.generator)
        offset = z + noise * self.variance**0.5 - location
        log_prob, shrunk = density.noisy(offset, log2_scale, kind, self.variance)
        return location + shrunk, (-log_prob - self.entropy) / math.log(2)


class Rounding:
    """k = round to the cell centred on the location, with a dead zone; bits = -log2 P(k), an estimate of a file's bits.

    Thresholds are k - 1/2 + min(dead_zone * s^-1.7, 1) for scales s in steps. ``slope`` is the price of a bit over its theory
    value, and dead_zone = 0.085 * slope^2 a fit to the entropy-constrained quantisers that the exporter designs for it.
    Gradients reach the location by the reconstruction, and z straight through. The bits have none with respect to z, so that
    band steps trained with this channel would shrink without end: they are to be frozen.
    """

    def __init__(self, slope: float = 1.0) -> None:
        self.dead_zone = 0.085 * slope**2

    def __call__(
        self, z: Tensor, location: Tensor, log2_scale: Tensor, density: ScaleMixture, kind: int
    ) -> tuple[Tensor, Tensor]:
        threshold = 0.5 + (self.dead_zone * torch.exp2(-1.7 * log2_scale)).clamp(max=1)
        offset = z - location
        magnitude = torch.floor(offset.detach().abs() + 1 - threshold).clamp(min=0)
        low = torch.where(magnitude > 0, magnitude - 1 + threshold, -threshold)
        mass, centroid = density.cell(low, magnitude + threshold, log2_scale, kind)
        sign = torch.sign(offset.detach())
        # Either sign of a nonzero symbol has the mass of its own cell; the zero cell spans both sides.
        reconstruction = sign * torch.where(magnitude > 0, centroid, torch.zeros_like(centroid))
        # With cells that minimise D + lambda R the cost is continuous in the location: its gradient is that of the error alone.
        through = z - z.detach()
        return location + reconstruction + through, -torch.log2(mass.clamp(min=2.0**-24))
