"""Films: how near ``--bitrate`` comes to what is asked for.

    python benchmarks/film_bitrate.py FILM... [--kbps 60 150 400] [--frames 64] [--size 176x144] [--gop 128]
        [--out results/film_bitrate.json]

The frames of a film go forth and back until there are enough of them. Each rate is asked for twice: the length of the film known
beforehand, as of a file, and unknown, as of a stream.
"""

import argparse
import io
import json
from fractions import Fraction
from pathlib import Path

import numpy as np

from film_memory import RESULTS, frames_of
from flowcodec.benchmark.environment import environment
from flowcodec.video.encoder import FilmEncoder, VideoSettings
from flowcodec.video.source import FilmInfo, Frame

RATE = 30


def reached_kbps(frames: list[np.ndarray], settings: VideoSettings, known: bool) -> float:
    height, width = frames[0].shape[:2]
    info = FilmInfo(width, height, Fraction(1, RATE), Fraction(RATE), frames=len(frames) if known else None)
    with FilmEncoder(io.BytesIO(), info, settings) as encoder:
        for number, pixels in enumerate(frames):
            encoder.frame(Frame(pixels, number))
        encoder.finish()
    return 8 * encoder.size_bytes / 1000 / encoder.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films", type=Path, nargs="+")
    parser.add_argument("--kbps", type=float, nargs="+", default=[60, 150, 400])
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--size", default="176x144", help="of the window that is taken from the films")
    parser.add_argument("--gop", type=int, default=128)
    parser.add_argument("--out", type=Path, default=RESULTS / "film_bitrate.json")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    rows = []
    for film in arguments.films:
        frames = [np.ascontiguousarray(pixels) for pixels in frames_of(film, arguments.frames, width, height)]
        for kbps in arguments.kbps:
            settings = VideoSettings(bitrate_kbps=kbps, gop=arguments.gop, threads=1)
            for known in (True, False):
                found = reached_kbps(frames, settings, known)
                row = {"film": film.name, "length_known": known, "asked_kbps": kbps, "reached_kbps": round(found, 2)}
                rows.append(row | {"error_percent": round(100 * (found / kbps - 1), 2)})
                print(json.dumps(rows[-1]), flush=True)
    models = [model.id.hex() for model in VideoSettings().models()]
    about = {"frames": arguments.frames, "fps": RATE, "size": arguments.size, "gop": arguments.gop, "models": models}
    arguments.out.write_text(json.dumps({"environment": environment(), **about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
