"""The codec's files as a radio system sees them: the latent behind the symbols, and pictures of refined latents.

A file quantises the latent z to z^ = E[z | symbols]. Encoder and decoder both know the symbols and the scales of the prior, hence
the variance of e = z - z^ given its cell; the analog layer sends e, and the receiver's picture is the synthesis of z^ + e^. The
synthesis vectors have unit norm and the colour rotation is orthonormal, so a squared error of z is one of the pixels.

The prior's variances are off by a factor that depends on the kind of coefficient and its cell (what the prior calls free is in
truth three to eight times smaller). So coefficients are divided into CLASS_COUNT classes that both sides know, and the sender
tells a correction for each, CORRECTION_BITS bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import norm

from flowcodec.errors import WrongModel
from flowcodec.radio.conditional import Coarse, Given
from flowcodec.radio.linear import LEVELS_PER_OCTAVE, variance_levels
from flowcodec.runtime import container
from flowcodec.runtime.bundle import Model, load_model
from flowcodec.runtime.channel import NEAR_CELLS, SCALE_BITS, SCALE_COUNT, SCALE_LOG2_FIRST, make_channel
from flowcodec.runtime.color import ycc_to_rgb
from flowcodec.runtime.container import Header
from flowcodec.runtime.context import DETAIL_CHANNELS, level_group, pad_even, phase_of
from flowcodec.runtime.decode import make_runner
from flowcodec.runtime.encode import analyse
from flowcodec.runtime.flow import level_count
from flowcodec.runtime.integer import FRACTION_BITS
from flowcodec.runtime.latent import LatentDecoder
from flowcodec.runtime.prior import Exchange, Site, Walk, band_steps
from flowcodec.runtime.restore import restore
from flowcodec.runtime.step import STEP_BITS

CLASS_COUNT = 24
"""Level 1, level 2 or coarser; luma or chroma; symbol 0, 1, larger, or nothing coded."""
CORRECTION_BITS = 4
_CORRECTIONS_PER_OCTAVE, _CORRECTION_LEAST = 2, -12
_UNIT = 1 << FRACTION_BITS
_NOTHING = 1e-12
"""Variance of what is known exactly (places without a coefficient), so that it is never chosen."""


@dataclass(frozen=True)
class Quantised:
    """What a file says of the latent."""

    header: Header
    model: Model
    coarsest: np.ndarray
    """int64 (3,), in steps."""
    details: dict[int, np.ndarray]
    """By level: int32 (9, h, w) on the even grid, 1/64 band step."""
    variances: dict[int, np.ndarray]
    """By level: float64 (9, h, w), of the quantisation error in pixel units."""
    classes: dict[int, np.ndarray]
    """By level: uint8 (9, h, w), 0 ... CLASS_COUNT - 1."""

    @property
    def count(self) -> int:
        """Coefficients, those of the coarsest sample left out."""
        return sum(values.size for values in self.details.values())

    @cached_property
    def _prior_levels(self) -> np.ndarray:
        return variance_levels(_flat(self.variances))

    @cached_property
    def _all_classes(self) -> np.ndarray:
        return _flat(self.classes)

    def levels(self, corrections: Sequence[int]) -> np.ndarray:
        """int64 variance levels (``linear.variance_levels``) of all coefficients, coarse to fine; one correction a class."""
        octaves = (np.array(corrections) + _CORRECTION_LEAST) * (LEVELS_PER_OCTAVE // _CORRECTIONS_PER_OCTAVE)
        return self._prior_levels + octaves[self._all_classes]

    def corrections(self, errors: np.ndarray) -> tuple[int, ...]:
        """What the sender tells of the classes: round(2 log2(mean of e^2 / mean of the prior's variances)) + 12, in 0 ... 15."""
        found = np.bincount(self._all_classes, weights=errors**2, minlength=CLASS_COUNT)
        expected = np.bincount(self._all_classes, weights=_flat(self.variances), minlength=CLASS_COUNT)
        # Of a class without members, or without errors, nothing need be known.
        ratios = np.where(expected > 0, found, 1) / np.where(expected > 0, expected, 1)
        steps = np.rint(_CORRECTIONS_PER_OCTAVE * np.log2(np.maximum(ratios, 1e-9))).astype(int) - _CORRECTION_LEAST
        return tuple(int(step) for step in np.clip(steps, 0, (1 << CORRECTION_BITS) - 1))

    def errors(self, image: np.ndarray) -> np.ndarray:
        """z - z^ of all coefficients, coarse to fine, pixel units. ``image``: uint8 (H, W, C), the encoder's."""
        latent = analyse(self.model, make_runner(self.model, 1), image, self.header.step_index)
        found = []
        for level, detail in self.details.items():
            true = pad_even(latent[len(latent) - level]).astype(np.float64)
            found.append((true - detail * self._units(level)).reshape(-1))
        return np.concatenate(found)

    def render(self, estimate: np.ndarray | None = None) -> np.ndarray:
        """uint8 (H, W, C): the picture of z^, plus the estimated errors if given (in the order of ``errors``)."""
        details, begin = {}, 0
        for level, detail in self.details.items():
            details[level] = detail
            if estimate is not None:
                part = estimate[begin : begin + detail.size].reshape(detail.shape) / self._units(level)
                details[level] = detail + np.rint(part).astype(np.int32)
            begin += detail.size
        runner = make_runner(self.model, 1)
        header = self.header
        walk = _Synthesis(self.model, details, header)
        planes = restore(self.model, runner, walk.run(_Coarsest(self.coarsest)), header.step_index)
        return ycc_to_rgb(planes[: header.channels])

    def _units(self, level: int) -> np.ndarray:
        """(9, 1, 1): pixel units of 1/64 band step."""
        steps = np.array(band_steps(self.model, self.header.step_index, level))
        return (steps / (1 << (STEP_BITS + FRACTION_BITS)))[:, None, None]


def read(data: bytes, coarse: Coarse | None = None) -> Quantised:
    """The latent of a file of the default model; ``coarse``: the picture that it was made for. Raises FormatError, WrongModel."""
    file = container.read(data)
    header, model = file.header, load_model()
    if header.model_id != model.id:
        raise WrongModel(f"the file needs model {header.model_id.hex()}, found {model.id.hex()}")
    given = Given(model, coarse, header.step_index) if coarse else None
    reader = _Reader(header, file.latents, model, given)
    walk = Walk(model, make_runner(model, 1), header.height, header.width, header.channels, header.step_index)
    walk.run(reader, synthesise_image=False)
    return Quantised(header, model, reader.found, reader.details, reader.variances, reader.classes)


def _flat(levels: dict[int, np.ndarray]) -> np.ndarray:
    return np.concatenate([values.reshape(-1) for values in levels.values()])


class _Reader:
    """Exchange that reads a file and keeps what is needed to refine it."""

    def __init__(self, header: Header, boxes: tuple[bytes, ...], model: Model, given: Given | None) -> None:
        self.model, self.header, self._given = model, header, given
        levels = level_count(header.height, header.width)
        channel = make_channel(header.channel, model.channels, header.seed)
        self._decoder = LatentDecoder(model, channel, boxes, header.channels, levels)
        self._deviations = _cell_deviations(model)
        self.found = np.zeros(3, np.int64)
        self.details: dict[int, np.ndarray] = {}
        self.variances: dict[int, np.ndarray] = {}
        self.classes: dict[int, np.ndarray] = {}

    def coarsest(self, step: int, base: np.ndarray) -> np.ndarray:
        self.found = self._decoder.coarsest(step, base)
        return self.found

    def coefficients(self, site: Site, locations: np.ndarray, scales: np.ndarray, valid: np.ndarray) -> np.ndarray:
        if self._given:
            locations, scales = self._given.adjust(site, locations, scales)
        values = self._decoder.coefficients(site, locations, scales, valid)
        kind = site.stage.kind
        offsets = np.abs(values - locations.astype(np.int64))
        thresholds = self.model.channels.thresholds[kind]
        cells = sum((offsets >= thresholds[:, cell][scales]).astype(np.int8) for cell in range(NEAR_CELLS))
        # Nothing of a free coefficient is coded: its cell is the whole line.
        cells = np.where(self.model.channels.free[kind][scales], NEAR_CELLS + 1, cells)
        steps = np.array(band_steps(self.model, self.header.step_index, site.level)[site.stage.bands]) / (1 << STEP_BITS)
        variances = (self._deviations[kind, scales, cells] * steps[:, None, None]) ** 2
        if site.level not in self.details:
            shape = (DETAIL_CHANNELS, 2 * values.shape[1], 2 * values.shape[2])
            self.details[site.level], self.variances[site.level] = np.zeros(shape, np.int32), np.full(shape, _NOTHING)
            self.classes[site.level] = np.zeros(shape, np.uint8)
        phase_of(self.details[site.level][site.stage.bands], site.stage.phase)[:] = values
        phase_of(self.variances[site.level][site.stage.bands], site.stage.phase)[:] = np.where(valid, variances, _NOTHING)
        group = (level_group(site.level) * 2 + kind) * 4
        classes = group + np.where(cells > NEAR_CELLS, 3, np.minimum(cells, 2))
        phase_of(self.classes[site.level][site.stage.bands], site.stage.phase)[:] = classes
        return values

    def level_done(self, level: int) -> None:
        self._decoder.level_done(level)


class _Coarsest:
    """Exchange of a synthesis: gives the coarsest sample, all else is known."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def coarsest(self, step: int, base: np.ndarray) -> np.ndarray:
        return self.values

    def coefficients(self, site: Site, locations: np.ndarray, scales: np.ndarray, valid: np.ndarray) -> np.ndarray:
        raise AssertionError("a synthesis asks for no coefficients")

    def level_done(self, level: int) -> None:
        pass


class _Synthesis(Walk):
    """The walk without the prior's networks: details that are already known."""

    def __init__(self, model: Model, details: dict[int, np.ndarray], header: Header) -> None:
        super().__init__(model, make_runner(model, 1), header.height, header.width, header.channels, header.step_index)
        self.details = details

    def _details(self, level: int, ll: np.ndarray, exchange: Exchange) -> np.ndarray:
        return self.details[level]


def _cell_deviations(model: Model) -> np.ndarray:
    """(2, 128, 10) standard deviation in steps of z in its cell: symbols 0 ... 8 of the rounding, then nothing known.

    The prior's density taken as one Gaussian of the scale's deviation; the allocation needs no more.
    """
    deviations = 2.0 ** (np.arange(SCALE_COUNT) / (1 << SCALE_BITS) + SCALE_LOG2_FIRST)
    thresholds = model.channels.thresholds / _UNIT
    lower = np.concatenate([-thresholds[..., :1], thresholds], axis=-1)
    upper = np.concatenate([thresholds, thresholds[..., -1:] + 1], axis=-1)
    a, b = (edges / deviations[:, None] for edges in (lower, upper))
    mass = norm.cdf(b) - norm.cdf(a)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (norm.pdf(a) - norm.pdf(b)) / mass
        variance = 1 + (a * norm.pdf(a) - b * norm.pdf(b)) / mass - mean**2
    # Far out in the tail the difference of cdfs loses all digits; there the cell is as good as uniform.
    uniform = (upper - lower) ** 2 / 12
    cells = np.where((mass > 1e-9) & (variance > 0), variance * deviations[:, None] ** 2, uniform)
    return np.sqrt(np.concatenate([cells, np.broadcast_to(deviations[:, None] ** 2, (*cells.shape[:2], 1))], axis=-1))
