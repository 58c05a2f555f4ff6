"""Memory for large photographs, and whether working in tiles leaves a trace in the picture or the rate.

    python benchmarks/memory.py PHOTOGRAPH... [--quality 60] [--threads 2] [--out results/memory.json]

Peak memory is the resident set of ``flowcodec encode`` and ``flowcodec decode`` as processes of their own, reading the photograph
and writing a PNG included. For the tiles, the photograph is also encoded and decoded with every network run on the whole image
at once, which takes several times the memory; both must give the same file and the same pixels.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image

import flowcodec
from flowcodec.benchmark.environment import environment
from flowcodec.runtime import tiles
from flowcodec.runtime.decode import decode_picture
from flowcodec.runtime.encode import EncodeSettings, encode_picture
from flowcodec.runtime.image import Picture, read_picture

RESULTS = Path(__file__).parents[1] / "results"
WHOLE = 1 << 40
"""Sites of a tile that no image has."""


def run_command(arguments: Sequence[str]) -> dict[str, float]:
    """Runs ``flowcodec ARGUMENTS`` as a process; its wall time and the peak of its resident set."""
    start = perf_counter()
    command = [sys.executable, "-c", "from flowcodec.cli import main; main()", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    unit = 1 if sys.platform == "darwin" else 1024
    return {"peak_mib": round(usage.ru_maxrss * unit / 2**20, 1), "wall_s": round(perf_counter() - start, 2)}


def measure_memory(photograph: Path, quality: float, threads: int) -> dict[str, Any]:
    with Image.open(photograph) as image:
        width, height = image.size
    with tempfile.TemporaryDirectory() as folder:
        file, back = Path(folder) / "photograph.flow", Path(folder) / "photograph.png"
        options = ["--threads", str(threads)]
        encode = run_command(["encode", str(photograph), str(file), "-q", str(quality), *options])
        decode = run_command(["decode", str(file), str(back), *options])
    return {"width": width, "height": height, "encode": encode, "decode": decode}


@contextmanager
def whole_image() -> Iterator[None]:
    """Every network runs on the whole image at once."""
    with patch.object(tiles, "TILE_SITES", WHOLE):
        yield


def compare_tiles(photograph: Path, quality: float, threads: int) -> dict[str, Any]:
    """Tiles against the whole image: bytes of both files, and the pixels that differ."""
    picture = Picture(read_picture(photograph).pixels)
    settings = EncodeSettings(quality=quality, threads=threads)
    data = encode_picture(picture, settings)
    pixels = decode_picture(data, threads).pixels
    with whole_image():
        whole_data = encode_picture(picture, settings)
        whole_pixels = decode_picture(data, threads).pixels
    return {
        "size_bytes": len(data),
        "bpp": 8 * len(data) / (picture.pixels.size / picture.pixels.shape[2]),
        "whole_image_size_bytes": len(whole_data),
        "rate_penalty_percent": 100 * (len(data) / len(whole_data) - 1),
        "same_file": data == whole_data,
        "pixels_that_differ": int(np.any(pixels != whole_pixels, axis=2).sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", nargs="+", type=Path, metavar="PHOTOGRAPH")
    parser.add_argument("--quality", type=float, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-tiles", action="store_true", help="leave out the comparison with the whole image")
    parser.add_argument("--out", type=Path, default=RESULTS / "memory.json")
    arguments = parser.parse_args()
    measure = [measure_memory] if arguments.no_tiles else [measure_memory, compare_tiles]
    options = arguments.quality, arguments.threads
    # Memory first: a child that is started by a large process inherits its peak.
    photographs: dict[str, dict[str, Any]] = {path.name: {} for path in arguments.photographs}
    for function in measure:
        for path in arguments.photographs:
            photographs[path.name] |= function(path, *options)
    result = {
        "environment": environment(),
        "model": flowcodec.load_model("default").id.hex(),
        "settings": {"quality": arguments.quality, "threads": arguments.threads},
        "photographs": photographs,
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
