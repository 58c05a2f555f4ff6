"""Axes: how the colour axes of a picture are best turned, by three numbers in its header.

The networks code the bands of C1 and C2 at a site at once: what C2 has in common with C1 is paid for twice. In one picture all
edges are between orange and blue, in another between green and grey; turned to such an edge's colour, one axis holds it alone.
(The Karhunen-Loeve transform of colour, found for the step at hand and not for all coefficients alike.)

The turn minimises the theory's cost of the coefficients of the plain wavelet (``forecast.objective``) on a sample of the picture,
of which files save a part, plus a penalty on the angle, since the networks learned from pictures whose axes were not turned. The
constants were fitted to what files of held-out crops really took.
"""

import math
from collections.abc import Callable

import numpy as np

from flowcodec.runtime.color import NO_TURN, TURN_UNIT, Turn, cayley, rgb_to_ycc
from flowcodec.runtime.flow import plain_details
from flowcodec.runtime.forecast import objective
from flowcodec.runtime.step import log2_step

_TRUSTED = 0.6
"""Of the share of the cost that theory promises to save, what files do."""
_PENALTIES = np.array([0.112, 0.88, 0.88])
"""Cost, as a share, of the squared tangents of half the angles: of chroma among itself, of chroma with luma."""
_LEAST_GAIN = 0.003
_LEAST_BITS = 64
"""What a turn must save; it takes 32."""
_SMALLEST = 256
"""Pixels of a picture."""
_FIRST_TRIED = (-0.5, -0.35, -0.2, -0.1, 0.1, 0.2, 0.35, 0.5)
_FIRST_STEPS, _LAST_STEP = np.array([0.05, 0.03, 0.03]), 0.01
_LARGEST = 0.9
_WINDOW, _WINDOWS = 128, 4
"""Side of the windows of a large picture that are looked at, and how many a side there are at most."""
_SAMPLE = 1 << 13
"""Coefficients of each level and plane that are looked at."""


def find_turn(pixels: np.ndarray, step_index: int) -> Turn:
    """The turn of the axes of uint8 (H, W, 3) that pays at a step, or none."""
    if pixels.shape[0] * pixels.shape[1] < _SMALLEST:
        return NO_TURN
    windows = _windows(pixels)
    details = [_details(rgb_to_ycc(window), _SAMPLE // len(windows)) for window in windows]
    coefficients = np.concatenate([part for part, _ in details], 1)
    counts = np.concatenate([part for _, part in details])
    squared_step = 4.0 ** float(log2_step(step_index))

    def cost(tangents: np.ndarray) -> float:
        numerators, denominator = cayley(tuple(tangents), 1.0)
        turned = (numerators / denominator).astype(np.float32) @ coefficients
        return float((objective(turned * turned, squared_step) @ counts).sum())

    plain = cost(np.zeros(3))
    if plain == 0:
        return NO_TURN
    best, lowest = _descend(lambda tangents: _TRUSTED * (cost(tangents) / plain - 1) + float(_PENALTIES @ tangents**2))
    seen = sum(window.size for window in windows)
    bits = -lowest * plain * pixels.size / seen / (math.log(2) / 6 * squared_step)
    if lowest > -_LEAST_GAIN or bits < _LEAST_BITS:
        return NO_TURN
    first, second, third = (int(value) for value in np.rint(best * TURN_UNIT))
    return first, second, third


def _windows(pixels: np.ndarray) -> list[np.ndarray]:
    """The picture, or where it is large a grid of windows of it."""
    height, width = pixels.shape[:2]
    if height * width <= (_WINDOW * _WINDOWS) ** 2:
        return [pixels]
    tops, lefts = (_begins(side) for side in (height, width))
    return [pixels[top : top + _WINDOW, left : left + _WINDOW] for top in tops for left in lefts]


def _begins(side: int) -> list[int]:
    """Where windows begin: evenly apart, from one end to the other."""
    count = max(min(side // _WINDOW, _WINDOWS), 1)
    return [(side - _WINDOW) * place // (count - 1) if count > 1 else max(side - _WINDOW, 0) // 2 for place in range(count)]


def _details(planes: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """About ``count`` coefficients of each level of planes (3, H, W), (3, n) at the same places, and how many each stands for."""
    samples, counts = [], []
    for detail in plain_details(planes):
        flat = detail.reshape(len(planes), -1)
        # An odd number, so that the sample is not one of columns.
        stride = flat.shape[1] // count | 1
        samples.append(flat[:, ::stride])
        counts.append(np.full(samples[-1].shape[1], stride, np.float32))
    return np.concatenate(samples, 1), np.concatenate(counts)


def _descend(cost: Callable[[np.ndarray], float]) -> tuple[np.ndarray, float]:
    """Tangents of half the angles at a minimum, and the cost there: from the best turn of chroma, axis by axis."""
    best, lowest = np.zeros(3), 0.0
    for first in _FIRST_TRIED:
        tried = np.array([first, 0.0, 0.0])
        if (found := cost(tried)) < lowest:
            best, lowest = tried, found
    steps = _FIRST_STEPS.copy()
    while steps[0] > _LAST_STEP:
        before = lowest
        for axis in (0, 2, 1):
            for sign in (1, -1):
                while abs(best[axis] + sign * steps[axis]) < _LARGEST:
                    tried = best.copy()
                    tried[axis] += sign * steps[axis]
                    if (found := cost(tried)) >= lowest:
                        break
                    best, lowest = tried, found
        if lowest == before:
            steps /= 2
    return best, lowest
