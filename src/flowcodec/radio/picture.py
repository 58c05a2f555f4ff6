"""The codec's files as a radio system sees them: the latent behind the symbols, files cut short, pictures of refined latents.

A file quantises the latent z to z^ = E[z | symbols]. Encoder and decoder both know the symbols and the scales of the prior, hence
the variance of e = z - z^ given its cell; the analog layer sends e, and the receiver's picture is the synthesis of z^ + e^. The
synthesis vectors have unit norm and the colour rotation is orthonormal, so a squared error of z is one of the pixels.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import norm

from flowcodec.errors import FormatError, WrongModel
from flowcodec.radio.linear import variance_levels
from flowcodec.runtime import container
from flowcodec.runtime.bundle import Model, load_model
from flowcodec.runtime.channel import NEAR_CELLS, SCALE_BITS, SCALE_COUNT, SCALE_LOG2_FIRST, make_channel
from flowcodec.runtime.color import ycc_to_rgb
from flowcodec.runtime.container import Header
from flowcodec.runtime.context import DETAIL_CHANNELS, pad_even, phase_of
from flowcodec.runtime.decode import make_runner
from flowcodec.runtime.encode import analyse
from flowcodec.runtime.flow import level_count
from flowcodec.runtime.integer import FRACTION_BITS
from flowcodec.runtime.latent import LatentDecoder, box_ends
from flowcodec.runtime.prior import Exchange, Site, Walk, band_steps
from flowcodec.runtime.restore import restore
from flowcodec.runtime.step import STEP_BITS

_UNIT = 1 << FRACTION_BITS
_NOTHING = 1e-12
"""Variance of what is known exactly (places without a coefficient), so that it is never chosen."""


@dataclass(frozen=True)
class Quantised:
    """What a file, or its first boxes, says of the latent."""

    header: Header
    model: Model
    coarsest: np.ndarray
    """int64 (3,), in steps."""
    details: dict[int, np.ndarray]
    """By level: int32 (9, h, w) on the even grid, 1/64 band step; where boxes are missing, the locations of the prior."""
    variances: dict[int, np.ndarray]
    """By level: float64 (9, h, w), of the quantisation error in pixel units."""

    @property
    def pixels(self) -> int:
        return self.header.width * self.header.height

    @cached_property
    def levels(self) -> np.ndarray:
        """int64 variance classes of all coefficients, coarse to fine."""
        return np.concatenate([variance_levels(values.reshape(-1)) for values in self.variances.values()])

    def errors(self, image: np.ndarray) -> np.ndarray:
        """z - z^ of all coefficients in the order of ``levels``, pixel units. ``image``: uint8 (H, W, C), the encoder's."""
        latent = analyse(self.model, make_runner(self.model, 1), image, self.header.step_index)
        found = []
        for level, detail in self.details.items():
            true = pad_even(latent[len(latent) - level]).astype(np.float64)
            found.append((true - detail * self._units(level)).reshape(-1))
        return np.concatenate(found)

    def render(self, estimate: np.ndarray | None = None) -> np.ndarray:
        """uint8 (H, W, C): the picture of z^, plus the estimated errors if given (in the order of ``levels``)."""
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


def read(data: bytes, boxes: int | None = None) -> Quantised:
    """The latent of a file of the default model, or of only its first latent boxes. Raises FormatError, WrongModel."""
    file = container.read(data)
    model = load_model()
    if file.header.model_id != model.id:
        raise WrongModel(f"the file needs model {file.header.model_id.hex()}, found {model.id.hex()}")
    return read_boxes(file.header, file.latents if boxes is None else file.latents[:boxes], model)


def read_boxes(header: Header, boxes: tuple[bytes, ...], model: Model) -> Quantised:
    """Raises FormatError where a box is damaged or there is none."""
    if not boxes:
        raise FormatError("expected at least one latent box, found none")
    reader = _Reader(header, boxes, model)
    walk = Walk(model, make_runner(model, 1), header.height, header.width, header.channels, header.step_index)
    walk.run(reader, synthesise_image=False)
    return Quantised(header, model, reader.found, reader.details, reader.variances)


class _Reader:
    """Exchange that reads a file and keeps what is needed to refine it; past the last box it follows the prior."""

    def __init__(self, header: Header, boxes: tuple[bytes, ...], model: Model) -> None:
        self.model, self.header = model, header
        levels = level_count(header.height, header.width)
        self._ends = box_ends(levels)
        self._boxes_left = len(boxes)
        channel = make_channel(header.channel, model.channels, header.seed)
        empty = (b"",) * (len(self._ends) - len(boxes))
        self._decoder = LatentDecoder(model, channel, (*boxes, *empty), header.channels, levels)
        self._deviations = _cell_deviations(model)
        self.found = np.zeros(3, np.int64)
        self.details: dict[int, np.ndarray] = {}
        self.variances: dict[int, np.ndarray] = {}

    def coarsest(self, step: int, base: np.ndarray) -> np.ndarray:
        self.found = self._decoder.coarsest(step, base)
        if self._ends == [0]:
            self._boxes_left -= 1
        return self.found

    def coefficients(self, site: Site, locations: np.ndarray, scales: np.ndarray, valid: np.ndarray) -> np.ndarray:
        known = self._boxes_left > 0
        values = (
            self._decoder.coefficients(site, locations, scales, valid)
            if known
            else np.where(valid, locations, 0).astype(np.int32)
        )
        kind = site.stage.kind
        if known:
            offsets = np.abs(values - locations.astype(np.int64))
            thresholds = self.model.channels.thresholds[kind]
            cells = sum((offsets >= thresholds[:, cell][scales]).astype(np.int8) for cell in range(NEAR_CELLS))
            # Nothing of a free coefficient is coded: its cell is the whole line.
            cells = np.where(self.model.channels.free[kind][scales], NEAR_CELLS + 1, cells)
        else:
            cells = np.full(values.shape, NEAR_CELLS + 1)
        steps = np.array(band_steps(self.model, self.header.step_index, site.level)[site.stage.bands]) / (1 << STEP_BITS)
        variances = (self._deviations[kind, scales, cells] * steps[:, None, None]) ** 2
        if site.level not in self.details:
            shape = (DETAIL_CHANNELS, 2 * values.shape[1], 2 * values.shape[2])
            self.details[site.level], self.variances[site.level] = np.zeros(shape, np.int32), np.full(shape, _NOTHING)
        phase_of(self.details[site.level][site.stage.bands], site.stage.phase)[:] = values
        phase_of(self.variances[site.level][site.stage.bands], site.stage.phase)[:] = np.where(valid, variances, _NOTHING)
        return values

    def level_done(self, level: int) -> None:
        if level in self._ends and self._boxes_left:
            self._boxes_left -= 1
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
