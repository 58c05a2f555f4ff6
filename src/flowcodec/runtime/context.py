"""What the networks of a level see, as integers: the constants shared with the torch model, and the NumPy arithmetic.

A latent enters a network as clipped, shifted copies of itself (fine, middle, coarse range), since a logarithm has no place in
exact arithmetic.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np

from flowcodec.runtime.flow import band_shapes
from flowcodec.runtime.integer import ACTIVATION_MAX, FRACTION_BITS
from flowcodec.runtime.step import STEP_BITS, step_fixed
from flowcodec.runtime.tiles import Place

LUMA_BANDS, CHROMA_BANDS = 3, 6
DETAIL_CHANNELS = LUMA_BANDS + CHROMA_BANDS
LEVEL_GROUPS = 3
"""Levels 1 and 2 (the finest) have networks of their own, all coarser levels share one set."""
RESTORATION_GAIN_BITS = 3
"""The restoration sees contrasts times two to this power: those of a finished picture are a few hundredths of a step."""
RANGE_BITS = 4
"""The coarse copy of a value is the value divided by two to this power."""
CARRIED_CHANNELS = 16
PREDICTION_CHANNELS = 2 * (DETAIL_CHANNELS // 3) + 2 * DETAIL_CHANNELS
"""What a trunk sees of a prediction, in two ranges: its ``ll`` less the reconstruction so far, and its details."""
GATE_MIN, GATE_MAX = -16, 80
"""Limits of the share of the prediction in a location, in 1/64. A little beyond 0 and 1, so that both have gradients."""
LUMA, CHROMA = 0, 1
PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))
"""(row, column) modulo 2 of the sites of a level's even grid that are decoded together, in the order of decoding."""


@dataclass(frozen=True)
class Stage:
    """What is decoded at once: some bands at the sites of one phase."""

    number: int
    kind: int
    phase: int
    bands: slice

    @property
    def outputs(self) -> int:
        return self.bands.stop - self.bands.start

    @cached_property
    def seen(self) -> int:
        """Coefficients a site of the phase grid that are decoded before this stage."""
        return sum(stage.outputs for stage in STAGES[: self.number])


def _stages() -> Iterator[Stage]:
    numbers = count()
    for phase in range(len(PHASES)):
        for band in range(LUMA_BANDS):
            yield Stage(next(numbers), LUMA, phase, slice(band, band + 1))
    for phase in range(len(PHASES)):
        yield Stage(next(numbers), CHROMA, phase, slice(LUMA_BANDS, DETAIL_CHANNELS))


STAGES = tuple(_stages())
"""The order of decoding within a level: luma by phase and band, then chroma by phase; a grey picture has the luma stages only."""
STAGE_NUMBERS = 16
"""Within a file the stages of level l have the numbers 16 l, 16 l + 1, ..."""
CONDITION_CHANNELS = 2
_STEP_INDEX_UNIT, _STEP_CENTRE = 4, 192
_BLUR_REACH = 2
_NARROW_LIMIT = 1 << 22
_LEVEL_CENTRE, _LEVEL_MAX, _LEVEL_SCALE = 3, 8, 32


def level_group(level: int) -> int:
    """0 for the finest level (1), 1 for level 2, 2 for all coarser ones."""
    return min(level, LEVEL_GROUPS) - 1


def condition_values(step_index: Any, level: int) -> tuple[Any, int]:
    """The integers of the two constant planes: log2(Delta) about 16, in 1/32 octave; the level about 3, in 1/32."""
    return step_index // _STEP_INDEX_UNIT - _STEP_CENTRE, (min(level, _LEVEL_MAX) - _LEVEL_CENTRE) * _LEVEL_SCALE


def condition_planes(step_index: int, level: int, height: int, width: int) -> np.ndarray:
    """int16 (2, H, W) constant planes, a view without storage."""
    values = np.array(condition_values(step_index, level), np.int16).reshape(CONDITION_CHANNELS, 1, 1)
    return np.broadcast_to(values, (CONDITION_CHANNELS, height, width))


def valid_coefficients(height: int, width: int) -> np.ndarray:
    """bool (9, ceil(H/2), ceil(W/2)): the detail coefficients that planes of size (H, W) have."""
    valid = np.zeros((3, (height + 1) // 2, (width + 1) // 2), bool)
    for band, (band_height, band_width) in enumerate(band_shapes(height, width)):
        valid[band, :band_height, :band_width] = True
    return np.concatenate([valid] * (DETAIL_CHANNELS // 3))


def pad_even(planes: np.ndarray) -> np.ndarray:
    """Zeros below and to the right of (C, H, W), up to an even size."""
    height, width = planes.shape[1:]
    if height % 2 == 0 and width % 2 == 0:
        return planes
    return np.pad(planes, ((0, 0), (0, height % 2), (0, width % 2)))


def phase_of(grid: np.ndarray, phase: int) -> np.ndarray:
    """(C, H, W) of an even grid -> (C, H/2, W/2): a view of the sites of one phase."""
    row, column = PHASES[phase]
    return grid[:, row::2, column::2]


def joined(phases: Sequence[np.ndarray], place: Place) -> np.ndarray:
    """A place (C, h, w) of the even grid whose four phases these are."""
    (top, left), (bottom, right) = ((side.start // 2 for side in place), ((side.stop + 1) // 2 for side in place))
    grid = np.empty((len(phases[0]), 2 * (bottom - top), 2 * (right - left)), phases[0].dtype)
    for phase, sites in enumerate(phases):
        phase_of(grid, phase)[:] = sites[:, top:bottom, left:right]
    rows, columns = (slice(side.start % 2, side.start % 2 + side.stop - side.start) for side in place)
    return grid[:, rows, columns]


def _narrow(planes: np.ndarray) -> np.ndarray:
    """The same values in 32 bits, where these hold their sums: twice as fast."""
    fits = planes.dtype == np.int64 and planes.size and planes.min() >= -_NARROW_LIMIT and planes.max() <= _NARROW_LIMIT
    return planes.astype(np.int32) if fits else planes


def _binomial_sums(plane: np.ndarray) -> np.ndarray:
    """(H, W) -> sums over 5x5 places with weights 1 4 6 4 1 along each axis, edges replicated."""
    height, width = plane.shape
    inner = slice(_BLUR_REACH, -_BLUR_REACH)
    sums = np.empty((height + 2 * _BLUR_REACH, width + 2 * _BLUR_REACH), plane.dtype)
    rows = sums[inner]
    rows[:, inner], rows[:, :_BLUR_REACH], rows[:, -_BLUR_REACH:] = plane, plane[:, :1], plane[:, -1:]
    sums[:_BLUR_REACH], sums[-_BLUR_REACH:] = rows[:1], rows[-1:]
    # Pairs of neighbours, four times an axis. The plane is one long row here, whose sums are wrong in the padding alone.
    flat, free = sums.reshape(-1), np.empty(sums.size, sums.dtype)
    for distance in (1, 1, 1, 1, *(4 * [sums.shape[1]])):
        pairs = np.add(flat[distance:], flat[:-distance], out=free[: len(flat) - distance])
        flat, free = pairs, flat
    return sums[:height, :width]


def local_contrast(planes: np.ndarray) -> np.ndarray:
    """Planes minus their 5x5 binomial mean (floored), same shape and units."""
    planes = _narrow(planes)
    contrast = np.empty_like(planes)
    # One at a time, which a core's cache holds.
    for plane, found in zip(planes, contrast, strict=True):
        np.right_shift(_binomial_sums(plane), 8, out=found)
        np.subtract(plane, found, out=found)
    return contrast


def _scaled(values: np.ndarray, factor: Any, shift: int) -> np.ndarray:
    """int64 (v * factor + half) >> shift."""
    scaled = values.astype(np.int64)
    scaled *= factor
    scaled += 1 << (shift - 1)
    scaled >>= shift
    return scaled


def in_steps(values: np.ndarray, step_index: int, gain_bits: int = 0) -> np.ndarray:
    """Pixel units -> units of Delta / 2^gain_bits, both in 1/64: (v * floor(2^40 / Delta) + half) >> (20 - gain_bits)."""
    inverse = (1 << (2 * STEP_BITS)) // step_fixed(step_index)
    shift = STEP_BITS - gain_bits
    return _scaled(values, inverse, shift)


def in_band_steps(values: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """(C, H, W) in pixel units -> int64 units of each band's step, both in 1/64; ``steps`` as ``prior.band_steps`` gives them."""
    inverse = np.array([(1 << (2 * STEP_BITS)) // step for step in steps], np.int64).reshape(-1, 1, 1)
    return _scaled(values, inverse, STEP_BITS)


def to_pixels(values: np.ndarray, step: int | np.ndarray, bits: int = FRACTION_BITS) -> np.ndarray:
    """Units of ``step`` with ``bits`` fractional bits -> pixel units: (v * step + half) >> (STEP_BITS - 6 + bits)."""
    return _scaled(values, step, STEP_BITS + bits - FRACTION_BITS)


def clip_activations(values: np.ndarray) -> np.ndarray:
    """int16, clipped to the range of the networks' values."""
    clipped = np.empty(values.shape, np.int16)
    return np.clip(values, -ACTIVATION_MAX, ACTIVATION_MAX, out=clipped, casting="unsafe")


def _shift(values: np.ndarray, bits: int) -> np.ndarray:
    """Division by 2^bits, rounded."""
    return (values + (1 << (bits - 1))) >> bits


def two_ranges(values: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """(C, H, W) -> int16 (2C, H, W): the clipped fine copies, then the coarse ones (1/16 of the value)."""
    copies = np.empty((2 * len(values), *values.shape[1:]), np.int16) if out is None else out
    fine, coarse = copies[: len(values)], copies[len(values) :]
    # Where the rounded sixteenths reach the limit; 16 bits hold it.
    half = 1 << (RANGE_BITS - 1)
    reach = ACTIVATION_MAX << RANGE_BITS
    np.clip(values, -reach - half, reach + half - 1, out=coarse, casting="unsafe")
    np.clip(coarse, -ACTIVATION_MAX, ACTIVATION_MAX, out=fine)
    coarse += half
    coarse >>= RANGE_BITS
    return copies


def filled(part: np.ndarray, place: Place) -> np.ndarray:
    """(C, h, w) of a place, zeros below and to the right of the part of it that there is."""
    missing = [side.stop - side.start - found for side, found in zip(place, part.shape[1:], strict=True)]
    return np.pad(part, ((0, 0), (0, missing[0]), (0, missing[1]))) if any(missing) else part


def contrast_at(planes: np.ndarray, place: Place) -> np.ndarray:
    """``local_contrast`` at a place, as in the whole."""
    seen, inner = [], []
    for part, end in zip(place, planes.shape[1:], strict=True):
        begin, stop = max(part.start - _BLUR_REACH, 0), min(part.stop, end)
        seen.append(slice(begin, stop + _BLUR_REACH))
        inner.append(slice(part.start - begin, stop - begin))
    return local_contrast(planes[:, *seen])[:, *inner]


def contrast_planes(planes: np.ndarray, step_index: int, place: Place | None = None) -> np.ndarray:
    """(C, H, W) -> int16 (3C, H, W): local contrast in steps (fine, coarse) and in pixel units over 64; all or a place of it.

    A place may reach beyond the planes, as far as their even grid does; there are zeros.
    """
    contrast = local_contrast(planes) if place is None else contrast_at(planes, place)
    seen = np.empty((3 * len(contrast), *contrast.shape[1:]), np.int16)
    two_ranges(in_steps(contrast, step_index), seen[: 2 * len(contrast)])
    seen[2 * len(contrast) :] = clip_activations(_shift(contrast, FRACTION_BITS))
    return seen if place is None else filled(seen, place)
