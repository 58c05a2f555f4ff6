"""Groups side by side: order, bounds, errors, ends."""

import threading
import time

import numpy as np
import pytest

from flowcodec.errors import FormatError
from flowcodec.video.pool import GroupPool, frames_ahead, in_order


def items(groups: int, size: int) -> list[tuple[int, int]]:
    return [(group, number) for group in range(groups) for number in range(size)]


def begins(item: tuple[int, int]) -> bool:
    return item[1] == 0


class Coder:
    """Gives its items back after a while that differs from item to item; knows how many were coded and not taken."""

    def __init__(self, seed: int, alive: list[int]) -> None:
        self._rng, self._alive = np.random.default_rng(seed), alive
        self.seen: list[tuple[int, int]] = []

    def __call__(self, item: tuple[int, int]) -> tuple[int, int]:
        time.sleep(self._rng.random() * 2e-3)
        self.seen.append(item)
        self._alive.append(1)
        return item


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 2, 9])
def test_results_are_in_order_and_groups_stay_together(workers: int, size: int) -> None:
    coders = [Coder(number, []) for number in range(workers)]
    with GroupPool(coders, 3 * size, 2) as pool:
        assert list(in_order(pool, items(8, size), begins)) == items(8, size)
    for coder in coders:
        assert all(
            begins(now) or now == (before[0], before[1] + 1) for before, now in zip(coder.seen, coder.seen[1:], strict=False)
        )
    assert sum(len(coder.seen) for coder in coders) == 8 * size


def test_what_waits_is_bounded() -> None:
    alive: list[int] = []
    worst = taken = 0
    with GroupPool([Coder(number, alive) for number in range(3)], 12, 5) as pool:
        for _ in in_order(pool, items(12, 8), begins):
            taken += 1
            time.sleep(1e-3)
            worst = max(worst, len(alive) - taken)
    assert 2 <= worst <= 5 + 1


def test_workers_work_at_the_same_time() -> None:
    """Each waits for the other: one alone would stand still."""
    meeting = threading.Barrier(2)
    with GroupPool([lambda item: meeting.wait(10) is not None] * 2, 10, 10) as pool:
        assert list(in_order(pool, items(2, 3), begins)) == [True] * 6


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_comes_in_its_place_and_ends_the_threads(workers: int) -> None:
    def fails(item: tuple[int, int]) -> tuple[int, int]:
        if item == (2, 1):
            raise FormatError("damaged")
        return item

    taken = []
    before = threading.active_count()
    with pytest.raises(FormatError), GroupPool([fails] * workers, 6, 6) as pool:
        for item in in_order(pool, items(5, 3), begins):
            taken.append(item)
    assert taken == items(5, 3)[:7] and threading.active_count() == before


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_of_the_items_follows_what_was_before_it(workers: int) -> None:
    def broken():
        yield from items(3, 3)[:7]
        raise FormatError("cut short")

    taken = []
    with pytest.raises(FormatError), GroupPool([lambda item: item] * workers, 6, 6) as pool:
        for item in in_order(pool, broken(), begins):
            taken.append(item)
    assert taken == items(3, 3)[:7]


def test_an_interrupt_ends_the_threads() -> None:
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), GroupPool([Coder(number, []) for number in range(2)], 6, 6) as pool:
        for _ in in_order(pool, items(50, 3), begins):
            raise KeyboardInterrupt
    assert threading.active_count() == before


def test_how_many_pictures_wait() -> None:
    assert frames_ahead(2, 128, 352 * 288) == 128
    assert 3 * 3840 * 2160 * frames_ahead(2, 128, 3840 * 2160) <= 1 << 28
    assert frames_ahead(4, 1, 1 << 26) == 5
