"""Files for receivers that have a coarser picture: the prior of a coefficient is combined with what that picture says of it.

The coarse picture x_b (quantised with step D_b) goes through the same flow as the picture; its latent b, where it is not within
the dead zone, is the true latent plus an error of deviation r D_b. With the prior N(m, s^2) this gives

    w = s^2 / (s^2 + (r D_b)^2),   location m + w (b - m),   scale s sqrt(1 - w),

rounded to the grid of the tables; everything else is the codec's. On photographs this saves more than half of the bits of x_b.
Sender and receiver compute b by the float32 analysis of the encoder, unlike all else in a decoder, which is integer: they must
round alike, which machines of one kind do.
"""

from dataclasses import dataclass

import numpy as np

from flowcodec.runtime.bundle import Model
from flowcodec.runtime.channel import SCALE_BITS, SCALE_COUNT, SCALE_LOG2_FIRST
from flowcodec.runtime.context import LUMA, pad_even, phase_of
from flowcodec.runtime.decode import make_runner
from flowcodec.runtime.encode import analyse
from flowcodec.runtime.integer import FRACTION_BITS
from flowcodec.runtime.latent import LatentEncoder
from flowcodec.runtime.prior import Site, band_steps
from flowcodec.runtime.step import STEP_BITS, log2_step

_DEAD_ZONE = 0.35
"""In steps of the coarse picture: below, a coefficient of its latent may be none that it codes."""
_LUMA_DEVIATION, _CHROMA_DEVIATION = 0.26, 0.31
"""r; measured on training photographs, a uniform error would have 0.29."""


@dataclass(frozen=True)
class Coarse:
    """A picture that sender and receiver of a finer file have."""

    pixels: np.ndarray
    """uint8 (H, W, C)"""
    step_index: int
    """Of the file that it was decoded from."""


class Given:
    """A coarse picture as the prior of a file of step ``index`` sees it."""

    def __init__(self, model: Model, coarse: Coarse, index: int) -> None:
        self.model, self.index = model, index
        self._latent = analyse(model, make_runner(model, 1), coarse.pixels, index)
        self._step = 2.0 ** log2_step(coarse.step_index)

    def adjust(self, site: Site, locations: np.ndarray, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The prior's locations (1/64 band step) and scale indices of a site, given the coarse picture."""
        bands, kind = site.stage.bands, site.stage.kind
        steps = (np.array(band_steps(self.model, self.index, site.level)[bands]) / (1 << STEP_BITS))[:, None, None]
        coarse = phase_of(pad_even(self._latent[len(self._latent) - site.level][bands]), site.stage.phase).astype(np.float64)
        ratio = _LUMA_DEVIATION if kind == LUMA else _CHROMA_DEVIATION
        error = (ratio * self._step / steps) ** 2
        variance = np.exp2(2 * (scales / (1 << SCALE_BITS) + SCALE_LOG2_FIRST))
        told = (np.abs(coarse) > _DEAD_ZONE * self._step) & ~self.model.channels.free[kind][scales]
        weight = np.where(told, variance / (variance + error), 0)
        unit = 1 << FRACTION_BITS
        combined = locations + weight * (coarse / steps * unit - locations)
        octaves = 0.5 * np.log2(variance * (1 - weight)) - SCALE_LOG2_FIRST
        indices = np.clip(np.rint(octaves * (1 << SCALE_BITS)), 0, SCALE_COUNT - 1)
        return np.rint(combined).astype(np.int64), indices.astype(scales.dtype)


class ConditionalEncoder(LatentEncoder):
    """The encoder's exchange with a coarse picture given; ``given`` is set after construction."""

    given: Given

    def coefficients(self, site: Site, locations: np.ndarray, scales: np.ndarray, valid: np.ndarray) -> np.ndarray:
        return super().coefficients(site, *self.given.adjust(site, locations, scales), valid)
