"""Films: whether 300 frames on, every decoder shows what the encoder saw; hashes of all frames.

    python benchmarks/film_exactness.py FILM [--frames 300] [--size 128x96] [--gop 100] [--out results/film_exactness.json]

The frames of the film go forth and back until there are enough of them. The encoder's hash is of its reconstructions as it makes
them; decoders differ in threads and in whether ONNX Runtime optimises its graphs.
"""

import argparse
import hashlib
import io
import json
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from film_memory import RESULTS, frames_of
from flowcodec.benchmark.environment import environment
from flowcodec.video.decoder import Film
from flowcodec.video.encoder import FilmEncoder, VideoSettings
from flowcodec.video.source import FilmInfo, Frame

DECODERS: dict[str, dict[str, Any]] = {
    "1 thread": {"threads": 1},
    "2 threads": {"threads": 2},
    "4 threads": {"threads": 4},
    "1 thread, graphs as they are": {"threads": 1, "optimise": False},
}


def digest(pictures: Iterable[np.ndarray]) -> tuple[int, str]:
    """(count, SHA-256 of all of them)"""
    count, found = 0, hashlib.sha256()
    for pixels in pictures:
        count += 1
        found.update(pixels.tobytes())
    return count, found.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--size", default="128x96", help="of the window that is taken from the film")
    parser.add_argument("--gop", type=int, default=100)
    parser.add_argument("--quality", type=float, default=40)
    parser.add_argument("--out", type=Path, default=RESULTS / "film_exactness.json")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    settings = VideoSettings(quality=arguments.quality, gop=arguments.gop, threads=2)
    info = FilmInfo(width, height, Fraction(1, 30), Fraction(30), frames=arguments.frames)
    stream, seen = io.BytesIO(), hashlib.sha256()
    with FilmEncoder(stream, info, settings, shown=lambda pixels: seen.update(pixels.tobytes())) as encoder:
        for number, pixels in enumerate(frames_of(arguments.film, arguments.frames, width, height)):
            encoder.frame(Frame(np.ascontiguousarray(pixels), number))
        encoder.finish()
    result = {
        "environment": environment(),
        "models": [model.id.hex() for model in settings.models()],
        "film": arguments.film.name,
        "size": arguments.size,
        "quality": arguments.quality,
        "gop": arguments.gop,
        "frames": encoder.frames,
        "frame_kinds": {kind.name: count for kind, count in encoder.kinds.items()},
        "size_bytes": encoder.size_bytes,
        "sha256": {"encoder, 2 threads": seen.hexdigest()},
    }
    for name, options in DECODERS.items():
        count, result["sha256"][name] = digest(frame.pixels for frame in Film(stream.getvalue(), **options))
        assert count == encoder.frames
    result["equal"] = len(set(result["sha256"].values())) == 1
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: result[key] for key in ("frames", "frame_kinds", "size_bytes", "sha256", "equal")}, indent=1))


if __name__ == "__main__":
    main()
