"""What benchmarks on centre crops of held-out photographs share: their options, and what their results say of themselves."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flowcodec.benchmark.environment import environment
from flowcodec.runtime.bundle import load_model
from flowcodec.training.config import DataConfig
from flowcodec.training.data import held_out_crops

RESULTS = Path(__file__).parents[1] / "results"


def options(description: str | None, crops: int, side: int, out: str) -> argparse.ArgumentParser:
    """DATA..., --crops, --side and --out, with these defaults."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--crops", type=int, default=crops)
    parser.add_argument("--side", type=int, default=side)
    parser.add_argument("--out", type=Path, default=RESULTS / out)
    return parser


def crops_of(arguments: argparse.Namespace) -> list[np.ndarray]:
    """uint8 (H, W, 3), at most ``side`` each way."""
    return held_out_crops(arguments.data, DataConfig(validation_crops=arguments.crops, validation_crop=arguments.side))


def document(images: Sequence[np.ndarray], side: int, steps: Sequence[float], rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "data": f"{len(images)} centre crops, at most {side}x{side}, of held-out photographs",
        "steps": steps,
        "model": load_model().id.hex(),
        "rows": rows,
        **environment(),
    }
