"""A VQ-VAE codec: residual vector quantisation of an autoencoder's latent, and a prior over the indices that codes them.

    y = e(x);  index_s = argmin_k |y - sum of the codes chosen so far - code_sk|;  x_hat = d(sum of the chosen codes)
    loss = mean squared error + 1/4 |y - sg(y_hat)|^2 + cross-entropy of the prior, whose gradients do not reach the codec

Codebooks follow the means of what falls to them; codes that nothing falls to are moved onto latents of the batch. The prior is
one network for all steps of a fixed order: four sub-grids of sites, and on each the stages; it sees what is decoded already.
References: van den Oord et al., Neural discrete representation learning, NeurIPS 2017 (appendix A.1: moving
averages); Zeghidour et al., SoundStream, 2021 (stages, dead codes).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from flowcodec.benchmark.rivals.entropy import SymbolReader, SymbolWriter, normalised
from flowcodec.benchmark.rivals.padding import from_unit, padded, to_unit
from flowcodec.errors import InputError

GRIDS = ((0, 0), (1, 1), (0, 1), (1, 0))
"""Rows and columns modulo 2, in the order of coding."""
COMMITMENT = 0.25
_DECAY = 0.97
_DEAD = 0.05
"""A code whose moving count is below this share of the mean one is moved."""
_HEADER = struct.Struct("<HH")


@dataclass(frozen=True)
class VqConfig:
    width: int = 64
    halvings: int = 2
    """The latent has 1 / 2^halvings of the image's rows and columns."""
    stages: int = 1
    codes: int = 256
    dimension: int = 16

    def __post_init__(self) -> None:
        if min(self.width, self.halvings, self.stages, self.dimension) < 1 or self.codes < 2:
            raise InputError("vq: expected positive sizes and at least 2 codes")


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class VectorQuantisedCodec(nn.Module):
    codebooks: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, config: VqConfig) -> None:
        super().__init__()
        self.config = config
        w, d = config.width, config.dimension
        down: list[nn.Module] = [nn.Conv2d(3, w, 4, 2, 1)]
        up: list[nn.Module] = [nn.ReLU(), nn.ConvTranspose2d(w, 3, 4, 2, 1)]
        for _ in range(config.halvings - 1):
            down += [nn.ReLU(), nn.Conv2d(w, w, 4, 2, 1)]
            up = [nn.ReLU(), nn.ConvTranspose2d(w, w, 4, 2, 1), *up]
        self.encoder = nn.Sequential(*down, _Residual(w), _Residual(w), nn.ReLU(), nn.Conv2d(w, d, 1))
        self.decoder = nn.Sequential(nn.Conv2d(d, w, 3, padding=1), _Residual(w), _Residual(w), *up)
        first = nn.Conv2d(config.stages * (d + 1), w, 5, padding=2)
        self.prior = nn.Sequential(first, _Residual(w), _Residual(w), nn.ReLU())
        self.heads = nn.ModuleList(nn.Conv2d(w, config.codes, 1) for _ in range(config.stages))
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("codebooks", torch.randn(config.stages, config.codes, d, generator=generator))
        self.register_buffer("counts", torch.ones(config.stages, config.codes))
        self.register_buffer("sums", self.codebooks.clone())

    # --- the codec --------------------------------------------------------------------------------------------------------

    def quantise(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """(N, d, H, W) -> (indices (N, S, H, W), chosen codes (N, S, d, H, W)); in training the codebooks follow."""
        rest = latent.detach().movedim(1, -1)
        indices, chosen = [], []
        for stage in range(self.config.stages):
            flat = rest.reshape(-1, self.config.dimension)
            book = self.codebooks[stage]
            index = (book.square().sum(1) - 2 * flat @ book.T).argmin(1)
            codes = book[index].view(rest.shape)
            if self.training:
                self._follow(stage, flat, index)
            indices.append(index.view(rest.shape[:-1]))
            chosen.append(codes.movedim(-1, 1))
            rest = rest - codes
        return torch.stack(indices, 1), torch.stack(chosen, 1)

    @torch.no_grad()
    def _follow(self, stage: int, flat: Tensor, index: Tensor) -> None:
        counts = torch.bincount(index, minlength=self.config.codes).float()
        sums = torch.zeros_like(self.sums[stage]).index_add_(0, index, flat)
        self.counts[stage].lerp_(counts, 1 - _DECAY)
        self.sums[stage].lerp_(sums, 1 - _DECAY)
        dead = self.counts[stage] < _DEAD * len(flat) / self.config.codes
        if dead.any():
            drawn = flat[torch.randint(len(flat), (int(dead.sum()),))]
            self.counts[stage, dead] = len(flat) / self.config.codes
            self.sums[stage, dead] = drawn * len(flat) / self.config.codes
        self.codebooks[stage] = self.sums[stage] / self.counts[stage][:, None]

    def loss(self, images: Tensor) -> Tensor:
        x = to_unit(images)
        latent = self.encoder(x)
        indices, chosen = self.quantise(latent)
        quantised = chosen.sum(1)
        decoded = self.decoder(latent + (quantised - latent).detach())
        steps = list(self._order(*indices.shape[2:]))
        # One step of the order a batch: over training the prior sees them all alike.
        stage, where, known = steps[int(torch.randint(len(steps), ()))]
        entropy = nn.functional.cross_entropy(self._logits(chosen, known, stage, where), indices[:, stage, where])
        return 10 * (decoded - x).square().mean() + COMMITMENT * (latent - quantised).square().mean() + entropy

    # --- the prior --------------------------------------------------------------------------------------------------------

    def _order(self, height: int, width: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(stage, sites (H, W) to code, what is known then (S, H, W)) of each step."""
        known = torch.zeros(self.config.stages, height, width, dtype=torch.bool)
        for row, column in GRIDS:
            where = torch.zeros(height, width, dtype=torch.bool)
            where[row::2, column::2] = True
            for stage in range(self.config.stages):
                yield stage, where, known.clone()
                known[stage] |= where

    def _logits(self, chosen: Tensor, known: Tensor, stage: int, where: Tensor) -> Tensor:
        """(N, K, n) for the n sites of a step, from the codes that are known."""
        mask = known[None, :, None].float()
        seen = torch.cat([chosen.detach() * mask, mask.expand(len(chosen), -1, -1, -1, -1)], 2)
        return self.heads[stage](self.prior(seen.flatten(1, 2)))[:, :, where]

    @torch.no_grad()
    def evaluate(self, images: Tensor) -> tuple[float, float]:
        """(squared error, estimated bits) per pixel."""
        self.eval()
        indices, chosen = self.quantise(self.encoder(to_unit(images)))
        error = (from_unit(self.decoder(chosen.sum(1))) - images).square().sum()
        nats = sum(
            nn.functional.cross_entropy(self._logits(chosen, known, stage, where), indices[:, stage, where], reduction="sum")
            for stage, where, known in self._order(*indices.shape[2:])
        )
        pixels = images[:, 0].numel()
        return float(error) / pixels, float(nats) / np.log(2) / pixels

    # --- files ------------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, pixels: np.ndarray) -> bytes:
        """uint8 (H, W, 3) -> bytes"""
        self.eval()
        indices, chosen = self.quantise(self.encoder(to_unit(padded(pixels, 1 << self.config.halvings))))
        writer = SymbolWriter()
        for stage, where, known in self._order(*indices.shape[2:]):
            writer.categorical(indices[0, stage, where].numpy(), self._probabilities(chosen, known, stage, where))
        return _HEADER.pack(*pixels.shape[:2]) + writer.to_bytes()

    @torch.no_grad()
    def decode(self, data: bytes) -> np.ndarray:
        """bytes -> uint8 (H, W, 3)"""
        self.eval()
        height, width = _HEADER.unpack_from(data)
        reader = SymbolReader(data[_HEADER.size :])
        stride = 1 << self.config.halvings
        rows, columns = -(-height // stride), -(-width // stride)
        chosen = torch.zeros(1, self.config.stages, self.config.dimension, rows, columns)
        for stage, where, known in self._order(rows, columns):
            index = reader.categorical(self._probabilities(chosen, known, stage, where))
            chosen[0, stage, :, where] = self.codebooks[stage][torch.from_numpy(index).long()].T
        image = from_unit(self.decoder(chosen.sum(1)))
        return image[0, :, :height, :width].round().clamp(0, 255).byte().permute(1, 2, 0).numpy()

    def _probabilities(self, chosen: Tensor, known: Tensor, stage: int, where: Tensor) -> np.ndarray:
        return normalised(self._logits(chosen, known, stage, where)[0].softmax(0).T.numpy())
