"""Films: frames per second of encoding and decoding, whole calls with warm networks; for a machine without other work.

    python benchmarks/film_speed.py FILM [--threads 1 2] [--frames 96] [--gop 24] [--size 352x288] [--quality 50]
        [--out results/film_speed.json]

Groups of pictures are coded side by side, so that more threads need more than one group: of a film of a single group the networks
share the threads, which gains less. The frames of the film go forth and back until there are enough of them. ``--busy`` notes CPU
seconds only.
"""

import argparse
import io
import json
import resource
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from film_memory import RESULTS, frames_of
from flowcodec.benchmark.environment import environment
from flowcodec.video.decoder import Film
from flowcodec.video.encoder import FilmEncoder, VideoSettings
from flowcodec.video.source import FilmInfo, Frame


def encoded(frames: list[np.ndarray], settings: VideoSettings) -> bytes:
    height, width = frames[0].shape[:2]
    stream = io.BytesIO()
    with FilmEncoder(stream, FilmInfo(width, height, Fraction(1, 30), Fraction(30), frames=len(frames)), settings) as encoder:
        for number, pixels in enumerate(frames):
            encoder.frame(Frame(pixels, number))
        encoder.finish()
    return stream.getvalue()


def timed(call: Callable[[], Any], frames: int, busy: bool) -> tuple[Any, dict[str, float]]:
    """(result, frames per second and CPU seconds a frame, those of ended child processes included)"""
    start = perf_counter(), _cpu_s()
    result = call()
    wall_s, cpu_s = perf_counter() - start[0], _cpu_s() - start[1]
    found = {"cpu_s_per_frame": round(cpu_s / frames, 4)}
    return result, found if busy else {"fps": round(frames / wall_s, 2), "cores_used": round(cpu_s / wall_s, 2)} | found


def _cpu_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--frames", type=int, default=96)
    parser.add_argument("--gop", type=int, default=24)
    parser.add_argument("--quality", type=float, default=50)
    parser.add_argument("--size", default="352x288", help="of the window that is taken from the film")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / "film_speed.json")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    frames = [np.ascontiguousarray(pixels) for pixels in frames_of(arguments.film, arguments.frames, width, height)]
    models = [model.id.hex() for model in VideoSettings().models()]
    about = {"film": arguments.film.name, "size": arguments.size, "frames": len(frames), "gop": arguments.gop}
    result = {"environment": environment(), "models": models, **about, "quality": arguments.quality, "rows": []}
    for threads in arguments.threads:
        settings = VideoSettings(quality=arguments.quality, gop=arguments.gop, threads=threads)
        warm = encoded(frames[:2], settings)
        list(Film(warm, threads=threads))
        data, encode = timed(lambda: encoded(frames, settings), len(frames), arguments.busy)  # noqa: B023
        count, decode = timed(lambda: sum(1 for _ in Film(data, threads=threads)), len(frames), arguments.busy)  # noqa: B023
        assert count == len(frames)
        result["rows"].append({"threads": threads, "size_bytes": len(data), "encode": encode, "decode": decode})
        print(json.dumps(result["rows"][-1]), flush=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
