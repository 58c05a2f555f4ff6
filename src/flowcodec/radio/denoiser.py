"""The learned receiver of the analog mode: a network that knows how noisy every coefficient was.

Input: the planes of the linear estimates, and maps of the expected error of the latent, by level and kind. Output: a correction
of the planes. One network for all CSNRs; in training CSNR, design and the number of coefficients that find room are random.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowcodec.errors import InputError
from flowcodec.model import checkpoint
from flowcodec.model.codec import FlowCodecModel
from flowcodec.radio import linear, profiles
from flowcodec.radio.link import noise_power
from flowcodec.radio.profiles import Latent, Profiles
from flowcodec.runtime.context import LUMA_BANDS
from flowcodec.runtime.integer import FRACTION_BITS
from flowcodec.runtime.step import step_index

MAPS = 7
_UNIT, _PLANE_SCALE = 1 << FRACTION_BITS, 64.0


class Denoiser(nn.Module):
    """planes + 64 net(planes / 64, maps), on 2x2-unshuffled pixels; the last layer starts at zero.

    Shapes: planes (N, 3, H, W) less their mean, maps (N, 7, H/2, W/2); H and W even.
    """

    def __init__(self, width: int = 40, blocks: int = 4) -> None:
        super().__init__()
        self.width, self.blocks = width, blocks
        self.enter = nn.Conv2d(12 + MAPS, width, 3, padding=1)
        self.body = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
            for _ in range(blocks)
        )
        self.leave = nn.Conv2d(width, 12, 3, padding=1)
        with torch.no_grad():
            for parameter in self.leave.parameters():
                parameter.zero_()

    def forward(self, planes: Tensor, maps: Tensor) -> Tensor:
        x = F.relu(self.enter(torch.cat([F.pixel_unshuffle(planes / _PLANE_SCALE, 2), maps], 1)))
        for block in self.body:
            x = x + block(x)
        # Corrections in units of the largest expected error keep their size over all CSNRs.
        return planes + F.pixel_shuffle(self.leave(x), 2) * F.interpolate(torch.exp2(4 * maps[:, :1]), scale_factor=2)

    @torch.no_grad()
    def planes(self, planes: np.ndarray, errors: Latent) -> np.ndarray:
        """int (3, H, W) in 1/64 pixel units and the variances of the latent's errors -> int (3, H, W), better ones."""
        height, width = planes.shape[1:]
        pad = (0, width % 2, 0, height % 2)
        values = F.pad(torch.from_numpy(planes[None].astype(np.float32)) / _UNIT, pad, mode="replicate")
        mean = values.mean((2, 3), keepdim=True)
        maps = torch.from_numpy(error_maps(errors)[None])
        found = self(values - mean, maps) + mean
        return np.rint(found[0, :, :height, :width].numpy() * _UNIT).astype(np.int64)


def error_maps(errors: Latent) -> np.ndarray:
    """float32 (7, h, w) on the grid of level 1: log2 of deviations, over 4: worst of luma, its bands, levels 2 and 3, chroma."""
    finest = errors[-1]
    rows, columns = finest.shape[1:]

    def spread(level: int, bands: slice) -> np.ndarray:
        if level >= len(errors):
            return np.zeros((rows, columns))
        values = errors[len(errors) - level][bands].mean(0)
        factor = 1 << (level - 1)
        return np.repeat(np.repeat(values, factor, 0), factor, 1)[:rows, :columns]

    luma, chroma = slice(0, LUMA_BANDS), slice(LUMA_BANDS, None)
    second, third = spread(2, luma), spread(3, luma)
    parts = [np.maximum(finest[luma].mean(0), second), *finest[luma], second, third, spread(1, chroma)]
    return (0.125 * np.log2(np.stack(parts) + 0.25)).astype(np.float32)


# --- training ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DenoiserConfig:
    """Raises InputError."""

    steps: int = 600
    batch: int = 8
    crop: int = 96
    peak_rate: float = 2e-3
    csnr_db: tuple[float, float] = (-1.0, 22.0)
    """Of the link, uniform; half of the pictures are designed for it, half for another of the same range."""
    room: tuple[float, float] = (0.2, 0.6)
    """Real dimensions over samples, log-uniform: 2/3 of the CBR times what busy and quiet parts of a picture get more or less."""
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch) < 1 or self.crop < 8 or self.crop % 2:
            raise InputError("denoiser: expected positive steps and batch and an even crop of at least 8")


def train(
    pixels: np.ndarray,
    model: FlowCodecModel,
    chosen: Profiles,
    config: DenoiserConfig,
    step: float,
    report: Callable[[int, float], None],
) -> Denoiser:
    """``pixels``: uint8 (n, 3, S, S) with S >= crop; ``model`` gives the flow; ``step`` its Delta. Adam on the squared error."""
    torch.manual_seed(config.seed)
    net = Denoiser()
    optimizer = torch.optim.Adam(net.parameters(), config.peak_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.peak_rate, total_steps=config.steps, pct_start=0.1)
    rng, recent = np.random.default_rng(config.seed), 0.0
    for number in range(config.steps):
        planes, maps, target = batch_of(pixels, model, chosen, config, step, rng)
        mean = planes.mean((2, 3), keepdim=True)
        errors = (net(planes - mean, maps) + mean - target).square().mean((1, 2, 3))
        before = (planes - target).square().mean((1, 2, 3))
        # The logarithm lets all CSNRs weigh alike.
        loss = torch.log(errors + 1.0).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        gain = float(10 * torch.log10(before / errors.detach()).mean())
        recent = gain if number == 0 else 0.95 * recent + 0.05 * gain
        report(number + 1, recent)
    return net.eval()


@torch.no_grad()
def batch_of(
    pixels: np.ndarray, model: FlowCodecModel, chosen: Profiles, config: DenoiserConfig, step: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """(planes of linear estimates, maps, true planes) of random crops over random links: the analog mode without its framing."""
    top, left = rng.integers(0, pixels.shape[2] - config.crop + 1, 2)
    some = pixels[rng.integers(0, len(pixels), config.batch), :, top : top + config.crop, left : left + config.crop]
    image = torch.from_numpy(some.astype(np.float32))
    index = torch.full((config.batch,), step_index(step))
    latents, _ = model.flow(image, index)
    estimates: list[list[np.ndarray]] = [[] for _ in latents]
    maps = []
    for number in range(config.batch):
        latent = [part[number].double().numpy() for part in latents]
        found, errors = _estimate(latent, chosen, config, rng)
        maps.append(error_maps(errors))
        for place, part in enumerate(found):
            estimates[place].append(part.astype(np.float32))
    planes = model.flow.inverse([torch.from_numpy(np.stack(part)) for part in estimates], index, (config.crop, config.crop))
    rotate = model.flow.color
    return rotate(planes)[0], torch.from_numpy(np.stack(maps)), rotate(image)[0]


def _estimate(latent: Latent, chosen: Profiles, config: DenoiserConfig, rng: np.random.Generator) -> tuple[Latent, Latent]:
    """(linear estimates, variances of their errors) of one latent over one random link."""
    csnr_db = rng.uniform(*config.csnr_db)
    design_db = csnr_db if rng.random() < 0.5 else rng.uniform(*config.csnr_db)
    noise, design = noise_power(csnr_db), noise_power(design_db)
    blocks = chosen.choose(latent, design, math.exp(rng.uniform(math.log(1 / 25), math.log(1 / 8))))
    levels = chosen.variance_levels(blocks, config.crop, config.crop)
    flat = np.concatenate([part.reshape(-1) for part in levels])
    dimensions = int(len(flat) * math.exp(rng.uniform(math.log(config.room[0]), math.log(config.room[1]))))
    allocation = linear.allocate(flat, dimensions, design)
    variances = np.where(flat <= profiles.NEVER, 1e-12, np.exp2(np.maximum(flat, -100) / linear.LEVELS_PER_OCTAVE))
    values = np.concatenate([part.reshape(-1) for part in latent])
    noises = np.full(len(flat), np.inf)
    noises[allocation.chosen] = noise / allocation.gains**2
    # The coarsest sample: its mean is told, or sent like the rest; here it is known.
    noises[:3] = 1e-6
    heard = np.isfinite(noises)
    received = np.where(heard, values + np.sqrt(np.where(heard, noises, 0)) * rng.standard_normal(len(values)), 0)
    gain = np.where(heard, variances / (variances + np.where(heard, noises, 1)), 0)
    gain[:3] = 1
    errors = 1 / (1 / variances + 1 / noises)
    ends = np.cumsum([part.size for part in latent])[:-1]
    shapes = [part.shape for part in latent]
    return tuple(  # type: ignore[return-value]
        [part.reshape(shape) for part, shape in zip(np.split(array, ends), shapes, strict=True)]
        for array in (received * gain, errors)
    )


# --- files ---------------------------------------------------------------------------------------------------------------------


def path_of(name: str) -> Path:
    return Path(__file__).with_name(f"denoiser_{name}.safetensors")


def save(path: Path, net: Denoiser, facts: dict[str, object]) -> None:
    """Weights with how they were trained."""
    checkpoint.save(path, dict(net.state_dict()), {"width": net.width, "blocks": net.blocks, **facts})


@cache
def load(name: str) -> Denoiser:
    """Raises MissingModel, ModelError."""
    tensors, header = checkpoint.load(path_of(name))
    net = Denoiser(int(header["width"]), int(header["blocks"]))
    net.load_state_dict(tensors)
    return net.eval()
