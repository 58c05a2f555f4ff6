"""FlowCodec as a codec of the benchmark: settings are quantiser steps; real files, really decoded."""

from dataclasses import dataclass
from typing import Any

import numpy as np

import flowcodec
from flowcodec.model.effort import DEFAULT_EFFORT
from flowcodec.runtime.encode import DEFAULT_CHANNEL

STEPS = tuple(2.0 ** (half_octaves / 2) for half_octaves in range(4, 16))
"""Steps of 4 to 181 grey levels, two an octave."""


@dataclass(frozen=True)
class FlowCodec:
    channel: str = DEFAULT_CHANNEL
    model: str = "default"
    threads: int = 1
    effort: int = DEFAULT_EFFORT
    settings: tuple[float, ...] = STEPS
    label: str = "FlowCodec"

    @property
    def name(self) -> str:
        options = [] if self.channel == DEFAULT_CHANNEL else [self.channel]
        options += [] if self.effort == DEFAULT_EFFORT else [f"effort {self.effort}"]
        return f"{self.label} ({', '.join(options)})" if options else self.label

    def describe(self) -> dict[str, Any]:
        """Everything that decides the bytes, the model's id included."""
        model = flowcodec.load_model(self.model).id.hex()
        options: dict[str, Any] = {"channel": self.channel, "model": model}
        if self.effort != DEFAULT_EFFORT:
            options["effort"] = self.effort
        return {"version": f"flowcodec {flowcodec.__version__}", "options": options, "setting": "step"}

    def encode(self, pixels: np.ndarray, setting: float) -> bytes:
        return flowcodec.encode(
            pixels, step=setting, channel=self.channel, model=self.model, threads=self.threads, effort=self.effort
        )

    def decode(self, data: bytes) -> np.ndarray:
        return flowcodec.decode(data, threads=self.threads, model=self.model)
