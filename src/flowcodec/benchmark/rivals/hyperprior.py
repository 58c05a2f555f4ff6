"""The mean-scale hyperprior: an autoencoder whose latents are coded under Gaussians that a second, small latent describes.

    y = g_a(x);  z = h_a(y);  mu, sigma = h_s(z_hat);  y_hat = mu + round(y - mu);  x_hat = g_s(y_hat)
    loss = SSE / Delta^2 + (ln 2 / 6) (bits of y_hat + bits of z_hat)   per pixel, FlowCodec's price of a bit at this Delta

Training adds uniform noise to y and z in the place of rounding. Reference: Minnen, Balle, Toderici, Joint autoregressive and
hierarchical priors for learned image compression, NeurIPS 2018, without its autoregressive part.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowcodec.benchmark.rivals.entropy import LogisticMixture, SymbolReader, SymbolWriter
from flowcodec.benchmark.rivals.padding import cut, from_unit, joined, padded, to_unit
from flowcodec.model.objective import BIT_PRICE

STRIDE = 64
LEAST_SCALE = 0.11
"""The paper's lower bound of sigma."""
_HEADER = struct.Struct("<HHHH")


@dataclass(frozen=True)
class HyperpriorConfig:
    width: int = 48
    latent: int = 64
    """Channels of y."""
    step: float = 40.0
    """Delta of the loss, grey levels: which rate the model is for."""
    tile: int = 64
    """Side of the squares that a file codes one by one, in pixels: that of the training's crops. Beyond it the hyperprior has
    neighbours that it has never seen, and whole pictures cost such a model two and a half times the bits."""


class GeneralisedNormalisation(nn.Module):
    """y_i = x_i / sqrt(beta_i + sum_j gamma_ij x_j^2), or times that root; Balle et al. 2016."""

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.root_beta = nn.Parameter(torch.ones(channels))
        self.root_gamma = nn.Parameter((0.1**0.5) * torch.eye(channels) + 1e-3)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.root_gamma.square()[:, :, None, None]
        norm = torch.sqrt(nn.functional.conv2d(x.square(), weight, self.root_beta.square() + 1e-6))
        return x * norm if self.inverse else x / norm


def _down(inputs: int, outputs: int, kernel: int = 5, stride: int = 2) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)


def _up(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 5, 2, 2, output_padding=1)


class MeanScaleHyperprior(nn.Module):
    def __init__(self, config: HyperpriorConfig) -> None:
        super().__init__()
        self.config = config
        n, m = config.width, config.latent
        norm = GeneralisedNormalisation
        self.analysis = nn.Sequential(_down(3, n), norm(n), _down(n, n), norm(n), _down(n, n), norm(n), _down(n, m))
        self.synthesis = nn.Sequential(_up(m, n), norm(n, True), _up(n, n), norm(n, True), _up(n, n), norm(n, True), _up(n, 3))
        relu = nn.ReLU
        self.hyper_analysis = nn.Sequential(_down(m, n, 3, 1), relu(), _down(n, n), relu(), _down(n, n))
        self.hyper_synthesis = nn.Sequential(_up(n, n), relu(), _up(n, n), relu(), _down(n, 2 * m, 3, 1))
        self.hyper_density = LogisticMixture(n)

    def _gaussians(self, hyper: Tensor) -> tuple[Tensor, Tensor]:
        """(mu, sigma), each (N, M, H / 16, W / 16)."""
        mean, raw = self.hyper_synthesis(hyper).chunk(2, 1)
        return mean, nn.functional.softplus(raw) + LEAST_SCALE

    def forward(self, images: Tensor, rounded: bool) -> tuple[Tensor, Tensor]:
        """``images`` (N, 3, H, W) in 0 ... 255, sides multiples of 64 -> (squared error, bits), both (N,)."""
        latent = self.analysis(to_unit(images))
        hyper = self.hyper_analysis(latent)
        hyper_hat = torch.round(hyper) if rounded else hyper + torch.rand_like(hyper) - 0.5
        mean, scale = self._gaussians(hyper_hat)
        offset = latent - mean
        offset = torch.round(offset) if rounded else offset + torch.rand_like(offset) - 0.5
        normal = torch.distributions.Normal(0.0, 1.0)
        magnitude = -offset.abs()
        mass = normal.cdf((magnitude + 0.5) / scale) - normal.cdf((magnitude - 0.5) / scale)
        bits = -torch.log2(mass.clamp(min=2.0**-24)).sum((1, 2, 3)) + self.hyper_density.bits(hyper_hat).sum((1, 2, 3))
        error = (from_unit(self.synthesis(mean + offset)) - images).square().sum((1, 2, 3))
        return error, bits

    def loss(self, images: Tensor) -> Tensor:
        error, bits = self(images, rounded=False)
        return (error / self.config.step**2 + BIT_PRICE * bits).mean() / images[0, 0].numel()

    @torch.no_grad()
    def evaluate(self, images: Tensor) -> tuple[float, float]:
        """(squared error, estimated bits) per pixel, with rounding."""
        error, bits = self(images, rounded=True)
        pixels = images[:, 0].numel()
        return float(error.sum()) / pixels, float(bits.sum()) / pixels

    @torch.no_grad()
    def encode(self, pixels: np.ndarray) -> bytes:
        """uint8 (H, W, 3) -> bytes"""
        latent = self.analysis(to_unit(cut(padded(pixels, self.config.tile), self.config.tile)))
        hyper = torch.round(self.hyper_analysis(latent))
        mean, scale = self._gaussians(hyper)
        symbols, hyper_symbols = _flat(torch.round(latent - mean)), _flat(hyper)
        reach, hyper_reach = (max(int(np.abs(values).max()), 1) for values in (symbols, hyper_symbols))
        writer = SymbolWriter()
        writer.categorical(hyper_symbols + hyper_reach, self._hyper_table(hyper.shape, hyper_reach))
        writer.gaussian(symbols, scale.flatten().numpy(), reach)
        return _HEADER.pack(*pixels.shape[:2], reach, hyper_reach) + writer.to_bytes()

    @torch.no_grad()
    def decode(self, data: bytes) -> np.ndarray:
        """bytes -> uint8 (H, W, 3)"""
        height, width, reach, hyper_reach = _HEADER.unpack_from(data)
        reader = SymbolReader(data[_HEADER.size :])
        tile = self.config.tile
        rows, columns = -(-height // tile), -(-width // tile)
        shape = rows * columns, self.config.width, tile // STRIDE, tile // STRIDE
        hyper = torch.from_numpy(reader.categorical(self._hyper_table(shape, hyper_reach)) - hyper_reach).float().view(shape)
        mean, scale = self._gaussians(hyper)
        symbols = torch.from_numpy(reader.gaussian(scale.flatten().numpy(), reach)).float()
        image = joined(from_unit(self.synthesis(mean + symbols.view(mean.shape))), rows * tile, columns * tile)
        return image[0, :, :height, :width].round().clamp(0, 255).byte().permute(1, 2, 0).numpy()

    def _hyper_table(self, shape: Any, reach: int) -> np.ndarray:
        """(N * C * H * W, 2 * reach + 1): the table of its channel for each symbol."""
        table = self.hyper_density.table(-reach, reach).repeat(shape[2] * shape[3], axis=0)
        return np.tile(table, (shape[0], 1))


def _flat(values: Tensor) -> np.ndarray:
    return values.flatten().numpy().astype(np.int64)
