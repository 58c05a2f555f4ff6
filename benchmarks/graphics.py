"""What graphics on a photograph cost FlowCodec and WebP: frames, rules, boxes, lettering (``training/graphics.py``).

    python benchmarks/graphics.py DATA... [--crops 6] [--out results/graphics.json]

Centre crops of the part of DATA that training never sees, as they are and with graphics of each kind. ``added_percent`` is how
many more bits a codec needs at equal PSNR for the crops with graphics; ``against_webp_percent`` FlowCodec against WebP on them:
BD-rates over the PSNR that both mean curves reach. One thread.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

import held_out
from flowcodec.benchmark.bdrate import Curve, bd_rate, overlap
from flowcodec.benchmark.classical import WebP
from flowcodec.benchmark.document import Codec
from flowcodec.benchmark.ours import FlowCodec
from flowcodec.runtime.quality import psnr_db
from flowcodec.training.graphics import KINDS, with_graphics

STEPS = (8.0, 20.0, 50.0, 120.0)
CODECS: dict[str, tuple[Codec, Sequence[float]]] = {"ours": (FlowCodec(), STEPS), "webp": (WebP(), (3, 15, 50, 80, 93))}


def curve(images: Sequence[np.ndarray], name: str) -> Curve:
    """The mean over the images of bits per pixel and PSNR at each setting."""
    codec, settings = CODECS[name]
    points = []
    for pixels in images:
        for setting in settings:
            data = codec.encode(pixels, setting)
            points.append((8 * len(data) / pixels[..., 0].size, psnr_db(pixels, codec.decode(data))))
    bpp, psnr = np.reshape(points, (len(images), len(settings), 2)).mean(0).T
    return Curve.from_points(name, bpp.tolist(), psnr.tolist())


def more_bits(anchor: Curve, test: Curve) -> float:
    """BD-rate, per cent."""
    return bd_rate(anchor, test, overlap(anchor, test))


def main() -> None:
    arguments = held_out.options(__doc__, crops=6, side=256, out="graphics.json").parse_args()
    images = held_out.crops_of(arguments)
    images = [pixels for pixels in images if pixels.shape[0] == pixels.shape[1]]
    plain = {name: curve(images, name) for name in CODECS}
    rows: list[dict[str, Any]] = [{"graphics": "none", "against_webp_percent": more_bits(plain["webp"], plain["ours"])}]
    for kind in KINDS:
        drawn = [with_graphics(pixels, np.random.default_rng(seed), kind) for seed, pixels in enumerate(images)]
        curves = {name: curve(drawn, name) for name in CODECS}
        added = {name: more_bits(plain[name], curves[name]) for name in CODECS}
        rows.append({"graphics": kind, "added_percent": added, "against_webp_percent": more_bits(curves["webp"], curves["ours"])})
        print(rows[-1], flush=True)
    document = held_out.document(images, arguments.side, STEPS, rows)
    arguments.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
