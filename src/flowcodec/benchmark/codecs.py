"""All codecs of the benchmark by name, and the thinned grids of a quick look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from flowcodec.benchmark.classical import CLASSICAL
from flowcodec.benchmark.document import Codec
from flowcodec.benchmark.modern import MODERN, is_available, require
from flowcodec.benchmark.ours import STEPS, FlowCodec
from flowcodec.errors import InputError
from flowcodec.model.effort import DEFAULT_EFFORT, MAX_EFFORT

QUICK_RATES = 5
QUICK_IMAGES = 3
AnyCodec = TypeVar("AnyCodec")


def every_codec() -> dict[str, Codec]:
    """What a run measures that names none, installed or not: the default FlowCodec and its rivals."""
    return {codec.name: codec for codec in (*CLASSICAL, *MODERN, FlowCodec())}


def codecs_on_request() -> dict[str, Codec]:
    """Those that only a run that names them measures: FlowCodec by other channels, and at the efforts above the default.

    Efforts at a step an octave: half the points of the default effort on Kodak give a BD-rate within 0.2 of all of them.
    """
    channels = (FlowCodec(channel=channel) for channel in ("round", "dither"))
    efforts = (FlowCodec(effort=effort, settings=STEPS[3::2]) for effort in range(DEFAULT_EFFORT + 1, MAX_EFFORT + 1))
    return {codec.name: codec for codec in (*channels, *efforts)}


def named(names: Sequence[str], known: Mapping[str, AnyCodec]) -> list[AnyCodec]:
    """The codecs of these names, each once. Raises InputError for a name that is not known."""
    for name in names:
        if name not in known:
            raise InputError(f"--codec: expected one of {', '.join(known)}, found {name!r}")
    return [known[name] for name in dict.fromkeys(names)]


def choose_codecs(names: Sequence[str] | None) -> list[Codec]:
    """The codecs of these names; without names, all whose package is installed. Raises InputError."""
    if not names:
        return [codec for codec in every_codec().values() if is_available(codec)]
    chosen = named(names, every_codec() | codecs_on_request())
    for codec in chosen:
        require(codec)
    return chosen


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
