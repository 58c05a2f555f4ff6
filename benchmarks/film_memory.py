"""Films: memory over the length of a clip, and what a seek decodes.

    python benchmarks/film_memory.py FILM [--lengths 60 600] [--threads 1 2] [--size 224x160] [--gop 20] [--quality 40]
        [--out results/film_memory.json]

The frames of the film go forth and back until there are enough of them, in a lossless file that is made first. Memory is that of
``flowcodec encode`` and ``flowcodec decode`` with all their processes, by two measures: the peak resident set of the largest
process, as the system keeps it, and the peak of the memory of their own (anonymous pages, not the libraries that all programs
share) that all of them hold together, looked at every 20 ms (Linux). A film of two million pixels or more is coded in processes,
a shorter one in threads: compare lengths on one side of that.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import av
import numpy as np

from flowcodec.benchmark.environment import environment
from flowcodec.runtime.video import FrameDecoder
from flowcodec.video.decoder import Film

RESULTS = Path(__file__).parents[1] / "results"


_LAUNCH = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
"""A small process between: the peak that the system tells of a process starts at that of the one it was made by."""
LOOKS_EVERY_S = 0.02
SIDES = ("encode", "decode")


def own_kib(process: int) -> int:
    """Anonymous pages of a process and of all that it has started, and those in turn."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # some end meanwhile
            # The name, in brackets, may hold anything; then come state and parent.
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(status.parent.name))
    total, left = 0, [process]
    while left:
        one = left.pop()
        left += children.get(one, ())
        with suppress(FileNotFoundError, ProcessLookupError):
            rollup = Path(f"/proc/{one}/smaps_rollup").read_text()
            total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Anonymous:"))
    return total


def peaks_mib(arguments: Sequence[str]) -> tuple[float, float]:
    """Peak memory of ``flowcodec ARGUMENTS``: their own of all its processes together, resident of the largest."""
    command = [sys.executable, "-c", "from flowcodec.cli import main; main()", *arguments]
    launch = [sys.executable, "-c", _LAUNCH, *command]
    together = 0
    with subprocess.Popen(launch, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.poll() is None:
            together = max(together, own_kib(process.pid))
            time.sleep(LOOKS_EVERY_S)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        largest = int(process.stdout.read())
    return round(together / 1024, 1), round(largest / 1024, 1)


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


def growth(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Peak memory of the longest film over that of the shortest, less one, in per cent."""
    found = {}
    for threads in sorted({row["threads"] for row in rows}):
        ordered = sorted((row for row in rows if row["threads"] == threads), key=lambda row: row["frames"])
        for side in SIDES:
            for key, what in ((f"{side}_peak_mib", "all processes"), (f"{side}_largest_mib", "largest process")):
                found[f"{side}, {threads} threads, {what}"] = round(100 * (ordered[-1][key] / ordered[0][key] - 1), 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path)
    parser.add_argument("--lengths", type=int, nargs="+", default=[60, 600])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--gop", type=int, default=20)
    parser.add_argument("--quality", type=float, default=40)
    parser.add_argument("--size", default="224x160", help="of the window that is taken from the film")
    parser.add_argument("--out", type=Path, default=RESULTS / "film_memory.json")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    result: dict[str, Any] = {"environment": environment(), "film": arguments.film.name, "size": arguments.size}
    result |= {"quality": arguments.quality, "gop": arguments.gop, "rows": []}
    with tempfile.TemporaryDirectory() as folder:
        for count in arguments.lengths:
            source, coded, back = (Path(folder) / f"{count}.{suffix}" for suffix in ("mkv", "flow", "y4m"))
            write(frames_of(arguments.film, count, width, height), source)
            for threads in arguments.threads:
                options = ["--threads", str(threads)]
                quality = ["-q", str(arguments.quality), "--gop", str(arguments.gop)]
                calls = [["encode", str(source), str(coded), *quality, *options], ["decode", str(coded), str(back), *options]]
                row: dict[str, Any] = {"frames": count, "threads": threads}
                for side, call in zip(SIDES, calls, strict=True):
                    row[f"{side}_peak_mib"], row[f"{side}_largest_mib"] = peaks_mib(call)
                film = Film(coded, threads=threads)
                seek = {"frame": 2 * count // 3 - 1, "longest_group": max(group.frames for group in film.groups)}
                seek["frames_decoded"] = decoded_for(film, seek["frame"])
                result["rows"].append(row | {"size_bytes": film.size_bytes, "seek": seek})
                print(json.dumps(result["rows"][-1]), flush=True)
                result["growth_percent"] = growth(result["rows"])
                arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
