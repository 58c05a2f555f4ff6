"""How well ``--size``, ``--bpp`` and ``--psnr`` meet what is asked for, and in how many encodings.

    python benchmarks/rate_control.py KODAK_FOLDER [--targets 100] [--out results/rate_control.json]

Sizes: random images, bits per pixel log-uniform over ``RATE_BPP``; a file must never be larger than asked for, and what it leaves
unused is the undershoot. PSNR: random images and targets over ``PSNR_DB``, measured on what the decoder gives.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import flowcodec
from flowcodec.benchmark.datasets import DatasetImage, find_images
from flowcodec.benchmark.environment import environment
from flowcodec.runtime.decode import decode_picture
from flowcodec.runtime.encode import EncodeSettings, encode_detailed
from flowcodec.runtime.image import Picture
from flowcodec.runtime.quality import psnr_db

RESULTS = Path(__file__).parents[1] / "results"
RATE_BPP = (0.1, 3.0)
PSNR_DB = (30.0, 42.0)
SEED = 0


def size_row(image: DatasetImage, rate_bpp: float, as_bpp: bool, threads: int) -> dict[str, Any]:
    picture = Picture(image.pixels())
    target = int(rate_bpp * picture.width * picture.height / 8)
    wanted: dict[str, Any] = {"bpp": rate_bpp} if as_bpp else {"size": target}
    encoded = encode_detailed(picture, EncodeSettings(threads=threads, **wanted))
    size = len(encoded.data)
    undershoot = 100 * (1 - size / target)
    return {
        "image": image.name,
        "target_bytes": target,
        "size_bytes": size,
        "undershoot_percent": undershoot,
        "passes": encoded.passes,
        "by": "bpp" if as_bpp else "size",
    }


def psnr_row(image: DatasetImage, target_db: float, threads: int) -> dict[str, Any]:
    picture = Picture(image.pixels())
    encoded = encode_detailed(picture, EncodeSettings(threads=threads, psnr=target_db))
    found = psnr_db(picture.pixels, decode_picture(encoded.data, threads).pixels)
    return {"image": image.name, "target_db": target_db, "psnr_db": found, "passes": encoded.passes}


def summary(sizes: list[dict[str, Any]], psnrs: list[dict[str, Any]]) -> dict[str, Any]:
    undershoot = [row["undershoot_percent"] for row in sizes]
    return {
        "size_targets": len(sizes),
        "size_above_target": sum(value < 0 for value in undershoot),
        "undershoot_percent": spread(undershoot),
        "size_passes": spread([row["passes"] for row in sizes]),
        "psnr_targets": len(psnrs),
        "psnr_error_db": spread([abs(row["psnr_db"] - row["target_db"]) for row in psnrs]),
        "psnr_passes": spread([row["passes"] for row in psnrs]),
    }


def spread(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {"mean": float(np.mean(values)), "median": float(np.median(values)), "largest": float(max(values))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--targets", type=int, default=100, help="sizes; one in ten is given as bits per pixel")
    parser.add_argument("--psnr-targets", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "rate_control.json")
    arguments = parser.parse_args()
    images = find_images(arguments.images)
    rng = np.random.default_rng(SEED)
    result: dict[str, Any] = {
        "environment": environment(),
        "model": flowcodec.load_model("default").id.hex(),
        "settings": {"threads": arguments.threads, "rate_bpp": RATE_BPP, "psnr_db": PSNR_DB, "seed": SEED},
    }
    sizes: list[dict[str, Any]] = []
    psnrs: list[dict[str, Any]] = []
    for number in range(arguments.targets + arguments.psnr_targets):
        image, share = images[int(rng.integers(len(images)))], float(rng.uniform())
        if number < arguments.targets:
            rate_bpp = RATE_BPP[0] * (RATE_BPP[1] / RATE_BPP[0]) ** share
            sizes.append(size_row(image, rate_bpp, number % 10 == 9, arguments.threads))
        else:
            psnrs.append(psnr_row(image, PSNR_DB[0] + share * (PSNR_DB[1] - PSNR_DB[0]), arguments.threads))
        # Written as it goes: the whole takes a while.
        result |= {"summary": summary(sizes, psnrs), "sizes": sizes, "psnrs": psnrs}
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["summary"], indent=1))


if __name__ == "__main__":
    main()
