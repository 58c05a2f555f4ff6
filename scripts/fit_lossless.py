"""Fits the pixel model of the lossless mode: ``python scripts/fit_lossless.py DIR OUT.npz`` (needs the extra 'train').

DIR holds losslessly stored photographs; every eleventh is held out. First the start weights of the adaptive filters by weighted
least squares, then, on a sample of the pixels, one small network for each plane, by the bits of a mixture of two logistic
distributions; the result is rounded to the integers that ``flowcodec.runtime.pixel_model`` computes with.
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
from flowcodec.runtime.pixel_model import PLANE_ORDER, companding_table
from flowcodec.runtime.wavefront import (
    FEATURE_MAX,
    OWN_TAPS,
    PIXEL_BITS,
    REFERENCE_TAPS,
    WEIGHT_BITS,
    PlaneContext,
    Sheared,
    front_count,
    front_rows,
)

HELD_OUT = 11
HIDDEN = (64, 32)
BATCH, RATE = 4096, 4e-3
UNIT = 1 << FRACTION_BITS
MAX_SHIFT = 14


def photographs(paths: list[Path]) -> np.ndarray:
    """int32 (N, H, W, 3), all of one size."""
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths]).astype(np.int32)


def walk(images: np.ndarray, starts: list[np.ndarray], visit: Any) -> None:
    """Calls ``visit(plane, features, prediction, values, taps, base)`` for every front of every plane."""
    count, height, width, _ = images.shape
    references: list[PlaneContext] = []
    for plane, channel in enumerate(PLANE_ORDER):
        context = PlaneContext(count, height, width, references, starts[plane])
        truth = Sheared.of(images[..., channel])
        for time in range(front_count(height, width)):
            rows = front_rows(time, height, width)
            features, prediction = context.look(time, rows)
            values = truth.front(time, (0, 0), rows)
            visit(plane, features, prediction, values, context.taps, context.base)
            context.learn(time, rows, values)
        references.append(context)


def fit_starts(images: np.ndarray) -> list[np.ndarray]:
    """Weights of the least squared error, busy places counting less."""
    sizes = [len(OWN_TAPS) + plane * len(REFERENCE_TAPS) for plane in range(len(PLANE_ORDER))]
    normal = [np.eye(size) for size in sizes]
    right = [np.zeros(size) for size in sizes]

    def visit(plane: int, features: Any, prediction: Any, values: Any, taps: np.ndarray, base: np.ndarray) -> None:
        flat = taps.reshape(len(taps), -1).astype(float)
        weighted = flat / (np.abs(flat).mean(0) + 2)
        normal[plane] += weighted @ flat.T
        right[plane] += weighted @ (values - (base >> PIXEL_BITS)).reshape(-1)

    walk(images, [np.zeros(size, np.int32) for size in sizes], visit)
    return [np.rint(np.linalg.solve(a, b) * (1 << WEIGHT_BITS)).astype(np.int32) for a, b in zip(normal, right, strict=True)]


def sample(images: np.ndarray, starts: list[np.ndarray], share: float) -> list[tuple[np.ndarray, ...]]:
    """For each plane features int16 (F, n), predictions and values (n,)."""
    rng = np.random.default_rng(0)
    parts: list[list[tuple[np.ndarray, ...]]] = [[] for _ in PLANE_ORDER]

    def visit(plane: int, features: np.ndarray, prediction: np.ndarray, values: np.ndarray, taps: Any, base: Any) -> None:
        chosen = rng.random(values.shape) < share
        parts[plane].append((features[:, chosen].astype(np.int16), prediction[chosen], values[chosen]))

    walk(images, starts, visit)
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
            layers[-1].bias.copy_(torch.tensor([0.0, 0.5, 0.0, 2.0, -2.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[:-1]:
            x = layer(x).clamp(0, FEATURE_MAX / UNIT)
        return self.layers[-1](x)


def bits(outputs: torch.Tensor, prediction: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """-log2 of the probability of values: outputs are location and log2 scale of two logistics and the logit of the second."""
    share = torch.sigmoid(outputs[:, 4]) * (1 - 2 * pm.LEAST_SHARE) + pm.LEAST_SHARE
    total = torch.full_like(share, 1e-7)
    for part, weight in ((outputs[:, 0:2], 1 - share), (outputs[:, 2:4], share)):
        scale = torch.exp2(part[:, 1].clamp(-pm.SCALE_OFFSET, pm.SCALE_OFFSET + 2))
        distance = values - prediction / (1 << PIXEL_BITS) - part[:, 0]
        distance = -distance.abs()  # the lower tail, where a difference of sigmoids is exact
        total = total + weight * (torch.sigmoid((distance + 0.5) / scale) - torch.sigmoid((distance - 0.5) / scale))
    return -torch.log2(total)


def tensors(features: np.ndarray, prediction: np.ndarray, values: np.ndarray) -> list[torch.Tensor]:
    inputs = pm.network_inputs(features.astype(np.int32), companding_table())
    return [torch.from_numpy(a.astype(np.float32)) for a in (inputs.T / UNIT, prediction, values)]


def train(plane: int, learning: list[torch.Tensor], held_out: list[torch.Tensor], steps: int) -> Network:
    torch.manual_seed(plane)
    network = Network(learning[0].shape[1])
    optimizer = torch.optim.Adam(network.parameters(), RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min(1, (i + 1) / 50) * (0.5 + 0.5 * np.cos(np.pi * i / steps)) + 0.002
    )
    for step in range(1, steps + 1):
        chosen = torch.randint(0, len(learning[0]), (BATCH,))
        inputs, prediction, values = (array[chosen] for array in learning)
        loss = bits(network(inputs), prediction, values).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % max(steps // 5, 1) == 0:
            with torch.no_grad():
                held = bits(network(held_out[0]), *held_out[1:]).mean()
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
    parser.add_argument("--share", type=float, default=0.2, help="of the pixels that are learned from")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    paths = sorted(path for path in arguments.folder.iterdir() if path.suffix in (".png", ".webp"))
    learning, held_out = [p for i, p in enumerate(paths) if i % HELD_OUT], paths[::HELD_OUT]
    starts = fit_starts(photographs(learning[::2]))
    samples = sample(photographs(learning), starts, arguments.share)
    tests = sample(photographs(held_out), starts, 0.2)
    arrays = pm.distribution_tables()
    for plane, (known, unknown) in enumerate(zip(samples, tests, strict=True)):
        network = train(plane, tensors(*known), tensors(*unknown), arguments.steps)
        arrays[f"start{plane}"] = starts[plane]
        for number, layer in enumerate(network.layers):
            assert isinstance(layer, torch.nn.Linear)
            for name, array in zip(("weights", "biases", "shifts"), rounded(layer), strict=True):
                arrays[f"{name}{plane}_{number}"] = array
    pm.write(arguments.out, arrays)


if __name__ == "__main__":
    main()
