"""The trellis channel of the second decoder: section 6.7 of ``docs/format.md``."""

import math
from pathlib import Path

import numpy as np

from .independent_frame import Array, Coder

FIRST, LAST, SCALES, LEAST = 10, 61, 52, 64


def read_trellis(coder: Coder, kind: int, scales: Array, centroids: Array, constants: Path) -> Array:
    """6.7: the residuals of a chunk; ``centroids`` are those of ``round`` of this kind."""
    with np.load(constants) as arrays:
        own, starts, points = arrays["frequencies"].astype(np.int64), arrays["starts"], arrays["centroids"].astype(np.int64)
    tables = coder.model.tables[:256] + [[0, *np.cumsum(16 * part).tolist()] for part in np.split(own, starts[1:-1])]
    low_bits = np.concatenate([coder.model.arrays["tables.low_bits"][:256], np.zeros(len(starts) - 1, np.int64)])
    inside = [place for place, s in enumerate(scales.tolist()) if FIRST <= s <= LAST]
    if len(inside) < LEAST:
        inside = []
    others = np.setdiff1d(np.arange(len(scales)), inside)
    residuals = np.zeros(len(scales), np.int64)
    k = coder.chunk(128 * kind + scales[others], tables, low_bits)
    residuals[others] = np.sign(k) * (centroids[scales[others], np.minimum(np.abs(k), 8)] + 64 * np.maximum(np.abs(k) - 8, 0))
    inside.sort(key=lambda place: scales[place])  # a stable sort
    width = math.isqrt(len(inside)) >> 1
    columns = [inside[first : first + width] for first in range(0, len(inside), width or 1)]
    t, p = np.zeros((2, len(columns) + 5, width), np.int64)  # from the sixth row on; what is before the trellises is zero
    for first in range(0, len(columns), 3):
        group = list(enumerate(columns[first : first + 3], first + 5))
        for n, _ in group:
            t[n] = (t[n - 2] + t[n - 5] + p[n - 3]) % 2
        members = [(place, n, i) for n, column in group for i, place in enumerate(column)]
        ids = [256 + 2 * (SCALES * kind + int(scales[place]) - FIRST) + t[n, i] for place, n, i in members]
        for (place, n, i), number in zip(members, coder.chunk(np.array(ids), tables, low_bits).tolist(), strict=True):
            p[n, i] = number % 2
            near = min(abs(number), 8)
            r = int(points[kind, scales[place] - FIRST, t[n, i], near]) + 72 * (abs(number) - near)
            residuals[place] = r if number > 0 else -r
    return residuals
