"""What the channels save in BD-rate against ``round`` on held-out photographs, and what they cost in CPU time.

    python benchmarks/channels.py DATA... [--channels trellis dither] [--out results/channels.json]

Real bytes and real decodes of centre crops of the part of DATA that training never sees. BD-rate of the mean curve over all
crops, over the PSNR that both channels reach and over its two halves, and as the range over the crops; one thread.
"""

import json
from collections.abc import Sequence
from time import process_time
from typing import Any

import numpy as np

import held_out
from flowcodec.benchmark.bdrate import Curve, bd_rate, overlap
from flowcodec.runtime.decode import decode_picture
from flowcodec.runtime.encode import EncodeSettings, encode_picture
from flowcodec.runtime.image import Picture
from flowcodec.runtime.quality import psnr_db

STEPS = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
REFERENCE = "round"


def measure(images: Sequence[np.ndarray], channel: str) -> tuple[np.ndarray, np.ndarray]:
    """(crops, steps, 2) of bits per pixel and PSNR in dB, and (2,) CPU seconds of encoding and decoding."""
    points, seconds = [], np.zeros(2)
    for pixels in images:
        for step in STEPS:
            before = process_time()
            data = encode_picture(Picture(pixels), EncodeSettings(step=step, channel=channel, threads=1))
            between = process_time()
            back = decode_picture(data, 1).pixels
            seconds += between - before, process_time() - between
            points.append((8 * len(data) / pixels[..., 0].size, psnr_db(pixels, back)))
    return np.array(points).reshape(len(images), len(STEPS), 2), seconds


def bd_rates(reference: np.ndarray, points: np.ndarray) -> list[float]:
    """BD-rates in percent of (steps, 2) against (steps, 2): over the PSNR that both reach, its lower half and its upper half."""
    a, b = (Curve.from_points(name, x[:, 0].tolist(), x[:, 1].tolist()) for name, x in (("a", reference), ("b", points)))
    low, high = overlap(a, b)
    middle = (low + high) / 2
    return [bd_rate(a, b, window) for window in ((low, high), (low, middle), (middle, high))]


def row(channel: str, reference: np.ndarray, points: np.ndarray, seconds: np.ndarray, megapixels: float) -> dict[str, Any]:
    whole, low, high = bd_rates(reference.mean(0), points.mean(0))
    return {
        "channel": channel,
        "bd_rate_percent": whole,
        "bd_rate_percent_low": low,
        "bd_rate_percent_high": high,
        "bd_rate_percent_by_crop": [bd_rates(a, b)[0] for a, b in zip(reference, points, strict=True)],
        "bpp": points[..., 0].mean(0).tolist(),
        "psnr_db": points[..., 1].mean(0).tolist(),
        "encode_cpu_s_per_megapixel": seconds[0] / megapixels,
        "decode_cpu_s_per_megapixel": seconds[1] / megapixels,
    }


def main() -> None:
    parser = held_out.options(__doc__, crops=8, side=384, out="channels.json")
    parser.add_argument("--channels", nargs="+", default=["trellis", "dither"])
    arguments = parser.parse_args()
    images = held_out.crops_of(arguments)
    megapixels = len(STEPS) * sum(pixels[..., 0].size for pixels in images) / 1e6
    reference, seconds = measure(images, REFERENCE)
    rows = [row(REFERENCE, reference, reference, seconds, megapixels)]
    for channel in arguments.channels:
        rows.append(row(channel, reference, *measure(images, channel), megapixels))
        print(f"{channel}: {rows[-1]['bd_rate_percent']:+.2f} %", flush=True)
    document = held_out.document(images, arguments.side, STEPS, rows)
    arguments.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
