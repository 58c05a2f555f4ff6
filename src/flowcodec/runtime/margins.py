"""Margins: strips of one colour along the sides of a picture, which the decoder paints instead of decoding them.

Frames of a pixel or two, bars of a letterbox: photographs seldom have any, so the prior gives them next to no probability, and
around a dark, plain picture they can cost more than all the rest. A strip is ``lines`` rows or columns at a side of what
the strips before it leave; the *inside*, what all of them leave, is coded as a picture of its own size.

The encoder takes a strip where painting it is the better bargain at the step Delta: a line belongs to it while its mean squared
error stays below Delta^2 / 24, half of what a quantiser leaves; the strip ends where neighbouring lines differ most, by more than
that; and J = D + (ln 2 / 6) Delta^2 R, estimated from the coefficients of the plain wavelet near the side
(``forecast.py``), must fall by painting; in the end by a hundredth of the whole picture's. Wide strips must also look flat.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from flowcodec.runtime.forecast import Forecast
from flowcodec.runtime.step import log2_step

SIDES = ("top", "bottom", "left", "right")
MAX_STRIPS = 16
"""What an encoder looks for; two frames around each other have eight."""
_LEAST_SIDE = 16
_REACH = 64
"""Lines beside a strip that its edge makes dearer, the coarse levels' filters aside."""
_BLOCK = 16
_BIT_PRICE = math.log(2) / 6
_TOLERATED = 1 / 24
"""Mean squared error of a line, in squared steps."""
_NARROW, _FLAT = 8, 4.0
"""Lines that may be as rough as that; mean squared error of those behind them, in squared grey levels."""
_LEAST_GAIN = 0.01
"""Moving the grid of the wavelet changes the cost of a picture by half as much."""


@dataclass(frozen=True)
class Strip:
    """``lines`` rows or columns of one colour at a side."""

    side: int  # index of SIDES
    lines: int  # 1 and more
    colour: tuple[int, ...]  # a component for each channel, 0 ... 255


def inside_size(height: int, width: int, strips: Sequence[Strip]) -> tuple[int, int]:
    """(height, width) of what the strips leave; not positive where they are larger than the picture."""
    lines = [sum(strip.lines for strip in strips if strip.side // 2 == axis) for axis in range(2)]
    return height - lines[0], width - lines[1]


def inside(image: np.ndarray, strips: Sequence[Strip]) -> np.ndarray:
    """The part (h, w, ...) of an image (H, W, ...) that no strip covers."""
    for strip in strips:
        image = _restored(_lines(image, strip.side)[strip.lines :], strip.side)
    return np.ascontiguousarray(image)


def paint(pixels: np.ndarray, strips: Sequence[Strip], levels: int = 0) -> np.ndarray:
    """The inside (h, w, C) with its strips around it; in a picture of 1/2^levels the size each has floor(lines / 2^levels)."""
    if not strips:
        return pixels
    scaled = [replace(strip, lines=strip.lines >> levels) for strip in strips]
    less = inside_size(0, 0, scaled)
    picture = np.empty_like(pixels, shape=(pixels.shape[0] - less[0], pixels.shape[1] - less[1], *pixels.shape[2:]))
    rest = picture
    for strip in scaled:
        lines = _lines(rest, strip.side)
        lines[: strip.lines] = strip.colour
        rest = _restored(lines[strip.lines :], strip.side)
    rest[:] = pixels
    return picture


def find_margins(pixels: np.ndarray, step_index: int) -> tuple[Strip, ...]:
    """The strips of uint8 (H, W, C) that are better painted than coded at a step, outermost first."""
    strips: list[Strip] = []
    rest, painted, found = pixels, 0.0, True
    while found and len(strips) <= MAX_STRIPS - len(SIDES):
        found = False
        for side in range(len(SIDES)):
            lines = _lines(rest, side)
            strip = _find_strip(lines, side, step_index)
            if strip is not None:
                strips.append(strip)
                painted += _painted_error(lines, strip)
                rest, found = inside(rest, [strip]), True
    if not strips:
        return ()
    whole, coded = (Forecast(part).objective(step_index) for part in (pixels, rest))
    return tuple(strips) if coded + painted < (1 - _LEAST_GAIN) * whole else ()


def _lines(image: np.ndarray, side: int) -> np.ndarray:
    """A view (n, m, ...) whose lines run along the side, the outermost first."""
    if side >= 2:
        image = image.swapaxes(0, 1)
    return image[::-1] if side % 2 else image


def _restored(lines: np.ndarray, side: int) -> np.ndarray:
    """The image whose ``_lines`` these are."""
    if side % 2:
        lines = lines[::-1]
    return lines.swapaxes(0, 1) if side >= 2 else lines


def _find_strip(lines: np.ndarray, side: int, step_index: int) -> Strip | None:
    """The strip at the front of lines (n, m, C), if it is better painted."""
    if min(lines.shape[:2]) < _LEAST_SIDE:
        return None
    squared_step = 4.0 ** float(log2_step(step_index))
    count = _similar_lines(lines, squared_step * _TOLERATED)
    if count == 0:
        return None
    near = lines[: count + 1].astype(np.float32)
    jumps = ((near[1:] - near[:-1]) ** 2).mean((1, 2))
    end = int(jumps.argmax()) + 1
    if jumps[end - 1] <= squared_step * _TOLERATED:
        return None
    strip = Strip(side, end, tuple(int(value) for value in np.rint(near[:end].mean((0, 1)))))
    told = 8 * (1 + len(strip.colour)) * _BIT_PRICE * squared_step
    whole, rest = (Forecast(lines[begin : end + _REACH]).objective(step_index) for begin in (0, end))
    return strip if _painted_error(lines, strip) + told + rest < whole else None


def _painted_error(lines: np.ndarray, strip: Strip) -> float:
    """Squared error that the strip leaves of the lines at whose front it is."""
    return float(((lines[: strip.lines].astype(np.float32) - np.array(strip.colour, np.float32)) ** 2).sum(dtype=np.float64))


def _similar_lines(lines: np.ndarray, limit: float) -> int:
    """Lines at the front, at most half, whose mean squared difference from the mean of the first is within the limit."""
    colour, most = lines[0].mean(0, dtype=np.float32), len(lines) // 2
    limits = np.where(np.arange(most) < _NARROW, limit, min(limit, _FLAT))
    for begin in range(0, most, _BLOCK):
        block = lines[begin : min(begin + _BLOCK, most)].astype(np.float32)
        other = (((block - colour) ** 2).mean((1, 2)) > limits[begin : begin + _BLOCK]).nonzero()[0]
        if len(other):
            return begin + int(other[0])
    return most
