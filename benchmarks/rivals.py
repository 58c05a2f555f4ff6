"""Trains neural rivals as their configurations say, and measures them, beside a FlowCodec of the same budget, by whole files.

    flowcodec train configs/rivals/flowcodec.toml --data PHOTOGRAPHS --out MODELS/flowcodec
    flowcodec export MODELS/flowcodec/weights.safetensors MODELS/small.flowmodel --data PHOTOGRAPHS
    python benchmarks/rivals.py configs/rivals/vq.toml configs/rivals/hyperprior.toml --data PHOTOGRAPHS --images KODAK \
        --models MODELS --flowcodec MODELS/small.flowmodel [--out results/rivals.json] [--limit N] [--cache DIR]

Models that MODELS holds of the same configuration are not trained again, and rows that OUT holds not measured again. Nothing is
timed: the networks of the rivals are plain PyTorch.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from flowcodec.benchmark.document import Codec
from flowcodec.benchmark.metrics import choose
from flowcodec.benchmark.ours import FlowCodec
from flowcodec.benchmark.rivals.training import RivalConfig, train_all
from flowcodec.benchmark.run import run_benchmark
from flowcodec.errors import FlowCodecError
from flowcodec.training.data import PixelStore

RESULTS = Path(__file__).parents[1] / "results"
STEPS = (8.0, 14.0, 24.0, 40.0, 68.0, 110.0)
"""Of the small FlowCodec, grey levels."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--images", type=Path, nargs="*", default=[])
    parser.add_argument("--flowcodec", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS / "rivals.json")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--cache", type=Path, help="folder that keeps the decoded photographs for the next run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        configs = [RivalConfig.read(path) for path in arguments.configs]
        with tempfile.TemporaryDirectory() as temporary:
            pixels = (arguments.cache or Path(temporary)) / "pixels.npy"
            rivals: list[Codec] = [
                train_all(
                    config,
                    lambda: PixelStore.open(arguments.data, pixels),
                    arguments.models,
                    lambda line: print(line, flush=True),
                )
                for config in configs
            ]
        if arguments.flowcodec is not None:
            rivals.append(FlowCodec(model=str(arguments.flowcodec), settings=STEPS, label="FlowCodec, small"))
        if arguments.images:
            chosen = choose(["psnr", "ms-ssim"])
            run_benchmark(arguments.images, rivals, arguments.out, limit=arguments.limit, metrics=chosen, timing=False)
    except FlowCodecError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
