"""Groups of pictures coded side by side, their results in the order of the film.

A group's items go one after the other through one coder, since each frame leans on the one before; groups need nothing of each
other. A thread looks after each coder, which does its work in the thread or, where there is much of it, in a process of its own.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from flowcodec.errors import FlowCodecError
from flowcodec.video.remote import RemoteCoder

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD_BYTES = 1 << 28
"""Of pictures that wait for those before them."""
_REMOTE_PIXELS = 2_000_000
"""Of all frames of a film, from which processes are worth the second that they take to start."""


def make_coders(
    workers: int, pixels: int | None, make: Callable[..., Callable[[Item], Result]], *arguments: Any
) -> list[Callable[[Item], Result]]:
    """``make(*arguments)`` for each worker, in processes where a film has many ``pixels`` in all; None: not known, assumed."""
    if workers > 1 and (pixels is None or pixels >= _REMOTE_PIXELS):
        return [RemoteCoder(make, *arguments) for _ in range(workers)]
    return [make(*arguments) for _ in range(workers)]


def frames_ahead(workers: int, longest_group: int, pixels: int) -> int:
    """Pictures of 3 bytes a pixel that may wait: the groups of all workers but the one whose turn it is.

    Half as many would do in a long film, where workers come to stand apart in their groups; in a short one they have no time to.
    """
    return max(min(longest_group * (workers - 1), _AHEAD_BYTES // (3 * pixels)), workers + 1)


class _Failure:
    """What stands for a result where a coder raised."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Group:
    def __init__(self) -> None:
        self.items: deque[Any] = deque()
        self.results: deque[Any] = deque()
        self.left = 0
        """Items that were put and whose results are not taken."""
        self.whole = False
        """Whether all its items were put."""


class GroupPool(Generic[Item, Result]):
    """Runs coders on groups of items: ``put`` items, ``take`` a result for each, in the same order.

    With one coder everything happens in ``put``, in the caller's thread. With more there is a thread for each; ``full`` says that
    as many as ``waiting`` items wait to be coded, and coders stop where ``ahead`` results wait to be taken, except in the group
    whose turn it is: so memory is bounded, and something always goes on. An exception of a coder is raised by ``take`` in the
    place of the result. Leaving the ``with`` block ends the threads, after the items that they are at, and the processes.
    """

    def __init__(self, coders: Sequence[Callable[[Item], Result]], waiting: int, ahead: int) -> None:
        self._coders, self._waiting, self._ahead = coders, waiting, ahead
        self._changed = threading.Condition()
        self._groups: deque[_Group] = deque()
        self._fresh: deque[_Group] = deque()
        """Groups that no coder has begun."""
        self._uncoded = self._done = 0
        self._stopped = False
        self._threads: list[threading.Thread] = []
        if len(coders) > 1:
            self._threads = [threading.Thread(target=self._work, args=(coder,), daemon=True) for coder in coders]
            for thread in self._threads:
                thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        for coder in self._coders:
            if isinstance(coder, RemoteCoder):
                coder.close()

    def begin(self) -> None:
        """The items from now on are another group's."""
        with self._changed:
            if self._groups:
                self._groups[-1].whole = True
            self._groups.append(_Group())
            self._fresh.append(self._groups[-1])
            self._changed.notify_all()

    def put(self, item: Item) -> None:
        group = self._groups[-1]
        if not self._threads:
            group.left += 1
            self._done += 1
            group.results.append(_attempt(self._coders[0], item))
            return
        with self._changed:
            group.items.append(item)
            group.left += 1
            self._uncoded += 1
            self._changed.notify_all()

    @property
    def full(self) -> bool:
        """Whether results should be taken before more is put."""
        return self._uncoded >= self._waiting

    def ready(self) -> Iterator[Result]:
        """The results that can be taken without waiting."""
        while (group := self._head()) is not None and group.results:
            yield self.take()

    def rest(self) -> Iterator[Result]:
        """The results of everything that was put."""
        while self._head() is not None:
            yield self.take()

    def take(self) -> Result:
        """The next result, when it is there; there must be one to come."""
        group = self._head()
        assert group is not None
        with self._changed:
            while not group.results:
                self._changed.wait()
            result = group.results.popleft()
            group.left -= 1
            self._done -= 1
            self._changed.notify_all()
        if isinstance(result, _Failure):
            raise result.error
        return result

    def _head(self) -> _Group | None:
        """The group that the next result is of; None where there is none to come."""
        with self._changed:
            while len(self._groups) > 1 and not self._groups[0].left:
                self._groups.popleft()
            return self._groups[0] if self._groups and self._groups[0].left else None

    # --- threads --------------------------------------------------------------------------------------------------------

    def _work(self, coder: Callable[[Item], Result]) -> None:
        while (group := self._next_group()) is not None:
            while (item := self._next_item(group)) is not None:
                result = _attempt(coder, item[0])
                with self._changed:
                    group.results.append(result)
                    self._uncoded -= 1
                    self._changed.notify_all()

    def _next_group(self) -> _Group | None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._fresh)
            return None if self._stopped else self._fresh.popleft()

    def _next_item(self, group: _Group) -> tuple[Item] | None:
        """None at the end of the group."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or (self._may_code(group) if group.items else group.whole))
            if self._stopped or not group.items:
                return None
            self._done += 1
            return (group.items.popleft(),)

    def _may_code(self, group: _Group) -> bool:
        return self._done < self._ahead or (group is self._head() and not group.results)


def _attempt(coder: Callable[[Item], Result], item: Item) -> Result | _Failure:
    try:
        return coder(item)
    except Exception as error:
        return _Failure(error)


def in_order(pool: GroupPool[Item, Result], items: Iterable[Item], begins: Callable[[Item], bool]) -> Iterator[Result]:
    """The results of items as they come; an error of ``items`` itself follows the results of those before it."""
    failure = None
    iterator = iter(items)
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            break
        except FlowCodecError as error:
            failure = error
            break
        if begins(item):
            pool.begin()
        pool.put(item)
        yield from pool.ready()
        while pool.full:
            yield pool.take()
    yield from pool.rest()
    if failure is not None:
        raise failure
