"""What each part buys in BD-rate and costs in multiplications, on held-out photographs: quantiser, restoration, couplings, steps.

    python benchmarks/ablation.py DATA... [--weights weights/default.safetensors] [--out results/ablation.json]

Real bytes and real decodes of 384x384 crops of the part of DATA that training never sees. Every arm is the shipped networks with
other tables or without one part; nothing is trained again. BD-rate against the default arm, over the PSNR that all arms reach;
thousand multiplications a pixel of the decoder.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from flowcodec.benchmark.bdrate import Curve, bd_rate, overlap
from flowcodec.benchmark.environment import environment
from flowcodec.export.graph import build_graphs, decoder_kmac_per_pixel
from flowcodec.export.statistics import count_latents
from flowcodec.export.tables import RATE_WEIGHT, build_step_multipliers, build_tables
from flowcodec.model import checkpoint
from flowcodec.runtime import bundle, decode, encode
from flowcodec.runtime.bundle import Model
from flowcodec.runtime.color import NO_TURN
from flowcodec.runtime.image import Picture
from flowcodec.runtime.quality import psnr_db
from flowcodec.training.config import DataConfig
from flowcodec.training.data import held_out_crops, training_crops

RESULTS = Path(__file__).parents[1] / "results"
STEPS = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0)
RATE_WEIGHTS = (0.5, 1.0, 1.4, 2.0)
CROPS, SIDE = 12, 384
COUNTED, COUNTED_SIDE = 96, 256


@dataclass(frozen=True)
class Arm:
    name: str
    model: Model
    kmac_per_pixel: float
    channel: str = "round"
    feedback: bool = True
    turned: bool = True


def arms(weights: Path, counted: Sequence[np.ndarray]) -> Iterator[Arm]:
    """The default, which is what is shipped, first."""
    network, _ = checkpoint.load_model(weights)
    graphs, info, proofs = build_graphs(network)
    counts = count_latents(network, counted, RATE_WEIGHT)
    tables, channels = build_tables(network, RATE_WEIGHT, counts)
    model = Model(b"ablation", {}, graphs, info, build_step_multipliers(network), tables, channels)

    def without(names: tuple[str, ...]) -> tuple[Model, float]:
        kept = {name: value for name, value in info.items() if not name.startswith(names)}
        return replace(model, graph_info=kept), decoder_kmac_per_pixel([proof for proof in proofs if proof.graph in kept])

    whole = decoder_kmac_per_pixel(proofs)
    yield Arm(f"default (slope {RATE_WEIGHT:g})", model, whole)
    for weight in RATE_WEIGHTS:
        tables, channels = build_tables(network, weight, counts)
        yield Arm(f"slope of the quantiser {weight:g}", replace(model, tables=tables, channels=channels), whole)
    tables, channels = build_tables(network, RATE_WEIGHT)
    yield Arm("tables from the learned density alone", replace(model, tables=tables, channels=channels), whole)
    centred = replace(model.channels, thresholds=(32 + 64 * np.arange(8))[None, None].repeat(2, 0).repeat(128, 1))
    yield Arm("no dead zone (thresholds at the middle)", replace(model, channels=centred), whole)
    yield Arm("dither instead of rounding", model, whole, channel="dither")
    yield Arm("without error feedback in the encoder", model, whole, feedback=False)
    yield Arm("without turned colour axes", model, whole, turned=False)
    yield Arm("without restoration", *without(("restoration",)))
    yield Arm("without couplings (trained with them)", *without(("update", "predict")))
    flat = np.full_like(model.step_multipliers, 1 << 12)
    yield Arm("one step for all bands", replace(model, step_multipliers=flat), whole)


def curve(arm: Arm, images: Sequence[np.ndarray]) -> Curve:
    rates, qualities = [], []
    turn = encode.find_turn if arm.turned else lambda *_: NO_TURN
    with patch.object(encode, "load_model", lambda _: arm.model), patch.object(encode, "find_turn", turn):
        for step in STEPS:
            settings = encode.EncodeSettings(step=step, channel=arm.channel, threads=1, feedback=arm.feedback)
            files = [encode.encode_picture(Picture(pixels), settings) for pixels in images]
            backs = [decode.decode_picture(data, 1, model=arm.model).pixels for data in files]
            rates.append(np.mean([8 * len(data) / pixels[..., 0].size for data, pixels in zip(files, images, strict=True)]))
            qualities.append(np.mean([psnr_db(a, b) for a, b in zip(images, backs, strict=True)]))
    return Curve.from_points(arm.name, [float(r) for r in rates], [float(q) for q in qualities])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--weights", type=Path, default=RESULTS.parent / "weights" / "default.safetensors")
    parser.add_argument("--out", type=Path, default=RESULTS / "ablation.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images = held_out_crops(arguments.data, DataConfig(validation_crops=CROPS, validation_crop=SIDE))
    rows = []
    reference: Curve | None = None
    counted = training_crops(arguments.data, DataConfig(), COUNTED, COUNTED_SIDE)
    for arm in arms(arguments.weights, counted):
        found = curve(arm, images)
        reference = reference or found
        low, high = overlap(reference, found)
        middle = (low + high) / 2
        rows.append(
            {
                "arm": arm.name,
                "kmac_per_pixel": arm.kmac_per_pixel,
                "bpp": list(found.bpp),
                "psnr_db": list(found.psnr_db),
                "bd_rate_percent": bd_rate(reference, found, (low, high)),
                "bd_rate_percent_low": bd_rate(reference, found, (low, middle)),
                "bd_rate_percent_high": bd_rate(reference, found, (middle, high)),
                "window_db": [low, high],
            }
        )
        print(f"{arm.name}: {rows[-1]['bd_rate_percent']:+.2f} %", flush=True)
    shipped = bundle.load_model()
    document = {
        "data": f"{len(images)} centre crops, at most {SIDE}x{SIDE}, of held-out photographs",
        "steps": STEPS,
        "model": shipped.id.hex(),
        "rows": rows,
        **environment(),
    }
    arguments.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
