"""Between f#P, the data pushed through the flow, and q(z) = E_x q(z|x), their noisy version: per noise level and pyramid level.

8-bit pictures have no density, and any noise at all makes the two laws singular to each other. So the data get Gaussian noise of
variance tau^2 = 1/12 in the latent, as much as lies within a grey level: P_tau = f#P * N(0, tau^2), q = P_tau * N(0, sigma^2),
sigma a band's noise at the step. By data processing no f-divergence of the two exceeds that of N(0, tau^2) and
N(0, tau^2 + sigma^2), which vanishes as sigma -> 0: a sandwich together with the certified bound.
"""

import math

import numpy as np
import torch

from flowcodec.bounds.comparison import Pairs
from flowcodec.errors import InputError
from flowcodec.model.channel import NOISE_VARIANCE
from flowcodec.model.codec import FlowCodecModel
from flowcodec.model.flow import steps_of
from flowcodec.runtime.context import DETAIL_CHANNELS, level_group

DATA_VARIANCE = 1 / 12
"""tau^2, squared grey levels."""


def upper_bound(noise_variances: np.ndarray) -> float:
    """KL(N(0, tau^2 I) || N(0, diag(tau^2 + sigma^2))), nats: at least KL(P_tau || q) of a block with these sigma^2 (d,)."""
    ratios = DATA_VARIANCE / (DATA_VARIANCE + np.asarray(noise_variances, np.float64))
    return float(0.5 * (ratios - 1 - np.log(ratios)).sum())


@torch.no_grad()
def noise_variances(model: FlowCodecModel, step_index: int, level: int) -> np.ndarray:
    """(36,) sigma^2 of the coefficients of a block, squared grey levels: nine bands at 2x2 sites."""
    indices = torch.tensor([step_index])
    steps = steps_of(indices) * model.step_multipliers(indices, level_group(level))
    return (NOISE_VARIANCE * steps.double().square().flatten().numpy()).repeat(4)


@torch.no_grad()
def latent_pairs(
    model: FlowCodecModel, crops: np.ndarray, step_index: int, images: frozenset[str], seed: int
) -> dict[int, Pairs]:
    """level -> blocks (n, sites / 4, 36) of P_tau and, noise added, of q, from crops uint8 (n, 3, S, S), S a power of two."""
    side = crops.shape[2]
    if crops.shape[3] != side or side & (side - 1):
        raise InputError(f"side of the crops: expected a power of two, found {side}x{crops.shape[3]}")
    rng = np.random.default_rng(seed)
    indices = torch.full((len(crops),), step_index)
    latent, _ = model.flow(torch.from_numpy(crops).float(), indices)
    found = {}
    for level, detail in enumerate(reversed(latent[1:]), start=1):
        n, bands, height, width = detail.shape
        if height < 2:
            break  # no block fits
        assert bands == DETAIL_CHANNELS
        sites = detail.double().numpy().reshape(n, bands, height // 2, 2, width // 2, 2)
        clean = sites.transpose(0, 2, 4, 1, 3, 5).reshape(n, -1, 4 * bands)
        data = clean + rng.normal(0, math.sqrt(DATA_VARIANCE), clean.shape)
        noise = rng.normal(size=clean.shape) * np.sqrt(noise_variances(model, step_index, level))
        # q has its own draw of the data's noise: it is a law, not this block's noisy version.
        received = clean + rng.normal(0, math.sqrt(DATA_VARIANCE), clean.shape) + noise
        found[level] = Pairs(data, received, images)
    return found
