"""Rate control: the grid step that meets a size or a PSNR, found with few encodings."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from flowcodec.runtime.step import STEP_COUNT

SIZE_TOLERANCE = 0.005
"""A file may stay this much below the size asked for; it never exceeds it. Steps of the grid are 0.4 to 0.7 % of size apart."""
PSNR_TOLERANCE_DB = 0.04
_MAX_TRIALS = 20
_SLOPE_FACTOR = 4.0
"""The measured fall may differ from the forecast's by this much."""


@dataclass(frozen=True)
class Found:
    """The result of a search."""

    index: int
    value: float
    met: bool


Point = tuple[int, float]


def find_step(measure: Callable[[int], float], forecast: np.ndarray, target: float, tolerance: float) -> Found:
    """A step index with ``target - tolerance <= measure(index) <= target``, ``measure`` falling with the index.

    ``forecast`` (STEP_COUNT,), not rising: about what will be measured. The secant method on it: its values are moved to the last
    measurement, then stretched to go through two. Where the grid holds no such index, the one nearest below the target
    (``met`` is False), or the coarsest of all if that is still above.
    """
    last = STEP_COUNT - 1
    # A forecast that stands still would leave the secant without a direction.
    forecast = np.asarray(forecast, float) - 1e-6 * np.arange(STEP_COUNT)
    aim = target - tolerance / 2
    index = int(np.argmin(np.abs(forecast - aim)))
    above: Point | None = None
    below: Point | None = None
    previous: Point | None = None
    one_sided = 0
    for _ in range(_MAX_TRIALS):
        value = measure(index)
        if target - tolerance <= value <= target:
            return Found(index, value, True)
        one_sided = one_sided + 1 if previous is not None and (previous[1] > target) == (value > target) else 0
        if value > target:
            above = (index, value)
        else:
            below = (index, value)
        if above is not None and below is not None:
            if below[0] - above[0] <= 1:
                break
            index = _between(above, below, aim, forecast) if one_sided < 2 else (above[0] + below[0]) // 2
            previous = above if value > target else below
            continue
        wanted = _beyond((index, value), previous, aim, forecast)
        wanted = min(max(wanted, index + 1), last) if value > target else max(min(wanted, index - 1), 0)
        if wanted == index:
            break
        previous, index = (index, value), wanted
    best = below or above
    assert best is not None
    return Found(best[0], best[1], False)


def _between(above: Point, below: Point, aim: float, forecast: np.ndarray) -> int:
    """The index strictly between two measured ones where the forecast, stretched to go through both, meets the aim."""
    inner = forecast[above[0] : below[0] + 1]
    share = (above[1] - aim) / max(above[1] - below[1], 1e-12)
    index = above[0] + int(np.argmin(np.abs(inner - (inner[0] + share * (inner[-1] - inner[0])))))
    return min(max(index, above[0] + 1), below[0] - 1)


def _beyond(point: Point, previous: Point | None, aim: float, forecast: np.ndarray) -> int:
    """The index where the forecast, moved to the last measurement and as steep as the last two, meets the aim."""
    index, value = point
    steepness = 1.0
    if previous is not None:
        measured = (previous[1] - value) / (forecast[previous[0]] - forecast[index])
        steepness = min(max(measured, 1 / _SLOPE_FACTOR), _SLOPE_FACTOR)
    return int(np.argmin(np.abs(value + steepness * (forecast - forecast[index]) - aim)))
