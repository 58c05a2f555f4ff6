"""Fits the pixel model of the lossless mode: ``python scripts/fit_lossless.py DIR OUT.npz`` (needs the extra 'train').

DIR holds losslessly stored photographs; every twentieth is held out. Of every fourth photograph there is a second one, whose
chroma has been halved and enlarged, as in scans and JPEG files. First the whitening of the predictor's inputs and its start
weights by weighted least squares, then, on a sample of the pixels, one small network for each plane, by the bits of a mixture of
three logistic distributions; the result is rounded to the integers that ``flowcodec.runtime.pixel_model`` computes with.
"""

import argparse
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from flowcodec.runtime import pixel_model as pm
from flowcodec.runtime.integer import ACCUMULATOR_LIMIT, FRACTION_BITS
from flowcodec.runtime.least_squares import WEIGHT_BITS
from flowcodec.runtime.pixel_model import PLANE_ORDER, companding_table
from flowcodec.runtime.wavefront import (
    FEATURE_MAX,
    PIXEL_BITS,
    WHITENING_BITS,
    PlaneContext,
    Sheared,
    differences,
    front_count,
    front_rows,
)

HELD_OUT = 20
SUBSAMPLED = 4
HIDDEN = (96, 48)
BATCH, RATE = 4096, 4e-3
ROWS = 80
"""Of a photograph: parts of many tell more than few whole ones."""
GROUP = 8
"""Photographs that are walked together."""
UNIT = 1 << FRACTION_BITS
MAX_SHIFT = 14
_LEAST_VARIANCE = 1e-5
"""Of an input before it is whitened, as a part of the largest."""


def photographs(paths: list[Path]) -> np.ndarray:
    """int32 (N, H, W, 3), all of one size."""
    return np.stack([np.asarray(Image.open(path).convert("RGB"))[:ROWS] for path in paths]).astype(np.int32)


def subsampled(pixels: np.ndarray) -> np.ndarray:
    """int32 (H, W, 3) -> the same with Cb and Cr (BT.601, full range) averaged over 2x2 pixels and enlarged bilinearly."""
    height, width, _ = pixels.shape
    luma = pixels @ [0.299, 0.587, 0.114]
    chroma = []
    for channel, factor in ((2, 0.564), (0, 0.713)):
        small = ((pixels[..., channel] - luma) * factor).reshape(height // 2, 2, width // 2, 2).mean((1, 3))
        image = Image.fromarray(small.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
        chroma.append(np.rint(np.asarray(image)))
    blue, red = chroma
    luma = np.rint(luma)
    rgb = np.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], -1)
    return np.clip(np.rint(rgb), 0, 255).astype(np.int32)


def walk(images: np.ndarray, starts: list[np.ndarray], whitenings: list[np.ndarray], visit: Any) -> None:
    """Calls ``visit(plane, features, prediction, values)`` for every front of every plane; values in 1/256."""
    count, height, width, _ = images.shape
    references: list[PlaneContext] = []
    for plane, channel in enumerate(PLANE_ORDER):
        context = PlaneContext(count, height, width, references, starts[plane], whitenings[plane])
        truth = Sheared.of(images[..., channel] << PIXEL_BITS)
        for time in range(front_count(height, width)):
            rows = front_rows(time, height, width)
            features, prediction = context.look(time, rows)
            values = truth.front(time, (0, 0), rows)
            visit(plane, features, prediction, values)
            context.learn(time, rows, values)
        references.append(context)


def fit_inputs(images: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(start weights, whitening matrices) of the planes, of the least squared error, busy places counting less."""
    starts, whitenings = [], []
    planes = [Sheared.of(images[..., channel] << PIXEL_BITS) for channel in PLANE_ORDER]
    _, height, width, _ = images.shape
    for plane, own in enumerate(planes):
        normal, right, weight_sum = np.zeros(()), np.zeros(()), 0.0
        for time in range(front_count(height, width)):
            rows = front_rows(time, height, width)
            taps, base = differences(time, rows, own, planes[:plane])
            flat = np.ldexp(taps.reshape(len(taps), -1).astype(float), -PIXEL_BITS)
            targets = np.ldexp((own.front(time, (0, 0), rows) - base).reshape(-1).astype(float), -PIXEL_BITS)
            weighted = flat / (np.abs(flat).mean(0) + 2)
            normal, right = normal + weighted @ flat.T, right + weighted @ targets
            weight_sum += flat.shape[1]
        normal, right = normal / weight_sum, right / weight_sum
        variances, directions = np.linalg.eigh(normal)
        # W and N less their mean are opposite, so one direction has no variance of its own.
        matrix = (directions / np.sqrt(variances + _LEAST_VARIANCE * variances.max())).T
        weights = matrix @ right
        starts.append(np.rint(weights * (1 << WEIGHT_BITS)).astype(np.int32))
        whitenings.append(np.rint(matrix * (1 << WHITENING_BITS)).astype(np.int32))
    return starts, whitenings


def sample(
    images: np.ndarray, starts: list[np.ndarray], whitenings: list[np.ndarray], share: float
) -> list[tuple[np.ndarray, ...]]:
    """For each plane features int16 (F, n), predictions and values (n,) in 1/256."""
    rng = np.random.default_rng(0)
    parts: list[list[tuple[np.ndarray, ...]]] = [[] for _ in PLANE_ORDER]

    def visit(plane: int, features: np.ndarray, prediction: np.ndarray, values: np.ndarray) -> None:
        chosen = rng.random(values.shape) < share
        parts[plane].append((features[:, chosen].astype(np.int16), prediction[chosen], values[chosen]))

    for begin in range(0, len(images), GROUP):
        walk(images[begin : begin + GROUP], starts, whitenings, visit)
    return [tuple(np.concatenate(arrays, -1) for arrays in zip(*part, strict=True)) for part in parts]


class Network(torch.nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        sizes = (inputs, *HIDDEN, pm.OUTPUTS)
        layers = [torch.nn.Linear(a, b) for a, b in pairwise(sizes)]
        self.layers = torch.nn.ModuleList(layers)
        with torch.no_grad():
            layers[0].weight.mul_(0.5)
            layers[-1].weight.mul_(0.1)
            layers[-1].bias.copy_(torch.tensor([0.0, 0.0, 0.0, 1.0, -0.5, 0.0, 2.5, -2.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[:-1]:
            x = layer(x).clamp(0, FEATURE_MAX / UNIT)
        return self.layers[-1](x)


def bits(outputs: torch.Tensor, prediction: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """-log2 of the probability of values: outputs are location and log2 scale of each logistic, and behind them its logit."""
    locations, scales, logits = outputs[:, pm.LOCATIONS], outputs[:, pm.SCALES], outputs[:, pm.LOGITS]
    second, third = (torch.sigmoid(logits) * (1 - 2 * pm.LEAST_SHARE) + pm.LEAST_SHARE).unbind(1)
    shares = torch.stack([(1 - second) * (1 - third), second * (1 - third), third], 1)
    inverse = torch.exp2(-scales.clamp(-pm.SCALE_OFFSET, pm.SCALE_OFFSET + 2))
    # The lower tail, where a difference of sigmoids is exact.
    distance = -((values - prediction)[:, None] / (1 << PIXEL_BITS) - locations).abs()
    masses = torch.sigmoid((distance + 0.5) * inverse) - torch.sigmoid((distance - 0.5) * inverse)
    return -torch.log2((shares * masses).sum(1) + 1e-7)


def tensors(features: np.ndarray, prediction: np.ndarray, values: np.ndarray) -> list[torch.Tensor]:
    """Features stay int16 until they are used."""
    return [
        torch.from_numpy(features.T.copy()),
        torch.from_numpy(prediction.astype(np.float32)),
        torch.from_numpy(values.astype(np.float32)),
    ]


def network_inputs(features: torch.Tensor, companding: torch.Tensor) -> torch.Tensor:
    """int16 (n, F) -> float (n, 2F), as ``pixel_model.network_inputs``."""
    features = features.int()
    return torch.cat([features, features.sign() * companding[features.abs()]], 1).float() / UNIT


def train(plane: int, learning: list[torch.Tensor], held_out: list[torch.Tensor], steps: int) -> Network:
    torch.manual_seed(plane)
    network = Network(2 * learning[0].shape[1])
    companding = torch.from_numpy(companding_table().astype(np.int32))
    optimizer = torch.optim.Adam(network.parameters(), RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min(1, (i + 1) / 50) * (0.5 + 0.5 * np.cos(np.pi * i / steps)) + 0.002
    )
    for step in range(1, steps + 1):
        chosen = torch.randint(0, len(learning[0]), (BATCH,))
        inputs, prediction, values = (array[chosen] for array in learning)
        loss = bits(network(network_inputs(inputs, companding)), prediction, values).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % max(steps // 5, 1) == 0:
            with torch.no_grad():
                held = bits(network(network_inputs(held_out[0], companding)), *held_out[1:]).mean()
            print(f"plane {plane} step {step}: {float(held):.4f} bits a value on held-out photographs", flush=True)
    return network


def rounded(layer: torch.nn.Linear) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(weights, biases, shifts) in integers: each row as fine as keeps sum|w| 1023 + |b| below 2^24."""
    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    rows = []
    for row, offset in zip(weight, bias, strict=True):
        for shift in range(MAX_SHIFT, -1, -1):
            integers = np.rint(row * 2.0**shift)
            constant = np.rint(offset * UNIT * 2.0**shift) + (1 << shift >> 1)
            if np.abs(integers).sum() * FEATURE_MAX + abs(constant) < ACCUMULATOR_LIMIT:
                break
        else:
            raise SystemExit("a weight is too large")
        rows.append((integers, constant, shift))
    weights, biases, shifts = zip(*rows, strict=True)
    return np.array(weights, np.int16), np.array(biases, np.int32), np.array(shifts, np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=2500, help="for each plane")
    parser.add_argument("--share", type=float, default=0.4, help="of the pixels that are learned from")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    paths = sorted(path for path in arguments.folder.iterdir() if path.suffix in (".png", ".webp"))
    learning, held_out = photographs([p for i, p in enumerate(paths) if i % HELD_OUT]), photographs(paths[::HELD_OUT])
    learning = np.concatenate([learning, [subsampled(pixels) for pixels in learning[::SUBSAMPLED]]])
    starts, whitenings = fit_inputs(learning)
    samples = sample(learning, starts, whitenings, arguments.share)
    tests = sample(held_out, starts, whitenings, 1)
    arrays = pm.distribution_tables()
    for plane, (known, unknown) in enumerate(zip(samples, tests, strict=True)):
        network = train(plane, tensors(*known), tensors(*unknown), arguments.steps)
        arrays[f"start{plane}"], arrays[f"whitening{plane}"] = starts[plane], whitenings[plane]
        for number, layer in enumerate(network.layers):
            assert isinstance(layer, torch.nn.Linear)
            for name, array in zip(("weights", "biases", "shifts"), rounded(layer), strict=True):
                arrays[f"{name}{plane}_{number}"] = array
    pm.write(arguments.out, arrays)


if __name__ == "__main__":
    main()
