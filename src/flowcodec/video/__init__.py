"""Films: ``flowcodec.video.encode(frames, fps=30)`` and ``flowcodec.video.decode(data)``.

Encoding searches motion with OpenCV, reading and writing other formats goes through PyAV; both come with the extra 'video'.
Decoding to arrays needs neither.
"""

import io
from collections.abc import Iterable, Iterator, Sequence, Sized
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from flowcodec.errors import InputError

__all__ = ["decode", "encode"]


def encode(
    frames: Iterable[np.ndarray],
    *,
    fps: float | Fraction,
    quality: float = 60,
    step: float | None = None,
    bitrate_kbps: float | None = None,
    gop: int | None = None,
    intra: bool = False,
    intra_model: str = "default",
    inter_model: str | None = None,
    threads: int | None = None,
    out: str | Path | None = None,
) -> bytes | None:
    """The film of uint8 arrays (H, W, 3), all of one size, as bytes, or written to the file ``out``, frame by frame.

    ``quality``: 0 (smallest) to 100; instead of it ``step`` (grey levels) or ``bitrate_kbps``. ``gop``: frames from one I-frame
    to the next; ``intra``: I-frames only. The models are names or paths. Raises FlowCodecError.
    """
    from flowcodec.video.encoder import DEFAULT_GOP, VideoSettings, encode_frames
    from flowcodec.video.place import whole_file

    rate = Fraction(fps).limit_denominator(1001)
    if rate <= 0:
        raise InputError(f"fps: expected a positive number, found {fps}")
    settings = VideoSettings(quality, step, bitrate_kbps, gop or DEFAULT_GOP, intra, intra_model, inter_model, threads)
    count = len(frames) if isinstance(frames, Sized) else None
    if out is None:
        buffer = io.BytesIO()
        encode_frames(buffer, frames, rate, settings, count)
        return buffer.getvalue()
    with whole_file(Path(out)) as place, place.open("wb") as stream:
        encode_frames(stream, frames, rate, settings, count)
    return None


def decode(
    source: Any,
    *,
    first: int = 0,
    last: int | None = None,
    models: Sequence[str] = (),
    threads: int | None = None,
    partial: bool = False,
) -> Iterator[np.ndarray]:
    """The frames ``first`` ... ``last - 1`` of a film (bytes, or the name of a file), uint8 (H, W, 3), one by one.

    Only the group of pictures with ``first`` is decoded before it. ``partial``: take a film that ends too early for what there
    is. ``models``: names or paths, for films of models that are not shipped. Raises FlowCodecError.
    """
    from flowcodec.runtime.bundle import load_model
    from flowcodec.video.decoder import Film

    loaded = tuple(load_model(name) for name in models)
    with Film(source, threads=threads, models=loaded, partial=partial) as film:
        for frame in film[first:last]:
            yield frame.pixels
