"""Frames that are better coded without their prediction are INTRA within their group."""

import io

import numpy as np
import pytest
from coding import code, needs_inter

from flowcodec.runtime.color import NO_TURN, rgb_to_ycc
from flowcodec.runtime.film import FRAMES, FilmBox, FilmReader
from flowcodec.runtime.motion import VectorModel
from flowcodec.runtime.video import CodedFrame
from flowcodec.video import search
from flowcodec.video.choice import cost, kept_share
from flowcodec.video.decoder import Film


def planes_of(pixels: np.ndarray) -> np.ndarray:
    return np.rint(64 * rgb_to_ycc(pixels)).astype(np.int32)


def test_share_that_a_prediction_leaves(photograph: np.ndarray) -> None:
    pixels = photograph[100:180, 100:200]
    noise = np.random.default_rng(0).normal(0, 10 * 64, (3, 80, 100)).astype(np.int32)
    flat = np.full_like(planes_of(pixels), planes_of(pixels).mean())
    shares = [kept_share(pixels, prediction, 10.0) for prediction in (planes_of(pixels), planes_of(pixels) + noise, flat)]
    assert shares[0] < 0.01 < 0.2 < shares[1] < shares[2] and shares[2] == pytest.approx(1, abs=0.02)


def test_cost_weighs_bytes_and_error(photograph: np.ndarray) -> None:
    pixels = photograph[100:140, 100:140]
    noise = np.random.default_rng(0).normal(0, 64, (3, 40, 40))

    def found(size: int, deviation: float) -> float:
        planes = planes_of(pixels) + np.rint(deviation * noise).astype(np.int32)
        return cost(CodedFrame(FilmBox.INTRA, bytes(size), planes, NO_TURN, VectorModel()), pixels)

    assert found(100, 4) < found(120, 4) and found(100, 4) < found(100, 5)
    # Twice the bytes are worth 3.4 dB.
    assert found(200, 4 * 10 ** (-3.4 / 20)) == pytest.approx(found(100, 4), abs=0.02)


@needs_inter
def test_a_frame_that_cannot_be_predicted_is_intra(clip: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    """The cut at frame 8 is not seen beforehand, so that no group begins there."""
    monkeypatch.setattr(search, "is_cut", lambda current, previous: False)
    coded = code(clip[6:10], step=20)
    parts = list(FilmReader(io.BytesIO(coded.data)).boxes())
    assert [part.kind for part in parts if part.kind in FRAMES] == [FilmBox.INTRA, FilmBox.INTER, FilmBox.INTRA, FilmBox.INTER]
    assert [part.kind for part in parts].count(FilmBox.GROUP) == 1
    for wanted, picture in zip(Film(coded.data, threads=1), coded.pictures, strict=True):
        assert np.array_equal(wanted.pixels, picture)
