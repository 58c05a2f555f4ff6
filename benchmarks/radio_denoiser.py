"""Trains the learned receivers of the analog mode: src/flowcodec/radio/denoiser_*.safetensors.

    python benchmarks/radio_denoiser.py photograph --data PHOTOGRAPHS [--steps 600]
    python benchmarks/radio_denoiser.py thumbnail --data PHOTOGRAPHS

About 5 minutes of one core each; after benchmarks/radio_profiles.py. The flow is that of weights/default.safetensors; a later
flow of the same kind needs no new training, since what the network sees are pictures.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from flowcodec.model import checkpoint
from flowcodec.progress import CountReport
from flowcodec.radio import analog, denoiser, material, profiles
from flowcodec.radio.denoiser import DenoiserConfig

ROOT = Path(__file__).parents[1]
SEED = 13


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=profiles.NAMES)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--weights", type=Path, default=ROOT / "weights" / "default.safetensors")
    parser.add_argument("--steps", type=int, default=600)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng, paths = np.random.default_rng(SEED), material.photographs(options.data, held_out=False)
    if options.name == "photograph":
        pixels, config = material.crops(paths, 256, 1, rng), DenoiserConfig(steps=options.steps)
    else:
        pixels = material.thumbnails(paths, 16, rng)
        config = DenoiserConfig(steps=options.steps, batch=48, crop=material.THUMBNAIL, room=(0.32, 0.34))
    model, _ = checkpoint.load_model(options.weights)
    begin = time.process_time()
    with CountReport("training") as progress:
        gains: list[float] = []

        def report(step: int, gain_db: float) -> None:
            gains.append(gain_db)
            progress(step, options.steps)
            if step % 50 == 0:
                facts = {"steps": step, "gain_db": round(gain_db, 3), "core_seconds": round(time.process_time() - begin)}
                print(facts, flush=True)

        net = denoiser.train(pixels, model, profiles.load(options.name), config, analog.STEP, report)
    facts = {
        "what": f"learned receiver of the analog mode, {options.name}, trained on {len(pixels)} pictures",
        "steps": options.steps,
        "training_core_seconds": round(time.process_time() - begin),
        "training_gain_db": gains[-1],
    }
    denoiser.save(denoiser.path_of(options.name), net, facts)


if __name__ == "__main__":
    main()
