"""Rate control: the grid step that meets a size or a PSNR, found with few encodings."""

from collections.abc import Callable
from dataclasses import dataclass

from flowcodec.runtime.step import STEP_COUNT, STEPS_PER_OCTAVE, quality_to_step_index

SIZE_TOLERANCE = 0.01
"""A file may stay this much below the size asked for; it never exceeds it."""
PSNR_TOLERANCE_DB = 0.04
_FIRST_QUALITY = 60
_MAX_TRIALS = 20


@dataclass(frozen=True)
class Found:
    """The result of a search."""

    index: int
    value: float
    met: bool


def find_step(measure: Callable[[int], float], target: float, tolerance: float, slope_per_octave: float) -> Found:
    """A step index with ``target - tolerance <= measure(index) <= target``, ``measure`` falling with the index.

    Secant steps, with ``slope_per_octave`` (positive) as the first guess of the fall. Where the grid holds no such index, the one
    nearest below the target (``met`` is False), or the coarsest of all if that is still above.
    """
    last = STEP_COUNT - 1
    index = quality_to_step_index(_FIRST_QUALITY)
    above: tuple[int, float] | None = None
    below: tuple[int, float] | None = None
    previous: tuple[int, float] | None = None
    for _ in range(_MAX_TRIALS):
        value = measure(index)
        if target - tolerance <= value <= target:
            return Found(index, value, True)
        if value > target:
            above = (index, value)
        else:
            below = (index, value)
        # Aim at the middle of the tolerance.
        aim = target - tolerance / 2
        if above is not None and below is not None:
            if below[0] - above[0] <= 1:
                break
            share = (above[1] - aim) / max(above[1] - below[1], 1e-12)
            index = round(above[0] + share * (below[0] - above[0]))
            index = min(max(index, above[0] + 1), below[0] - 1)
        else:
            if previous is not None:
                measured = (previous[1] - value) / (index - previous[0]) * STEPS_PER_OCTAVE
                slope_per_octave = max(measured, slope_per_octave / 4)
            previous = (index, value)
            jump = round((value - aim) / slope_per_octave * STEPS_PER_OCTAVE)
            jump = max(jump, 1) if value > target else min(jump, -1)
            wanted = min(max(index + jump, 0), last)
            if wanted == index:
                break
            index = wanted
    best = below or above
    assert best is not None
    return Found(best[0], best[1], False)
