"""A coder of groups in a process of its own, called like one in this process.

A third of a small frame's time is Python's own, of which one process runs one thread at a time; two processes are twice as fast.
``multiprocessing`` would run the caller's main module again, which a library must not ask for, so the process is started and
spoken to here: pickled items to its standard input, pickled results from its standard output.
"""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from flowcodec.errors import FlowCodecError

Item = TypeVar("Item")
Result = TypeVar("Result")

_PROGRAM = "from flowcodec.video.remote import serve; serve()"


class RemoteCoder(Generic[Item, Result]):
    """What ``make(*arguments)`` gives, in another process; all must be picklable, ``make`` a function of a module.

    An exception there is raised here. ``close`` ends the process, which also ends by itself when this one does.
    """

    def __init__(self, make: Callable[..., Callable[[Item], Result]], *arguments: Any) -> None:
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": paths},
        )
        self._send((make, arguments))

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        try:
            pickle.dump(message, self._process.stdin, pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()
        except OSError as error:
            raise FlowCodecError(f"a process that codes frames ended early ({error}); use --threads 1") from error

    def __call__(self, item: Item) -> Result:
        self._send(item)
        assert self._process.stdout is not None
        try:
            failed, value = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError) as error:
            raise FlowCodecError("a process that codes frames ended early; use --threads 1") from error
        if failed:
            raise value
        return value

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(OSError):  # where it has ended already
                stream.close()
        self._process.wait()


def serve() -> None:
    """The other side: makes the coder, then a result for each item until there are no more."""
    # Ctrl-C reaches all processes of a terminal; this one ends when its caller does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source, target = sys.stdin.buffer, sys.stdout.buffer
    coder: Callable[[Any], Any] | Exception
    try:
        make, arguments = pickle.load(source)
        coder = make(*arguments)
    except Exception as error:
        coder = error
    while True:
        try:
            item = pickle.load(source)
        except EOFError:
            return
        try:
            if isinstance(coder, Exception):
                raise coder
            answer = False, coder(item)
        except Exception as error:
            answer = True, error
        try:
            pickle.dump(answer, target, pickle.HIGHEST_PROTOCOL)
            target.flush()
        except BrokenPipeError:
            return
