"""Small pictures without loss: the integer discrete flow beside FlowCodec, PNG, WebP, JPEG XL; bits per subpixel of whole files.

    python benchmarks/rivals_lossless.py configs/rivals/discrete_flow.toml --data PHOTOGRAPHS --models MODELS --cifar CIFAR10 \
        --imagenet IMAGENET [--limit 50] [--cache DIR] [--out results/rivals/lossless.json]

A model that MODELS holds of the same configuration is not trained again. CIFAR-10's test pictures are 32x32; ImageNet's are cut
to their middle square and reduced to 64x64 by the mean of their pixels. Every file is decoded and compared; the flow's files have
5 bytes of header.
"""

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import torch
from PIL import Image

import flowcodec
from flowcodec.benchmark.datasets import Kind, find_images
from flowcodec.benchmark.document import replace_file
from flowcodec.benchmark.environment import environment
from flowcodec.benchmark.rivals.training import RivalConfig, TrainedRival, train_all
from flowcodec.errors import FlowCodecError, InputError
from flowcodec.runtime.pixel_model import pixel_model
from flowcodec.training.data import PixelStore

RESULTS = Path(__file__).parents[1] / "results"
SIDE = 64
Pair = tuple[Callable[[np.ndarray], bytes], Callable[[bytes], np.ndarray]]


def say(line: str) -> None:
    print(line, flush=True)


def pillow(**settings: Any) -> Pair:
    def encode(pixels: np.ndarray) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, **settings)
        return stream.getvalue()

    def decode(data: bytes) -> np.ndarray:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))

    return encode, decode


def jpeg_xl(pixels: np.ndarray) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(pixels, lossless=True, effort=7, numthreads=1))


def codecs(rival: TrainedRival) -> dict[str, Pair]:
    """Name -> (encode, decode)"""
    return {
        rival.name: (lambda pixels: rival.encode(pixels, rival.settings[0]), rival.decode),
        "FlowCodec": (lambda pixels: flowcodec.encode(pixels, lossless=True, threads=1), flowcodec.decode),
        "JPEG XL, effort 7": (jpeg_xl, imagecodecs.jpegxl_decode),
        "WebP": pillow(format="WEBP", lossless=True, quality=100, method=6),
        "PNG": pillow(format="PNG", optimize=True),
    }


def reduced(pixels: np.ndarray) -> np.ndarray:
    """The middle square, SIDE x SIDE."""
    image = Image.fromarray(pixels)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BOX))


def measure(name: str, pictures: Sequence[np.ndarray], pairs: dict[str, Pair]) -> list[dict[str, Any]]:
    """One row per codec: bits per subpixel, all pictures together. Raises InputError where other pixels come back."""
    rows = []
    for codec, (encode, decode) in pairs.items():
        sizes = []
        for pixels in pictures:
            data = encode(pixels)
            if not np.array_equal(decode(data), pixels):
                raise InputError(f"{codec}: other pixels came back from a picture of {name}")
            sizes.append(len(data))
        bits = 8 * sum(sizes) / sum(pixels.size for pixels in pictures)
        rows.append({"pictures": name, "codec": codec, "bits per subpixel": bits, "bytes": sizes})
        say(f"{name}, {codec}: {bits:.3f}")
    return rows


def pictures_of(path: Path, kind: Kind, limit: int) -> list[np.ndarray]:
    return [image.pixels() for image in find_images([path], kind, limit)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--cache", type=Path, help="folder that keeps the decoded photographs for the next run")
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--imagenet", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--out", type=Path, default=RESULTS / "rivals" / "lossless.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        config = RivalConfig.read(arguments.config)
        with tempfile.TemporaryDirectory() as temporary:
            store = (arguments.cache or Path(temporary)) / "pixels.npy"
            rival = train_all(config, lambda: PixelStore.open(arguments.data, store), arguments.models, say)
        described = rival.describe()
        pairs = codecs(rival)
        small = pictures_of(arguments.cifar, "cifar10", arguments.limit)
        large = [reduced(pixels) for pixels in pictures_of(arguments.imagenet, "imagenet", arguments.limit)]
        rows = measure("CIFAR-10, 32x32", small, pairs) + measure("ImageNet reduced to 64x64", large, pairs)
    except FlowCodecError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    seen = described["training"]["pixels_seen_by_each_model"]
    document = {
        "kind": "study",
        "title": "Small pictures without loss",
        "description": f"Bits per subpixel of whole files, {len(small)} and {len(large)} pictures, all decoded and compared. The "
        f"discrete flow saw {seen / 1e6:.1f} million pixels in training: far from the published models of this kind.",
        "columns": ["pictures", "codec", "bits per subpixel"],
        "rows": rows,
        "rival": described,
        "pixel_model": pixel_model().id.hex(),
        "environment": environment(),
    }
    replace_file(arguments.out, json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
