"""Per model, in expectation: R* = E_x KL(q(z|x) || p(z)) >= I(X;Z) for any normalised prior p, evaluated by Monte Carlo.

q(z|x) is the Gaussian channel of training, N(f(x), sigma^2 I) with sigma^2 = 1/12 squared steps, and p the flow prior, whose
density is a product of one-dimensional ones given what is coarser or earlier: each coefficient has u = Phi^-1(F(z_i | before)),
and under p all u are independent N(0, 1). The coarsest sample of each plane is sent by a fixed code of known length, counted too.
``kl_bits`` is what an ideal simulation of the channel would need and not the size of any file.
Reference: Barber & Agakov, The IM algorithm, 2003; Alemi et al., Fixing a broken ELBO, 2018, sec. 3.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowcodec.errors import InputError
from flowcodec.model.channel import NOISE_VARIANCE
from flowcodec.model.codec import FlowCodecModel
from flowcodec.model.density import ScaleMixture
from flowcodec.model.flow import steps_of
from flowcodec.runtime.context import STAGES

BLOCK = 36
"""Coefficients of a block: nine bands at 2x2 sites of one level."""
RECORDED_LEVELS = (1, 2)
RAW_BPP = 24.0
"""What an image costs that is sent as it is."""
LEAST_NATS = -10.0
"""Where sampled log-ratios of an image may be clipped from below at next to no cost, see ``floored_bpp``."""
_FLAG_BITS = 1 + 1 / (math.e * math.log(2))
_BATCH_PIXELS = 1 << 18
_U_LIMIT = 8.0


class RecordedNoise:
    """The training channel z_hat = z + n, n ~ N(0, 1/12), which also keeps u = Phi^-1(F(z_hat)) of every call."""

    def __init__(self, generator: torch.Generator, sampled: bool = False) -> None:
        self.generator, self.sampled = generator, sampled
        self.entropy = 0.5 * math.log(2 * math.pi * math.e * NOISE_VARIANCE)
        self.uniformised: list[Tensor] = []

    def __call__(
        self, z: Tensor, location: Tensor, log2_scale: Tensor, density: ScaleMixture, kind: int
    ) -> tuple[Tensor, Tensor]:
        noise = torch.empty_like(z).normal_(generator=self.generator)
        offset = z + noise * NOISE_VARIANCE**0.5 - location
        log_prob, shrunk = density.noisy(offset, log2_scale, kind, NOISE_VARIANCE)
        self.uniformised.append(self._gaussianised(offset, log2_scale, density, kind))
        nats = -log_prob - self.entropy
        if self.sampled:
            nats = nats + (1 - noise.square()) / 2
        return location + shrunk, nats / math.log(2)

    @staticmethod
    def _gaussianised(offset: Tensor, log2_scale: Tensor, density: ScaleMixture, kind: int) -> Tensor:
        log_weights, deviations = density.components(log2_scale.double(), kind)
        tail = torch.special.ndtr(-offset.double().abs() / (deviations.square() + NOISE_VARIANCE).sqrt())
        u = torch.special.ndtri((log_weights.exp() * tail).sum(0)).clamp(min=-_U_LIMIT)
        return (-torch.sign(offset) * u).float()

    def blocks(self, level_count: int, level: int) -> np.ndarray:
        """(N, sites, 36) of a level: what the stages saw at the 2x2 sites of each block."""
        begin = (level_count - level) * len(STAGES)
        stages = torch.cat(self.uniformised[begin : begin + len(STAGES)], 1)
        return stages.flatten(2).transpose(1, 2).numpy()


@dataclass(frozen=True)
class ModelRates:
    """What a model's Gaussian channel does to n crops of one size; rates in bits per pixel."""

    kl_bpp: np.ndarray
    """(n,) ln q(z|x) - ln p(z) at a sample z, its mean over the noise the KL; the code of the coarsest sample included."""
    psnr_db: np.ndarray
    """(n,) of the restored picture of conditional means."""
    blocks: dict[int, np.ndarray]
    """level -> (n, sites, 36), N(0, 1) each under the prior."""
    pixels: int

    @property
    def capped_bpp(self) -> np.ndarray:
        """(n,) costs in [0, RAW_BPP + flag], whose mean is at least I(X;Z) per pixel.

        An image whose density ln q/p at z exceeds RAW_BPP is sent raw, and z drawn by the receiver, which leaves the law of
        (x, z) as it is. With B telling which, I(X;Z) <= H(B) + I(X;Z|B): at most 1 bit for B, 1/e nat for conditioning q on B,
        and H(X) <= 24 bits a pixel where B is set. Raising negative values to zero only adds.
        """
        cost = np.where(self.kl_bpp > RAW_BPP, RAW_BPP, np.maximum(self.kl_bpp, 0.0))
        return cost + _FLAG_BITS / self.pixels

    @property
    def cap_bpp(self) -> float:
        return RAW_BPP + _FLAG_BITS / self.pixels


def floored_bpp(sampled_bpp: np.ndarray, cap_bpp: float, pixels: int) -> tuple[np.ndarray, float, float]:
    """(values, low, high): values in [low, high] whose mean is at most the KL, from sampled log-ratios T = ln q(z|x) / p(z).

    With L = -LEAST_NATS, raising T to -L where it is below adds E_q (-L - T)+ <= E_q exp(-L - T - 1) = e^(-L - 1) nats at most,
    since t+ <= e^(t - 1) and E_q[p / q] <= 1; as much is taken off all values. Lowering T to the cap only lowers the mean.
    """
    unit = math.log(2) * pixels
    excess = math.exp(LEAST_NATS - 1) / unit
    low, high = LEAST_NATS / unit - excess, cap_bpp
    return np.clip(sampled_bpp - excess, low, high), low, high


def coarsest_bits(values: np.ndarray) -> np.ndarray:
    """Bits of the fixed code (docs/format.md, 6.4) of integers (n, 3)."""
    numbers = np.where(values < 0, -2 * values - 1, 2 * values) + 1
    return (5 + np.floor(np.log2(numbers))).sum(1)


@torch.no_grad()
def model_rates(model: FlowCodecModel, crops: np.ndarray, step_index: int, seed: int, sampled: bool = False) -> ModelRates:
    """Passes crops uint8 (n, 3, S, S), S a power of two from 8 on, through the model once, with one draw of the noise each.

    ln q(z|x) enters by its mean, which is known; with ``sampled`` by its value at z, for ``floored_bpp``.
    """
    n, _, side, width = crops.shape
    if side != width or side < 8 or side & (side - 1):
        raise InputError(f"side of the crops: expected a power of two from 8 on, found {side}x{width}")
    generator, levels = torch.Generator().manual_seed(seed), side.bit_length() - 1
    kl, psnr = [], []
    blocks: dict[int, list[np.ndarray]] = {level: [] for level in RECORDED_LEVELS}
    for part in np.array_split(crops, math.ceil(n * side * side / _BATCH_PIXELS)):
        image, indices = torch.from_numpy(part).float(), torch.full((len(part),), step_index)
        channel = RecordedNoise(generator, sampled)
        result = model(image, indices, channel)
        coarsest = model.flow(image, indices)[0][0] / steps_of(indices)
        kl.append(result.bits.numpy() + coarsest_bits(coarsest.round().flatten(1).numpy()))
        error = (result.reconstruction.clamp(0, 255).round() - image).square().mean((1, 2, 3))
        psnr.append((10 * torch.log10(255**2 / error.clamp(min=1e-9))).numpy())
        for level, found in blocks.items():
            found.append(channel.blocks(levels, level))
    pixels = side * side
    return ModelRates(
        np.concatenate(kl) / pixels, np.concatenate(psnr), {level: np.concatenate(b) for level, b in blocks.items()}, pixels
    )
