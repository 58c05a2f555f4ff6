"""A child process that decodes hostile files within bounds of processor time and memory, and reports what came of it.

Reads requests from stdin (u32 size, the bytes of a file), answers each with a line of JSON on stdout. The first is the warm-up,
after which memory is counted. A file that takes more than ``TIME_S`` ends the process by SIGPROF; one that takes more resident
memory than ``MEMORY_BYTES`` counts as an escape; one that maps more than ``MAPPED_BYTES`` gets a MemoryError or ends the process.
"""

import json
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import flowcodec

TIME_S = 8.0
"""For six ways to read a file: a lossless picture of two rows takes half a millisecond a column, each time."""
MEMORY_BYTES = 500 << 20
MAPPED_BYTES = 4 * MEMORY_BYTES


def address_space_bytes() -> int:
    """What this process has mapped now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()


def peak_bytes() -> int:
    """The most resident memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def decode(data: bytes, **options: Any) -> np.ndarray:
    image = flowcodec.decode(data, threads=1, **options)
    assert isinstance(image, np.ndarray) and image.dtype in (np.uint8, np.uint16) and image.ndim in (2, 3), repr(image)
    return image


def outcome(function: Callable[[bytes], Any], data: bytes) -> str:
    """``done``, or the name of the FlowCodecError."""
    try:
        function(data)
    except flowcodec.FlowCodecError as error:
        assert len(str(error).splitlines()) == 1, f"not one line: {error!r}"
        return type(error).__name__
    return "done"


def examine(data: bytes) -> dict[str, str]:
    """Outcomes of ``info`` and ``decode``, of the whole file and of its front, or what escaped."""
    try:
        return {
            "info": outcome(flowcodec.info, data),
            "decode": outcome(decode, data),
            "info of the front": outcome(partial(flowcodec.info, partial=True), data),
            "partial": outcome(partial(decode, partial=True), data),
            "half size": outcome(partial(decode, levels=1), data),
            "eighth size": outcome(partial(decode, levels=3, partial=True), data),
        }
    except BaseException:
        return {"escaped": traceback.format_exc()}


def serve() -> None:
    unlimited = resource.getrlimit(resource.RLIMIT_AS)
    baseline = None
    while size := sys.stdin.buffer.read(4):
        data = sys.stdin.buffer.read(int.from_bytes(size, "little"))
        if baseline is None:
            report, baseline = examine(data), peak_bytes()
        else:
            resource.setrlimit(resource.RLIMIT_AS, (address_space_bytes() + MAPPED_BYTES, unlimited[1]))
            signal.setitimer(signal.ITIMER_PROF, TIME_S)
            report = examine(data)
            signal.setitimer(signal.ITIMER_PROF, 0)
            resource.setrlimit(resource.RLIMIT_AS, unlimited)
        if (used := peak_bytes() - baseline) > MEMORY_BYTES:
            report.setdefault("escaped", f"{used >> 20} MiB used, {MEMORY_BYTES >> 20} MiB allowed")
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    serve()
