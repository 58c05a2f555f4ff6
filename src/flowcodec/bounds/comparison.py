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
from flowcodec.bounds.divergence import JENSEN_SHANNON, Critic, Divergence, LowerBound, certify_pairs
from flowcodec.errors import InputError

PATCH = 4
"""Pixels on each side of a patch."""
_CRITIC_BLOCKS, _SCALING_BLOCKS = 60_000, 20_000
_SCALES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_LIMIT = 4.0


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

    A fifth of the units of ``seen`` is kept from the fit to scale the critic down where it has learned its sample by heart.
    Raises InputError where ``fresh`` comes from a picture that ``seen`` comes from.
    """
    rng = np.random.default_rng(seed)
    kept = max(len(seen.p) // 5, 1)
    p, q = (_draw(side[kept:], _CRITIC_BLOCKS, rng) for side in (seen.p, seen.q))
    fitted = train_critic(p, q, seen.images, limit=_LIMIT, steps=300, seed=seed, whiten=True)
    v_p, v_q = (fitted.function(_draw(side[:kept], _SCALING_BLOCKS, rng)) for side in (seen.p, seen.q))

    def worth(scale: float) -> float:
        """Of the scaled critic on the kept units, as a bound on Jensen and Shannon's."""
        on_p, on_q = (np.clip(scale * v, -_LIMIT, _LIMIT) for v in (v_p, v_q))
        return float(JENSEN_SHANNON.reward(on_p).mean() - JENSEN_SHANNON.penalty(on_q).mean())

    best = max(_SCALES, key=worth)
    critic = Critic(lambda z: best * fitted.function(z), _LIMIT, seen.images)
    return {member.name: certify_pairs(member, critic, list(fresh.p), list(fresh.q), delta, fresh.images) for member in members}


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
