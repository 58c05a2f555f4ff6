"""Trains the baseline Deep JSCC on 32x32 reductions of photographs: weights/deep_jscc.safetensors.

    python benchmarks/radio_deep_jscc.py --data PHOTOGRAPHS [--steps 4000]

About 10 minutes of one core. Every 20th photograph is held out; the PSNR on its thumbnails is kept with the weights.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from flowcodec.progress import CountReport
from flowcodec.radio import deep_jscc, material

ROOT = Path(__file__).parents[1]
CBR, CSNR_DB = 1 / 6, 10.0
SEED = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--out", type=Path, default=ROOT / "weights" / "deep_jscc.safetensors")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(SEED)
    with CountReport("reading photographs") as progress:
        pixels = material.thumbnails(material.photographs(options.data, held_out=False), 32, rng, progress)
    begin = time.process_time()
    model, loss = deep_jscc.train(pixels, CBR, CSNR_DB, options.steps, seed=SEED)
    seconds = time.process_time() - begin
    held_out = torch.from_numpy(material.thumbnails(material.photographs(options.data, held_out=True), 16, rng))
    with torch.no_grad():
        found = model(held_out, CSNR_DB, torch.Generator().manual_seed(SEED)).round().clamp(0, 255)
    errors = (found - held_out).square().mean((1, 2, 3))
    facts = {
        "what": "Deep JSCC (Bourtsoulatze 2019), trained on thumbnails of photographs, not on CIFAR-10",
        "cbr": CBR,
        "csnr_db": CSNR_DB,
        "steps": options.steps,
        "batch": 64,
        "thumbnails": len(pixels),
        "training_core_seconds": round(seconds),
        "training_loss": loss,
        "held_out_psnr_db": float((10 * torch.log10(255**2 / errors)).mean()),
    }
    deep_jscc.save(options.out, model, facts)
    print(facts)


if __name__ == "__main__":
    main()
