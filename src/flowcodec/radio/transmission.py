"""A picture in a given number of channel uses: superposed digital layers, and analog quantisation errors on top.

    frame   = preamble, header, layers; pilots in between          all counted in ``uses``
    symbols = sum over l of sqrt(p_l) d_l + sqrt(a) t,  sum p_l + a = 1

- header: sizes, modes and powers in QPSK at a low rate; also the mean colour, which is the picture where all else fails;
- d_l: the QAM symbols of a file of the picture, first the base layer's, small and robust, then the main one's, coded for
  receivers that have the base picture (conditional.py). The receiver decodes them in this order; what is above a layer is noise
  to it, and a layer that is decoded is subtracted;
- t: the quantisation errors of the main file, analog. Where all layers are decoded, the receiver estimates the errors from t.

Which layers, modes and powers: layering.py. References: Mittal & Phamdo, Hybrid digital-analog joint source-channel codes, 2002;
Skoglund, Phamdo & Alajaji 2002, 2006; superposition: Cover, Broadcast channels, 1972.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from flowcodec.errors import FlowCodecError, InputError
from flowcodec.radio import denoiser, digital, linear, picture
from flowcodec.radio.conditional import Coarse
from flowcodec.radio.digital import MODES, Mode, Segment, segment
from flowcodec.radio.link import Received, noise_power
from flowcodec.radio.picture import CLASS_COUNT, Quantised
from flowcodec.runtime import container

PREAMBLE_USES = 256
PILOT_SPACING = 64
"""One pilot after so many uses."""
HEADER_USES = 1024
MOST_LAYERS = 2
POWER_UNIT = 1 << 12
"""Powers of layers and analog layer are sent in 1/4096."""
_FRONT, _LAYER, _BACK = struct.Struct("<BHHI"), struct.Struct("<HH3s"), struct.Struct(f"<Hbe3B{CLASS_COUNT // 2}s")
_SIZE_BYTES = 3
_HEADER_BYTES = _FRONT.size + MOST_LAYERS * _LAYER.size + _BACK.size
HEADER_MODE = Mode(2, round((8 * _HEADER_BYTES + digital.CRC_BITS) / HEADER_USES, 6), repeats=2)
_VERSION = 3
RECEIVERS = DENOISER, LINEAR = "denoiser", "linear"
"""Of the analog mode."""


def check_receiver(name: str) -> str:
    """The name. Raises InputError if there is no such receiver."""
    if name not in RECEIVERS:
        raise InputError(f"receiver: expected one of {', '.join(RECEIVERS)}, found {name!r}")
    return name


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
class Layer:
    """A digital layer as the header describes it."""

    mode: int
    """Index into digital.MODES."""
    power: int
    """Share of the power, in 1/4096."""
    size_bytes: int

    @property
    def share(self) -> float:
        return self.power / POWER_UNIT


@dataclass(frozen=True)
class Header:
    """What the receiver must know before the layers. Raises InputError for a value that cannot be sent."""

    height: int
    width: int
    uses: int
    """Of the layers, all of which span them all."""
    layers: tuple[Layer, ...]
    analog: int
    """Share of the power in the analog layer, in 1/4096."""
    design_db: int
    scale: float
    """See linear.send."""
    mean_colour: tuple[int, int, int]
    corrections: tuple[int, ...]
    """Of the variances, see picture.Quantised."""

    def __post_init__(self) -> None:
        if max(self.height, self.width) >= 1 << 16:
            raise InputError(f"expected a picture of fewer than 65536 pixels a side, found {self.width}x{self.height}")
        if any(layer.size_bytes >= 1 << 8 * _SIZE_BYTES for layer in self.layers):
            raise InputError(f"expected layers of less than 16 MiB, found {max(layer.size_bytes for layer in self.layers)} bytes")

    def pack(self) -> bytes:
        layers = [*self.layers, *[Layer(0, 0, 0)] * (MOST_LAYERS - len(self.layers))]
        packed = b"".join(
            _LAYER.pack(layer.mode, layer.power, layer.size_bytes.to_bytes(_SIZE_BYTES, "little")) for layer in layers
        )
        pairs = zip(self.corrections[::2], self.corrections[1::2], strict=True)
        nibbles = bytes(low | high << 4 for low, high in pairs)
        back = _BACK.pack(self.analog, self.design_db, self.scale, *self.mean_colour, nibbles)
        return _FRONT.pack(_VERSION, self.height, self.width, self.uses) + packed + back

    @property
    def share(self) -> float:
        return self.analog / POWER_UNIT

    def plan(self, layer: int) -> Segment:
        return segment(self.uses, MODES[self.layers[layer].mode])

    def interference(self, layer: int) -> float:
        """Power of what is above a layer."""
        return sum(above.share for above in self.layers[layer + 1 :]) + self.share

    def snr_db(self, layer: int, csnr_db: float) -> float:
        """SNR of a layer's symbols once those below are subtracted, all above counted as noise."""
        return 10 * math.log10(self.layers[layer].share / (self.interference(layer) + noise_power(csnr_db)))


def unpack_header(data: bytes) -> Header | None:
    """None where the bytes cannot be a header."""
    version, height, width, uses = _FRONT.unpack(data[: _FRONT.size])
    begin = _FRONT.size + MOST_LAYERS * _LAYER.size
    fields = _LAYER.iter_unpack(data[_FRONT.size : begin])
    layers = tuple(Layer(mode, power, int.from_bytes(size, "little")) for mode, power, size in fields if any(size))
    analog, design_db, scale, *colour, nibbles = _BACK.unpack(data[begin : begin + _BACK.size])
    if version != _VERSION or not layers or not np.isfinite(scale) or any(layer.mode >= len(MODES) for layer in layers):
        return None
    corrections = tuple(value for byte in nibbles for value in (byte & 15, byte >> 4))
    header = Header(height, width, uses, layers, analog, design_db, scale, tuple(colour), corrections)
    try:
        fits = all(header.plan(index).size_bytes >= layer.size_bytes for index, layer in enumerate(layers))
    except (InputError, ZeroDivisionError):
        return None
    return header if fits and min(height, width) > 0 else None


def header_segment() -> Segment:
    return segment(HEADER_USES, HEADER_MODE, nominal=HEADER_USES)


@dataclass(frozen=True)
class Transmission:
    """What is sent: the header, the files of the layers, and the symbols of the analog layer."""

    header: Header
    files: tuple[bytes, ...]
    analog: np.ndarray
    """complex (uses,) of unit mean power, or zeros"""
    quantised: Quantised | None
    """The main file's latent, where there is an analog layer."""
    pictures: tuple[np.ndarray, ...]
    """uint8 (H, W, C): of the files."""

    @cached_property
    def symbols(self) -> np.ndarray:
        """complex (HEADER_USES + uses,) of unit mean power: header and layers."""
        layers = math.sqrt(self.header.share) * self.analog
        for index, (layer, data) in enumerate(zip(self.header.layers, self.files, strict=True)):
            layers = layers + math.sqrt(layer.share) * digital.send(data, self.header.plan(index))
        symbols = np.concatenate([digital.send(self.header.pack(), header_segment()), layers])
        return symbols / math.sqrt(np.mean(np.abs(symbols) ** 2))


def transmit(
    image: np.ndarray,
    uses: int,
    layers: Sequence[Layer],
    files: Sequence[tuple[bytes, np.ndarray]],
    analog: int = 0,
    design_db: float = 10.0,
) -> Transmission:
    """``image``: uint8 (H, W, C); ``uses``: of the layers; ``files`` with their pictures, one a layer.

    Each file is made for receivers of the one before; the analog layer, if it has power, refines the last.
    """
    height, width = image.shape[:2]
    colour = np.rint(image.reshape(-1, image.shape[2]).mean(axis=0)).astype(int)
    header = Header(
        height=height,
        width=width,
        uses=uses,
        layers=tuple(layers),
        analog=analog,
        design_db=round(design_db),
        scale=0.0,
        mean_colour=tuple(int(v) for v in np.broadcast_to(colour, 3)),  # type: ignore[arg-type]
        corrections=(0,) * CLASS_COUNT,
    )
    quantised, symbols = None, np.zeros(uses, complex)
    if analog > 0:
        coarse = Coarse(files[-2][1], _step_index(files[-2][0])) if len(files) > 1 else None
        quantised = picture.read(files[-1][0], coarse)
        header, symbols = with_analog(header, quantised, quantised.errors(image))
    return Transmission(header, tuple(data for data, _ in files), symbols, quantised, tuple(pixels for _, pixels in files))


def with_analog(header: Header, quantised: Quantised, errors: np.ndarray) -> tuple[Header, np.ndarray]:
    """(the header that tells corrections and scale, complex (uses,) symbols) of the analog layer of a header."""
    corrections = quantised.corrections(errors)
    header = replace(header, corrections=corrections)
    numbers, scale = linear.send(errors, _allocation(header, quantised))
    # As the header carries it.
    return replace(header, scale=float(np.float16(scale))), linear.to_complex(numbers)


def _step_index(data: bytes) -> int:
    return container.read(data).header.step_index


def _allocation(header: Header, quantised: Quantised) -> linear.Allocation:
    """Of the analog layer: two real dimensions a use, where unit power stands for the share a."""
    levels = quantised.levels(header.corrections)
    return linear.allocate(levels, 2 * header.uses, noise_power(header.design_db) / header.share)


@dataclass(frozen=True)
class Reception:
    """The received picture and what it was made of."""

    pixels: np.ndarray
    layer: str
    """main (all layers), base (the first of several), layer 2, colour (the mean colour only), nothing (no header: grey)."""


def receive_header(received: Received) -> Header | None:
    """Of the first HEADER_USES uses."""
    decoded = digital.receive(received.part(slice(0, HEADER_USES)), header_segment())
    return unpack_header(decoded.data) if decoded.whole else None


def receive(received: Received, header: Header | None, receiver: str = DENOISER) -> Reception:
    """The picture of the layers of a frame, never an error; ``header`` as ``receive_header`` gave it; see ``refine``."""
    if header is None:
        return Reception(np.full((1, 1, 3), 128, np.uint8), "nothing")
    rest = received.part(slice(HEADER_USES, HEADER_USES + header.uses))
    best: Quantised | None = None
    name = "colour"
    for index, layer in enumerate(header.layers):
        scaled = Received(rest.samples, rest.gains * math.sqrt(layer.share), rest.noise)
        plan = header.plan(index)
        decoded = digital.receive(scaled, plan, layer=header.interference(index) / layer.share)
        if not decoded.whole:
            break
        data = decoded.data[: layer.size_bytes]
        try:
            best = picture.read(data, Coarse(best.render(), best.header.step_index) if best else None)
        except FlowCodecError:
            break  # a CRC of 24 bits lets one error in 16 million through; the checksums of the file catch it
        name = layer_name(index, len(header.layers))
        rest = Received(rest.samples - scaled.gains * digital.send(data, plan), rest.gains, rest.noise)
    if best is None:
        return Reception(np.broadcast_to(np.array(header.mean_colour, np.uint8), (header.height, header.width, 3)), name)
    return Reception(refine(rest, header, best, receiver) if name == "main" else best.render(), name)


def layer_name(index: int, count: int) -> str:
    """How a picture from a layer is called in results."""
    if index == count - 1:
        return "main"
    return "base" if index == 0 else f"layer {index + 1}"


@dataclass(frozen=True)
class Estimate:
    """What the analog layer says of the quantisation errors e of a file, all coefficients, coarse to fine."""

    errors: np.ndarray
    """Linear MMSE estimates of e; 0 where e was not sent."""
    variances: np.ndarray
    """Of what is left of e, by the model: l N / (g^2 l + N), and l where e was not sent."""


def estimate(rest: Received, header: Header, quantised: Quantised) -> Estimate:
    """``rest``: the samples of the layers without what the digital ones sent."""
    levels = quantised.levels(header.corrections)
    found = Estimate(np.zeros(quantised.count), np.exp2(levels / linear.LEVELS_PER_OCTAVE))
    share = header.share
    # Linear MMSE of t for each use, b t + noise; over the mixing the mean of b counts, and the noise becomes (1 - b) / b.
    strength = share * np.abs(rest.gains) ** 2
    shares = strength / (strength + rest.noise_power)
    mean = float(shares.mean())
    if mean == 0 or header.scale == 0:
        return found
    turned = rest.samples * math.sqrt(share) * np.conj(rest.gains) / (strength + rest.noise_power)
    allocation = _allocation(header, quantised)
    samples, noise = linear.to_real(turned) / mean, (1 - mean) / mean
    found.errors[allocation.chosen] = linear.receive(samples, allocation, header.scale, noise)
    found.variances[allocation.chosen] = linear.remaining(allocation, header.scale, noise)
    return found


def refine(rest: Received, header: Header, quantised: Quantised, receiver: str = DENOISER) -> np.ndarray:
    """uint8 (H, W, C) of the last file, its quantisation errors estimated from the analog layer.

    ``rest``: as in ``estimate``. Where the file is the only one, the analog layer has most to say, and the denoiser follows,
    unless the ``receiver``, one of RECEIVERS, is the linear one.
    """
    if header.share == 0 or header.scale == 0:
        return quantised.render()
    found = estimate(rest, header, quantised)
    if len(header.layers) > 1 or receiver == LINEAR:
        return quantised.render(found.errors)
    return denoiser.denoise(quantised, found.errors, found.variances)
