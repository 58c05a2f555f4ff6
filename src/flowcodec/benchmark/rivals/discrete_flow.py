"""Integer discrete flow: a lossless codec whose transform is a bijection of the integers.

    z = f(x), f of squeezes, channel permutations and couplings  b <- b + round(t(a));   bits = -log2 p(z)

At each level half of the channels leave, coded under discretised logistics that a network predicts from those that stay; the last
ones are coded under a learned mixture for each channel. Rounding has the gradient of the identity.
Reference: Hoogeboom, Peters, van den Berg, Welling, Integer discrete flows and lossless compression, NeurIPS 2019.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from flowcodec.benchmark.rivals.entropy import LogisticMixture, SymbolReader, SymbolWriter, logistic_mass, normalised
from flowcodec.errors import InputError

LOW, HIGH = -512, 767
"""Range of integers that files can hold; latents of 8-bit pictures lie near 0 ... 255."""
_UNIT = 256.0
_STEP_ROWS = 2048
_HEADER = struct.Struct("<HH")


@dataclass(frozen=True)
class DiscreteFlowConfig:
    width: int = 64
    levels: int = 3
    couplings: int = 4
    """Of each level."""


def _network(inputs: int, width: int, outputs: int) -> nn.Sequential:
    last = nn.Conv2d(width, outputs, 3, padding=1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    return nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), last,
    )  # fmt: skip


class IntegerCoupling(nn.Module):
    """Channels in a fixed random order, then the last quarter (at least one) gets round(t(the others))."""

    order: Tensor

    def __init__(self, channels: int, width: int, seed: int) -> None:
        super().__init__()
        self.kept = channels - max(channels // 4, 1)
        self.register_buffer("order", torch.randperm(channels, generator=torch.Generator().manual_seed(seed)))
        self.translation = _network(self.kept, width, channels - self.kept)

    def _shift(self, kept: Tensor) -> Tensor:
        exact = _UNIT * self.translation(kept / _UNIT - 0.5)
        return exact + (torch.round(exact) - exact).detach()

    def forward(self, x: Tensor) -> Tensor:
        kept, moved = x[:, self.order].tensor_split([self.kept], 1)
        return torch.cat([kept, moved + self._shift(kept)], 1)

    def inverse(self, y: Tensor) -> Tensor:
        kept, moved = y.tensor_split([self.kept], 1)
        return torch.cat([kept, moved - self._shift(kept)], 1)[:, torch.argsort(self.order)]


class IntegerDiscreteFlow(nn.Module):
    def __init__(self, config: DiscreteFlowConfig) -> None:
        super().__init__()
        self.config = config
        self.levels, self.priors = nn.ModuleList(), nn.ModuleList()
        channels = 3
        for level in range(config.levels):
            channels *= 4
            seeds = range(100 * level, 100 * level + config.couplings)
            self.levels.append(nn.Sequential(*(IntegerCoupling(channels, config.width, seed) for seed in seeds)))
            if level < config.levels - 1:
                channels //= 2
                self.priors.append(_network(channels, config.width, 2 * channels))
        self.base = LogisticMixture(channels, components=5, spread=64.0)

    @property
    def stride(self) -> int:
        return 1 << self.config.levels

    def forward(self, x: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """(N, 3, H, W) of integers -> what remains at last, and (what leaves, what stays) at each level before, finest first."""
        halves = []
        for level, couplings in enumerate(self.levels):
            x = couplings(nn.functional.pixel_unshuffle(x, 2))
            if level < len(self.priors):
                x, gone = x.chunk(2, 1)
                halves.append((gone, x))
        return x, halves

    def inverse_level(self, level: int, x: Tensor) -> Tensor:
        """All channels of a level, after its couplings -> the picture that it was made of."""
        for coupling in reversed(list(self.levels[level].children())):
            x = coupling.inverse(x)  # type: ignore[operator]
        return nn.functional.pixel_shuffle(x, 2)

    def _logistics(self, level: int, stays: Tensor) -> tuple[Tensor, Tensor]:
        """(location, log scale) of what leaves at a level, from what stays."""
        location, raw = self.priors[level](stays / _UNIT - 0.5).chunk(2, 1)
        # At the start: about the same channel of what stays, a few grey levels wide.
        return stays + _UNIT * location, (raw + 2.0).clamp(-3.0, 6.0)

    def bits(self, images: Tensor) -> Tensor:
        """-log2 p of images (N, 3, H, W) of integers, in floats; (N,)."""
        last, halves = self(images)
        total = self.base.bits(last).sum((1, 2, 3))
        for level, (gone, stays) in enumerate(halves):
            mass = logistic_mass(gone, *self._logistics(level, stays))
            total = total - torch.log2(mass.clamp(min=2.0**-24)).sum((1, 2, 3))
        return total

    def loss(self, images: Tensor) -> Tensor:
        """Bits per subpixel."""
        return self.bits(images).mean() / images[0].numel()

    @torch.no_grad()
    def evaluate(self, images: Tensor) -> tuple[float, float]:
        """(0, estimated bits per pixel): nothing is lost."""
        return 0.0, 3 * float(self.loss(images))

    @torch.no_grad()
    def encode(self, pixels: np.ndarray) -> bytes:
        """uint8 (H, W, 3), sides multiples of 2^levels -> bytes. Raises InputError."""
        height, width = pixels.shape[:2]
        if height % self.stride or width % self.stride:
            raise InputError(f"integer discrete flow: expected sides that are multiples of {self.stride}, found {width}x{height}")
        last, halves = self(torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].float())
        writer = SymbolWriter()
        writer.categorical(_symbols(last), self._base_table(last.shape[2] * last.shape[3]))
        for level, (gone, stays) in reversed(list(enumerate(halves))):
            symbols = _symbols(gone)
            for part, table in _tables(*self._logistics(level, stays)):
                writer.categorical(symbols[part], table)
        return _HEADER.pack(height, width) + writer.to_bytes()

    @torch.no_grad()
    def decode(self, data: bytes) -> np.ndarray:
        """bytes -> uint8 (H, W, 3), the very pixels"""
        height, width = _HEADER.unpack_from(data)
        reader = SymbolReader(data[_HEADER.size :])
        rows, columns = height // self.stride, width // self.stride
        x = _values(reader.categorical(self._base_table(rows * columns)), (1, -1, rows, columns))
        for level in reversed(range(len(self.levels))):
            if level < len(self.priors):
                location, log_scale = self._logistics(level, x)
                symbols = [reader.categorical(table) for _, table in _tables(location, log_scale)]
                x = torch.cat([x, _values(np.concatenate(symbols), location.shape)], 1)
            x = self.inverse_level(level, x)
        return x[0].byte().permute(1, 2, 0).numpy()

    def _base_table(self, sites: int) -> np.ndarray:
        return self.base.table(LOW, HIGH).repeat(sites, axis=0)


def _tables(location: Tensor, log_scale: Tensor) -> Iterator[tuple[slice, np.ndarray]]:
    """(rows, probabilities of LOW ... HIGH) piece by piece: all at once would be large."""
    integers = torch.arange(LOW, HIGH + 1).float()[None]
    flat, scales = location.reshape(-1, 1), log_scale.reshape(-1, 1)
    for start in range(0, len(flat), _STEP_ROWS):
        part = slice(start, start + _STEP_ROWS)
        yield part, normalised(logistic_mass(integers, flat[part], scales[part]).numpy())


def _symbols(values: Tensor) -> np.ndarray:
    return values.flatten().numpy().astype(np.int64) - LOW


def _values(symbols: np.ndarray, shape: Sequence[int]) -> Tensor:
    return torch.from_numpy(symbols + LOW).float().view(*shape)
