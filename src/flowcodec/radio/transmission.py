"""A picture in a given number of channel uses: digital, or hybrid with a base layer below and an analog layer on top.

    frame = preamble, header, base layer, main layer; pilots in between          all counted in ``uses``

- header: sizes and modes, in QPSK at a low rate; also the mean colour, which is the picture where all else fails;
- base layer (hybrid): a small file of the picture in a mode that works BASE_MARGIN_DB below the design CSNR;
- main layer: a file that fills the rest, sqrt(1 - a) d + sqrt(a) t with d its QAM symbols and t (hybrid) the quantisation errors
  of the file, analog, at power share a. The receiver decodes d with t as noise, subtracts it, and estimates the errors from t.

References: Mittal & Phamdo, Hybrid digital-analog joint source-channel codes, 2002; Skoglund, Phamdo & Alajaji 2002, 2006.
"""

import math
import struct
from dataclasses import dataclass

import numpy as np

from flowcodec.errors import FlowCodecError, InputError
from flowcodec.radio import digital, linear, picture
from flowcodec.radio.digital import MODES, Mode, Segment, best_mode, segment, uses_for
from flowcodec.radio.ladder import Ladder
from flowcodec.radio.link import Received, noise_power

PREAMBLE_USES = 256
PILOT_SPACING = 64
"""One pilot after so many uses."""
HEADER_USES = 512
BASE_MARGIN_DB = 7.0
BASE_PSNR_DB = 24.6
DEFAULT_SHARE = 0.05
_FIELDS = struct.Struct("<BHHBBIIIBbf3B")
_HEADER_MODE = Mode(2, round((8 * _FIELDS.size + digital.CRC_BITS) / (2 * HEADER_USES), 6))
_VERSION = 1
_SHARE_UNIT = 400


def data_uses(uses: int) -> int:
    """What is left of ``uses`` for the layers. Raises InputError where nothing is."""
    left = uses - PREAMBLE_USES - HEADER_USES
    left -= math.ceil((left + HEADER_USES) / (PILOT_SPACING + 1))
    if left <= 0:
        raise InputError(f"expected more than {PREAMBLE_USES + HEADER_USES} channel uses, found {uses}")
    return left


def uses_of(height: int, width: int, cbr: float) -> int:
    """Complex uses k of a picture: CBR times its 3 H W colour samples."""
    return round(cbr * 3 * height * width)


@dataclass(frozen=True)
class Header:
    """What the receiver must know before the layers. Raises InputError for a value that cannot be sent."""

    height: int
    width: int
    base_mode: int
    main_mode: int
    base_bytes: int  # 0: no base layer
    main_bytes: int
    layer_uses: int  # of base and main layer
    share: float  # of the analog layer, in 1/400
    design_db: int
    scale: float  # see linear.send
    mean_colour: tuple[int, int, int]

    def __post_init__(self) -> None:
        if max(self.height, self.width) >= 1 << 16:
            raise InputError(f"expected a picture of fewer than 65536 pixels a side, found {self.width}x{self.height}")

    def pack(self) -> bytes:
        share = round(self.share * _SHARE_UNIT)
        modes, sizes = (self.base_mode, self.main_mode), (self.base_bytes, self.main_bytes, self.layer_uses)
        fields = (self.height, self.width, *modes, *sizes, share, self.design_db, self.scale, *self.mean_colour)
        return _FIELDS.pack(_VERSION, *fields)

    @property
    def base_uses(self) -> int:
        return uses_for(self.base_bytes, MODES[self.base_mode]) if self.base_bytes else 0

    @property
    def main(self) -> Segment:
        return segment(self.layer_uses - self.base_uses, MODES[self.main_mode])

    @property
    def base(self) -> Segment | None:
        return segment(self.base_uses, MODES[self.base_mode]) if self.base_bytes else None


def unpack_header(data: bytes) -> Header | None:
    """None where the bytes cannot be a header."""
    version, height, width, base_mode, main_mode, *rest = _FIELDS.unpack(data[: _FIELDS.size])
    base_bytes, main_bytes, layer_uses, share, design_db, scale, *colour = rest
    if version != _VERSION or max(base_mode, main_mode) >= len(MODES) or not np.isfinite(scale):
        return None
    header = Header(
        height,
        width,
        base_mode,
        main_mode,
        base_bytes,
        main_bytes,
        layer_uses,
        share / _SHARE_UNIT,
        design_db,
        scale,
        tuple(colour),
    )
    try:
        fits = header.main.size_bytes >= main_bytes
    except (InputError, ZeroDivisionError):
        return None
    return header if fits else None


def header_segment() -> Segment:
    return segment(HEADER_USES, _HEADER_MODE, nominal=2 * HEADER_USES)


@dataclass(frozen=True)
class Transmission:
    """What is sent: header and layers as symbols of unit mean power, and the files they carry."""

    header: Header
    symbols: np.ndarray
    """complex (HEADER_USES + layer uses,)"""
    base: bytes
    main: bytes


def digital_snr_db(csnr_db: float, share: float) -> float:
    """SNR of the main layer's symbols, the analog layer counted as noise."""
    return 10 * math.log10((1 - share) / (share + noise_power(csnr_db)))


def transmit(
    ladder: Ladder,
    uses: int,
    design_db: float,
    share: float = DEFAULT_SHARE,
    base_psnr_db: float | None = BASE_PSNR_DB,
    mode: Mode | None = None,
) -> Transmission:
    """The hybrid transmission of a picture; ``share`` 0 and no base layer make it digital.

    ``mode`` of the main layer: the best one for the design CSNR by default. Raises InputError where the uses are too few.
    """
    share = round(share * _SHARE_UNIT) / _SHARE_UNIT
    layers = data_uses(uses)
    base = b"" if base_psnr_db is None else ladder.of_psnr(base_psnr_db)
    base_mode = best_mode(design_db - BASE_MARGIN_DB)
    base_uses = uses_for(len(base), base_mode) if base else 0
    mode = mode or best_mode(digital_snr_db(design_db, share))
    plan = segment(layers - base_uses, mode)
    main = ladder.of_size(plan.size_bytes)
    scale, analog = 0.0, np.zeros(plan.uses, complex)
    if share > 0:
        quantised = picture.read(main)
        allocation = _allocation(quantised, plan.uses, share, round(design_db))
        numbers, scale = linear.send(quantised.errors(ladder.image), allocation)
        analog = linear.to_complex(numbers)
    height, width = ladder.image.shape[:2]
    colour = np.rint(ladder.image.reshape(-1, ladder.image.shape[2]).mean(axis=0)).astype(int)
    header = Header(
        height=height,
        width=width,
        base_mode=MODES.index(base_mode),
        main_mode=MODES.index(mode),
        base_bytes=len(base),
        main_bytes=len(main),
        layer_uses=layers,
        share=share,
        design_db=round(design_db),
        scale=scale,
        mean_colour=tuple(int(v) for v in np.broadcast_to(colour, 3)),  # type: ignore[arg-type]
    )
    parts = [digital.send(header.pack(), header_segment())]
    if header.base:
        parts.append(digital.send(base, header.base))
    parts.append(math.sqrt(1 - share) * digital.send(main, plan) + math.sqrt(share) * analog)
    symbols = np.concatenate(parts)
    return Transmission(header, symbols / math.sqrt(np.mean(np.abs(symbols) ** 2)), base, main)


def _allocation(quantised: picture.Quantised, uses: int, share: float, design_db: float) -> linear.Allocation:
    """Of the analog layer: two real dimensions a use, where unit power stands for the share a."""
    return linear.allocate(quantised.levels, 2 * uses, noise_power(design_db) / share)


@dataclass(frozen=True)
class Reception:
    """The received picture and which layers it was made of."""

    pixels: np.ndarray
    layer: str
    """main, base, colour (the mean colour only) or nothing (not even the header: grey)."""


@dataclass(frozen=True)
class Tabulated:
    """Outcomes drawn from the measured block error rates instead of decoding, and the sender's knowledge that they stand for."""

    transmission: Transmission
    main_arrives: bool
    base_arrives: bool


def receive_header(received: Received) -> Header | None:
    """Of the first HEADER_USES uses."""
    decoded = digital.receive(received.part(slice(0, HEADER_USES)), header_segment())
    return unpack_header(decoded.data) if decoded.whole else None


def receive(received: Received, header: Header | None, tabulated: Tabulated | None = None) -> Reception:
    """The picture of the layers of a frame, never an error; ``header`` as ``receive_header`` gave it."""
    if header is None:
        return Reception(np.full((1, 1, 3), 128, np.uint8), "nothing")
    begin = HEADER_USES + header.base_uses
    main = received.part(slice(begin, begin + header.main.uses))
    data = _main_data(main, header, tabulated)
    if data is not None:
        try:
            return Reception(_refined(main, header, data), "main")
        except FlowCodecError:
            pass  # a CRC of 24 bits lets one error in 16 million through; the checksums of the file catch it
    base = _base_data(received, header, tabulated)
    if base is not None:
        try:
            return Reception(picture.read(base).render(), "base")
        except FlowCodecError:
            pass
    return Reception(np.broadcast_to(np.array(header.mean_colour, np.uint8), (header.height, header.width, 3)), "colour")


def _main_data(main: Received, header: Header, tabulated: Tabulated | None) -> bytes | None:
    if tabulated:
        return tabulated.transmission.main if tabulated.main_arrives else None
    share = header.share
    scaled = Received(main.samples, main.gains * math.sqrt(1 - share), main.noise)
    decoded = digital.receive(scaled, header.main, layer=share / (1 - share))
    return decoded.data[: header.main_bytes] if decoded.whole else None


def _base_data(received: Received, header: Header, tabulated: Tabulated | None) -> bytes | None:
    if header.base is None:
        return None
    if tabulated:
        return tabulated.transmission.base if tabulated.base_arrives else None
    decoded = digital.receive(received.part(slice(HEADER_USES, HEADER_USES + header.base_uses)), header.base)
    return decoded.data[: header.base_bytes] if decoded.whole else None


def _refined(main: Received, header: Header, data: bytes) -> np.ndarray:
    """uint8 (H, W, C) of the main file, with its quantisation errors estimated from the analog layer."""
    quantised = picture.read(data)
    share = header.share
    if share == 0 or header.scale == 0:
        return quantised.render()
    rest = main.samples - math.sqrt(1 - share) * main.gains * digital.send(data, header.main)
    # Linear MMSE of t for each use, b t + noise; over the mixing the mean of b counts, and the noise becomes (1 - b) / b.
    strength = share * np.abs(main.gains) ** 2
    shares = strength / (strength + main.noise_power)
    mean = float(shares.mean())
    turned = rest * math.sqrt(share) * np.conj(main.gains) / (strength + main.noise_power)
    allocation = _allocation(quantised, header.main.uses, share, header.design_db)
    noise = (1 - mean) / mean if mean > 0 else math.inf
    samples = linear.to_real(turned) / mean if mean > 0 else np.zeros(allocation.dimensions)
    estimate = np.zeros(len(quantised.levels))
    estimate[allocation.chosen] = linear.receive(samples, allocation, header.scale, noise)
    return quantised.render(estimate)
