"""All codecs of the benchmark by name, and the thinned grids of a quick look."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowcodec.benchmark.classical import CLASSICAL
from flowcodec.benchmark.document import Codec
from flowcodec.benchmark.modern import MODERN, is_available, require
from flowcodec.benchmark.ours import STEPS, FlowCodec
from flowcodec.errors import InputError
from flowcodec.model.effort import DEFAULT_EFFORT, MAX_EFFORT

QUICK_RATES = 5
QUICK_IMAGES = 3


def every_codec() -> dict[str, Codec]:
    """Installed or not."""
    ours = (FlowCodec(), FlowCodec(channel="trellis"), FlowCodec(channel="dither"))
    return {codec.name: codec for codec in (*CLASSICAL, *MODERN, *ours)}


def slow_codecs() -> dict[str, Codec]:
    """Those that only a run that names them measures: FlowCodec at the efforts above the default, at a step an octave.

    Of the default effort's curve on Kodak, half the points give a BD-rate within 0.2 of the whole one's.
    """
    efforts = range(DEFAULT_EFFORT + 1, MAX_EFFORT + 1)
    codecs = [FlowCodec(channel, effort=effort, settings=STEPS[3::2]) for channel in ("round", "trellis") for effort in efforts]
    return {codec.name: codec for codec in codecs}


def choose_codecs(names: Sequence[str] | None) -> list[Codec]:
    """The codecs of these names; without names, all whose package is installed. Raises InputError."""
    if not names:
        return [codec for codec in every_codec().values() if is_available(codec)]
    known = every_codec() | slow_codecs()
    for name in names:
        if name not in known:
            raise InputError(f"--codec: expected one of {', '.join(known)}, found {name!r}")
        require(known[name])
    return [known[name] for name in dict.fromkeys(names)]


@dataclass(frozen=True)
class Thinned:
    """A codec at ``QUICK_RATES`` of its settings, the first and the last among them."""

    codec: Codec

    @property
    def name(self) -> str:
        return self.codec.name

    @property
    def settings(self) -> tuple[float, ...]:
        every = self.codec.settings
        chosen = np.unique(np.linspace(0, len(every) - 1, QUICK_RATES).round().astype(int))
        return tuple(every[k] for k in chosen)

    def describe(self) -> dict[str, Any]:
        return self.codec.describe()

    def encode(self, pixels: np.ndarray, setting: float) -> bytes:
        return self.codec.encode(pixels, setting)

    def decode(self, data: bytes) -> np.ndarray:
        return self.codec.decode(data)
