"""Picture -> bytes: colour, flow, then level by level prior, channel and coder, then the container."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from flowcodec.errors import FlowCodecError, InputError
from flowcodec.runtime import container
from flowcodec.runtime.alpha import encode_alpha
from flowcodec.runtime.axes import find_turn
from flowcodec.runtime.bundle import Model, load_model
from flowcodec.runtime.certificate import certificate_payload
from flowcodec.runtime.channel import make_channel
from flowcodec.runtime.color import NO_TURN, Turn, rgb_to_ycc, ycc_to_rgb
from flowcodec.runtime.container import Box, BoxKind
from flowcodec.runtime.context import valid_coefficients
from flowcodec.runtime.coupling import Coupling
from flowcodec.runtime.decode import decode_picture, make_runner
from flowcodec.runtime.flow import analyse_level, level_count, to_fixed
from flowcodec.runtime.forecast import Forecast
from flowcodec.runtime.header import CHANNELS, MAX_ERROR, SEEDED, Header
from flowcodec.runtime.image import Picture
from flowcodec.runtime.integer import FRACTION_BITS, Runner
from flowcodec.runtime.latent import LatentEncoder
from flowcodec.runtime.lossless import encode_lossless, model_id_of
from flowcodec.runtime.margins import find_margins, inside, paint
from flowcodec.runtime.prior import PLANES, Walk
from flowcodec.runtime.quality import psnr_db
from flowcodec.runtime.rate import PSNR_TOLERANCE_DB, SIZE_TOLERANCE, find_step
from flowcodec.runtime.region import Region, check_mask
from flowcodec.runtime.restore import restore
from flowcodec.runtime.step import STEP_COUNT, log2_step, quality_to_step_index, step_index

DEFAULT_CHANNEL = "trellis"
"""The channel of the smallest files."""
_REGION_CHANNEL = "round"
_PSNR_OF_EQUAL_PICTURES = 100.0
_PSNR_LIMIT_DB = 0.1
"""Beyond this a PSNR counts as not to be had: the target lies outside the grid."""
_NEIGHBOURS = 6
_FRAME_BYTES = 80
"""About what a file takes beside its coefficients and companions."""


class Refiner(Protocol):
    """Moves a latent to where its symbols are cheaper for the picture they give; ``model/refinement.py`` has one."""

    def __call__(
        self, pixels: np.ndarray, latent: Sequence[np.ndarray], step_index: int, turn: Turn = NO_TURN
    ) -> list[np.ndarray]:
        """uint8 (H, W, C) and what ``analyse`` made of it at a step and a turn -> a latent of the same shapes."""


@dataclass(frozen=True)
class EncodeSettings:
    """How to encode; every field has the default of the command line."""

    quality: float = 60
    """0 (smallest file) to 100 (Delta = 1)."""
    step: float | None = None
    """Quantiser step Delta in pixel units, instead of a quality; the nearest step of the grid is taken."""
    channel: str | None = None
    """A noise channel by name, or None for ``trellis``; a region of interest has ``round`` instead."""
    model: str = "default"
    threads: int | None = None
    seed: int = 0
    """Key of the shared dither."""
    verify: bool = False
    """Decode the result twice, by different arithmetic paths, and compare."""
    size: int | None = None
    """Bytes the whole file may have, instead of a quality: never more, mostly less than 0.5 % fewer."""
    bpp: float | None = None
    """The same in bits per pixel."""
    psnr: float | None = None
    """PSNR over RGB in dB, instead of a quality: met within 0.05 dB."""
    roi: np.ndarray | None = field(default=None, compare=False)
    """uint8 (H, W): a mask of what matters, 255 all, 0 least; bits are dearer where it is not white."""
    lossless: bool = False
    """Every pixel exactly; the quality has then no meaning, nor have step, channel and model."""
    max_error: int | None = None
    """The same, but every component of every pixel may be wrong by as much as this (grey levels)."""
    certificate: bool = False
    """Store a bound on the size that a decoder can check, see ``certificate.py``."""
    cap_bpp: float | None = None
    """Bits per pixel that no file may exceed: a picture that would takes the finest step that keeps it below."""
    refiner: Refiner | None = field(default=None, compare=False)
    """Refines the latent of every trial before it is quantised, for the model named above; decoders do not notice."""
    feedback: bool = True
    """Let later coefficients make up for the errors of earlier ones: fewer bits for a seventh of the time."""

    def __post_init__(self) -> None:
        if not 0 <= self.quality <= 100:
            raise InputError(f"quality: expected 0 to 100, found {self.quality}")
        low, high = 2.0 ** log2_step(0), 2.0 ** log2_step(STEP_COUNT - 1)
        if self.step is not None and not low <= self.step <= high:
            raise InputError(f"step: expected {low:g} to {high:g}, found {self.step}")
        if self.channel is not None and self.channel not in CHANNELS:
            raise InputError(f"channel: expected one of {', '.join(CHANNELS)}, found {self.channel!r}")
        if self.cap_bpp is not None and not self.cap_bpp > 0:
            raise InputError(f"cap: expected a positive number of bits per pixel, found {self.cap_bpp}")
        if not 0 <= self.seed < 1 << 32:
            raise InputError(f"seed: expected 0 to 2^32 - 1, found {self.seed}")
        if self.threads is not None and self.threads < 1:
            raise InputError(f"threads: expected at least 1, found {self.threads}")
        if self.max_error is not None and not 0 <= self.max_error <= MAX_ERROR[16]:
            raise InputError(f"max_error: expected 0 to {MAX_ERROR[16]}, found {self.max_error}")
        if self.lossless and self.max_error:
            raise InputError(f"max_error: expected 0 in lossless mode, found {self.max_error}")
        targets = [name for name in ("step", "size", "bpp", "psnr", "max_error") if getattr(self, name) is not None]
        targets += ["lossless"] if self.lossless and self.max_error is None else []
        if len(targets) > 1:
            raise InputError(f"expected one of step, size, bpp, psnr, lossless and max_error, found {' and '.join(targets)}")
        if self.roi is not None and (self.exact or self.noise_channel != _REGION_CHANNEL):
            found = "a bound on every pixel" if self.exact else f"{self.channel}, whose error must not depend on the place"
            raise InputError(f"roi: expected the channel {_REGION_CHANNEL}, found {found}")
        if self.exact and self.channel is not None:
            raise InputError(f"channel: a lossless or near-lossless file has none, found {self.channel!r}")
        if self.exact and (self.certificate or self.cap_bpp is not None):
            name = "certificate" if self.certificate else "cap"
            raise InputError(f"{name}: expected a lossy file, whose size the prior bounds, found a bound on every pixel")
        if self.refiner is not None and (self.exact or self.roi is not None or self.channel in SEEDED):
            regional = "a region of interest" if self.roi is not None else self.noise_channel
            found = "a bound on every pixel" if self.exact else regional
            raise InputError(f"effort: expected channel trellis or round and no region, found {found}; lower it to 3")
        if targets and not self.exact and not getattr(self, targets[0]) > 0:
            raise InputError(f"{targets[0]}: expected a positive number, found {getattr(self, targets[0])}")

    @property
    def noise_channel(self) -> str:
        """The channel of a lossy file."""
        return self.channel or (DEFAULT_CHANNEL if self.roi is None else _REGION_CHANNEL)

    @property
    def exact(self) -> bool:
        """Whether the file has a bound on every pixel's error, zero included."""
        return self.lossless or self.max_error is not None

    @property
    def step_index(self) -> int:
        return quality_to_step_index(self.quality) if self.step is None else step_index(self.step)


@dataclass(frozen=True)
class Encoded:
    """A file and what is known about it."""

    data: bytes
    ideal_bits: float
    """Sum of -log2 of the coded probabilities of the latent: the bits of the file but for container, coder and metadata."""
    pixels: np.ndarray | None = None
    """uint8 (H, W, C): what decoding will give, where it was asked for."""
    passes: int = 1
    """Encodings that it took to meet a size or a PSNR."""


def analyse(
    model: Model,
    runner: Runner,
    pixels: np.ndarray,
    step: int,
    lows: list[np.ndarray] | None = None,
    turn: Turn = NO_TURN,
) -> list[np.ndarray]:
    """uint8 (H, W, C) -> latent [coarsest (3, 1, 1), details coarse to fine (9, h, w)], float32 in pixel units.

    The planes have the axes of the ``turn``. A list given as ``lows`` receives the planes (C, h, w) that each of the details
    refines, coarse to fine.
    """
    planes = rgb_to_ycc(pixels, turn)
    grey = len(planes) == 1
    if grey:
        planes = np.concatenate([planes, np.zeros((PLANES - 1, *planes.shape[1:]), np.float32)])
    details = []
    unit = np.float32(1 << FRACTION_BITS)
    for level in range(1, level_count(*pixels.shape[:2]) + 1):
        valid = valid_coefficients(*planes.shape[1:])
        ll, detail = analyse_level(planes)
        del planes  # as large as what it became
        coupling = Coupling(model, runner, level, step)
        if coupling.present:
            ll += coupling.update(to_fixed(detail)).astype(np.float32) / unit
            prediction = coupling.prediction(to_fixed(ll))
            prediction *= valid
            detail -= prediction.astype(np.float32) / unit
        if grey:
            ll[1:] = 0
        details.append(detail)
        planes = ll
        if lows is not None:
            lows.insert(0, ll[: pixels.shape[2]])
    return [planes, *reversed(details)]


def encode_detailed(picture: Picture, settings: EncodeSettings) -> Encoded:
    """Encodes a picture. Raises InputError, MissingModel, ModelError."""
    if picture.depth == 16 and not settings.exact:
        raise InputError("pixels: 16 bits a channel need lossless or max_error; convert them to 8 bits for a lossy file")
    if settings.roi is not None:
        check_mask(settings.roi, picture.height, picture.width)
    if settings.exact:
        encoded = _encode_exact(picture, settings.max_error or 0)
    elif settings.psnr is not None:
        encoded = _encode_to_psnr(picture, settings, settings.psnr)
    elif settings.size is not None or settings.bpp is not None:
        pixels = picture.pixels.shape[0] * picture.pixels.shape[1]
        size = settings.size if settings.size is not None else int((settings.bpp or 0) * pixels / 8)
        encoded = _encode_to_size(picture, settings, size)
    else:
        encoded = _encode_at(picture, settings, settings.step_index, _companions(picture))
    if settings.cap_bpp is not None:
        most = int(settings.cap_bpp * picture.pixels.shape[0] * picture.pixels.shape[1] / 8)
        if len(encoded.data) > most:
            encoded = _encode_to_size(picture, settings, most)
    if settings.verify:
        _verify(encoded.data, picture, settings)
    return encoded


def _companions(picture: Picture) -> list[Box]:
    """The boxes behind the latents: alpha and metadata."""
    boxes = []
    if picture.alpha is not None:
        boxes.append(Box(BoxKind.ALPHA, encode_alpha(picture.alpha)))
    for kind, payload in ((BoxKind.ICC, picture.icc), (BoxKind.EXIF, picture.exif), (BoxKind.XMP, picture.xmp)):
        if payload:
            boxes.append(Box(kind, payload))
    return boxes


def _encode_at(
    picture: Picture, settings: EncodeSettings, index: int, companions: Sequence[Box], reconstruct: bool = False
) -> Encoded:
    model = load_model(settings.model)
    runner = make_runner(model, settings.threads)
    height, width, channels = picture.pixels.shape
    # Channels with a seed promise that errors do not depend on the picture.
    free = settings.channel not in SEEDED
    margins = find_margins(picture.pixels, index) if free else ()
    pixels = inside(picture.pixels, margins)
    turn = find_turn(pixels, index) if free and channels == PLANES else NO_TURN
    header = Header(
        width=width,
        height=height,
        channels=channels,
        step_index=index,
        channel=settings.noise_channel,
        seed=0 if free else settings.seed,
        model_id=model.id,
        margins=margins,
        turn=turn,
    )
    feedback = settings.feedback and free
    lows: list[np.ndarray] = []
    latent = analyse(model, runner, pixels, index, lows if feedback else None, turn)
    if settings.refiner is not None:
        latent = settings.refiner(pixels, latent, index, turn)
    channel = make_channel(header.channel, model.channels, header.seed)
    region = None if settings.roi is None else Region(inside(settings.roi, margins))
    # A region has prices of its own.
    calibrated = free and region is None
    exchange = LatentEncoder(model, channel, latent, channels, index, region, lows, threads=runner.threads, calibrated=calibrated)
    del lows
    planes = Walk(model, runner, *header.coded_size, channels, index).run(
        exchange, synthesise_image=reconstruct, level_begun=exchange.begin_feedback if feedback else None
    )
    boxes = [*(Box(BoxKind.LATENT, payload) for payload in exchange.boxes), *companions]
    if settings.certificate:
        boxes.append(Box(BoxKind.CERTIFICATE, certificate_payload(exchange.ideal_bits)))
    header = replace(header, scale_shifts=tuple(sorted(exchange.scale_shifts)))
    decoded = None
    if reconstruct:
        decoded = paint(ycc_to_rgb(restore(model, runner, planes, index)[:channels], turn=turn), margins)
    return Encoded(container.write(header, boxes), exchange.ideal_bits, decoded)


def _encode_exact(picture: Picture, max_error: int) -> Encoded:
    height, width, channels = picture.pixels.shape
    if max_error > MAX_ERROR[picture.depth]:
        raise InputError(f"max_error: expected 0 to {MAX_ERROR[picture.depth]} with {picture.depth} bits, found {max_error}")
    box, ideal_bits = encode_lossless(picture.pixels, max_error)
    header = Header(width, height, channels, max_error, CHANNELS[0], 0, model_id_of(box), lossless=True, depth=picture.depth)
    boxes = sorted([box, *_companions(picture)], key=lambda each: each.kind)
    return Encoded(container.write(header, boxes), ideal_bits)


def _encode_to_size(picture: Picture, settings: EncodeSettings, size: int) -> Encoded:
    """The largest file of at most ``size`` bytes that the step grid gives. Raises InputError where none is small enough."""
    companions = _companions(picture)
    trials: dict[int, Encoded] = {}

    def log2_size(index: int) -> float:
        trials[index] = _encode_at(picture, settings, index, companions)
        return math.log2(len(trials[index].data))

    # A word of four bytes is the finest step of a small file.
    tolerance = max(-math.log2(1 - SIZE_TOLERANCE), math.log2(1 + 4 / size))
    forecast = Forecast(picture.pixels).log2_size(_FRAME_BYTES + sum(len(box.payload) for box in companions))
    found = find_step(log2_size, forecast, math.log2(size), tolerance)
    encoded = replace(trials[found.index], passes=len(trials))
    if len(encoded.data) > size:
        raise InputError(f"size: expected at least {len(encoded.data)} bytes, the smallest file of this picture, found {size}")
    return encoded


def _encode_to_psnr(picture: Picture, settings: EncodeSettings, target_db: float) -> Encoded:
    """The file whose picture has the given PSNR. Raises InputError where the step grid does not reach it."""
    companions = _companions(picture)
    trials: dict[int, Encoded] = {}
    values: dict[int, float] = {}

    def psnr(index: int) -> float:
        trials[index] = encoded = _encode_at(picture, settings, index, companions, reconstruct=True)
        assert encoded.pixels is not None
        values[index] = min(psnr_db(picture.pixels, encoded.pixels), _PSNR_OF_EQUAL_PICTURES)
        return values[index]

    forecast = Forecast(picture.pixels).psnr_db()
    found = find_step(psnr, forecast, target_db + PSNR_TOLERANCE_DB, 2 * PSNR_TOLERANCE_DB)
    nearest = found.index
    if not found.met:
        # Between neighbours of so fine a grid PSNR is not quite monotone: one of the next few may be nearer.
        for index in range(max(found.index - _NEIGHBOURS, 0), min(found.index + _NEIGHBOURS, STEP_COUNT - 1) + 1):
            if index not in trials:
                psnr(index)
        nearest = min(values, key=lambda index: abs(values[index] - target_db))
    if abs(values[nearest] - target_db) > _PSNR_LIMIT_DB:
        raise InputError(
            f"psnr: the nearest this picture can be had at is {values[nearest]:.2f} dB, found {target_db:g} dB asked for"
        )
    return replace(trials[nearest], passes=len(trials))


def encode_picture(picture: Picture, settings: EncodeSettings) -> bytes:
    """The file of a picture. Raises InputError, MissingModel, ModelError."""
    return encode_detailed(picture, settings).data


def _verify(data: bytes, picture: Picture, settings: EncodeSettings) -> None:
    """Decodes with other thread counts and optimisation than the encoder used; all must give one picture."""
    model = None if settings.exact else load_model(settings.model)
    first = decode_picture(data, settings.threads, model=model)
    second = decode_picture(data, 1, model=model, optimise=False)
    if settings.exact:
        error = np.abs(first.pixels.astype(np.int32) - picture.pixels).max()
        if error > (settings.max_error or 0):
            raise FlowCodecError(f"verification failed: an error of {error}; nothing was written, please report this")
    if first.alpha is None or picture.alpha is None:
        same_alpha = first.alpha is picture.alpha
    else:
        same_alpha = np.array_equal(first.alpha, picture.alpha)
    if not (same_alpha and np.array_equal(first.pixels, second.pixels)):
        raise FlowCodecError("verification failed: two decodings of the new file differ; nothing was written, please report this")
