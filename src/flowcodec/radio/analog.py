"""Analog coding of a latent whose spectra are told by a map: the analog mode of thumbnails, and of pictures a simpler form of it.

    frame = preamble, header, map, analog symbols; pilots in between           all counted in ``uses``

- map: the spectrum of every block of the latent, one of P trained profiles (``radio.profiles``), in QPSK of a low rate;
- analog symbols: the coefficients of the flow's latent scaled by Lee-Petersen for these spectra, mixed over all uses. With the
  latent's synthesis orthonormal up to the couplings, all weights of the allocation are 1.
- The header carries size, design CSNR, the scale that makes the power exact, and the mean colour, which stands for the coarsest
  sample and is the picture where the map is lost.

A *bare* frame, for pictures of a single block such as CIFAR's, has neither preamble, header nor pilots, as is usual where Deep
JSCC is measured: profile and scale are two short words, all else is analog.

Receivers, all told the CSNR: ``linear`` estimates each coefficient alone by linear MMSE; ``prior`` takes the flow prior's
conditional mean, coarse to fine, given what is decoded so far and the noisy coefficient. The prior's networks are those of the
codec, trained with Gaussian noise of random power on the latent.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from flowcodec.errors import FlowCodecError, InputError
from flowcodec.radio import digital, linear, profiles, short_code
from flowcodec.radio.digital import Mode, Segment, segment
from flowcodec.radio.link import Link, Received, awgn, noise_power
from flowcodec.radio.profiles import Latent, Profiles
from flowcodec.radio.systems import Quality, Source
from flowcodec.radio.transmission import data_uses
from flowcodec.runtime.bundle import Model, load_model
from flowcodec.runtime.channel import SCALE_BITS, SCALE_LOG2_FIRST
from flowcodec.runtime.color import rgb_to_ycc, ycc_to_rgb
from flowcodec.runtime.context import pad_even, phase_of
from flowcodec.runtime.decode import make_runner
from flowcodec.runtime.encode import analyse
from flowcodec.runtime.integer import FRACTION_BITS
from flowcodec.runtime.prior import Exchange, Site, Walk, band_steps
from flowcodec.runtime.step import STEP_BITS, step_index

STEP = 16.0
"""Delta that the flow and the prior are conditioned on: its noise is about that of the coefficients at 10 dB."""
MAP_MODE = Mode(2, 0.35)
"""Works from -1.1 dB."""
PRIOR_LEVELS = 3
"""The prior is asked at the finest levels only: in the coarser ones, whose strong coefficients get the most noise, that noise is
many times what the prior was trained with."""
RECEIVERS = ("linear", "prior")
BARE_PROFILE_BITS, BARE_SCALE_BITS = 5, 6
_BARE_SCALE_DB = 0.25
_UNIT = 1 << FRACTION_BITS


@dataclass(frozen=True)
class About:
    """What the receiver knows from the header (from the short words of a bare frame)."""

    height: int
    width: int
    design_db: float
    scale: float
    """See linear.send."""
    mean_colour: tuple[int, int, int]
    """Of a bare frame it is not used."""
    map_bytes: int
    bare: bool


@dataclass(frozen=True)
class Broadcast:
    """What is sent: symbols of unit mean power (a bare frame: at most 1, by the grid of its scale)."""

    about: About
    symbols: np.ndarray
    profiles: Profiles


@dataclass(frozen=True)
class Observed:
    """Each coefficient as received: value + N(0, noise); shapes of the latent, pixel units. Infinite noise: not sent."""

    about: About
    values: Latent
    noise: Latent
    variances: Latent
    """Of the coefficients, by the profiles."""

    @cached_property
    def estimates(self) -> Latent:
        """Linear MMSE of every coefficient alone."""
        parts = zip(self.values, self.variances, self.noise, strict=True)
        return [value * variance / (variance + noise) for value, variance, noise in parts]


def map_segment(map_bytes: int) -> Segment:
    """Of the map in a frame that is not bare."""
    return segment(digital.uses_for(map_bytes, MAP_MODE), MAP_MODE)


def transmit(image: np.ndarray, uses: int, design_db: float, bare: bool = False) -> Broadcast:
    """``image``: uint8 (H, W, 3). Raises InputError where the uses are too few or the picture does not fit the frame."""
    if image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"the analog mode takes colour pictures (H, W, 3), found an array of shape {image.shape}")
    chosen_profiles, model = profiles.load("thumbnail" if bare else "photograph"), load_model()
    height, width = image.shape[:2]
    colour = tuple(int(value) for value in np.rint(image.reshape(-1, 3).mean(axis=0)))
    latent = [np.asarray(part, np.float64) for part in analyse(model, make_runner(model, 1), image, step_index(STEP))]
    about = About(height, width, design_db, 1.0, colour, 0, bare)  # type: ignore[arg-type]
    latent[0] = latent[0] - centre(about, chosen_profiles, len(latent) - 1)
    blocks, data = _choose_map(chosen_profiles, latent, uses, about)
    return transmit_latent(latent, blocks, uses, about, chosen_profiles, data)


def transmit_latent(latent: Latent, blocks: np.ndarray, uses: int, about: About, chosen: Profiles, data: bytes) -> Broadcast:
    """``latent``: its coarsest sample less its centre; ``blocks`` the map, ``data`` the same as bytes."""
    allocation = _allocation(chosen, blocks, about, _analog_uses(uses, len(data), about.bare))
    numbers, scale = linear.send(_flat(latent), allocation)
    if about.bare:
        index = _scale_index(scale)
        numbers, scale = numbers * (_bare_scale(index) / scale if scale else 0.0), _bare_scale(index)
        words = [short_code.send(int(blocks[0, 0]), BARE_PROFILE_BITS), short_code.send(index, BARE_SCALE_BITS)]
    else:
        words = [digital.send(data, map_segment(len(data)))]
    told = About(about.height, about.width, about.design_db, scale, about.mean_colour, len(data), about.bare)
    symbols = np.concatenate([*words, linear.to_complex(numbers)])
    if not about.bare:
        # The map's uses that make up no whole symbol of every block are empty; their power goes to the rest.
        power = float(np.mean(np.abs(symbols) ** 2))
        symbols = symbols / math.sqrt(power)
        told = About(told.height, told.width, told.design_db, scale / math.sqrt(power), told.mean_colour, told.map_bytes, False)
    return Broadcast(told, symbols, chosen)


def receive(received: Received, about: About, chosen: Profiles) -> Observed | None:
    """None where the map is lost. ``about`` of a bare frame need not have its scale, which is read here."""
    try:
        blocks, about, begin = _read_map(received, about, chosen)
    except FlowCodecError:
        return None
    rest = received.part(slice(begin, None))
    allocation = _allocation(chosen, blocks, about, len(rest.samples))
    # Linear MMSE of each use; over the mixing the mean b of its gains counts, and the noise becomes (1 - b) / b.
    strength = np.abs(rest.gains) ** 2
    mean = float(np.mean(strength / (strength + rest.noise_power)))
    turned = rest.samples * np.conj(rest.gains) / (strength + rest.noise_power)
    noise = (1 - mean) / mean if mean > 0 else math.inf
    samples = linear.to_real(turned) / mean if mean > 0 else np.zeros(allocation.dimensions)
    levels = chosen.variance_levels(blocks, about.height, about.width)
    flat = _flat(levels)
    values, noises = np.zeros(len(flat)), np.full(len(flat), np.inf)
    values[allocation.chosen], noises[allocation.chosen] = linear.observe(samples, allocation, about.scale, noise)
    variances = np.where(flat <= profiles.NEVER, 1e-12, np.exp2(np.maximum(flat, profiles.NEVER) / linear.LEVELS_PER_OCTAVE))
    # The scale says how far the real variances were from the modelled ones.
    variances = variances / max(about.scale, 1e-6) ** 2
    return Observed(about, _shaped(values, levels), _shaped(noises, levels), _shaped(variances, levels))


def centre(about: About, chosen: Profiles, levels: int) -> np.ndarray:
    """(3, 1, 1): what the coarsest sample is sent relative to: the mean colour, in a bare frame that of all pictures."""
    if about.bare:
        return chosen.centre.reshape(3, 1, 1) * 2.0**levels
    pixel = np.array(about.mean_colour, np.uint8).reshape(1, 1, 3)
    return rgb_to_ycc(pixel).astype(np.float64) * 2.0**levels


# --- receivers -----------------------------------------------------------------------------------------------------------------


def linear_planes(observed: Observed, model: Model, chosen: Profiles) -> np.ndarray:
    """int (3, H, W): luma and chroma in 1/64 pixel units of the linear estimates."""
    about, index = observed.about, step_index(STEP)
    walk = _Synthesis(model, about.height, about.width, index, observed.estimates)
    coarsest = observed.estimates[0] + centre(about, chosen, len(observed.values) - 1)
    return walk.run(_Coarsest(coarsest))


def prior_planes(observed: Observed, model: Model, chosen: Profiles) -> np.ndarray:
    """As ``linear_planes``, of the flow prior's conditional mean given the noisy coefficients, coarse to fine."""
    about, index = observed.about, step_index(STEP)
    walk = Walk(model, make_runner(model, 1), about.height, about.width, 3, index)
    coarsest = observed.estimates[0] + centre(about, chosen, len(observed.values) - 1)
    return walk.run(_PriorMean(coarsest, observed, model, index))


class _Coarsest:
    """Exchange of a synthesis: gives the coarsest sample, all else is known."""

    def __init__(self, value: np.ndarray) -> None:
        self.value = value.reshape(3)

    def coarsest(self, step: int, base: np.ndarray) -> np.ndarray:
        return np.rint(self.value * (1 << STEP_BITS) / step).astype(np.int64)

    def coefficients(self, site: Site, locations: np.ndarray, scales: np.ndarray, valid: np.ndarray) -> np.ndarray:
        raise AssertionError("a synthesis asks for no coefficients")

    def level_done(self, level: int) -> None:
        pass


class _Synthesis(Walk):
    """The walk without the prior's networks: details that are already known, pixel units."""

    def __init__(self, model: Model, height: int, width: int, index: int, latent: Latent) -> None:
        super().__init__(model, make_runner(model, 1), height, width, 3, index)
        self.latent = latent

    def _details(self, level: int, ll: np.ndarray, exchange: Exchange) -> np.ndarray:
        steps = np.array(band_steps(self.model, self.step_index, level))[:, None, None] / (1 << (STEP_BITS + FRACTION_BITS))
        return np.rint(pad_even(self.latent[len(self.latent) - level]) / steps).astype(np.int32)


class _PriorMean(_Coarsest):
    """Exchange that gives mu + (y - mu) s^2 / (s^2 + noise), with (mu, s) of the prior, and mu where nothing was sent.

    Linear MMSE above PRIOR_LEVELS.
    """

    def __init__(self, coarsest: np.ndarray, observed: Observed, model: Model, index: int) -> None:
        super().__init__(coarsest)
        self.observed, self.model, self.index = observed, model, index

    def coefficients(self, site: Site, locations: np.ndarray, scales: np.ndarray, valid: np.ndarray) -> np.ndarray:
        steps = np.array(band_steps(self.model, self.index, site.level)[site.stage.bands])[:, None, None] / (1 << STEP_BITS)
        place = len(self.observed.values) - site.level
        value, noise, variance = (
            phase_of(pad_even(part[place])[site.stage.bands], site.stage.phase)
            for part in (self.observed.values, self.observed.noise, self.observed.variances)
        )
        deviations = np.exp2(scales / (1 << SCALE_BITS) + SCALE_LOG2_FIRST) * steps
        mean, known = locations / _UNIT * steps, deviations**2
        if site.level > PRIOR_LEVELS:
            mean, known = np.zeros(mean.shape), variance
        found = mean + (value - mean) * known / (known + np.where(noise > 0, noise, np.inf))
        return np.where(valid, np.rint(found / steps * _UNIT), 0).astype(np.int32)


# --- parts ---------------------------------------------------------------------------------------------------------------------


def _choose_map(chosen: Profiles, latent: Latent, uses: int, about: About) -> tuple[np.ndarray, bytes]:
    """Blocks' profiles at the multiplier that the power leads to: the allocation of a first map gives it for the next."""
    noise, factor = noise_power(about.design_db), 1 / 14
    blocks, data = np.zeros((1, 1), np.int64), b""
    for _ in range(2):
        blocks = chosen.choose(latent, noise, factor, 0.0 if about.bare else profiles.MAP_PRICE)
        data = b"" if about.bare else chosen.pack(blocks)
        allocation = _allocation(chosen, blocks, about, _analog_uses(uses, len(data), about.bare))
        factor = _factor(allocation, noise)
    if about.bare and blocks.size > 1:
        raise InputError(f"a bare frame carries one block of {chosen.block} pixels, found {blocks.shape[1]}x{blocks.shape[0]}")
    return blocks, data


def _factor(allocation: linear.Allocation, noise: float) -> float:
    """sqrt(N / mu), from p + N = factor sqrt(l) of any active number."""
    if not len(allocation.chosen):
        return 1 / 14
    variance, gain = allocation.variances[0], allocation.gains[0]
    return float((gain**2 * variance + noise) / math.sqrt(variance))


def bare_words() -> int:
    """Uses of profile and scale in a bare frame."""
    return short_code.uses_for(BARE_PROFILE_BITS) + short_code.uses_for(BARE_SCALE_BITS)


def _analog_uses(uses: int, map_bytes: int, bare: bool) -> int:
    left = uses - bare_words() if bare else data_uses(uses) - map_segment(map_bytes).uses
    if left <= 0:
        raise InputError(f"expected more channel uses, found {uses}, which the map fills")
    return left


def _allocation(chosen: Profiles, blocks: np.ndarray, about: About, uses: int) -> linear.Allocation:
    levels = _flat(chosen.variance_levels(blocks, about.height, about.width))
    return linear.allocate(levels, min(2 * uses, len(levels)) if about.bare else 2 * uses, noise_power(about.design_db))


def _read_map(received: Received, about: About, chosen: Profiles) -> tuple[np.ndarray, About, int]:
    """(blocks, about with the scale, uses read). Raises FormatError."""
    if about.bare:
        first, second = short_code.uses_for(BARE_PROFILE_BITS), short_code.uses_for(BARE_SCALE_BITS)
        parts = [(slice(0, first), BARE_PROFILE_BITS), (slice(first, first + second), BARE_SCALE_BITS)]
        index, scale = (short_code.receive(received.samples[at], received.gains[at], bits) for at, bits in parts)
        blocks = np.full((1, 1), min(index, chosen.count - 1), np.int64)
        told = About(about.height, about.width, about.design_db, _bare_scale(scale), about.mean_colour, 0, True)
        return blocks, told, first + second
    plan = map_segment(about.map_bytes)
    decoded = digital.receive(received.part(slice(0, plan.uses)), plan)
    blocks = chosen.unpack(decoded.data[: about.map_bytes], about.height, about.width)
    return blocks, about, plan.uses


def _scale_index(scale: float) -> int:
    """The largest grid value that is no larger than ``scale``."""
    half = 1 << (BARE_SCALE_BITS - 1)
    decibels = 20 * math.log10(scale) if scale > 0 else -math.inf
    return min(max(math.floor(max(decibels, -1e3) / _BARE_SCALE_DB) + half, 0), 2 * half - 1)


def _bare_scale(index: int) -> float:
    return float(10 ** (_BARE_SCALE_DB * (index - (1 << (BARE_SCALE_BITS - 1))) / 20))


def _flat(latent: Latent) -> np.ndarray:
    return np.concatenate([part.reshape(-1) for part in latent])


def _shaped(flat: np.ndarray, like: Latent) -> Latent:
    ends = np.cumsum([part.size for part in like])[:-1]
    return [part.reshape(shape.shape) for part, shape in zip(np.split(flat, ends), like, strict=True)]


# --- the system that is compared -----------------------------------------------------------------------------------------------


class AnalogSystem:
    """What is sent for one CSNR, with one of the RECEIVERS. Raises InputError."""

    def __init__(self, source: Source, sent: Broadcast, receiver: str = "prior") -> None:
        if receiver not in RECEIVERS:
            raise InputError(f"receiver: expected one of {', '.join(RECEIVERS)}, found {receiver!r}")
        self.source, self.sent, self.receiver = source, sent, receiver

    def pixels(self, link: Link | None, csnr_db: float, rng: np.random.Generator) -> np.ndarray | None:
        """uint8 (H, W, 3) of one draw of the link (None: AWGN); None where the map is lost."""
        received = (link or awgn)(self.sent.symbols, csnr_db, rng)
        observed = receive(received, self.sent.about, self.sent.profiles)
        if observed is None:
            return None
        model = load_model()
        receive_planes = prior_planes if self.receiver == "prior" else linear_planes
        return ycc_to_rgb(receive_planes(observed, model, self.sent.profiles))

    def draw(self, link: Link | None, csnr_db: float, rng: np.random.Generator) -> Quality:
        found = self.pixels(link, csnr_db, rng)
        return self.source.concealed if found is None else self.source.quality(found, "analog")

    def facts(self) -> dict[str, Any]:
        about, symbols = self.sent.about, self.sent.symbols
        return {
            "map_bytes": about.map_bytes,
            "map_uses": 0 if about.bare else map_segment(about.map_bytes).uses,
            "power": float(np.mean(np.abs(symbols) ** 2)),
            "peak_to_average_db": 10 * math.log10(float(np.max(np.abs(symbols) ** 2))),
        }
