"""What is compared: each system turns a picture and a CSNR into received pictures.

A system is asked for ``outcomes(csnr_db, rng)``: one draw of the link. With ``coded`` every block is really encoded, sent and
decoded; otherwise whether a segment arrives is drawn from the measured block error rates (AWGN, or one fade for all uses), the
analog layer and all pictures being real all the same.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from flowcodec.errors import InputError
from flowcodec.radio import digital, transmission
from flowcodec.radio.digital import Mode, Segment, segment, segment_error_rate
from flowcodec.radio.ladder import Ladder
from flowcodec.radio.link import Link, awgn
from flowcodec.radio.transmission import Tabulated, Transmission, data_uses, digital_snr_db
from flowcodec.runtime.decode import decode_picture
from flowcodec.runtime.quality import ms_ssim, psnr_db


@dataclass(frozen=True)
class Quality:
    """Of one received picture."""

    psnr_db: float
    ms_ssim: float | None
    layer: str


class Rival(Protocol):
    """A codec with a quality setting of 1 to 100."""

    name: str

    def encode(self, pixels: np.ndarray, setting: float) -> bytes: ...

    def decode(self, data: bytes) -> np.ndarray: ...


def quality(image: np.ndarray, pixels: np.ndarray, layer: str) -> Quality:
    return Quality(psnr_db(image, pixels), ms_ssim(image, pixels), layer)


@dataclass
class Source:
    """A picture and all files made of it."""

    name: str
    image: np.ndarray
    ladder: Ladder = field(init=False)
    _rivals: dict[tuple[str, int], bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ladder = Ladder(self.image)

    def file(self, rival: Rival | None, size: int) -> tuple[bytes, np.ndarray] | None:
        """(the best file of at most ``size`` bytes of ours or of a rival, its picture); None where there is none so small."""
        if rival is None:
            try:
                data = self.ladder.of_size(size)
            except InputError:
                return None
            return data, decode_picture(data, 1).pixels
        low, high = 0, 100
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if len(self._rival_file(rival, middle)) <= size else (low, middle)
        if low == 0:
            return None
        data = self._rival_file(rival, low)
        return data, rival.decode(data)

    def _rival_file(self, rival: Rival, setting: int) -> bytes:
        key = (rival.name, setting)
        if key not in self._rivals:
            self._rivals[key] = rival.encode(self.image, setting)
        return self._rivals[key]

    @cached_property
    def concealed(self) -> Quality:
        """What is shown where nothing but the header arrives: the mean colour, which the header carries for every codec."""
        colour = np.rint(self.image.reshape(-1, self.image.shape[2]).mean(axis=0)).astype(np.uint8)
        return quality(self.image, np.broadcast_to(colour, self.image.shape), "colour")


class DigitalSystem:
    """One file of ours (``rival`` None) or of a rival in one mode: the picture of the file, or the mean colour."""

    def __init__(self, source: Source, uses: int, mode: Mode, rival: Rival | None = None) -> None:
        self.source, self.mode = source, mode
        self.plan: Segment = segment(data_uses(uses), mode)
        found = source.file(rival, self.plan.size_bytes)
        self.data = found[0] if found else b""
        self.arrived = quality(source.image, found[1], "main") if found else source.concealed

    def failure_rate(self, csnr_db: float) -> float:
        return segment_error_rate(self.plan, csnr_db)

    def draw(self, link: Link | None, csnr_db: float, rng: np.random.Generator) -> Quality:
        """``link`` None: from the table."""
        if link is None:
            arrives = rng.random() >= self.failure_rate(csnr_db)
        else:
            received = link(digital.send(self.data, self.plan), csnr_db, rng)
            decoded = digital.receive(received, self.plan)
            arrives = decoded.whole and decoded.data[: len(self.data)] == self.data
        return self.arrived if arrives else self.source.concealed

    def facts(self) -> dict[str, Any]:
        return {"mode": self.mode.name, "main_bytes": len(self.data), "blocks": self.plan.blocks}


class HybridSystem:
    """Base layer, main layer and analog layer."""

    def __init__(self, source: Source, uses: int, design_db: float, share: float) -> None:
        self.source = source
        self.sent: Transmission = transmission.transmit(source.ladder, uses, design_db, share)
        self._still: dict[str, Quality] = {"colour": source.concealed}

    def draw(self, link: Link | None, csnr_db: float, rng: np.random.Generator) -> Quality:
        """``link`` None: AWGN, the digital layers by the table."""
        header = self.sent.header
        if link is None:
            main_lost = segment_error_rate(header.main, digital_snr_db(csnr_db, header.share))
            base_lost = segment_error_rate(header.base, csnr_db) if header.base else 1.0
            tabulated = Tabulated(self.sent, rng.random() >= main_lost, rng.random() >= base_lost)
            layer = "base" if tabulated.base_arrives else "colour"
            if not tabulated.main_arrives and layer in self._still:
                return self._still[layer]
            received = awgn(self.sent.symbols, csnr_db, rng)
            found = transmission.receive(received, header, tabulated)
        else:
            received = link(self.sent.symbols, csnr_db, rng)
            found = transmission.receive(received, transmission.receive_header(received))
        if found.layer == "nothing":
            return self.source.concealed
        result = quality(self.source.image, found.pixels, found.layer)
        if found.layer == "base":
            self._still["base"] = result
        return result

    def facts(self) -> dict[str, Any]:
        header = self.sent.header
        return {
            "mode": header.main.mode.name,
            "main_bytes": header.main_bytes,
            "base_bytes": header.base_bytes,
            "base_uses": header.base_uses,
            "blocks": header.main.blocks,
            "peak_to_average_db": 10 * math.log10(float(np.max(np.abs(self.sent.symbols) ** 2))),
        }
