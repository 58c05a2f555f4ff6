"""Films: memory over the length of a clip, and what a seek decodes.

    python benchmarks/film_memory.py FILM [--lengths 60 600] [--quality 40] [--size 176x144] [--out results/film_memory.json]

The frames of the film go forth and back until there are enough of them, in a lossless file that is made first. Peak memory is the
resident set of ``flowcodec encode`` and ``flowcodec decode`` as processes of their own.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import av
import numpy as np

from flowcodec.benchmark.environment import environment
from flowcodec.runtime.video import FrameDecoder
from flowcodec.video.decoder import Film
from memory import run_command

RESULTS = Path(__file__).parents[1] / "results"


def frames_of(film: Path, count: int, width: int, height: int) -> Iterator[np.ndarray]:
    """uint8 (height, width, 3): a window of the film, forth and back."""
    with av.open(str(film)) as source:
        forth = [frame.to_ndarray(format="rgb24")[:height, :width] for frame in source.decode(video=0)]
    return islice(cycle(forth + forth[-2:0:-1]), count)


def write(frames: Iterator[np.ndarray], path: Path) -> None:
    with av.open(str(path), "w") as output:
        stream: Any = None
        for pixels in frames:
            if stream is None:
                stream = output.add_stream("ffv1", rate=30)
                stream.height, stream.width, stream.pix_fmt = *pixels.shape[:2], "bgr0"
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24").reformat(format="bgr0")))
        output.mux(stream.encode(None))


def decoded_for(film: Film, number: int) -> int:
    """Frames that are decoded to show one."""
    count = 0
    frame = FrameDecoder.frame

    def counted(self: FrameDecoder, part: Any) -> None:
        nonlocal count
        count += 1
        frame(self, part)

    FrameDecoder.frame = counted  # type: ignore[method-assign]
    try:
        assert film[number].number == number
    finally:
        FrameDecoder.frame = frame  # type: ignore[method-assign]
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path)
    parser.add_argument("--lengths", type=int, nargs="+", default=[60, 600])
    parser.add_argument("--quality", type=float, default=40)
    parser.add_argument("--size", default="176x144", help="of the window that is taken from the film")
    parser.add_argument("--out", type=Path, default=RESULTS / "film_memory.json")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    result: dict[str, Any] = {"environment": environment(), "film": arguments.film.name, "size": arguments.size}
    result |= {"quality": arguments.quality, "lengths": {}}
    with tempfile.TemporaryDirectory() as folder:
        for count in arguments.lengths:
            source, coded, back = (Path(folder) / f"{count}.{suffix}" for suffix in ("mkv", "flow", "y4m"))
            write(frames_of(arguments.film, count, width, height), source)
            encode = run_command(["encode", str(source), str(coded), "-q", str(arguments.quality), "--threads", "1"])
            decode = run_command(["decode", str(coded), str(back), "--threads", "1"])
            back.unlink()
            film = Film(coded, threads=1)
            seek = {"frame": 2 * count // 3, "longest_group": max(group.frames for group in film.groups)}
            seek["frames_decoded"] = decoded_for(film, seek["frame"])
            row = {"frames": film.frames, "size_bytes": film.size_bytes, "encode": encode, "decode": decode, "seek": seek}
            result["lengths"][str(count)] = row
            print(json.dumps(row))
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
