"""Trains neural rivals as their configurations say, and measures them, beside a FlowCodec of the same budget, by whole files.

    python benchmarks/rivals.py configs/rivals/{vq,hyperprior,flowcodec}.toml --data PHOTOGRAPHS --images KODAK --models MODELS \
        [--out results/rivals/lossy.json] [--limit N] [--cache DIR]

Models that MODELS holds of the same configuration are not trained again, and rows that OUT holds not measured again. Nothing is
timed: the networks of the rivals are plain PyTorch.
"""

import argparse
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from flowcodec.benchmark.metrics import choose
from flowcodec.benchmark.ours import FlowCodec
from flowcodec.benchmark.rivals.flow import SIZES
from flowcodec.benchmark.rivals.training import RivalConfig, TrainedRival, train_all, weights_file
from flowcodec.benchmark.run import run_benchmark
from flowcodec.errors import FlowCodecError
from flowcodec.export.run import export_model
from flowcodec.model import checkpoint
from flowcodec.training.data import PixelStore

RESULTS = Path(__file__).parents[1] / "results"
STEPS = (20.0, 40.0, 80.0, 160.0, 320.0)
"""Of the small FlowCodec, grey levels."""


@dataclass(frozen=True)
class SmallFlowCodec(FlowCodec):
    """The small FlowCodec, by its model file; what its training saw is part of what it says of itself."""

    rival: TrainedRival | None = None

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"training": self.rival.describe()["training"] if self.rival else None}


def exported(rival: TrainedRival) -> SmallFlowCodec:
    """The first model as the codec reads it: integers, tables of its learned density."""
    target = rival.folder / "flowcodec_small.flowmodel"
    source = weights_file(rival.folder, rival.config, rival.settings[0])
    tensors, header = checkpoint.load(source)
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        weights = rival.folder / "flowcodec_small.safetensors"
        seen = {"step": rival.config.steps, "pixels_seen": rival.config.pixels_seen}
        checkpoint.save(weights, tensors, header | seen | {"config": {"model": asdict(SIZES)}})
        export_model(weights, target, lambda _: None)
    return SmallFlowCodec(model=str(target), settings=STEPS, label=rival.name, rival=rival)


def say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--images", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=RESULTS / "rivals" / "lossy.json")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--cache", type=Path, help="folder that keeps the decoded photographs for the next run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        configs = [RivalConfig.read(path) for path in arguments.configs]
        with tempfile.TemporaryDirectory() as temporary:
            pixels = (arguments.cache or Path(temporary)) / "pixels.npy"
            trained = [
                train_all(config, lambda: PixelStore.open(arguments.data, pixels), arguments.models, say) for config in configs
            ]
        codecs = [exported(rival) if rival.config.rival == "flowcodec" else rival for rival in trained]
        if arguments.images:
            chosen = choose(["psnr"])
            run_benchmark(arguments.images, codecs, arguments.out, limit=arguments.limit, metrics=chosen, timing=False)
    except FlowCodecError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
