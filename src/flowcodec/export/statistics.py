"""How the latents of photographs really lie about their predicted locations, for each kind and scale index: histograms.

The learned density has one shape for each kind and scale; the tables of a model are built from that shape and these counts.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from flowcodec.model.channel import Rounding
from flowcodec.model.codec import FlowCodecModel
from flowcodec.model.density import KINDS, ScaleMixture
from flowcodec.runtime.channel import SCALE_BITS, SCALE_COUNT, SCALE_LOG2_FIRST
from flowcodec.runtime.integer import FRACTION_BITS
from flowcodec.runtime.step import step_index

BINS = 1 << 12
"""Bins of 1/64 step of the distance from the location; what is farther than 64 steps is not counted."""
COUNT_STEPS = (3.0, 5.0, 8.0, 13.0, 21.0, 34.0, 55.0, 90.0, 140.0)
"""Quantiser steps at which latents are counted, pixel units."""


class _Counting:
    """The channel of the files, which counts |z - location| by kind and scale index on the way."""

    def __init__(self, slope: float) -> None:
        self.channel = Rounding(slope)
        self.counts = np.zeros((KINDS, SCALE_COUNT, BINS), np.int64)

    def __call__(
        self, z: Tensor, location: Tensor, log2_scale: Tensor, density: ScaleMixture, kind: int
    ) -> tuple[Tensor, Tensor]:
        scales = ((log2_scale - SCALE_LOG2_FIRST) * (1 << SCALE_BITS)).round().clamp(0, SCALE_COUNT - 1).long()
        bins = ((z - location).abs() * (1 << FRACTION_BITS)).long()
        places = (scales * BINS + bins)[bins < BINS].numpy()
        self.counts[kind] += np.bincount(places, minlength=SCALE_COUNT * BINS).reshape(SCALE_COUNT, BINS)
        return self.channel(z, location, log2_scale, density, kind)


@torch.no_grad()
def count_latents(
    model: FlowCodecModel, images: Sequence[np.ndarray], slope: float = 1.0, indices: Sequence[int] = ()
) -> np.ndarray:
    """int64 (2, 128, BINS): |z - location| in bins of 1/64 step over uint8 images (H, W, 3), in the decoder's arithmetic.

    Each image is seen at three of the steps, in turn; with ``indices`` at the step of its own. Sides should be
    powers of two, since places that do
    not exist are counted too (27 an image then, at the coarsest level).
    """
    counting = _Counting(slope)
    before, model.arithmetic.fixed = model.arithmetic.fixed, True
    for number, image in enumerate(images):
        batch = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float()
        steps = [indices[number]] if indices else [step_index(step) for step in COUNT_STEPS[number % 3 :: 3]]
        for index in steps:
            model(batch, torch.tensor([index]), counting)
    model.arithmetic.fixed = before
    return counting.counts
