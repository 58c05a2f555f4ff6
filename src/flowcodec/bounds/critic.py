"""The critic: a small network v(z) ~ ln dP/dQ, fitted by logistic regression of blocks of latents against prior draws.

Its quality decides how tight a bound is, never whether it holds. Logistic regression gives the log-ratio itself at the optimum,
which is what every member of ``divergence.py`` wants of its v.
Reference: Sugiyama, Suzuki & Kanamori, Density ratio estimation in machine learning, 2012, chapter 4.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from flowcodec.bounds.divergence import Critic

_BATCH = 1024
_LEARNING_RATE = 3e-3
_LEAST_VARIANCE, _FAR = 1e-8, 10.0


class _Ratio(nn.Module):
    """v(z) = a quadratic form of z + a network of two layers on z; exact for Gaussians by the first term alone.

    Shapes: z (n, d) -> (n,).
    """

    def __init__(self, dimensions: int, width: int) -> None:
        super().__init__()
        self.quadratic = nn.Parameter(torch.zeros(dimensions, dimensions))
        self.linear = nn.Linear(dimensions, 1)
        self.hidden = nn.Sequential(nn.Linear(2 * dimensions, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.last = nn.Linear(width, 1)
        for layer in (self.linear, self.last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, z: Tensor) -> Tensor:
        quadratic = ((z @ self.quadratic) * z).sum(1)
        return quadratic + self.linear(z)[:, 0] + self.last(self.hidden(torch.cat([z, z.abs()], 1)))[:, 0]


def _plain(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x, np.float32)


def _whitening(*samples: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """x -> (x - mean) V / sqrt(l), clipped to +-10: principal axes V and variances l of the pooled samples."""
    pooled = np.concatenate(samples).astype(np.float64)
    mean = pooled.mean(0)
    values, vectors = np.linalg.eigh(np.cov(pooled - mean, rowvar=False).reshape(pooled.shape[1], -1))
    scaled = vectors / np.sqrt(np.maximum(values, _LEAST_VARIANCE * values.max()))
    return lambda x: ((x - mean) @ scaled).clip(-_FAR, _FAR).astype(np.float32)


def train_critic(
    blocks: np.ndarray,
    prior: np.ndarray,
    images: Iterable[str] = (),
    *,
    limit: float = 6.0,
    steps: int = 400,
    width: int = 48,
    seed: int = 0,
    whiten: bool = False,
) -> Critic:
    """Fits ln dP/dQ to blocks (n, d) of P and draws (m, d) of Q. ``images``: content hashes of where the blocks come from.

    ``whiten``: the network sees coordinates that are uncorrelated and of unit variance over the blocks of both; for laws that are
    not near the standard normal.
    """
    standardise = _whitening(blocks, prior) if whiten else _plain
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = _Ratio(blocks.shape[1], width)
    p, q = (torch.from_numpy(standardise(x)) for x in (blocks, prior))
    optimizer = torch.optim.Adam(network.parameters(), _LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        real = network(p[torch.randint(len(p), (_BATCH,), generator=generator)])
        drawn = network(q[torch.randint(len(q), (_BATCH,), generator=generator)])
        loss = nn.functional.softplus(-real).mean() + nn.functional.softplus(drawn).mean()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()

    @torch.no_grad()
    def ratio(z: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(standardise(z))).double().numpy()

    return Critic(ratio, limit, frozenset(images))
