"""The last step of the analog mode's receiver: a network that removes what is left of the link's noise.

    x^ = x_lin + d(x_lin, x_lin - x_b, v)

x_lin is the picture of the file's latent plus the linear MMSE estimates of its quantisation errors, x_b the picture of the file
alone, v the variances of what is left of the errors by the model, as maps. The receiver has them all: v follows from the
variances of the errors, which both sides know, and from the CSNR. So one network serves all CSNRs, designs and uses. It is a
U-Net on 2x2 blocks of pixels, trained for squared error over simulated receptions of random CSNR (benchmarks/radio_denoiser.py);
its last layer starts at zero, that is, at the linear receiver.

Reference: Ronneberger, Fischer & Brox, U-Net, 2015, with sums in the place of concatenations.
"""

import json
from functools import cache
from itertools import pairwise, product
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowcodec.errors import InputError
from flowcodec.radio.picture import Quantised
from flowcodec.runtime.color import ycc_to_rgb
from flowcodec.runtime.context import LUMA_BANDS
from flowcodec.runtime.integer import FRACTION_BITS

WEIGHTS_FILE = Path(__file__).with_name("denoiser.npz")
"""benchmarks/radio_denoiser.py writes it: float16 weights, and how they were trained."""
MAP_LEVELS = (1, 2, 3)
MAPS = 2 * len(MAP_LEVELS)
"""Luma and chroma of each level."""
WIDTHS = (48, 48, 48)
"""Channels at 1/2, 1/4 and 1/8 of the resolution."""
PLANES = 3
_UNIT = 1 << FRACTION_BITS
_INPUTS = 2 * 4 * PLANES + MAPS
_MIDDLE = (221.7, 0.0, 0.0)
"""Of luma and chroma: (R + G + B) / sqrt(3) of mid-grey."""
_PICTURE_SCALE, _CHANGE_SCALE, _OUTPUT_SCALE = 64.0, 8.0, 8.0
_LEAST_VARIANCE = 0.05
_MULTIPLE = 8
_TILE, _HALO = 512, 48
"""Multiples of 8. What a pixel depends on is 22 blocks of 2x2 away at most: 1 + 2 + 2 * 2 + 4 * 2 + 2 * 2 + 2 + 1."""


class _Block(nn.Module):
    """x + conv(relu(conv(relu(x))))"""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x))))


class Denoiser(nn.Module):
    """(N, 3, H, W) planes in pixel units and (N, 6, H/2, W/2) maps -> corrections (N, 3, H, W); sides multiples of 8."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.enter = nn.Conv2d(_INPUTS, widths[0], 3, padding=1)
        self.before = nn.ModuleList([_Block(width) for width in widths])
        self.down = nn.ModuleList([nn.Conv2d(a, b, 2, 2) for a, b in pairwise(widths)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(b, a, 2, 2) for a, b in pairwise(widths)])
        self.after = nn.ModuleList([_Block(width) for width in widths[:-1]])
        self.leave = nn.Conv2d(widths[0], 4 * PLANES, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def forward(self, linear: Tensor, coarse: Tensor, maps: Tensor) -> Tensor:
        middle = linear.new_tensor(_MIDDLE).reshape(1, PLANES, 1, 1)
        seen = [(linear - middle) / _PICTURE_SCALE, (linear - coarse) / _CHANGE_SCALE]
        x = self.enter(torch.cat([*(F.pixel_unshuffle(planes, 2) for planes in seen), maps], 1))
        kept = []
        for block, down in zip(self.before, self.down, strict=False):
            x = block(x)
            kept.append(x)
            x = down(x)
        x = self.before[-1](x)
        for block, up, other in reversed(list(zip(self.after, self.up, kept, strict=True))):
            x = block(up(x) + other)
        return F.pixel_shuffle(self.leave(F.relu(x)), 2) * _OUTPUT_SCALE


def error_maps(quantised: Quantised, variances: np.ndarray) -> np.ndarray:
    """float32 (6, ceil(H/2), ceil(W/2)): log2 of the root mean square error of luma and chroma of the finest levels, over 2."""
    levels = quantised.levels_of(variances)
    height, width = (-(-side // 2) for side in (quantised.header.height, quantised.header.width))
    maps = np.zeros((MAPS, height, width), np.float32)
    for number, level in enumerate(MAP_LEVELS):
        if level not in levels:
            continue
        parts = levels[level]
        for kind, bands in enumerate((parts[:LUMA_BANDS], parts[LUMA_BANDS:])):
            mean = np.log2(bands.mean(0) + _LEAST_VARIANCE) / 4
            times = 1 << (level - 1)
            maps[2 * number + kind] = mean.repeat(times, 0).repeat(times, 1)[:height, :width]
    return maps


def denoise(quantised: Quantised, errors: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """uint8 (H, W, C): the picture of a file with its quantisation errors estimated; ``variances`` of what is left of them."""
    linear, coarse = quantised.planes(errors) / _UNIT, quantised.restored() / _UNIT
    found = linear + correction(load(), linear, coarse, error_maps(quantised, variances))
    return ycc_to_rgb(np.rint(found * _UNIT).astype(np.int64)[: quantised.header.channels])


def correction(network: Denoiser, linear: np.ndarray, coarse: np.ndarray, maps: np.ndarray, tile: int = _TILE) -> np.ndarray:
    """(3, H, W) of any size, by a network; in tiles with all around them that the network sees, which bounds the memory."""
    sides = height, width = linear.shape[1:]
    extras = [-side % _MULTIPLE for side in sides]

    def padded(values: np.ndarray, scale: int) -> Tensor:
        missing = [(side + extra) // scale - found for side, extra, found in zip(sides, extras, values.shape[1:], strict=True)]
        widened = np.pad(values, ((0, 0), (0, missing[0]), (0, missing[1])), mode="edge")
        return torch.from_numpy(widened.astype(np.float32))[None]

    inputs = [padded(linear, 1), padded(coarse, 1), padded(maps, 2)]
    found = np.empty(linear.shape)
    with torch.inference_mode():
        for top, left in product(range(0, height, tile), range(0, width, tile)):
            first = [max(at - _HALO, 0) for at in (top, left)]
            places = [
                [slice(at // scale, (start + tile + _HALO) // scale) for at, start in zip(first, (top, left), strict=True)]
                for scale in (1, 1, 2)
            ]
            part = network(*(values[:, :, *place] for values, place in zip(inputs, places, strict=True)))
            inner = found[:, top : top + tile, left : left + tile]
            row, column = top - first[0], left - first[1]
            inner[:] = part[0, :, row : row + inner.shape[1], column : column + inner.shape[2]].numpy()
    return found


# --- files ---------------------------------------------------------------------------------------------------------------------


def save(path: Path, network: Denoiser, facts: dict[str, object]) -> None:
    """Weights as float16, with how they were trained."""
    weights = {name: value.detach().half().numpy() for name, value in network.state_dict().items()}
    np.savez_compressed(path, facts=np.array(json.dumps(facts)), **weights)


def read(path: Path) -> tuple[Denoiser, dict[str, object]]:
    """(network, how it was trained). Raises InputError."""
    try:
        with np.load(path) as file:
            facts = json.loads(str(file["facts"]))
            weights = {name: torch.from_numpy(file[name].astype(np.float32)) for name in file.files if name != "facts"}
        network = Denoiser()
        network.load_state_dict(weights)
    except (OSError, EOFError, ValueError, KeyError, RuntimeError, BadZipFile) as error:
        raise InputError(f"{path}: expected weights of the analog mode's denoiser, found something else ({error})") from error
    return network.eval(), facts


@cache
def load() -> Denoiser:
    """The shipped one."""
    return read(WEIGHTS_FILE)[0]
