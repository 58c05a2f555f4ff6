"""Blocks of a P-frame that do without its prediction."""

import io

import cv2
import numpy as np
import pytest
from coding import Coded, code, needs_inter

from flowcodec.errors import FormatError
from flowcodec.runtime.bundle import load_model
from flowcodec.runtime.film import FilmBox, FilmReader, FilmWriter, Group
from flowcodec.runtime.motion import grid_shape
from flowcodec.runtime.video import FrameEncoder, FrameHead
from flowcodec.video import search
from flowcodec.video.choice import cost
from flowcodec.video.decoder import Film

STEP = 20.0


@pytest.fixture(scope="module")
def half_new(photograph: np.ndarray) -> list[np.ndarray]:
    """Two frames of 90x150: the left of the second is that of the first, moved; the right is another texture."""
    first = np.ascontiguousarray(photograph[200:290, 300:450])
    second = np.ascontiguousarray(photograph[202:292, 303:453])
    noise = np.random.default_rng(0).normal(0, 150, (90, 86, 1))
    second[:, 64:] = np.clip(128 + cv2.GaussianBlur(noise, (0, 0), 2), 0, 255)[..., None]
    return [first, second]


@pytest.fixture(scope="module")
def film(half_new: list[np.ndarray]) -> Coded:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "is_cut", lambda current, previous: False)
        return code(half_new, step=STEP)


def test_the_search_finds_what_cannot_be_predicted(half_new: list[np.ndarray]) -> None:
    motion = search.estimate(half_new[1], half_new[0], STEP)
    assert motion.unpredicted is not None
    border = 64 // motion.block
    assert motion.unpredicted[:, :border].mean() < 0.1 < 0.7 < motion.unpredicted[:, border:].mean()


def test_a_frame_that_can_be_predicted_has_none(photograph: np.ndarray) -> None:
    assert search.estimate(photograph[202:292, 303:453], photograph[200:290, 300:450], STEP).unpredicted is None


@needs_inter
@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 4}, {"threads": 1, "optimise": False}])
def test_decoders_show_what_the_encoder_saw(film: Coded, options: dict) -> None:
    parts = [part for part in FilmReader(io.BytesIO(film.data)).boxes() if part.kind == FilmBox.INTER]
    assert [FrameHead.parse(part.payload)[0].some_unpredicted for part in parts] == [True]
    for wanted, picture in zip(Film(film.data, **options), film.pictures, strict=True):
        assert np.array_equal(wanted.pixels, picture)


@needs_inter
def test_they_save_bits(half_new: list[np.ndarray]) -> None:
    encoder = FrameEncoder(load_model("default"), load_model("video"), 1)
    encoder.keep(encoder.intra(half_new[0], 700))
    motion = search.estimate(half_new[1], encoder.picture(), STEP)
    costs = [
        cost(
            encoder.inter(
                half_new[1],
                motion.vectors,
                encoder.predict(motion.vectors, motion.block, unpredicted),
                700,
                unpredicted,
                motion.block,
            ),
            half_new[1],
        )
        for unpredicted in (motion.unpredicted, None)
    ]
    assert costs[0] < costs[1] - 0.1 and costs[0] < cost(encoder.intra(half_new[1], 700), half_new[1])


@needs_inter
def test_a_frame_of_them_alone_costs_what_a_picture_does(half_new: list[np.ndarray]) -> None:
    """But for tables of another model; whatever the prediction is."""
    encoder = FrameEncoder(load_model("default"), load_model("video"), 1)
    shape = grid_shape(90, 150, 16)
    picture = encoder.intra(half_new[1], 700)
    for level in (0, 5000):
        prediction = np.full((3, 90, 150), level, np.int32)
        frame = encoder.inter(half_new[1], np.zeros((*shape, 2), int), prediction, 700, np.ones(shape, bool), 16)
        assert abs(cost(frame, half_new[1]) - cost(picture, half_new[1])) < 0.06


@needs_inter
def test_other_frames_have_none(film: Coded) -> None:
    """The flag on an INTRA frame, behind a right checksum."""
    stream, reader = io.BytesIO(), FilmReader(io.BytesIO(film.data))
    writer = FilmWriter(stream, reader.header)
    writer.group(0, 700)
    payload = next(part.payload for part in reader.boxes() if part.kind == FilmBox.INTRA)
    writer.frame(FilmBox.INTRA, bytes([payload[0] | 8]) + payload[1:])
    writer.finish()
    with pytest.raises(FormatError, match="INTER frames only"):
        list(Film(stream.getvalue(), threads=1))


@needs_inter
def test_mutated_streams(film: Coded) -> None:
    """Hostile payloads behind right checksums: an error of the format, or pictures."""
    reader = FilmReader(io.BytesIO(film.data))
    parts = list(reader.boxes())
    random = np.random.default_rng(0)
    for _ in range(4):
        stream = io.BytesIO()
        writer = FilmWriter(stream, reader.header)
        for part in parts:
            payload = bytearray(part.payload)
            if part.kind == FilmBox.GROUP:
                group = Group.parse(part.payload)
                writer.group(group.time, group.step_index)
            elif part.kind in (FilmBox.INTRA, FilmBox.INTER):
                if part.kind == FilmBox.INTER:
                    payload[int(random.integers(1, len(payload)))] ^= 1 << int(random.integers(8))
                writer.frame(part.kind, bytes(payload))
        writer.finish()
        try:
            shown = [frame.pixels.shape for frame in Film(stream.getvalue(), threads=1)]
        except FormatError:
            continue
        assert shown == [(90, 150, 3)] * 2
