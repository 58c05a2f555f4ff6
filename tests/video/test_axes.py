"""Turned axes in films: each INTRA frame says its own, the P-frames behind it keep them, and every decoder shows the same."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from coding import code, needs_inter

import flowcodec.runtime.video
from flowcodec.errors import FormatError, UnsupportedVersion
from flowcodec.runtime.color import NO_TURN, RGB_TO_YCC
from flowcodec.runtime.film import FRAMES, FilmBox, FilmReader, Group
from flowcodec.runtime.quality import psnr_db
from flowcodec.runtime.video import FrameDecoder, FrameHead
from flowcodec.video.decoder import Film
from flowcodec.video.encoder import VideoSettings

STEP = 24


@pytest.fixture(scope="module")
def tinted() -> list[np.ndarray]:
    """Textures of one colour that move, of another after a cut; large enough for a turn to pay."""
    frames = []
    for angle in (30, -35):
        colour = math.cos(math.radians(angle)) * RGB_TO_YCC[1] + math.sin(math.radians(angle)) * RGB_TO_YCC[2]
        texture = np.random.default_rng(angle % 7).normal(0, 1, (40, 50)).repeat(3, 0).repeat(3, 1)
        shades = 60 + 120 * (angle < 0) + np.arange(144)[:, None] / 8 + np.zeros(144)
        for shift in range(3):
            moved = np.roll(texture, 2 * shift, 1)[:96, :144]
            pixels = shades[:96, :, None] + 20 * moved[..., None] * colour
            frames.append(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
    return frames


def heads(data: bytes) -> list[tuple[FilmBox, FrameHead]]:
    return [
        (FilmBox(part.kind), FrameHead.parse(part.payload)[0])
        for part in FilmReader(io.BytesIO(data)).boxes()
        if part.kind in FRAMES
    ]


@needs_inter
@pytest.mark.parametrize("threads, optimise", [(1, True), (2, True), (1, False)])
def test_turns_of_a_film(tinted: list[np.ndarray], threads: int, optimise: bool) -> None:
    coded = code(tinted, step=STEP)
    turns = [head.turn for kind, head in heads(coded.data) if kind == FilmBox.INTRA]
    assert coded.kinds.count(FilmBox.INTRA) == 2 and turns[0][0] > 10 and turns[-1][0] < -10
    assert all(head.turn == NO_TURN for kind, head in heads(coded.data) if kind != FilmBox.INTRA)
    shown = [frame.pixels for frame in Film(coded.data, threads=threads, optimise=optimise)]
    assert all(np.array_equal(a, b) for a, b in zip(shown, coded.pictures, strict=True))
    assert min(psnr_db(a, b) for a, b in zip(tinted, shown, strict=True)) > 30


@needs_inter
def test_only_intra_frames_turn_axes(tinted: list[np.ndarray]) -> None:
    film = FilmReader(io.BytesIO(code(tinted[:2], step=STEP).data))
    models = VideoSettings().models()
    decoder = FrameDecoder(film.header, *models, threads=1)
    group, intra, inter = (part for part in film.boxes() if part.kind in (FilmBox.GROUP, FilmBox.INTRA, FilmBox.INTER))
    decoder.begin(Group.parse(group.payload))
    decoder.frame(intra)
    head, stream = FrameHead.parse(inter.payload)
    with pytest.raises(FormatError, match="turned axes"):
        decoder.frame(replace(inter, payload=replace(head, turn=(1, 0, 0)).to_bytes() + stream))
    decoder.frame(inter)


@needs_inter
def test_films_are_smaller(tinted: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    turned = code(tinted, step=STEP)
    monkeypatch.setattr(flowcodec.runtime.video, "find_turn", lambda *_: NO_TURN)
    plain = code(tinted, step=STEP)
    assert len(turned.data) < 0.97 * len(plain.data)
    quality = [np.mean([psnr_db(a, b) for a, b in zip(tinted, film.pictures, strict=True)]) for film in (turned, plain)]
    assert quality[0] > quality[1] - 0.1


@pytest.mark.parametrize("turn", [NO_TURN, (1, -127, 5)])
def test_heads_round_trip(turn: tuple[int, int, int]) -> None:
    head = FrameHead(-3, 7, turn=turn)
    assert FrameHead.parse(head.to_bytes() + b"rest") == (head, b"rest")


@pytest.mark.parametrize("payload", [b"\x10\x80\x80\x80", b"\x10\x00\x81\x80", b"\x10\x81\x80"])
def test_heads_that_no_frame_has(payload: bytes) -> None:
    with pytest.raises(FormatError):
        FrameHead.parse(payload)
    with pytest.raises(UnsupportedVersion):
        FrameHead.parse(b"\x20" + payload)
