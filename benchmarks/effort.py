"""What an encoder's effort buys in BD-rate on held-out photographs, and what it costs in CPU time.

    python benchmarks/effort.py DATA... [--efforts 4 5 6 7] [--out results/effort.json]

Real bytes and real decodes of centre crops of the part of DATA that training never sees. BD-rate against the default effort, for
the mean curve over all crops and as the range over the crops. Each effort is written as soon as it is measured, and rows of other
efforts stay where data, steps and model are the same; one thread.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch

import held_out
from channels import bd_rates
from flowcodec.model.effort import DEFAULT_EFFORT, refiner_of
from flowcodec.runtime.decode import decode_picture
from flowcodec.runtime.encode import EncodeSettings, encode_picture
from flowcodec.runtime.image import Picture
from flowcodec.runtime.quality import psnr_db

STEPS = (10.0, 30.0, 90.0)


def measure(images: Sequence[np.ndarray], effort: int) -> tuple[np.ndarray, float]:
    """(crops, steps, 2) of bits per pixel and PSNR in dB, and the CPU seconds of encoding."""
    refiner = refiner_of(effort, "default", 1)
    points, seconds = [], 0.0
    for pixels in images:
        for step in STEPS:
            before = process_time()
            data = encode_picture(Picture(pixels), EncodeSettings(step=step, threads=1, refiner=refiner))
            seconds += process_time() - before
            points.append((8 * len(data) / pixels[..., 0].size, psnr_db(pixels, decode_picture(data, 1).pixels)))
    return np.array(points).reshape(len(images), len(STEPS), 2), seconds


def row(effort: int, reference: np.ndarray, points: np.ndarray, seconds: float, megapixels: float) -> dict[str, Any]:
    each = [bd_rates(a, b)[0] for a, b in zip(reference, points, strict=True)]
    return {
        "effort": effort,
        "bd_rate_percent": bd_rates(reference.mean(0), points.mean(0))[0],
        "bd_rate_percent_by_crop": each,
        "bpp": points[..., 0].mean(0).tolist(),
        "psnr_db": points[..., 1].mean(0).tolist(),
        "cpu_s_per_megapixel": seconds / megapixels,
    }


def known_rows(path: Path, document: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Rows of an earlier run on the same data and model, by effort."""
    if not path.exists():
        return {}
    earlier = json.loads(path.read_text())
    same = all(earlier[key] == json.loads(json.dumps(document[key])) for key in ("data", "steps", "model"))
    return {found["effort"]: found for found in earlier["rows"]} if same else {}


def main() -> None:
    parser = held_out.options(__doc__, crops=4, side=192, out="effort.json")
    parser.add_argument("--efforts", type=int, nargs="+", default=[4, 5, 6, 7])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images = held_out.crops_of(arguments)
    megapixels = len(STEPS) * sum(pixels[..., 0].size for pixels in images) / 1e6
    document = held_out.document(images, arguments.side, STEPS, [])
    rows = known_rows(arguments.out, document)
    reference, seconds = measure(images, DEFAULT_EFFORT)
    rows[DEFAULT_EFFORT] = row(DEFAULT_EFFORT, reference, reference, seconds, megapixels)
    for effort in arguments.efforts:
        rows[effort] = row(effort, reference, *measure(images, effort), megapixels)
        document["rows"] = [rows[key] for key in sorted(rows)]
        arguments.out.write_text(json.dumps(document, indent=1) + "\n")
        print(f"effort {effort}: {rows[effort]['bd_rate_percent']:+.2f} %", flush=True)


if __name__ == "__main__":
    main()
