"""The codec's files as a radio system sees them: the latent behind the symbols, and pictures of refined latents.

A file quantises the latent z to z^ = E[z | symbols]. Encoder and decoder both know the symbols and the scales of the prior, hence
about the variance of e = z - z^ (cells.py); the analog layer sends e, and the receiver's picture is the synthesis of z^ + e^. The
synthesis vectors have unit norm and the colour rotation is orthonormal, so a squared error of z is one of the pixels.

In a single picture the variances are off by a factor that depends on the kind of coefficient and its symbol. So coefficients are
divided into CLASS_COUNT classes that both sides know, and the sender tells a correction for each, CORRECTION_BITS bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from flowcodec.errors import FormatError, WrongModel
from flowcodec.radio import cells
from flowcodec.radio.conditional import Coarse, Given
from flowcodec.radio.linear import LEVELS_PER_OCTAVE, variance_levels
from flowcodec.runtime import container
from flowcodec.runtime.bundle import Model, load_model
from flowcodec.runtime.color import ycc_to_rgb
from flowcodec.runtime.context import DETAIL_CHANNELS, LEVEL_GROUPS, level_group, pad_even, phase_of
from flowcodec.runtime.decode import make_runner
from flowcodec.runtime.encode import analyse
from flowcodec.runtime.flow import level_count
from flowcodec.runtime.header import Header
from flowcodec.runtime.integer import FRACTION_BITS
from flowcodec.runtime.latent import LatentDecoder
from flowcodec.runtime.prior import Exchange, Site, Walk, band_steps
from flowcodec.runtime.restore import restore
from flowcodec.runtime.step import STEP_BITS

CLASS_COUNT = 24
"""Level 1, level 2 or coarser; luma or chroma; symbol 0, 1, larger, or nothing coded."""
CORRECTION_BITS = 4
_CORRECTIONS_PER_OCTAVE, _CORRECTION_LEAST = 2, -12


@dataclass(frozen=True)
class Quantised:
    """What a file says of the latent."""

    header: Header
    model: Model
    coarsest: np.ndarray
    """int64 (3,), in steps."""
    details: dict[int, np.ndarray]
    """By level: int32 (9, h, w) on the even grid, 1/64 band step."""
    states: dict[int, np.ndarray]
    """By level: uint16 (9, h, w), what decides the variances of the quantisation errors (cells.py)."""

    @property
    def count(self) -> int:
        """Coefficients, those of the coarsest sample left out."""
        return sum(values.size for values in self.details.values())

    @cached_property
    def variances(self) -> np.ndarray:
        """float64 (count,): of the quantisation errors, coarse to fine, pixel units, before any correction."""
        table = cells.error_variances()
        return _flat({level: table[states] * self.band_steps(level) ** 2 for level, states in self.states.items()})

    @cached_property
    def classes(self) -> np.ndarray:
        """uint8 (count,) 0 ... CLASS_COUNT - 1, coarse to fine."""
        of_states = cells.state_classes()
        count = CLASS_COUNT // LEVEL_GROUPS
        return _flat({level: level_group(level) * count + of_states[states] for level, states in self.states.items()})

    def levels(self, corrections: Sequence[int]) -> np.ndarray:
        """int64 variance levels (``linear.variance_levels``) of all coefficients, coarse to fine; one correction a class."""
        octaves = (np.array(corrections) + _CORRECTION_LEAST) * (LEVELS_PER_OCTAVE // _CORRECTIONS_PER_OCTAVE)
        return variance_levels(self.variances) + octaves[self.classes]

    def corrections(self, errors: np.ndarray) -> tuple[int, ...]:
        """What the sender tells of the classes: round(2 log2(mean of e^2 / mean of the table's variances)) + 12, in 0 ... 15."""
        found = np.bincount(self.classes, weights=errors**2, minlength=CLASS_COUNT)
        expected = np.bincount(self.classes, weights=self.variances, minlength=CLASS_COUNT)
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

    def planes(self, estimate: np.ndarray | None = None) -> np.ndarray:
        """int (3, H, W), 1/64 pixel units, not restored: those of z^, plus the estimated errors if given (in their order)."""
        details, begin = {}, 0
        for level, detail in self.details.items():
            details[level] = detail
            if estimate is not None:
                part = estimate[begin : begin + detail.size].reshape(detail.shape) / self._units(level)
                details[level] = detail + np.rint(part).astype(np.int32)
            begin += detail.size
        return _Synthesis(self.model, details, self.header).run(_Coarsest(self.coarsest))

    def restored(self, estimate: np.ndarray | None = None) -> np.ndarray:
        """``planes`` after the codec's restoration."""
        return restore(self.model, make_runner(self.model, 1), self.planes(estimate), self.header.step_index)

    def render(self, estimate: np.ndarray | None = None) -> np.ndarray:
        """uint8 (H, W, C): the picture of z^, plus the estimated errors if given."""
        return ycc_to_rgb(self.restored(estimate)[: self.header.channels])

    def levels_of(self, flat: np.ndarray) -> dict[int, np.ndarray]:
        """Values in the order of ``errors`` -> (9, h, w) by level, on the even grid."""
        ends = np.cumsum([detail.size for detail in self.details.values()])[:-1]
        parts = zip(self.details.items(), np.split(flat, ends), strict=True)
        return {level: part.reshape(detail.shape) for (level, detail), part in parts}

    def band_steps(self, level: int) -> np.ndarray:
        """float64 (9, 1, 1): the steps of the bands in pixel units."""
        return np.array(band_steps(self.model, self.header.step_index, level))[:, None, None] / (1 << STEP_BITS)

    def _units(self, level: int) -> np.ndarray:
        """(9, 1, 1): pixel units of 1/64 band step."""
        return self.band_steps(level) / (1 << FRACTION_BITS)


def read(data: bytes, coarse: Coarse | None = None) -> Quantised:
    """The latent of a layer's file, which is of the default model; ``coarse``: the picture that it was made for.

    Raises FormatError, WrongModel.
    """
    file = container.read(data)
    header, model = file.header, load_model()
    if header.channel != cells.CHANNEL:
        raise FormatError(f"a layer's file: expected the channel {cells.CHANNEL}, found {header.channel}")
    if header.model_id != model.id:
        raise WrongModel(f"the file needs model {header.model_id.hex()}, found {model.id.hex()}")
    given = Given(model, coarse, header.step_index) if coarse else None
    reader = _Reader(header, file.latents, model, given)
    walk = Walk(model, make_runner(model, 1), header.height, header.width, header.channels, header.step_index)
    walk.run(reader, synthesise_image=False)
    return Quantised(header, model, reader.found, reader.details, reader.states)


def _flat(levels: dict[int, np.ndarray]) -> np.ndarray:
    return np.concatenate([values.reshape(-1) for values in levels.values()])


class _Reader:
    """Exchange that reads a file and keeps what is needed to refine it."""

    def __init__(self, header: Header, boxes: tuple[bytes, ...], model: Model, given: Given | None) -> None:
        self.model, self.header, self._given = model, header, given
        levels = level_count(header.height, header.width)
        self._channel = cells.Watched(model.channels)
        self._decoder = LatentDecoder(model, self._channel, boxes, header.channels, levels)
        self.found = np.zeros(3, np.int64)
        self.details: dict[int, np.ndarray] = {}
        self.states: dict[int, np.ndarray] = {}

    def coarsest(self, step: int, base: np.ndarray) -> np.ndarray:
        self.found = self._decoder.coarsest(step, base)
        return self.found

    def coefficients(self, site: Site, locations: np.ndarray, scales: np.ndarray, valid: np.ndarray) -> np.ndarray:
        if self._given:
            locations, scales = self._given.adjust(site, locations, scales)
        values = self._decoder.coefficients(site, locations, scales, valid)
        kind = site.stage.kind
        found = np.full(values.shape, cells.UNCODED, np.uint8)
        found[valid & ~self.model.channels.free[kind][scales]] = self._channel.take_cells()
        if site.level not in self.details:
            shape = (DETAIL_CHANNELS, 2 * values.shape[1], 2 * values.shape[2])
            self.details[site.level] = np.zeros(shape, np.int32)
            self.states[site.level] = np.full(shape, cells.NOWHERE, np.uint16)
        phase_of(self.details[site.level][site.stage.bands], site.stage.phase)[:] = values
        states = np.where(valid, cells.states(kind, scales, found), cells.NOWHERE)
        phase_of(self.states[site.level][site.stage.bands], site.stage.phase)[:] = states
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
