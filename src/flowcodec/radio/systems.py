"""What is compared: each system turns a picture and a CSNR into received pictures.

A system is asked for one ``draw`` of the link. With ``coded`` every block is really encoded, sent and
decoded; otherwise whether a segment arrives is drawn from the measured block error rates (AWGN, or one fade for all uses), the
analog layer and all pictures being real all the same.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from flowcodec.errors import InputError
from flowcodec.radio import digital, layering, transmission
from flowcodec.radio.digital import MODES, Mode, Segment, segment, segment_error_rate
from flowcodec.radio.ladder import Ladder
from flowcodec.radio.link import Link, awgn
from flowcodec.radio.transmission import DENOISER, Transmission, check_receiver, data_uses, layer_name
from flowcodec.runtime.quality import ms_ssim, psnr_db

NODE_DB = 3.0
ANALOG_DRAWS = 1
"""Of the noise on an analog layer at one CSNR: over so many uses PSNR differs by 0.02 dB, and further draws repeat these."""


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


def quality(image: np.ndarray, pixels: np.ndarray, layer: str, similarity: bool = True) -> Quality:
    """Of a received picture; ``similarity``: whether MS-SSIM is measured."""
    return Quality(psnr_db(image, pixels), ms_ssim(image, pixels) if similarity else None, layer)


@dataclass(frozen=True)
class RateTable:
    """A codec of which files were measured before: (size in bytes, PSNR in dB, MS-SSIM) by image, sizes rising.

    Between two files both qualities are linear in the logarithm of the size.
    """

    name: str
    points: Mapping[str, Sequence[tuple[int, float, float]]]

    def quality(self, image: str, size: int) -> Quality | None:
        """Of a file of ``size`` bytes, at most that of the largest; None where even the smallest is larger."""
        sizes, psnr, similarity = zip(*self.points[image], strict=True)
        if size < sizes[0]:
            return None
        found = [float(np.interp(math.log2(size), np.log2(sizes), values)) for values in (psnr, similarity)]
        return Quality(found[0], found[1], "main")


@dataclass
class Source:
    """A picture and all files made of it."""

    name: str
    image: np.ndarray
    similarity: bool = True
    """Whether MS-SSIM is measured, which takes longer than decoding."""
    ladder: Ladder = field(init=False)
    _rivals: dict[tuple[str, int], bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ladder = Ladder(self.image)

    def quality(self, pixels: np.ndarray, layer: str) -> Quality:
        return quality(self.image, pixels, layer, self.similarity)

    def file(self, rival: Rival | None, size: int) -> tuple[bytes, np.ndarray] | None:
        """(the best file of at most ``size`` bytes of ours or of a rival, its picture); None where there is none so small."""
        if rival is None:
            try:
                data = self.ladder.of_size(size)
            except InputError:
                return None
            return data, self.ladder.pixels(data)
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
        return self.quality(np.broadcast_to(colour, self.image.shape), "colour")


class DigitalSystem:
    """One file of ours (``codec`` None) or of a rival in one mode: the picture of the file, or the mean colour."""

    def __init__(self, source: Source, uses: int, mode: Mode, codec: Rival | RateTable | None = None) -> None:
        self.source, self.mode = source, mode
        self.plan: Segment = segment(data_uses(uses), mode)
        self.data, self.size = b"", self.plan.size_bytes
        if isinstance(codec, RateTable):
            self.arrived = codec.quality(source.name, self.size) or source.concealed
            return
        found = source.file(codec, self.size)
        self.data = found[0] if found else b""
        self.size = len(self.data)
        self.arrived = source.quality(found[1], "main") if found else source.concealed

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
        return {"mode": self.mode.name, "main_bytes": self.size, "blocks": self.plan.blocks}


class LayeredSystem:
    """Superposed digital layers, and the analog layer if there is one."""

    receiver = DENOISER

    def __init__(self, source: Source, sent: Transmission, interpolate: bool = False) -> None:
        """``interpolate``: the quality of refined pictures is taken from CSNRs NODE_DB apart, linearly in dB, for many fades."""
        self.source, self.sent, self.interpolate = source, sent, interpolate
        self._pictures: dict[int, Quality] = {}
        self._nodes: dict[int, Quality] = {}
        self._drawn: dict[float, list[Quality]] = {}

    def draw(self, link: Link | None, csnr_db: float, rng: np.random.Generator) -> Quality:
        """``link`` None: AWGN, the digital layers by the table."""
        header = self.sent.header
        if link is not None:
            received = link(self.sent.symbols, csnr_db, rng)
            found = transmission.receive(received, transmission.receive_header(received), self.receiver)
            return self.source.concealed if found.layer == "nothing" else self.source.quality(found.pixels, found.layer)
        if rng.random() < digital.header_error_rate(csnr_db):
            return self.source.concealed
        arrived = 0
        for index in range(len(header.layers)):
            if rng.random() < segment_error_rate(header.plan(index), header.snr_db(index, csnr_db)):
                break
            arrived += 1
        if arrived == 0:
            return self.source.concealed
        if arrived < len(header.layers) or header.analog == 0:
            return self._picture(arrived - 1)
        if self.interpolate:
            return self._between(csnr_db, rng)
        drawn = self._drawn.setdefault(csnr_db, [])
        if len(drawn) < ANALOG_DRAWS:
            drawn.append(self._refined(csnr_db, rng))
            return drawn[-1]
        return drawn[rng.integers(ANALOG_DRAWS)]

    def _picture(self, index: int) -> Quality:
        """Of a layer's file."""
        if index not in self._pictures:
            self._pictures[index] = self.source.quality(self.sent.pictures[index], layer_name(index, len(self.sent.files)))
        return self._pictures[index]

    def _refined(self, csnr_db: float, rng: np.random.Generator) -> Quality:
        """All digital layers decoded and subtracted, the analog one in real noise."""
        header = self.sent.header
        assert self.sent.quantised is not None
        rest = awgn(math.sqrt(header.share) * self.sent.analog, csnr_db, rng)
        return self.source.quality(transmission.refine(rest, header, self.sent.quantised, self.receiver), "main")

    def _between(self, csnr_db: float, rng: np.random.Generator) -> Quality:
        low = math.floor(csnr_db / NODE_DB)
        for node in (low, low + 1):
            if node not in self._nodes:
                self._nodes[node] = self._refined(node * NODE_DB, rng)
        left, right, weight = self._nodes[low], self._nodes[low + 1], csnr_db / NODE_DB - low
        similarity = None
        if left.ms_ssim is not None and right.ms_ssim is not None:
            similarity = left.ms_ssim + weight * (right.ms_ssim - left.ms_ssim)
        return Quality(left.psnr_db + weight * (right.psnr_db - left.psnr_db), similarity, "main")

    def facts(self) -> dict[str, Any]:
        header = self.sent.header
        layers = [
            {"mode": MODES[layer.mode].name, "power": layer.share, "bytes": layer.size_bytes, "blocks": header.plan(index).blocks}
            for index, layer in enumerate(header.layers)
        ]
        return {"layer_plans": layers, "analog_power": header.share}


class BroadcastSystem(LayeredSystem):
    """The analog mode with one of transmission.RECEIVERS. Raises InputError."""

    def __init__(self, source: Source, sent: Transmission, receiver: str = DENOISER) -> None:
        super().__init__(source, sent)
        self.receiver = check_receiver(receiver)

    def facts(self) -> dict[str, Any]:
        powers = np.abs(self.sent.symbols) ** 2
        peak = 10 * math.log10(float(powers.max()))
        return super().facts() | {"power": float(powers.mean()), "peak_to_average_db": peak}


class Sender:
    """Analog transmissions of the last picture, each made once, whatever receivers it is for."""

    def __init__(self) -> None:
        self._source: Source | None = None
        self._sent: dict[tuple[int, float], Transmission] = {}

    def __call__(self, source: Source, uses: int, design_db: float) -> Transmission:
        if source is not self._source:
            self._source, self._sent = source, {}
        key = (uses, design_db)
        if key not in self._sent:
            self._sent[key] = layering.broadcast(source.ladder, uses, design_db)
        return self._sent[key]
