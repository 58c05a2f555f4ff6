"""Analog mode against the baseline Deep JSCC on pictures of CIFAR-10: results/radio/cifar.json.

    python benchmarks/radio_cifar.py --cifar CIFAR10 [--images 400]

About 2 minutes of one core, after benchmarks/radio_deep_jscc.py. k/n = 1/6: 512 complex uses a picture, both sides in bare frames
(no preamble, header or pilots); profile and scale of the analog mode are counted. Neither side was trained on CIFAR-10.
"""

import argparse
import json
import math
import time
from collections import defaultdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch

from flowcodec.benchmark.datasets import find_images
from flowcodec.benchmark.environment import environment
from flowcodec.progress import over
from flowcodec.radio import analog, deep_jscc
from flowcodec.radio.analog import AnalogSystem
from flowcodec.radio.systems import Source
from flowcodec.radio.transmission import uses_of
from flowcodec.runtime.quality import psnr_db

ROOT = Path(__file__).parents[1]
OUT = ROOT / "results" / "radio" / "cifar.json"
CBR, DESIGN_DB, CSNR_DB = 1 / 6, 10.0, (4.0, 10.0, 16.0)
RECEIVERS = ("prior", "linear")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--weights", type=Path, default=ROOT / "weights" / "deep_jscc.safetensors")
    options = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.process_time()
    baseline, facts = deep_jscc.load(options.weights)
    images = find_images([options.cifar], "cifar10", options.images)
    values: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    powers: list[float] = []
    with over(images, "CIFAR-10") as (counted, _):
        for number, image in enumerate(counted):
            pixels = image.pixels()
            sent = analog.transmit(pixels, uses_of(32, 32, CBR), DESIGN_DB, bare=True)
            powers.append(float(np.mean(np.abs(sent.symbols) ** 2)))
            for csnr_db in CSNR_DB:
                for receiver in RECEIVERS:
                    system = AnalogSystem(Source(image.name, pixels), sent, receiver)
                    found = system.pixels(None, csnr_db, np.random.default_rng([1, number]))
                    assert found is not None  # a bare frame has no map that could be lost
                    values[f"analog, {receiver} receiver"][csnr_db].append(psnr_db(pixels, found))
                with torch.no_grad():
                    tensor = torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy())
                    found = baseline(tensor, csnr_db, torch.Generator().manual_seed(number))[0].round().clamp(0, 255)
                values["Deep JSCC, trained at 10 dB"][csnr_db].append(
                    psnr_db(pixels, found.numpy().astype(np.uint8).transpose(1, 2, 0))
                )
    first = values["analog, prior receiver"][DESIGN_DB]
    differences = [a - b for a, b in zip(first, values["Deep JSCC, trained at 10 dB"][DESIGN_DB], strict=True)]
    document: dict[str, Any] = {
        "what": "PSNR of CIFAR-10 test pictures over simulated AWGN, k/n = 1/6 complex, one draw a picture",
        "command": "python benchmarks/radio_cifar.py --cifar CIFAR10",
        "images": len(images),
        "uses": {"all": uses_of(32, 32, CBR), "profile and scale": analog.bare_words()},
        "largest_power": max(powers),
        "mean_power": fmean(powers),
        "deep_jscc": facts,
        "systems": {
            name: {
                f"{csnr_db:g}": {"psnr_db": fmean(found), "standard_error_db": stdev(found) / math.sqrt(len(found))}
                for csnr_db, found in at.items()
            }
            for name, at in values.items()
        },
        "difference_at_10_db": {
            "mean_db": fmean(differences),
            "standard_error_db": stdev(differences) / math.sqrt(len(differences)),
            "share_of_pictures_better": fmean(value > 0 for value in differences),
        },
        "core_seconds": round(time.process_time() - begin),
        "environment": environment(),
    }
    OUT.write_text(json.dumps(document, indent=1) + "\n")
    print(document["systems"], document["difference_at_10_db"])


if __name__ == "__main__":
    main()
