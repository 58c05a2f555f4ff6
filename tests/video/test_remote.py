"""Coders in processes of their own: the same results and errors as here, and none that outlives its pool."""

import functools
import operator
import os

import numpy as np
import pytest
from coding import code

from flowcodec.errors import FlowCodecError
from flowcodec.video import pool
from flowcodec.video.decoder import Film
from flowcodec.video.remote import RemoteCoder


def test_results_and_errors_come_back() -> None:
    coder = RemoteCoder[tuple, int](operator.itemgetter, 1)
    try:
        assert [coder((number, number + 1)) for number in range(3)] == [1, 2, 3]
        with pytest.raises(IndexError):
            coder((4,))
        assert coder((5, 6)) == 6
    finally:
        coder.close()
    assert coder._process.returncode == 0


def test_an_error_of_the_making_is_told() -> None:
    coder = RemoteCoder[int, int](operator.itemgetter)
    with pytest.raises(TypeError):
        coder(1)
    coder.close()


def test_a_process_that_dies_is_told() -> None:
    coder = RemoteCoder[int, int](functools.partial, os._exit)
    with pytest.raises(FlowCodecError, match="ended early; use --threads 1"):
        coder(3)
    coder.close()


def test_films_are_the_same_by_processes(clip: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    alone = code(clip[:6], threads=1, gop=2, step=40)
    made: list[RemoteCoder] = []

    class Counted(RemoteCoder):
        def __init__(self, *arguments: object) -> None:
            made.append(self)
            super().__init__(*arguments)

    monkeypatch.setattr(pool, "_REMOTE_PIXELS", 0)
    monkeypatch.setattr(pool, "RemoteCoder", Counted)
    both = code(clip[:6], threads=2, gop=2, step=40)
    shown = [frame.pixels for frame in Film(alone.data, threads=2)]
    assert both.data == alone.data
    assert np.array_equal(both.pictures, alone.pictures) and np.array_equal(shown, alone.pictures)
    assert len(made) == 4 and all(coder._process.returncode == 0 for coder in made)
