"""The flow's own density of pictures, the differential entropy that it suggests, and the distance from Shannon's lower bound.

For noise N ~ N(0, s I) and any reproduction Y of X with squared error D a sample, Y is one of X + N with D + s, so

    R_X(D) >= R_{X+N}(D + s) >= h(X + N) / n - (1/2) log2(2 pi e (D + s)).

That holds for 8-bit pictures too, whose own h is minus infinity. h(X + N) is known only from above, by the cross-entropy
E -log2 p(X + N) of a normalised density: with it the right side is an **estimate of a lower bound, not a bound**.
Reference: Shannon, Coding theorems for a discrete source with a fidelity criterion, 1959; Linder & Zamir, 1994.
"""

import math

import numpy as np
import torch
from torch import Tensor

from flowcodec.bounds.rate import coarsest_bits
from flowcodec.errors import InputError
from flowcodec.model.channel import NOISE_VARIANCE
from flowcodec.model.codec import FlowCodecModel
from flowcodec.model.density import ScaleMixture
from flowcodec.model.flow import MultiscaleFlow, steps_of
from flowcodec.runtime.context import level_group

_BATCH_PIXELS = 1 << 18


class Received:
    """A channel that adds nothing: z is what was received, and bits = -log2 of its density in steps under the prior."""

    def __call__(
        self, z: Tensor, location: Tensor, log2_scale: Tensor, density: ScaleMixture, kind: int
    ) -> tuple[Tensor, Tensor]:
        log_prob, shrunk = density.noisy(z - location, log2_scale, kind, NOISE_VARIANCE)
        return location + shrunk, -log_prob / math.log(2)


@torch.no_grad()
def cross_entropy_bits(model: FlowCodecModel, pictures: np.ndarray, step_index: int) -> np.ndarray:
    """-log2 p(x) a sample (n,) of float pictures x (n, 3, S, S) in grey levels, S a power of two; p the flow prior at a step.

    p(x) = p(f(x)) |det|: a density for every step, whose mixtures include noise of variance step^2 / 12. The coarsest sample has
    the density of its code, spread over a step.
    """
    n, channels, side, width = pictures.shape
    if side != width or side & (side - 1):
        raise InputError(f"side of the pictures: expected a power of two, found {side}x{width}")
    log_det = MultiscaleFlow.log_det(side, side) / math.log(2)
    found = []
    for part in np.array_split(pictures, math.ceil(n * side * side / _BATCH_PIXELS)):
        x, indices = torch.from_numpy(part).float(), torch.full((len(part),), step_index)
        coarsest = model.flow(x, indices)[0][0] / steps_of(indices)
        bits = model(x, indices, Received()).bits.double().numpy() + coarsest_bits(coarsest.round().flatten(1).numpy())
        bits = bits + channels * math.log2(float(steps_of(indices[:1])))
        for level in range(1, side.bit_length()):
            steps = steps_of(indices[:1]) * model.step_multipliers(indices[:1], level_group(level))
            bits = bits + (side >> level) ** 2 * float(steps.double().log2().sum())
        found.append((bits - log_det) / (channels * side * side))
    return np.concatenate(found)


def shannon_estimate(cross_entropy: float, noise_variance: float, distortion: float) -> float:
    """h - (1/2) log2(2 pi e (D + s)), at least 0, bits a sample at squared error D, with the cross-entropy of X + N for h.

    An estimate of Shannon's lower bound: too high by as much as the cross-entropy exceeds h(X + N).
    """
    return max(cross_entropy - 0.5 * math.log2(2 * math.pi * math.e * (distortion + noise_variance)), 0.0)
