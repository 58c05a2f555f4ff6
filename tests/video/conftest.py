"""A moving picture, and a model of P-frames to code it with."""

from pathlib import Path

import numpy as np
import pytest

from flowcodec.runtime.bundle import Model, shipped_models

INTER = "video"


@pytest.fixture(scope="session")
def clip(photograph: np.ndarray) -> list[np.ndarray]:
    """Twelve frames of 71x58 uint8: a pan over the photograph, frame 5 the same as 4, another place from frame 8 on."""
    frames = []
    for number in range(12):
        top, left = (100 + number, 200 + 2 * number) if number < 8 else (300, 40 + number)
        frames.append(np.ascontiguousarray(photograph[top : top + 58, left : left + 71]))
    frames[5] = frames[4].copy()
    return frames


@pytest.fixture(scope="session")
def inter_models() -> tuple[Model, ...]:
    """Models to hand to a decoder: none, since those that are shipped are found."""
    return ()


@pytest.fixture(scope="session")
def needs_inter() -> None:
    if INTER not in shipped_models():
        pytest.skip("no model of P-frames is shipped")


def audio_file(path: Path, codec: str = "aac", seconds: float = 1.0, rate: int = 48000) -> None:
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
