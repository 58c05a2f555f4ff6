"""Networks on tiles of a picture, several tiles at a time.

A tile is read with a halo as wide as its network sees, and what came of the halo is cut away: zero padding at the border of a
tile only ever reaches what is cut, and integers have one right value, so tiles and threads leave no trace.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Lock, local
from typing import TypeVar

import numpy as np

from flowcodec.runtime.integer import GraphInfo, Runner
from flowcodec.runtime.memory import return_freed_memory

TILE_SITES = 1 << 12
"""Sites of a tile for each row of its halos: few enough for a core's cache, enough for little to be computed twice."""
_SMALLEST_SHARE = 1 << 9
"""Sites that are worth handing to another thread."""
_HIGH = 16
_LARGE_SITES = 1 << 18

Place = tuple[slice, slice]
"""Rows and columns."""
Read = Callable[[Place], Sequence[np.ndarray]]
"""What a graph is given of a place: integers (C, h, w) of any type, or (..., h, w) where C is several axes."""
Write = Callable[[Place, list[np.ndarray]], None]
"""Takes what a graph made of a place: float32 (C, h', w'), the place in the sites of these outputs."""
_Item = TypeVar("_Item")


class _Scratch(local):
    """Arrays of a thread, one for each input of a graph, as long as the longest so far."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []


_scratch = _Scratch()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "flowcodec")


def in_parallel(threads: int, function: Callable[[_Item], None], items: Iterable[_Item]) -> None:
    """Calls the function for each item, ``threads`` at a time, the caller's among them. Raises what it raises."""
    left = deque(items)

    def work() -> None:
        while left:
            try:
                item = left.popleft()
            except IndexError:  # another thread took the last one
                return
            try:
                function(item)
            except BaseException:
                left.clear()
                raise

    others = [_pool(threads).submit(work) for _ in range(min(threads, len(left)) - 1)]
    try:
        work()
    finally:
        # One that has not begun has nothing left to do; for the others this waits.
        errors = [other.exception() for other in others if not other.cancel()]
    for error in errors:
        if error is not None:
            raise error


def even(length: int) -> int:
    """The next even number from here on."""
    return length + length % 2


def _cuts(length: int, parts: int) -> list[slice]:
    """About equal parts that begin at even numbers."""
    size = even(-(-length // parts))
    return [slice(begin, min(begin + size, length)) for begin in range(0, length, size)]


def tiles(height: int, width: int, sites: int, threads: int = 1, halo: int = 0) -> list[Place]:
    """A grid of tiles of about ``sites`` sites; the more of them for threads to share, where that pays.

    Whole rows where they make tiles many times as high as the halo, since they are read fastest; else about square tiles.
    """
    shares = max(min(threads, height * width // _SMALLEST_SHARE), 1)
    count = -(-height * width // (sites * shares)) * shares
    square = min(max(round((count * width / height) ** 0.5), 1), count)
    columns = 1 if height >= _HIGH * halo * count else square
    return [(rows, part) for rows in _cuts(height, -(-count // columns)) for part in _cuts(width, columns)]


def channel_groups(channels: int, sites: int) -> list[slice]:
    """Channels one by one, for threads to share and for a core's cache to hold; all at once where they are small."""
    size = 1 if sites > _SMALLEST_SHARE else channels
    return [slice(begin, begin + size) for begin in range(0, channels, size)]


def _floats(planes: Sequence[np.ndarray]) -> list[np.ndarray]:
    """float32 (1, C, h, w) of each, in memory that the thread's next call uses again: fresh pages cost more than the copy."""
    held, floats = _scratch.arrays, []
    for number, values in enumerate(planes):
        if number == len(held):
            held.append(np.empty(values.size, np.float32))
        elif held[number].size < values.size:
            held[number] = np.empty(values.size, np.float32)
        part = held[number][: values.size]
        part.reshape(values.shape)[:] = values
        floats.append(part.reshape(1, -1, *values.shape[-2:]))
    return floats


def run_in_tiles(runner: Runner, graph: str, info: GraphInfo, size: tuple[int, int], read: Read, write: Write) -> None:
    """Runs a graph on all of an input grid of the given (height, width); ``read`` and ``write`` are called by several threads."""
    halo, factor = info.halo, info.double_rows // 2

    def run(tile: Place) -> None:
        rows, columns = (slice(max(s.start - halo, 0), min(s.stop + halo, end)) for s, end in zip(tile, size, strict=True))
        results = runner(graph, _floats(read((rows, columns))))
        place = slice(tile[0].start * factor, tile[0].stop * factor), slice(tile[1].start * factor, tile[1].stop * factor)
        top, left = place[0].start - rows.start * factor, place[1].start - columns.start * factor
        bottom, right = top + place[0].stop - place[0].start, left + place[1].stop - place[1].start
        write(place, [result[0, :, top:bottom, left:right] for result in results])

    in_parallel(runner.threads, run, tiles(*size, TILE_SITES * max(2 * halo, 1), runner.threads, halo))
    if size[0] * size[1] >= _LARGE_SITES:
        return_freed_memory()


class Whole:
    """A ``Write`` that puts the tiles of all outputs together: ``arrays`` (C, height, width), of the types that come first.

    What the graph's grid has beyond that size is dropped.
    """

    def __init__(self, height: int, width: int, dtypes: Sequence[type]) -> None:
        self._size, self._dtypes, self._lock = (height, width), dtypes, Lock()
        self.arrays: list[np.ndarray] = []

    def __call__(self, place: Place, results: list[np.ndarray]) -> None:
        with self._lock:
            if not self.arrays:
                shapes = [(len(result), *self._size) for result in results]
                self.arrays = [np.empty(shape, dtype) for shape, dtype in zip(shapes, self._dtypes, strict=False)]
        for array, result in zip(self.arrays, results, strict=True):
            target = array[:, *place]
            target[:] = result[:, : target.shape[1], : target.shape[2]]
