"""How tests code films, and a film with sound."""

import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from flowcodec.runtime.bundle import shipped_models
from flowcodec.runtime.film import FilmBox

pytest.importorskip("av")
pytest.importorskip("cv2")
from flowcodec.video.encoder import FilmEncoder, VideoSettings
from flowcodec.video.source import FilmInfo, Frame


@dataclass(frozen=True)
class Coded:
    """A film, and what its encoder says that decoders show."""

    data: bytes
    pictures: list[np.ndarray]
    kinds: list[FilmBox]


def code(frames: list[np.ndarray], times: list[int] | None = None, threads: int = 1, **settings) -> Coded:
    """Frames at 30 Hz with a time base of milliseconds, or at the times given."""
    height, width = frames[0].shape[:2]
    info = FilmInfo(width, height, Fraction(1, 1000), Fraction(30), frames=len(frames))
    stream = io.BytesIO()
    pictures: list[np.ndarray] = []
    kinds = []
    with FilmEncoder(stream, info, VideoSettings(threads=threads, **settings), shown=pictures.append) as encoder:
        for number, pixels in enumerate(frames):
            kinds.append(encoder.frame(Frame(pixels, round(number * 1000 / 30) if times is None else times[number])))
        encoder.finish()
    return Coded(stream.getvalue(), pictures, kinds)


needs_inter = pytest.mark.skipif("video" not in shipped_models(), reason="no model of P-frames is shipped")


def film_with_sound(path: Path, codec: str = "aac", seconds: float = 1.0, rate: int = 48000) -> None:
    """A film of eight small frames with a tone."""
    import av

    times = np.arange(int(seconds * rate)) / rate
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=8)
        video.width, video.height, video.pix_fmt = 32, 24, "yuv420p"
        sound = output.add_stream(codec, rate=rate)
        frames = [av.VideoFrame.from_ndarray(np.full((24, 32, 3), 30 * k, np.uint8), format="rgb24") for k in range(8)]
        wave = (0.3 * np.sin(2 * np.pi * 440 * times)).astype(np.float32)
        samples = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
        samples.sample_rate = rate
        for frame in frames:
            output.mux(video.encode(frame))
        output.mux(sound.encode(samples))
        output.mux(video.encode(None))
        output.mux(sound.encode(None))
