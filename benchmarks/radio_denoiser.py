"""Trains the denoiser of the analog mode: src/flowcodec/radio/denoiser.npz.

    python benchmarks/radio_denoiser.py material --data PHOTOGRAPHS --out MATERIAL
    python benchmarks/radio_denoiser.py train --material MATERIAL [--steps 14000]

The first makes receptions of crops: real files, real analog layers and noise, of random CSNR, design and uses; about 5 minutes of
one core. The second trains on them, about 15 minutes of one core with bf16. Every 20th photograph is held out and measures it.
"""

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch

from flowcodec.errors import InputError
from flowcodec.progress import over
from flowcodec.radio import denoiser, layering, material, transmission
from flowcodec.radio.denoiser import Denoiser
from flowcodec.radio.digital import MODES, best_mode, segment
from flowcodec.radio.ladder import Ladder
from flowcodec.radio.link import awgn
from flowcodec.radio.transmission import POWER_UNIT, Layer
from flowcodec.runtime.color import rgb_to_ycc
from flowcodec.runtime.integer import FRACTION_BITS
from flowcodec.runtime.step import step_index

SEED = 17
SIDE, DRAWS = 256, 3
CROP = 96
FINEST, COARSEST = 60.0, 200.0
"""Steps of the files."""
CSNR_DB, DESIGN_DB = (0.0, 20.0), (4, 16)
NAMES = ("image", "linear", "coarse", "maps")
Arrays = dict[str, np.ndarray]


def receptions(image: np.ndarray, rng: np.random.Generator, draws: int) -> list[list[np.ndarray]]:
    """[true planes, linear, coarse, maps] of receptions of one picture, uint8 (H, W, 3); none where no mode holds the file."""
    pixels = image.shape[0] * image.shape[1]
    # Of three in four the uses of CBR 1/6, less those that are not the layers'.
    uses = round(0.488 * pixels * (1.0 if rng.random() < 0.75 else rng.uniform(0.5, 1.5)))
    index = step_index(math.exp(rng.uniform(math.log(FINEST), math.log(COARSEST))))
    ladder = Ladder(image)
    data = ladder.file(index)
    power, size = 0, 0
    for share in np.arange(0.3, 0.9, 0.02):
        power = round(share * POWER_UNIT)
        mode = best_mode(layering.snr_db(power, POWER_UNIT - power, layering.BROADCAST_LOWEST_DB))
        size = segment(uses, mode).size_bytes
        if size >= len(data):
            break
    if size < len(data):
        return []
    files = [(data, ladder.pixels(data))]
    layers = [Layer(MODES.index(mode), power, len(data))]
    found, truth = [], rgb_to_ycc(image)
    sent = transmission.transmit(image, uses, layers, files, POWER_UNIT - power)
    assert sent.quantised is not None
    errors, coarse = sent.quantised.errors(image), sent.quantised.restored() / (1 << FRACTION_BITS)
    for _ in range(draws):
        csnr_db = rng.uniform(*CSNR_DB)
        design = 10 if rng.random() < 0.6 else round(min(max(csnr_db, DESIGN_DB[0]), DESIGN_DB[1]))
        header, analog = transmission.with_analog(replace(sent.header, design_db=design), sent.quantised, errors)
        rest = awgn(math.sqrt(header.share) * analog, csnr_db, rng)
        got = transmission.estimate(rest, header, sent.quantised)
        linear = sent.quantised.planes(got.errors) / (1 << FRACTION_BITS)
        found.append([truth, linear, coarse, denoiser.error_maps(sent.quantised, got.variances)])
    return found


def make(paths: Sequence[Path], draws: int, seed: int, label: str) -> Arrays:
    """float16 arrays (n, ...) by name."""
    rng = np.random.default_rng(seed)
    rows: list[list[np.ndarray]] = []
    with over(list(paths), label) as (counted, _):
        for path in counted:
            try:
                pixels = material.crops([path], SIDE, 1, rng)[0]
            except InputError:
                continue  # smaller than a crop
            rows += receptions(np.ascontiguousarray(pixels.transpose(1, 2, 0)), rng, draws)
    return {name: np.stack([row[place] for row in rows]).astype(np.float16) for place, name in enumerate(NAMES)}


def psnr_db(network: Denoiser, data: Arrays) -> tuple[float, float]:
    """Mean PSNR (of planes, not rounded) of the linear pictures and of the network's."""
    before, after = [], []
    for row in range(len(data["image"])):
        truth, linear, coarse, maps = (data[name][row].astype(np.float32) for name in NAMES)
        found = linear + denoiser.correction(network, linear, coarse, maps)
        before.append(10 * math.log10(255**2 / np.mean((linear - truth) ** 2)))
        after.append(10 * math.log10(255**2 / np.mean((found - truth) ** 2)))
    return float(np.mean(before)), float(np.mean(after))


def train(data: Arrays, held_out: Arrays, steps: int, batch: int, minutes: float, seed: int = SEED) -> tuple[Denoiser, int]:
    """Adam on the mean of log squared errors of crops, so that all CSNRs count alike; (averaged network, steps made)."""
    torch.manual_seed(seed)
    rng, network = np.random.default_rng(seed), Denoiser()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters(), 1.5e-3, betas=(0.9, 0.99))
    average = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998))
    averaged = cast(Denoiser, average.module)
    begin, step = time.monotonic(), 0
    while step < steps:
        # One cosine over the steps or the minutes, whichever ends first.
        share = max(step / steps, (time.monotonic() - begin) / 60 / minutes)
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = 1.5e-3 * min((step + 1) / 100, 1) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
        truth, linear, coarse, maps = _batch(data, batch, rng)
        with torch.autocast("cpu", torch.bfloat16):  # more than twice as fast where the CPU has it
            found = network(linear, coarse, maps)
        error = (linear + found.float() - truth).square().mean((1, 2, 3))
        loss = torch.log(error + 1).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(network)
        step += 1
        if step % 500 == 0:
            before, after = psnr_db(averaged, held_out)
            print(f"step {step}: held out {before:.3f} -> {after:.3f} dB, {time.monotonic() - begin:.0f} s", flush=True)
    return averaged, step


def _batch(data: Arrays, count: int, rng: np.random.Generator) -> list[torch.Tensor]:
    """Crops, half of the batches transposed, which keeps the wavelet's grid: [truth, linear, coarse, maps]."""
    parts: list[list[np.ndarray]] = [[] for _ in NAMES]
    transposed = rng.random() < 0.5
    for row in rng.integers(0, len(data["image"]), count):
        top, left = (int(at) * 8 for at in rng.integers(0, (SIDE - CROP) // 8 + 1, 2))
        for part, name in zip(parts, NAMES, strict=True):
            half = 2 if name == "maps" else 1
            at = slice(top // half, (top + CROP) // half), slice(left // half, (left + CROP) // half)
            values = data[name][row][:, *at]
            part.append(values.swapaxes(1, 2) if transposed else values)
    return [torch.from_numpy(np.stack(part).astype(np.float32)).contiguous(memory_format=torch.channels_last) for part in parts]


def _load(path: Path) -> Arrays:
    with np.load(path) as file:
        return {name: file[name] for name in NAMES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("material", "train"))
    parser.add_argument("--data", type=Path, nargs="+", default=[])
    parser.add_argument("--photographs", type=int, default=400)
    parser.add_argument("--out", type=Path, help="folder of the material")
    parser.add_argument("--material", type=Path)
    parser.add_argument("--steps", type=int, default=14000)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=1e6, help="end the training by then")
    parser.add_argument("--weights", type=Path, default=denoiser.WEIGHTS_FILE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "material":
        options.out.mkdir(parents=True, exist_ok=True)
        for name, held_out, draws in (("held_out", True, 1), ("train", False, DRAWS)):
            paths = material.photographs(options.data, held_out)
            some = [paths[i] for i in np.linspace(0, len(paths) - 1, min(options.photographs, len(paths))).astype(int)]
            np.savez(options.out / f"{name}.npz", **make(some, draws, SEED + held_out, name))  # type: ignore[arg-type]
        return
    data, others = (_load(options.material / f"{part}.npz") for part in ("train", "held_out"))
    begin = time.process_time()
    network, steps = train(data, others, options.steps, options.batch, options.minutes)
    seconds = round(time.process_time() - begin)
    before, after = psnr_db(network, others)
    facts: dict[str, object] = {
        "what": "denoiser of the analog mode, trained on simulated receptions of photographs",
        "receptions": len(data["image"]),
        "csnr_db": CSNR_DB,
        "steps": steps,
        "batch": options.batch,
        "crop": CROP,
        "seed": SEED,
        "training_core_seconds": seconds,
        "held_out_receptions": len(others["image"]),
        "held_out_linear_psnr_db": round(before, 3),
        "held_out_psnr_db": round(after, 3),
    }
    denoiser.save(options.weights, network, facts)
    print(facts)


if __name__ == "__main__":
    main()
