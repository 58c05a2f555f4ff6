"""Files for receivers that have a coarser picture: the prior of a coefficient is combined with what that picture says of it.

The coarse picture x_b (quantised with step D) goes through the same flow as the picture, to a latent b. Where the prior N(m, s^2)
is much wider than D, b is the truth plus an error of deviation r D; where it is narrow, the coarse file has coded nothing, and b
only repeats what its own prior expected, unless |b| is large. With u = s / D and v = |b| / D,

    w = t^2 / (1 + t^2), t = (u (1.45 + 1.2 v + 4 v^2))^2,   location m + w (b - m),
    scale^2 = min((1 - w) s^2 + w (r D)^2, (q D)^2),

rounded to the grid of the tables; everything else is the codec's. w is a fit to regressions of z - m on b - m in bins of u and v,
of three training photographs; it saves about four fifths of the bytes of x_b.
Sender and receiver compute b by the float32 analysis of the encoder, unlike all else in a decoder, which is integer: they must
round alike, which machines of one kind do.
"""

from dataclasses import dataclass

import numpy as np

from flowcodec.runtime.bundle import Model
from flowcodec.runtime.channel import SCALE_BITS, SCALE_COUNT, SCALE_LOG2_FIRST
from flowcodec.runtime.context import pad_even, phase_of
from flowcodec.runtime.decode import make_runner
from flowcodec.runtime.encode import analyse
from flowcodec.runtime.integer import FRACTION_BITS
from flowcodec.runtime.latent import LatentEncoder
from flowcodec.runtime.prior import Site, band_steps
from flowcodec.runtime.step import STEP_BITS, log2_step

_TRUST = (1.45, 1.2, 4.0)
_ERROR = (0.26, 0.31)
"""r of luma and chroma; a uniform error would have 0.29."""
_WIDEST = (0.42, 0.48)
"""q of luma and chroma: a coefficient of which the coarse file has nothing lies in its dead zone."""


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
        free = self.model.channels.free[kind][scales]
        # All in steps of the coarse picture.
        variance = (np.exp2(scales / (1 << SCALE_BITS) + SCALE_LOG2_FIRST) * steps / self._step) ** 2
        values = np.abs(coarse) / self._step
        trust = variance * (_TRUST[0] + _TRUST[1] * values + _TRUST[2] * values**2) ** 2
        weight = np.where(free, 0, trust**2 / (1 + trust**2))
        combined = locations + weight * (coarse / steps * (1 << FRACTION_BITS) - locations)
        variance = np.minimum((1 - weight) * variance + weight * _ERROR[kind] ** 2, _WIDEST[kind] ** 2)
        octaves = 0.5 * np.log2(variance) + np.log2(self._step / steps) - SCALE_LOG2_FIRST
        indices = np.clip(np.rint(octaves * (1 << SCALE_BITS)), 0, SCALE_COUNT - 1).astype(scales.dtype)
        return np.rint(combined).astype(np.int64), np.where(free, scales, indices)


class ConditionalEncoder(LatentEncoder):
    """The encoder's exchange with a coarse picture given; ``given`` is set after construction."""

    given: Given

    def coefficients(self, site: Site, locations: np.ndarray, scales: np.ndarray, valid: np.ndarray) -> np.ndarray:
        return super().coefficients(site, *self.given.adjust(site, locations, scales), valid)
