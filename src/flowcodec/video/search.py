"""Motion search of the encoder: dense optical flow by OpenCV's DIS, reduced to block vectors by rate and distortion.

Nothing here has to be exact: what it finds is sent. Needs the package opencv-python-headless of the extra 'video'.
Reference: Kroeger et al., Fast optical flow using dense inverse search, 2016.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from flowcodec.runtime.motion import BLOCK_SIZES, VECTOR_MAX, VectorModel, compensate, forecast_all, grid_shape
from flowcodec.video.matching import Blocks

_NOISE = 1 / 12
"""What a block costs to code is put at half a bit a pixel for each doubling of 1 + its squared error over this times step^2,
the error of the quantiser: more than in files, which find order in it, but with the same slope."""
_MOVES = (8, 4, 2, 1)
"""Quarter samples that vectors are moved by, round after round."""
_MISSED = 0.04
"""All vectors around are tried for blocks that the flow misses by more than this times step^2 a pixel."""
_SMALL_BLOCKS = 0.82
"""Small blocks are taken where they cost less than this share of what large ones cost: part of what they gain is noise, and
the overlap of large ones has part of the rest."""
_HOPELESS = 0.92
"""Small blocks that cost more than this share after a round are given up."""
_CUT_SHARE = 1.6
"""A frame is a scene cut if the prediction of blocks misses it by more than this many times its own local contrast: 1.8 times
and more from one training clip to another, at most 1.4 from frame to frame within those of the fastest motion."""
_CUT_FLOOR, _CUT_STEP = 2.0, 20.0
"""Grey levels that every frame may be missed by; the quantiser step for which cuts are searched."""
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


def _reduced(now: np.ndarray, before: np.ndarray, flow: np.ndarray, step: float, model: VectorModel) -> Motion:
    """The dense flow of two lumas as block vectors."""
    blocks = Blocks(now, before)
    small, large = BLOCK_SIZES
    coarse = _Field(blocks, _medians(flow, large), large, step, model)
    coarse.offer(np.zeros(2, np.int32))
    coarse.offer(np.median(coarse.vectors.reshape(-1, 2), axis=0).astype(np.int32))
    coarse.search_missed()
    coarse_bits = coarse.improve()
    rows, columns = grid_shape(now.shape[0], now.shape[1], small)
    above = coarse.vectors.repeat(large // small, axis=0).repeat(large // small, axis=1)[:rows, :columns]
    fine = _Field(blocks, above, small, step, model)
    fine.offer(_medians(flow, small))
    best = fine if fine.improve(_HOPELESS * coarse_bits) < _SMALL_BLOCKS * coarse_bits else coarse
    return Motion(best.vectors, best.block)


class _Field:
    """Vectors of all blocks of a size, which take what is offered where it costs fewer bits: the vector's and the block's own."""

    def __init__(self, blocks: Blocks, vectors: np.ndarray, block: int, step: float, model: VectorModel) -> None:
        self._blocks, self.block, self._step, self._model = blocks, block, step, model
        self.vectors = vectors
        """int32 (rows, columns, 2)"""
        everywhere = np.arange(vectors[..., 0].size)
        self._own_bits = self._price(blocks.errors(vectors.reshape(-1, 2), everywhere, block)).reshape(vectors.shape[:2])
        self._expect()

    def _price(self, squared_error: np.ndarray | float) -> np.ndarray:
        """About the bits of blocks that the prediction misses so much."""
        pixels = self.block**2
        return pixels / 2 * np.log2(1 + squared_error / (pixels * _NOISE * self._step**2))

    def _expect(self) -> None:
        """Forecasts from the vectors as they are now; until the next ones, bits are counted from these."""
        self._predicted, self._spread = forecast_all(self.vectors)

    def _vector_bits(self, vectors: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        return self._model.bits_of(vectors - self._predicted[chosen], self._spread[chosen])

    def offer(self, candidates: np.ndarray) -> None:
        """Vectors (rows, columns, 2), or one for all blocks."""
        candidates = np.clip(np.broadcast_to(candidates, self.vectors.shape), -VECTOR_MAX, VECTOR_MAX)
        other = (candidates != self.vectors).any(axis=2)
        if not other.any():
            return
        candidates = candidates[other]
        own_bits = self._price(self._blocks.errors(candidates, np.flatnonzero(other), self.block))
        more = self._vector_bits(candidates, other) - self._vector_bits(self.vectors[other], other)
        cheaper = own_bits + more < self._own_bits[other]
        other[other] = cheaper
        self.vectors[other], self._own_bits[other] = candidates[cheaper], own_bits[cheaper]

    def search_missed(self) -> None:
        """Offers the best of all vectors around to blocks that are predicted badly."""
        missed = self._own_bits > self._price(_MISSED * (self.block * self._step) ** 2)
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
        best = self.total_bits(), self.vectors.copy()
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
                best = bits, self.vectors.copy()
            if bits > limit:
                break
        self.vectors = best[1]
        return best[0]

    def total_bits(self) -> float:
        bits = self._model.bits_of(self.vectors - self._predicted, self._spread)
        return float(self._own_bits.sum() + bits.sum())


def _medians(flow: np.ndarray, block: int) -> np.ndarray:
    """int32 (rows, columns, 2): the median flow (H, W, 2) of each block, (down, right) in quarter samples."""
    height, width = flow.shape[:2]
    rows, columns = grid_shape(height, width, block)
    padded = np.pad(flow, ((0, rows * block - height), (0, columns * block - width), (0, 0)), mode="edge")
    cells = padded.reshape(rows, block, columns, block, 2).transpose(0, 2, 1, 3, 4).reshape(rows, columns, -1, 2)
    return _quarter(np.median(cells, axis=2)[..., ::-1])


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
    motion = _reduced(now, before, flow, _CUT_STEP, VectorModel())
    return misses(compensate(before[None].astype(np.int32), motion.vectors, motion.block)[0].clip(0, 255).astype(np.uint8))
