"""Motion search of the encoder: dense optical flow by OpenCV's DIS, reduced to block vectors by rate and distortion.

Nothing here has to be exact: what it finds is sent. Needs the package opencv-python-headless of the extra 'video'.
Reference: Kroeger et al., Fast optical flow using dense inverse search, 2016.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from flowcodec.runtime.motion import BLOCK_SIZES, VECTOR_MAX, VectorModel, compensate, fill, forecast_all, grid_shape
from flowcodec.video.matching import Blocks

_MOVES = (8, 4, 2, 1)
"""Quarter samples that vectors are moved by, round after round."""
_MISSED = 0.6
"""All vectors around are tried for blocks that cost more than so many bits a pixel with that of the flow."""
_SMALL_BLOCKS = 0.82
"""Small blocks are taken where they cost less than this share of what large ones cost: part of what they gain is noise, and
the overlap of large ones has part of the rest."""
_HOPELESS = 0.92
"""Small blocks that cost more than this share after a round are given up."""
_CUT_SHARE = 1.9
"""A frame is a scene cut if the prediction of blocks misses it by more than this many times its own local contrast: 1.9 times and
more from one training clip to another (one pair of fourteen: 1.7), at most 1.7 from frame to frame within those of the fastest
motion, but for two frames of which no block is found again."""
_CUT_FLOOR, _CUT_STEP = 2.0, 20.0
"""Grey levels that every frame may be missed by; the quantiser step for which cuts are searched."""
_AREAS = (8, 4, 2)
"""Squares of so many blocks a side take a vector together."""
_SHARE, _NEAR = 0.52, 1.0
"""Blocks are left unpredicted where this share of their bits, and those of their vectors, exceed what they cost without, the mean
gain of those around added at this weight: alone, one would spoil the overlap of its neighbours."""
_LEAST_GAINS = (0.01, 0.1)
"""Shares of a frame's bits that unpredicted blocks have to save, before and after vectors have followed them: such a frame takes
twice as long to code."""
_SMALLEST = 16
"""Pixels a side that the optical flow needs."""
_LARGEST = (1 << 15) - 2
"""Pixels a side that OpenCV moves."""


@dataclass(frozen=True)
class Motion:
    """What a search found."""

    vectors: np.ndarray
    """int32 (rows, columns, 2), (down, right) in quarter samples."""
    block: int
    unpredicted: np.ndarray | None = None
    """bool (rows, columns): blocks better coded without the prediction, if there are enough of them."""

    @property
    def unpredicted_share(self) -> float:
        return 0.0 if self.unpredicted is None else float(self.unpredicted.mean())


def luma(pixels: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) -> uint8 (H, W)."""
    return cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)


def dense_flow(current: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """float32 (H, W, 2), (right, down) in pixels, from each pixel of ``current`` (uint8 luma) to where it is in ``previous``."""
    if min(current.shape) < _SMALLEST or max(current.shape) > _LARGEST:
        return np.zeros((*current.shape, 2), np.float32)
    # A new engine each time: it keeps buffers, which threads must not share. The faster presets crash on narrow pictures.
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(current, previous, None)


def estimate(current: np.ndarray, previous: np.ndarray, step: float = 16.0, model: VectorModel | None = None) -> Motion:
    """Vectors that predict ``current`` from ``previous``, both uint8 (H, W, 3), for coding with a quantiser step.

    The block size with the lower cost is taken. ``model``: the state of the vectors' coder.
    """
    now, before = luma(current), luma(previous)
    return _reduced(now, before, dense_flow(now, before), step, model or VectorModel())


def _reduced(
    now: np.ndarray, before: np.ndarray, flow: np.ndarray, step: float, model: VectorModel, leave_out: bool = True
) -> Motion:
    """The dense flow of two lumas as block vectors."""
    blocks = Blocks(now, before)
    small, large = BLOCK_SIZES
    coarse = _Field(blocks, _medians(flow, large), large, step, model)
    coarse.offer(np.zeros(2, np.int32))
    coarse.offer(np.median(coarse.vectors.reshape(-1, 2), axis=0).astype(np.int32))
    coarse.smooth()
    coarse.improve()
    smooth = coarse.vectors.copy()
    coarse.search_missed()
    coarse.improve()
    coarse.smooth()
    for area in _AREAS:
        coarse.offer_areas(smooth, area)
    coarse_bits = coarse.improve()
    rows, columns = grid_shape(now.shape[0], now.shape[1], small)
    above = coarse.vectors.repeat(large // small, axis=0).repeat(large // small, axis=1)[:rows, :columns]
    fine = _Field(blocks, above, small, step, model)
    fine.offer(_medians(flow, small))
    best = fine if fine.improve(_HOPELESS * coarse_bits) < _SMALL_BLOCKS * coarse_bits else coarse
    unpredicted = best.leave_out() if leave_out else None
    return Motion(best.vectors, best.block, unpredicted)


class _Field:
    """Vectors of all blocks of a size, which take what is offered where it costs fewer bits: the vector's and the block's own."""

    def __init__(self, blocks: Blocks, vectors: np.ndarray, block: int, step: float, model: VectorModel) -> None:
        self._blocks, self.block, self._step, self._model = blocks, block, step, model
        self.vectors = vectors
        """int32 (rows, columns, 2)"""
        self.unpredicted = np.zeros(vectors.shape[:2], bool)
        self._measure()

    def _measure(self) -> None:
        vectors = self.vectors.reshape(-1, 2)
        bits = self._blocks.bits(vectors, np.arange(len(vectors)), self.block, self._step)
        self._own_bits = bits.reshape(self.vectors.shape[:2])
        self._expect()

    def _expect(self) -> None:
        """Forecasts from the vectors as they are now; until the next ones, bits are counted from these."""
        self._predicted, self._spread = forecast_all(self.vectors)

    def _vector_bits(self, vectors: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        return self._model.bits_of(vectors - self._predicted[chosen], self._spread[chosen])

    def offer(self, candidates: np.ndarray) -> None:
        """Vectors (rows, columns, 2), or one for all blocks."""
        candidates = np.clip(np.broadcast_to(candidates, self.vectors.shape), -VECTOR_MAX, VECTOR_MAX)
        other = (candidates != self.vectors).any(axis=2) & ~self.unpredicted
        if not other.any():
            return
        candidates = candidates[other]
        own_bits = self._blocks.bits(candidates, np.flatnonzero(other), self.block, self._step)
        more = self._vector_bits(candidates, other) - self._vector_bits(self.vectors[other], other)
        cheaper = own_bits + more < self._own_bits[other]
        other[other] = cheaper
        self.vectors[other], self._own_bits[other] = candidates[cheaper], own_bits[cheaper]

    def offer_areas(self, candidates: np.ndarray, area: int) -> None:
        """A field of vectors (rows, columns, 2), taken in whole squares of ``area`` blocks a side.

        Where neighbours disagree every vector costs much, whatever it is: only together can they become cheaper.
        """
        candidates = np.clip(candidates, -VECTOR_MAX, VECTOR_MAX)
        other = (candidates != self.vectors).any(axis=2)
        if not other.any():
            return
        own_bits = self._own_bits.copy()
        own_bits[other] = self._blocks.bits(candidates[other], np.flatnonzero(other), self.block, self._step)
        predicted, spread = forecast_all(candidates)
        bits = own_bits + self._model.bits_of(candidates - predicted, spread)
        predicted, spread = forecast_all(self.vectors)
        less = self._own_bits + self._model.bits_of(self.vectors - predicted, spread) - bits
        less[self.unpredicted] = 0
        cheaper = _spread(_sums(less, area) > 0, area, other.shape)
        self.vectors[cheaper], self._own_bits[cheaper] = candidates[cheaper], own_bits[cheaper]
        self._expect()

    def smooth(self) -> None:
        """Offers the medians of ever smaller squares of blocks."""
        for area in _AREAS:
            self.offer_areas(_area_medians(self.vectors, area), area)

    def search_missed(self) -> None:
        """Offers the best of all vectors around to blocks that are predicted badly."""
        missed = self._own_bits > _MISSED * self.block**2
        if missed.any():
            candidates = self.vectors.copy()
            candidates[missed] = self._blocks.search_all(np.flatnonzero(missed), self.block)
            self.offer(candidates)

    def improve(self, limit: float = np.inf) -> float:
        """Rounds of what the neighbours have and of small moves; returns the bits of the best field, which is kept.

        A move may cost its neighbours more than it gains, since their forecasts change. A field that costs more than ``limit``
        after a round is left as it is.
        """
        self._expect()
        best = self.total_bits(), self.vectors.copy(), self._own_bits.copy()
        for move in _MOVES:
            self.offer(self._predicted)
            for axis in (0, 1):
                for by in (1, -1):
                    self.offer(_shifted(self.vectors, axis, by))
            for down, right in ((0, move), (0, -move), (move, 0), (-move, 0)):
                self.offer(self.vectors + np.array([down, right], np.int32))
            self._expect()
            bits = self.total_bits()
            if bits < best[0]:
                best = bits, self.vectors.copy(), self._own_bits.copy()
            if bits > limit:
                break
        self.vectors, self._own_bits = best[1:]
        self._expect()
        return best[0]

    def _all_bits(self) -> np.ndarray:
        return self._own_bits + self._model.bits_of(self.vectors - self._predicted, self._spread)

    def total_bits(self) -> float:
        """Of the blocks that are predicted."""
        return float(self._all_bits()[~self.unpredicted].sum())

    def leave_out(self) -> np.ndarray | None:
        """Finds blocks that are better coded without the prediction, and vectors for the others.

        None if there is little to gain; the vectors are then as they were.
        """
        vectors, total = self.vectors, self.total_bits()
        content = self._blocks.own_bits(self.block, self._step).reshape(vectors.shape[:2])
        for least in _LEAST_GAINS:
            gains = self._all_bits() - (1 - _SHARE) * self._own_bits - content
            flags = self._model.unpredicted_bits(self.unpredicted)
            gains += flags[..., 0] - flags[..., 1]
            around = cv2.blur(gains, (3, 3), borderType=cv2.BORDER_REPLICATE)
            self.unpredicted = gains + _NEAR * around > 0
            gain = float(gains[self.unpredicted].sum())
            if gain < least * total:
                break
            self._fill()
            self.improve()
            self._fill()
        else:
            return self.unpredicted
        self.vectors, self.unpredicted = vectors, np.zeros_like(self.unpredicted)
        return None

    def _fill(self) -> None:
        self.vectors = fill(self.vectors, self.unpredicted)
        self._measure()


def _medians(flow: np.ndarray, block: int) -> np.ndarray:
    """int32 (rows, columns, 2): the median flow (H, W, 2) of each block, (down, right) in quarter samples."""
    return _quarter(np.median(_cells(flow, block), axis=2)[..., ::-1])


def _cells(field: np.ndarray, area: int) -> np.ndarray:
    """(rows, columns, ...) as squares (ceil(rows / area), ceil(columns / area), area * area, ...); edges are repeated."""
    rows, columns = grid_shape(field.shape[0], field.shape[1], area)
    rest = [(0, rows * area - field.shape[0]), (0, columns * area - field.shape[1])]
    field = np.pad(field, rest + [(0, 0)] * (field.ndim - 2), mode="edge")
    cells = field.reshape(rows, area, columns, area, *field.shape[2:]).swapaxes(1, 2)
    return cells.reshape(rows, columns, area * area, *field.shape[2:])


def _sums(values: np.ndarray, area: int) -> np.ndarray:
    """Sums over squares of a field (rows, columns)."""
    rows, columns = values.shape
    values = np.pad(values, ((0, -rows % area), (0, -columns % area)))
    return values.reshape(-(-rows // area), area, -(-columns // area), area).sum(axis=(1, 3))


def _spread(values: np.ndarray, area: int, shape: tuple[int, int]) -> np.ndarray:
    """What squares have, for each of their blocks."""
    return values.repeat(area, axis=0).repeat(area, axis=1)[: shape[0], : shape[1]]


def _area_medians(vectors: np.ndarray, area: int) -> np.ndarray:
    """The field (rows, columns, 2) in which all blocks of a square have its median."""
    medians = np.rint(np.median(_cells(vectors, area), axis=2)).astype(np.int32)
    return _spread(medians, area, vectors.shape[:2])


def _quarter(flow: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(flow * 4), -VECTOR_MAX, VECTOR_MAX).astype(np.int32)


def _shifted(field: np.ndarray, axis: int, by: int) -> np.ndarray:
    """The vectors of the blocks next door, those at the edge staying."""
    moved = np.roll(field, by, axis)
    edge = 0 if by > 0 else -1
    index: list[Any] = [slice(None)] * 3
    index[axis] = edge
    moved[tuple(index)] = field[tuple(index)]
    return moved


@lru_cache(maxsize=4)
def _places(height: int, width: int) -> np.ndarray:
    """float32 (H, W, 2): column and row of each pixel."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)


def is_cut(current: np.ndarray, previous: np.ndarray) -> bool:
    """Whether ``current`` begins another scene; both uint8 (H, W, 3), as they were before coding."""
    now, before = luma(current), luma(previous)
    target = now.astype(np.float32)
    limit = max(_CUT_SHARE * np.abs(target - cv2.GaussianBlur(target, (0, 0), 3)).mean(), _CUT_FLOOR)

    def misses(prediction: np.ndarray) -> bool:
        return bool(cv2.absdiff(now, prediction).mean() > limit)

    # The cheapest prediction that does it will do.
    if not misses(before):
        return False
    flow = dense_flow(now, before)
    if max(now.shape) <= _LARGEST:
        places = _places(*now.shape) + flow
        if not misses(cv2.remap(before, places[..., 0], places[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)):
            return False
    motion = _reduced(now, before, flow, _CUT_STEP, VectorModel(), leave_out=False)
    return misses(compensate(before[None].astype(np.int32), motion.vectors, motion.block)[0].clip(0, 255).astype(np.uint8))
