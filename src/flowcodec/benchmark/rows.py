"""One measurement as a row of a results file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_MEASURES_AFTER = "bpp"
TIMES = ("encode_s", "decode_s", "encode_cpu_s", "decode_cpu_s")
_OWN = ("codec", "image", "setting", "size_bytes", "bpp", *TIMES, "error")


@dataclass(frozen=True)
class Row:
    """One codec, image and setting; ``measures`` holds the columns of flowcodec.benchmark.metrics that were asked for.

    Times are of warm calls (the median, where there are several), pixels to bytes and back: wall seconds, None where nothing was
    timed, and CPU seconds of all threads, which other work on the machine hardly changes. Where the codec failed, ``error`` says
    how, and there is nothing else.
    """

    codec: str
    image: str
    setting: float
    size_bytes: int | None
    bpp: float | None
    measures: dict[str, Any] = field(default_factory=dict)
    encode_s: float | None = None
    decode_s: float | None = None
    encode_cpu_s: float | None = None
    decode_cpu_s: float | None = None
    error: str | None = None

    @property
    def key(self) -> tuple[str, str, float]:
        return self.codec, self.image, self.setting

    def to_json(self) -> dict[str, Any]:
        """Flat, the measures after the rate; CPU times and error only where there are any."""
        result: dict[str, Any] = {}
        for name in _OWN:
            value = getattr(self, name)
            if value is not None or name not in ("encode_cpu_s", "decode_cpu_s", "error"):
                result[name] = value
            if name == _MEASURES_AFTER:
                result |= self.measures
        return result

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Row":
        own = {name: fields[name] for name in _OWN if name in fields}
        return cls(**own, measures={name: value for name, value in fields.items() if name not in _OWN})
