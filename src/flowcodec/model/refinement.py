"""Latent refinement: the encoder's targets moved to where the whole file is cheaper and the picture better.

Quantising each coefficient z to its cell minimises D + lambda R one by one. That ignores that the value sent is context for all
coefficients after it, and that the picture also passes a synthesis that is not quite orthonormal, and the restoration. With

    J = SSE / Delta^2 + lambda * bits,        lambda = weight * ln 2 / 6,

let g be the gradient of J in the reconstructed value r of a coefficient, without its own bits. A symbol that moves r by d changes
J by about g d + m^2 d^2 + lambda * its bits, m being its band's step in Delta; that is what quantising the target
t = r - g / (2 m^2) minimises. An iteration decodes the present symbols, differentiates, and takes every target a part of the way
to its t; the best iterate is kept. Only the encoder changes: the symbols of the file are those of the moved targets.

Beside the error of the picture g has two terms. Later coefficients keep their targets z whatever is sent before them: where their
location mu moves, (z - mu - c)^2 changes, c being the reconstruction of their symbol; where their scale moves, so do their bits.
Refinement by gradients is due to Yang, Bamler & Mandt, Improving inference for neural image compression, 2020; the step with a
fixed metric, which needs a handful of iterations instead of thousands, is our own.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from flowcodec.model.flow import pad_even
from flowcodec.model.graphs import DifferentiableGraphs
from flowcodec.model.networks import phase_of
from flowcodec.model.objective import BIT_PRICE
from flowcodec.model.trellis import TrellisCells
from flowcodec.model.walk import Cells, DifferentiableWalk
from flowcodec.runtime.bundle import Model
from flowcodec.runtime.channel import make_channel
from flowcodec.runtime.color import NO_TURN, Turn
from flowcodec.runtime.decode import make_runner
from flowcodec.runtime.encode import DEFAULT_CHANNEL
from flowcodec.runtime.integer import FRACTION_BITS
from flowcodec.runtime.latent import LatentEncoder
from flowcodec.runtime.prior import Walk

FINE_LEVELS = 4
"""Levels that are refined; the coarser ones, less than half a per cent of the coefficients, stay as they are."""
_SITE = 1 << FINE_LEVELS
_TILE, _MARGIN = 40, 4
"""Sites of the coarsest refined level a side of a tile, and around it: what the filters of that level reach. So what is refined
at once has at most 0.6 megapixels."""


class Refiner:
    """Refines latents for a model file; a ``runtime.encode.Refiner``."""

    def __init__(
        self,
        model: Model,
        iterations: int,
        threads: int | None = None,
        channel: str = DEFAULT_CHANNEL,
        weight: float = 1.0,
        rate: float = 0.25,
        decay: float = 0.3,
        largest_move: float = 0.5,
    ) -> None:
        """Iteration n goes rate / (1 + decay n) of the way, but no coefficient more than ``largest_move`` times that in steps.

        ``channel``: that of the file, ``round`` or ``trellis``.
        """
        self.model, self.iterations, self.threads = model, iterations, threads
        self._channel = make_channel(channel, model.channels, seed=0)
        self.weight, self.rate, self.decay, self.largest_move = weight, rate, decay, largest_move
        self._graphs, self._cells = (
            DifferentiableGraphs(model.graphs),
            TrellisCells(model) if channel == "trellis" else Cells(model),
        )

    def __call__(
        self, pixels: np.ndarray, latent: Sequence[np.ndarray], step_index: int, turn: Turn = NO_TURN
    ) -> list[np.ndarray]:
        """uint8 (H, W, C) and its latent [coarsest (3, 1, 1), details coarse to fine (9, h, w)] -> the latent to be quantised.

        ``turn``: of the axes of the latent.
        """
        before = torch.get_num_threads()
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        try:
            return self._refine(pixels, latent, step_index, turn)
        finally:
            torch.set_num_threads(before)

    def _refine(self, pixels: np.ndarray, latent: Sequence[np.ndarray], step_index: int, turn: Turn) -> list[np.ndarray]:
        height, width, channels = pixels.shape
        count = min(len(latent) - 1, FINE_LEVELS)
        if count == 0:
            return list(latent)
        coarse = Walk(self.model, make_runner(self.model, self.threads), height, width, channels, step_index)
        exchange = LatentEncoder(self.model, self._channel, latent, channels, step_index)
        ll = coarse.run(exchange, last_level=count).astype(np.float32) / (1 << FRACTION_BITS)
        carried = coarse.carried
        refined = [np.array(detail) for detail in latent]
        for rows, columns in _tiles(*ll.shape[1:]):
            outer = _around(rows, ll.shape[1]), _around(columns, ll.shape[2])
            part = pixels[_span(outer[0], _SITE), _span(outer[1], _SITE)]
            details = [_cut(detail, outer, 1 << n) for n, detail in enumerate(latent[len(latent) - count :])]
            walk = DifferentiableWalk(self.model, self._cells, self._graphs, part, step_index, turn)
            start = torch.from_numpy(_cut(ll, outer, 1))[None]
            features = None if carried is None else torch.from_numpy(_cut(carried, outer, 1).astype(np.float32))[None]
            for n, detail in enumerate(self._refine_tile(walk, start, features, details)):
                inner = _cut(refined[len(latent) - count + n], (rows, columns), 1 << n)
                top, left = ((rows[0] - outer[0][0]) << n), ((columns[0] - outer[1][0]) << n)
                inner[:] = detail[:, top : top + inner.shape[1], left : left + inner.shape[2]]
        return refined

    def _refine_tile(
        self, walk: DifferentiableWalk, ll: Tensor, carried: Tensor | None, details: list[np.ndarray]
    ) -> list[np.ndarray]:
        """Details of the refined levels in pixel units, coarse to fine -> the same, refined."""
        levels = range(len(details), 0, -1)
        steps = [walk.step * walk.multipliers(level) for level in levels]
        origins = [pad_even(torch.from_numpy(detail)[None] / step) for detail, step in zip(details, steps, strict=True)]
        targets = [origin.clone() for origin in origins]
        best, lowest = origins, float("inf")
        for iteration in range(self.iterations + 1):
            last = iteration == self.iterations
            with torch.set_grad_enabled(not last):
                outcome = walk(ll, carried, targets, origins)
                objective = outcome.squared_error + self.weight * BIT_PRICE * outcome.bits
            if objective.item() < lowest:
                best, lowest = [target.clone() for target in targets], objective.item()
            if not last:
                gradients = torch.autograd.grad(objective + outcome.own_error, outcome.received)
                self._move(walk, targets, outcome.received, gradients, self.rate / (1 + self.decay * iteration))
        return [
            (target * step)[0, :, : detail.shape[1], : detail.shape[2]].numpy()
            for target, step, detail in zip(best, steps, details, strict=True)
        ]

    @torch.no_grad()
    def _move(
        self,
        walk: DifferentiableWalk,
        targets: list[Tensor],
        received: Sequence[Tensor],
        gradients: Sequence[Tensor],
        rate: float,
    ) -> None:
        pairs = iter(zip(received, gradients, strict=True))
        for level, target in zip(range(len(targets), 0, -1), targets, strict=True):
            for stage in walk.stages:
                values, gradient = next(pairs)
                wanted = values - gradient / (2 * walk.multipliers(level)[:, stage.bands].square())
                view = phase_of(target[:, stage.bands], stage.phase)
                view += rate * (wanted - view).clamp(-self.largest_move, self.largest_move)


Range = tuple[int, int]


def _tiles(height: int, width: int) -> Iterator[tuple[Range, Range]]:
    """Ranges of rows and columns, of about one size each way, that cover a grid."""
    for rows in _parts(height):
        for columns in _parts(width):
            yield rows, columns


def _parts(size: int) -> list[Range]:
    count = 1 if size <= _TILE + 2 * _MARGIN else -(-size // _TILE)
    ends = [size * part // count for part in range(count + 1)]
    return list(pairwise(ends))


def _around(inner: Range, size: int) -> Range:
    return max(inner[0] - _MARGIN, 0), min(inner[1] + _MARGIN, size)


def _span(part: Range, scale: int) -> slice:
    return slice(part[0] * scale, part[1] * scale)


def _cut(planes: np.ndarray, parts: tuple[Range, Range], scale: int) -> np.ndarray:
    """A view of planes (C, H, W) whose grid is ``scale`` times finer than that of the ranges."""
    return planes[:, _span(parts[0], scale), _span(parts[1], scale)]
