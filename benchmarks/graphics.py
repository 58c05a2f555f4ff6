"""What graphics on a photograph cost FlowCodec and WebP: frames, rules, boxes, lettering (``training/graphics.py``).

    python benchmarks/graphics.py DATA... [--crops 6] [--out results/graphics.json]

Centre crops of the part of DATA that training never sees, as they are and with graphics of each kind. ``added_percent`` is how
many more bits a codec needs at equal PSNR for the crops with graphics; ``against_webp_percent`` FlowCodec against WebP on them:
BD-rates over the PSNR that both mean curves reach. One thread.
"""

import argparse
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flowcodec.benchmark.bdrate import Curve, bd_rate, overlap
from flowcodec.benchmark.environment import environment
from flowcodec.runtime.bundle import load_model
from flowcodec.runtime.decode import decode_picture
from flowcodec.runtime.encode import EncodeSettings, encode_picture
from flowcodec.runtime.image import Picture
from flowcodec.runtime.quality import psnr_db
from flowcodec.training.config import DataConfig
from flowcodec.training.data import held_out_crops
from flowcodec.training.graphics import KINDS, with_graphics

RESULTS = Path(__file__).parents[1] / "results"
STEPS = (8.0, 20.0, 50.0, 120.0)
WEBP_QUALITIES = (3, 15, 50, 80, 93)


def ours(pixels: np.ndarray) -> list[tuple[float, float]]:
    """(bits per pixel, PSNR in dB) of each step."""
    found = []
    for step in STEPS:
        data = encode_picture(Picture(pixels), EncodeSettings(step=step, threads=1))
        found.append((8 * len(data) / pixels[..., 0].size, psnr_db(pixels, decode_picture(data, 1).pixels)))
    return found


def webp(pixels: np.ndarray) -> list[tuple[float, float]]:
    found = []
    for quality in WEBP_QUALITIES:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "WEBP", quality=quality, method=6)
        with Image.open(stream) as image:
            found.append((8 * stream.tell() / pixels[..., 0].size, psnr_db(pixels, np.asarray(image.convert("RGB")))))
    return found


def curve(images: Sequence[np.ndarray], codec: Callable[[np.ndarray], list[tuple[float, float]]]) -> Curve:
    """The mean over the images."""
    points = np.mean([codec(pixels) for pixels in images], 0)
    return Curve.from_points(codec.__name__, points[:, 0].tolist(), points[:, 1].tolist())


def more_bits(anchor: Curve, test: Curve) -> float:
    """BD-rate, per cent."""
    return bd_rate(anchor, test, overlap(anchor, test))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--crops", type=int, default=6)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--out", type=Path, default=RESULTS / "graphics.json")
    arguments = parser.parse_args()
    images = held_out_crops(arguments.data, DataConfig(validation_crops=arguments.crops, validation_crop=arguments.side))
    images = [pixels for pixels in images if pixels.shape[0] == pixels.shape[1]]
    plain = {codec: curve(images, codec) for codec in (ours, webp)}
    rows: list[dict[str, Any]] = [{"graphics": "none", "against_webp_percent": more_bits(plain[webp], plain[ours])}]
    for kind in KINDS:
        drawn = [with_graphics(pixels, np.random.default_rng(seed), kind) for seed, pixels in enumerate(images)]
        curves = {codec: curve(drawn, codec) for codec in (ours, webp)}
        added = {codec.__name__: more_bits(plain[codec], curves[codec]) for codec in (ours, webp)}
        rows.append({"graphics": kind, "added_percent": added, "against_webp_percent": more_bits(curves[webp], curves[ours])})
        print(rows[-1], flush=True)
    document = {
        "data": f"{len(images)} centre crops, {arguments.side}x{arguments.side}, of held-out photographs",
        "steps": STEPS,
        "model": load_model().id.hex(),
        "rows": rows,
        **environment(),
    }
    arguments.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
