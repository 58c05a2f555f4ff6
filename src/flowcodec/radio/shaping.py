"""Training through a learned link: a constellation that fits an amplifier nobody has a formula for.

The noise flow stands for the link: y = F(e; s, c) is differentiable in s, so the points follow the gradient of the rate. What
they gain is then measured on the true link.
"""

import math

import numpy as np
import torch
from torch import Tensor

from flowcodec.radio.modulation import points
from flowcodec.radio.noise_flow import NoiseFlow, to_parts


def shape_constellation(
    flow: NoiseFlow, csnr_db: float, bits: int, steps: int = 150, batch: int = 256, seed: int = 0
) -> np.ndarray:
    """complex (2^m,): points of mean power 1 that start as QAM and climb E log2 q(s | y) through the flow, by Adam."""
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    free = to_parts(points(bits)).clone().requires_grad_(True)
    told = torch.tensor(csnr_db, dtype=torch.float64)
    optimizer = torch.optim.Adam([free], 0.01)
    for parameter in flow.parameters():
        parameter.requires_grad_(False)
    for _ in range(steps):
        normal = _unit_power(free)
        labels = torch.from_numpy(rng.integers(0, len(normal), batch))
        sent = normal[labels]
        noise = torch.empty_like(sent).normal_(generator=generator)
        received = flow.inverse(noise, sent, told.expand(batch))
        shape = (batch, len(normal), 2)
        density = flow.log_density(received[:, None].expand(shape), normal.expand(shape), told)
        loss = torch.nn.functional.cross_entropy(density, labels) / math.log(2)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    parts = _unit_power(free.detach()).numpy()
    return parts[:, 0] + 1j * parts[:, 1]


def _unit_power(parts: Tensor) -> Tensor:
    return parts / parts.square().sum(-1).mean().sqrt()
