"""CDF 9/7 lifting: image planes <-> latent pyramid. Analysis in float (encoder), synthesis in integers (decoder).

A level splits planes (C, H, W) into ``ll`` (C, ceil(H/2), ceil(W/2)) and ``detail`` (3C, ceil(H/2), ceil(W/2)): per plane the
bands HL (high along the width), LH (high along the height) and HH. An odd length gives the low band the extra sample; the
places that a shorter high band lacks hold zero and are never coded. A length of 1 passes through unchanged.

Reference: Daubechies & Sweldens, Factoring wavelet transforms into lifting steps, 1998, sec. 7.9; scaled so that the
synthesis vectors have unit norm, which makes a squared error in the latent a squared error in the image.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np

from flowcodec.runtime.integer import FRACTION_BITS
from flowcodec.runtime.tiles import channel_groups, in_parallel

LIFT_BITS = 12
# -1.586134342, -0.052980118, 0.882911076, 0.443506852, in fixed point. Analysis and synthesis share them, so that one inverts the
# other whatever the rounding; the first is rounded up, which leaves a fifth of the constant signal in the high band.
LIFT_STEPS = (-6496, -217, 3616, 1817)
"""Predict, update, predict, update: odd += c*(neighbouring even), even += c*(neighbouring odd), twice."""
LOW_GAIN, HIGH_GAIN = round((1 << LIFT_BITS) / 1.139764), round((1 << LIFT_BITS) / 0.887277)
"""Synthesis gains of the low and the high band, per dimension; the analysis divides by them."""

BANDS = ("HL", "LH", "HH")
STRIP_SITES = 1 << 15
_SYNTHESIS_HALO = 4
"""Rows of a band beyond which a coefficient has no effect on a row of pixels: filters of at most 9 taps reach 4 of those."""
# The finest level holds most samples and stays below 2^31 in every product when its inputs are clipped to 2^17.
_NARROW_LIMIT = (1 << 17) - 1
_WIDE_LIMIT = (1 << 36) - 1
_ANALYSIS_LOW, _ANALYSIS_HIGH = (((1 << 2 * LIFT_BITS) + gain // 2) // gain for gain in (LOW_GAIN, HIGH_GAIN))


def level_count(height: int, width: int) -> int:
    """Number of levels that take an image down to one sample per plane: ceil(log2(max(height, width)))."""
    return (max(height, width) - 1).bit_length()


def level_shapes(height: int, width: int) -> list[tuple[int, int]]:
    """Sizes of the planes from the image (entry 0) to the coarsest ``ll``."""
    shapes = [(height, width)]
    for _ in range(level_count(height, width)):
        height, width = (height + 1) // 2, (width + 1) // 2
        shapes.append((height, width))
    return shapes


def band_shapes(height: int, width: int) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Sizes of HL, LH and HH of planes of the given size."""
    low_h, low_w, high_h, high_w = (height + 1) // 2, (width + 1) // 2, height // 2, width // 2
    return (low_h, high_w), (high_h, low_w), (high_h, high_w)


def _even_pairs(even: np.ndarray, count: int) -> np.ndarray:
    """even[i] + even[i+1] for the ``count`` odd samples between them, symmetric at the end; along the last axis."""
    pairs = np.copy(even[..., :count])
    inner = even.shape[-1] - 1
    pairs[..., :inner] += even[..., 1:]
    if inner < count:
        pairs[..., inner] += even[..., inner]
    return pairs


def _odd_pairs(odd: np.ndarray, count: int) -> np.ndarray:
    """odd[i-1] + odd[i] for the ``count`` even samples around them, symmetric at both ends; along the last axis."""
    pairs = np.empty_like(odd, shape=(*odd.shape[:-1], count))
    pairs[..., : odd.shape[-1]] = odd
    pairs[..., odd.shape[-1] :] = odd[..., -1:]
    pairs[..., 1:] += odd[..., : count - 1]
    pairs[..., 0] += odd[..., 0]
    return pairs


def _interleave(even: np.ndarray, odd: np.ndarray) -> np.ndarray:
    """The signal of even and odd samples, along the last axis."""
    signal = np.empty_like(even, shape=(*even.shape[:-1], even.shape[-1] + odd.shape[-1]))
    signal[..., 0::2], signal[..., 1::2] = even, odd
    return signal


def _split(signal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Float analysis along the last axis: (low, high)."""
    even, odd = np.copy(signal[..., 0::2]), np.copy(signal[..., 1::2])
    if odd.shape[-1] == 0:
        return even, odd
    for index, constant in enumerate(LIFT_STEPS):
        factor = np.float32(constant / (1 << LIFT_BITS))
        if index % 2 == 0:
            odd += factor * _even_pairs(even, odd.shape[-1])
        else:
            even += factor * _odd_pairs(odd, even.shape[-1])
    unit = np.float32(1 << LIFT_BITS)
    return even * (unit / LOW_GAIN), odd * (unit / HIGH_GAIN)


def _scale(values: np.ndarray, factor: int) -> np.ndarray:
    """(values * factor + half) >> LIFT_BITS, in place. The whole part of the factor is taken out, so that products fit int32."""
    whole = (factor + (1 << (LIFT_BITS - 1))) >> LIFT_BITS
    kept = values * whole if whole else None
    values *= factor - (whole << LIFT_BITS)
    values += 1 << (LIFT_BITS - 1)
    values >>= LIFT_BITS
    if kept is not None:
        values += kept
    return values


def _merge(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Integer synthesis along the last axis; overwrites both bands."""
    if high.shape[-1] == 0:
        return low
    even, odd = _scale(low, LOW_GAIN), _scale(high, HIGH_GAIN)
    for index in reversed(range(len(LIFT_STEPS))):
        if index % 2 == 0:
            odd -= _scale(_even_pairs(even, odd.shape[-1]), LIFT_STEPS[index])
        else:
            even -= _scale(_odd_pairs(odd, even.shape[-1]), LIFT_STEPS[index])
    return _interleave(even, odd)


def _turn(planes: np.ndarray) -> np.ndarray:
    """A view. Arrays made from it keep its layout, so that every step goes along the memory, whatever the axis."""
    return planes.swapaxes(-1, -2)


class Strip(NamedTuple):
    """Rows ``top`` to ``bottom`` of a band, and ``first`` to ``last`` that they depend on."""

    top: int
    bottom: int
    first: int
    last: int


def strips(count: int, width: int, halo: int) -> list[Strip]:
    """Strips of the rows of bands (count, width): in them each step of lifting finds what it needs in a core's cache."""
    rows = max(STRIP_SITES // width, 8 * halo)
    return [
        Strip(top, min(top + rows, count), max(top - halo, 0), min(top + rows + halo, count)) for top in range(0, count, rows)
    ]


def analyse_level(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Float32 planes (C, H, W) -> ``ll`` (C, h, w) and ``detail`` (3C, h, w), h = ceil(H/2), w = ceil(W/2)."""
    count, height, width = planes.shape
    ll = np.empty((count, (height + 1) // 2, (width + 1) // 2), np.float32)
    detail = np.zeros((3 * count, *ll.shape[1:]), np.float32)
    for plane in range(count):
        left, right = _split(planes[plane])
        (low, lh), (hl, hh) = (map(_turn, _split(_turn(half))) for half in (left, right))
        ll[plane] = low
        for band, values in enumerate((hl, lh, hh)):
            detail[3 * plane + band, : values.shape[0], : values.shape[1]] = values
    return ll, detail


def _split_fixed(signal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integer analysis along the last axis: (low, high), the steps of ``_merge`` backward."""
    even, odd = np.copy(signal[..., 0::2]), np.copy(signal[..., 1::2])
    if odd.shape[-1] == 0:
        return even, odd
    for index, constant in enumerate(LIFT_STEPS):
        if index % 2 == 0:
            odd += _scale(_even_pairs(even, odd.shape[-1]), constant)
        else:
            even += _scale(_odd_pairs(odd, even.shape[-1]), constant)
    return _scale(even, _ANALYSIS_LOW), _scale(odd, _ANALYSIS_HIGH)


def analyse_level_fixed(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``analyse_level`` in integers, 1/64 pixel units: the same numbers on every machine, to a few units those of the float one.

    For what the decoder has to analyse. Planes in int32 must stay below 2^18, else 2^40 in int64.
    """
    count, height, width = planes.shape
    ll = np.empty((count, (height + 1) // 2, (width + 1) // 2), planes.dtype)
    detail = np.zeros((3 * count, *ll.shape[1:]), planes.dtype)
    for plane in range(count):
        left, right = _split_fixed(planes[plane])
        (low, lh), (hl, hh) = (map(_turn, _split_fixed(_turn(half))) for half in (left, right))
        ll[plane] = low
        for band, values in enumerate((hl, lh, hh)):
            detail[3 * plane + band, : values.shape[0], : values.shape[1]] = values
    return ll, detail


def plain_details(planes: np.ndarray) -> Iterator[np.ndarray]:
    """(3C, h, w) of each level of the wavelet alone, fine to coarse, of float planes (C, H, W)."""
    for _ in range(level_count(*planes.shape[1:])):
        planes, detail = analyse_level(planes)
        yield detail


def narrowed(ll: np.ndarray, detail: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What ``synthesise_level`` is given, in int32 where that makes no difference but in time: it clips none of it."""
    if all(values.min() >= -_NARROW_LIMIT and values.max() <= _NARROW_LIMIT for values in (ll, detail)):
        return ll.astype(np.int32, copy=False), detail.astype(np.int32, copy=False)
    return ll, detail


def synthesise_level(ll: np.ndarray, detail: np.ndarray, height: int, width: int, threads: int = 1) -> np.ndarray:
    """Exact integer inverse of one level: ``ll`` and ``detail`` in 1/64 pixel units -> planes (C, height, width).

    Inputs are clipped to the range in which no product overflows: 2^17 in int32, for levels whose result is the image; else 2^36
    in int64.
    """
    limit = _NARROW_LIMIT if ll.dtype == np.int32 else _WIDE_LIMIT
    planes = np.empty((len(ll), height, width), ll.dtype)
    count = ll.shape[1]

    detail = detail.reshape(len(ll), len(BANDS), *detail.shape[1:])

    def synthesise(part: tuple[slice, Strip]) -> None:
        group, strip = part
        lines = (height if strip.last == count else 2 * strip.last) - 2 * strip.first
        low, *bands = (np.clip(x[:, strip.first : strip.last], -limit, limit) for x in (ll[group], *detail[group].swapaxes(0, 1)))
        hl, lh, hh = (_turn(x[:, :h, :w]) for x, (h, w) in zip(bands, band_shapes(lines, width), strict=True))
        rows = _merge(_turn(_merge(_turn(low), lh)), _turn(_merge(hl, hh)))
        top, bottom = 2 * strip.top, min(2 * strip.bottom, height)
        planes[group, top:bottom] = rows[:, top - 2 * strip.first : bottom - 2 * strip.first]

    groups = channel_groups(len(ll), count * ll.shape[2])
    in_parallel(threads, synthesise, list(product(groups, strips(count, ll.shape[2], _SYNTHESIS_HALO))))
    return planes


def _adjoint_even_pairs(odd: np.ndarray, count: int) -> np.ndarray:
    """Transpose of ``_even_pairs``: what ``count`` even samples receive from the odd ones."""
    sums = np.zeros_like(odd, shape=(*odd.shape[:-1], count))
    sums[..., : odd.shape[-1]] = odd
    sums[..., 1:] += odd[..., : count - 1]
    if odd.shape[-1] == count:
        sums[..., -1] += odd[..., -1]
    return sums


def _adjoint_odd_pairs(even: np.ndarray, count: int) -> np.ndarray:
    """Transpose of ``_odd_pairs``: what ``count`` odd samples receive from the even ones."""
    sums = np.copy(even[..., :count])
    following = even[..., 1 : count + 1]
    sums[..., : following.shape[-1]] += following
    sums[..., 0] += even[..., 0]
    if even.shape[-1] > count:
        sums[..., -1] += even[..., -1]
    return sums


def _synthesise_float(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """``_merge`` in float, overwriting nothing."""
    if high.shape[-1] == 0:
        return low
    unit = np.float32(1 << LIFT_BITS)
    even, odd = low * (LOW_GAIN / unit), high * (HIGH_GAIN / unit)
    for index in reversed(range(len(LIFT_STEPS))):
        factor = np.float32(LIFT_STEPS[index] / (1 << LIFT_BITS))
        if index % 2 == 0:
            odd -= factor * _even_pairs(even, odd.shape[-1])
        else:
            even -= factor * _odd_pairs(odd, even.shape[-1])
    return _interleave(even, odd)


def _adjoint(signal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Transpose of ``_synthesise_float``: signal -> (low, high)."""
    even, odd = np.copy(signal[..., 0::2]), np.copy(signal[..., 1::2])
    if odd.shape[-1] == 0:
        return even, odd
    for index, constant in enumerate(LIFT_STEPS):
        factor = np.float32(constant / (1 << LIFT_BITS))
        if index % 2 == 0:
            even -= factor * _adjoint_even_pairs(odd, even.shape[-1])
        else:
            odd -= factor * _adjoint_odd_pairs(even, odd.shape[-1])
    unit = np.float32(1 << LIFT_BITS)
    return even * (LOW_GAIN / unit), odd * (HIGH_GAIN / unit)


def correlate_level(low: np.ndarray, detail: np.ndarray, height: int, width: int) -> np.ndarray:
    """The high bands of S^T S (low, detail), S the synthesis of one plane of size (height, width); float32.

    Shapes: low (h, w), detail (3, h, w), result (3, h, w) with zeros where a band has no coefficient.
    """
    shapes = band_shapes(height, width)
    hl, lh, hh = (band[:h, :w] for band, (h, w) in zip(detail, shapes, strict=True))
    left = _synthesise_float(_turn(low), _turn(lh))
    plane = _synthesise_float(_turn(left), _turn(_synthesise_float(_turn(hl), _turn(hh))))
    left, right = _adjoint(plane)
    result = np.zeros_like(detail)
    bands = _adjoint(_turn(left))[1], *_adjoint(_turn(right))
    for target, values, (h, w) in zip((1, 0, 2), bands, (shapes[1], shapes[0], shapes[2]), strict=True):
        result[target, :h, :w] = _turn(values)
    return result


def to_fixed(values: np.ndarray) -> np.ndarray:
    """Float pixel units -> integers with FRACTION_BITS fractional bits."""
    return np.rint(values * np.float32(1 << FRACTION_BITS)).astype(np.int64)
