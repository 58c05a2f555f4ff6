"""Error feedback: S^T S is the synthesis' own, whatever the strips, and moving targets by it makes files better."""

import numpy as np
import pytest

from flowcodec.runtime import encode, flow, latent
from flowcodec.runtime.context import STAGES
from flowcodec.runtime.decode import decode_picture
from flowcodec.runtime.feedback import LevelFeedback
from flowcodec.runtime.flow import band_shapes, correlate_level, synthesise_level
from flowcodec.runtime.image import Picture

UNIT = 1 << 20
"""Large inputs for the integer synthesis, so that its roundings do not matter."""


def synthesis_matrix(height: int, width: int) -> np.ndarray:
    """(H*W, 4*h*w): the integer synthesis applied to every unit vector of (low, HL, LH, HH)."""
    h, w = (height + 1) // 2, (width + 1) // 2
    columns = []
    for index in range(4 * h * w):
        unit = np.zeros(4 * h * w, np.int64)
        unit[index] = UNIT
        low, detail = np.split(unit.reshape(4, h, w), [1])
        columns.append(synthesise_level(low, detail, height, width).reshape(-1) / UNIT)
    return np.stack(columns, 1)


@pytest.mark.parametrize("size", [(8, 8), (7, 8), (6, 9), (5, 5), (2, 3), (1, 6), (4, 1), (2, 2)])
def test_correlation_is_the_synthesis_and_its_transpose(size: tuple[int, int]) -> None:
    height, width = size
    h, w = (height + 1) // 2, (width + 1) // 2
    random = np.random.default_rng(height)
    errors = random.normal(size=(4, h, w)).astype(np.float32)
    matrix = synthesis_matrix(height, width)
    expected = (matrix.T @ (matrix @ errors.reshape(-1))).reshape(4, h, w)[1:]
    found = correlate_level(errors[0], errors[1:], height, width)
    for band, (rows, columns) in enumerate(band_shapes(height, width)):
        np.testing.assert_allclose(found[band, :rows, :columns], expected[band, :rows, :columns], atol=2e-4)
        assert not found[band, rows:].any() and not found[band, :, columns:].any()


@pytest.mark.parametrize("height", [270, 271])
def test_strips_give_what_the_whole_gives(height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    low = random.normal(size=(3, (height + 1) // 2, 20)).astype(np.float32)
    whole = LevelFeedback(low, height, 39).moves(STAGES[0]).copy()
    monkeypatch.setattr(flow, "STRIP_SITES", 1)
    np.testing.assert_array_equal(LevelFeedback(low, height, 39, threads=2).moves(STAGES[0]), whole)


def test_feedback_lowers_the_objective_of_real_files(photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """D + lambda R falls at every step, mostly by the error; without feedback the same encoder is the open loop."""
    part = photograph[:192, :192]

    def objective(step: float) -> tuple[float, float]:
        data = encode.encode_picture(Picture(part), encode.EncodeSettings(step=step, threads=1))
        error = np.square(decode_picture(data, 1).pixels.astype(float) - part).sum()
        return error, error + np.log(2) / 6 * step**2 * 8 * len(data)

    fed = [objective(step) for step in (6.0, 20.0, 60.0)]
    monkeypatch.setattr(latent.LevelFeedback, "moves", lambda self, stage: np.float32(0))
    for (error, cost), (open_error, open_cost) in zip(fed, [objective(step) for step in (6.0, 20.0, 60.0)], strict=True):
        assert error < open_error
        assert cost < open_cost


def test_dither_knows_no_feedback(photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its errors are independent of each other, which its certificates and statistics rely on."""

    def forbidden(*_: object) -> None:
        raise AssertionError("dither must not feed errors back")

    monkeypatch.setattr(latent, "LevelFeedback", forbidden)
    encode.encode_picture(Picture(photograph[:40, :40]), encode.EncodeSettings(channel="dither", threads=1))
    with pytest.raises(AssertionError, match="feed"):
        encode.encode_picture(Picture(photograph[:40, :40]), encode.EncodeSettings(threads=1))
