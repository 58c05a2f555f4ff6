"""Tiles cover the picture once, networks on them give what they give on the whole, and threads share them."""

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from flowcodec.runtime import tiles
from flowcodec.runtime.integer import GraphInfo


class Sum:
    """A network that sums over 5x5 sites, zero padded."""

    def __init__(self, threads: int, factor: int = 1) -> None:
        self.threads, self.factor = threads, factor
        self.callers: set[str] = set()

    def __call__(self, graph: str, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        self.callers.add(threading.current_thread().name)
        height, width = inputs[0].shape[2:]
        padded = np.pad(inputs[0], ((0, 0), (0, 0), (2, 2), (2, 2)))
        total = sum(padded[:, :, y : y + height, x : x + width] for y in range(5) for x in range(5))
        return [np.asarray(total).repeat(self.factor, 2).repeat(self.factor, 3)]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 999), (64, 96), (128, 192), (333, 77)])
def test_tiles_cover_every_site_once(size: tuple[int, int], threads: int) -> None:
    for sites, halo in ((50, 1), (4096, 0), (4096, 4), (1 << 40, 2)):
        counts = np.zeros(size, int)
        for place in tiles.tiles(*size, sites, threads, halo):
            counts[place] += 1
        assert (counts == 1).all()


def test_threads_get_a_tile_each_where_it_pays() -> None:
    assert len(tiles.tiles(64, 64, 1 << 40, 2)) == 2
    assert len(tiles.tiles(8, 8, 1 << 40, 2)) == 1


@pytest.mark.parametrize(("threads", "factor"), [(1, 1), (2, 1), (2, 2)])
def test_a_network_on_tiles_is_the_network_on_the_whole(threads: int, factor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TILE_SITES", 100)
    planes = np.random.default_rng(0).integers(-1000, 1000, (3, 70, 58)).astype(np.int16)
    runner = Sum(threads, factor)
    whole = tiles.Whole(70 * factor, 58 * factor, [np.int32])
    tiles.run_in_tiles(runner, "sum", GraphInfo(2, 2 * factor), (70, 58), lambda place: [planes[:, *place]], whole)
    np.testing.assert_array_equal(whole.arrays[0], Sum(1, factor)("sum", [planes[None].astype(np.float32)])[0][0])
    assert 1 <= len(runner.callers) <= threads


def test_a_halo_too_narrow_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above can fail."""
    monkeypatch.setattr(tiles, "TILE_SITES", 100)
    planes = np.ones((1, 40, 40), np.int16)
    whole = tiles.Whole(40, 40, [np.int32])
    tiles.run_in_tiles(Sum(1), "sum", GraphInfo(1, 2), (40, 40), lambda place: [planes[:, *place]], whole)
    assert (whole.arrays[0] != Sum(1)("sum", [planes[None].astype(np.float32)])[0][0]).any()


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_every_item_is_taken_once(threads: int, count: int) -> None:
    taken: list[int] = []
    tiles.in_parallel(threads, taken.append, range(count))
    assert sorted(taken) == list(range(count))


def test_threads_work_at_a_time() -> None:
    """Each item waits until another has begun."""
    meeting = threading.Barrier(2, timeout=60)
    tiles.in_parallel(2, lambda _: meeting.wait(), range(4))


def test_items_may_share_work_themselves() -> None:
    """More callers than threads do not wait for each other."""
    taken: list[int] = []
    tiles.in_parallel(2, lambda _: tiles.in_parallel(2, taken.append, range(3)), range(4))
    assert sorted(taken) == sorted([0, 1, 2] * 4)


def test_errors_of_a_thread_reach_the_caller() -> None:
    def fail(item: int) -> None:
        if item == 3:
            raise ValueError("three")

    with pytest.raises(ValueError, match="three"):
        tiles.in_parallel(2, fail, range(5))
