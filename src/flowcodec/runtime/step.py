"""The grid of quantiser steps: Delta(i) = 2^(i/128 - 2), i = 0 ... 1408, and the map from a quality to a step.

All values come from integer arithmetic, so that every machine has the same grid.
"""

import math
from functools import lru_cache
from typing import Any

STEPS_PER_OCTAVE = 128
"""Fine enough to meet a size within 1 % or a PSNR within 0.05 dB by the step alone."""
STEP_COUNT = 1409
STEP_BITS = 20
"""Fractional bits of a step held as an integer."""

_LOG2_FIRST_STEP = -2
_GUARD_BITS = 16
# Quality 0, 60 and 100 in log2(Delta): a thumbnail-like 300, a default near 1 bit per pixel, and one grey level.
_QUALITY_KNOTS = ((0.0, 8.25), (60.0, 4.4), (100.0, 0.0))


@lru_cache(maxsize=64)
def step_fixed(index: int) -> int:
    """floor(Delta(index) * 2^STEP_BITS), exact: nested integer square roots give the 128th root of a power of two."""
    octave, part = divmod(index, STEPS_PER_OCTAVE)
    root = 1 << (part + STEPS_PER_OCTAVE * (STEP_BITS + _GUARD_BITS))
    for _ in range(STEPS_PER_OCTAVE.bit_length() - 1):
        root = math.isqrt(root)
    return root >> (_GUARD_BITS - octave - _LOG2_FIRST_STEP)


def log2_step(index: Any) -> Any:
    """log2(Delta(index)), Delta in pixel units; of a number or elementwise of an array or tensor."""
    return index / STEPS_PER_OCTAVE + _LOG2_FIRST_STEP


def step_index(step: float) -> int:
    """Index of the grid step nearest to ``step`` (pixel units, in the logarithm), clipped to the grid."""
    index = round((math.log2(step) - _LOG2_FIRST_STEP) * STEPS_PER_OCTAVE)
    return min(max(index, 0), STEP_COUNT - 1)


def quality_to_step_index(quality: float) -> int:
    """Index of the step for a quality of 0 (smallest file) to 100 (Delta = 1): piecewise linear in log2(Delta)."""
    (q0, a), (q1, b), (q2, c) = _QUALITY_KNOTS
    log2 = a + (b - a) * (quality - q0) / (q1 - q0) if quality <= q1 else b + (c - b) * (quality - q1) / (q2 - q1)
    return step_index(2.0**log2)
