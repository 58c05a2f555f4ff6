"""How far apart two laws are of which only samples are at hand: certified lower bounds on f-divergences, by one critic for each.

Used between pictures and what a codec makes of them (realism: a bound proves that a divergence is large, never that it is small),
and between the latents of pictures and their noisy versions. P and Q are laws of a small block drawn from a drawn window of a
drawn picture; the pairs (window, its counterpart) are the i.i.d. units.
Reference: Blau & Michaeli, Rethinking lossy compression: the rate-distortion-perception tradeoff, 2019.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flowcodec.bounds.critic import train_critic
from flowcodec.bounds.divergence import Critic, Divergence, Function, LowerBound, certify_pairs
from flowcodec.errors import InputError

PATCH = 4
"""Pixels on each side of a patch."""
_CRITIC_BLOCKS = 60_000
_SCALES, _LIMITS = (0.0, 0.25, 0.5, 0.75, 1.0), (1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Pairs:
    """Blocks of P and their counterparts of Q, (units, blocks, d) each, and content hashes of the pictures they come from."""

    p: np.ndarray
    q: np.ndarray
    images: frozenset[str]


def compare(
    seen: Pairs, fresh: Pairs, members: Sequence[Divergence], delta: float = 0.05, seed: int = 0
) -> dict[str, LowerBound]:
    """D_f(P || Q) >= value with probability 1 - delta, for each member by itself; the critic is fitted to ``seen`` alone.

    A fifth of the units of ``seen`` is kept from the fit. They choose for each member by how much the critic is scaled down,
    where it has learned its sample by heart, and where it is clipped, which a member with heavy tails wants sooner.
    Raises InputError where ``fresh`` comes from a picture that ``seen`` comes from.
    """
    if shared := seen.images & fresh.images:
        raise InputError(
            f"critic: {len(shared)} of the {len(fresh.images)} certification images were used to train it; a critic fitted to its"
            " own test proves nothing: certify on images that it has not seen"
        )
    rng = np.random.default_rng(seed)
    kept = max(len(seen.p) // 5, 2)
    p, q = (_draw(side[kept:], _CRITIC_BLOCKS, rng) for side in (seen.p, seen.q))
    network = train_critic(p, q, seen.images, limit=max(_LIMITS), steps=300, seed=seed, whiten=True).function
    # From here on a block is the one number that the network makes of it.
    choosing_p, choosing_q, fresh_p, fresh_q = (_numbers(network, x) for x in (seen.p[:kept], seen.q[:kept], fresh.p, fresh.q))
    critics = [_scaled(scale, limit, seen.images) for scale in _SCALES for limit in _LIMITS]
    found = {}
    for member in members:
        worth = [certify_pairs(member, critic, choosing_p, choosing_q, delta).value for critic in critics]
        best = critics[int(np.argmax(worth))]
        found[member.name] = certify_pairs(member, best, fresh_p, fresh_q, delta, fresh.images)
    return found


def _scaled(scale: float, limit: float, images: frozenset[str]) -> Critic:
    return Critic(lambda v: scale * v[:, 0], limit, images)


def _numbers(network: Function, units: np.ndarray) -> list[np.ndarray]:
    """(units, blocks, d) -> v of every block, (blocks, 1) for each unit."""
    return list(network(units.reshape(-1, units.shape[2])).reshape(*units.shape[:2], 1))


def _draw(units: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """(units, blocks, d) -> at most ``most`` of the blocks (n, d), drawn without replacement."""
    blocks = units.reshape(-1, units.shape[2])
    return blocks[rng.permutation(len(blocks))[:most]]


def patches(windows: np.ndarray) -> np.ndarray:
    """uint8 (n, 3, S, S) -> (n, (S/4)^2, 48): the disjoint 4x4 patches of each window. Raises InputError for other sides."""
    n, channels, height, width = windows.shape
    if height % PATCH or width % PATCH:
        raise InputError(f"windows: expected sides that are multiples of {PATCH}, found {height}x{width}")
    tiles = windows.reshape(n, channels, height // PATCH, PATCH, width // PATCH, PATCH).astype(np.float64)
    return tiles.transpose(0, 2, 4, 1, 3, 5).reshape(n, (height // PATCH) * (width // PATCH), channels * PATCH**2)


def patch_pairs(
    pictures: np.ndarray, counterparts: np.ndarray, count: int, side: int, images: frozenset[str], rng: np.random.Generator
) -> Pairs:
    """``count`` i.i.d. windows of side x side pixels, each from a drawn picture at a drawn place, with their counterparts.

    pictures, counterparts: uint8 (n, 3, H, W).
    """
    if pictures.shape != counterparts.shape or min(pictures.shape[2:]) < side:
        raise InputError(f"pictures: expected two equal shapes of at least {side}, found {pictures.shape}, {counterparts.shape}")
    chosen = rng.integers(0, len(pictures), count)
    tops, lefts = (rng.integers(0, extent - side + 1, count) for extent in pictures.shape[2:])
    p, q = (
        patches(np.stack([x[i, :, t : t + side, u : u + side] for i, t, u in zip(chosen, tops, lefts, strict=True)]))
        for x in (pictures, counterparts)
    )
    return Pairs(p, q, images)
