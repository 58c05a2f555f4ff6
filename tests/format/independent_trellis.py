"""The trellis channel of the second decoder: section 6.7 of ``docs/format.md``."""

import math
from pathlib import Path

import numpy as np

from .independent_frame import Array, Coder

FIRST, LAST, SCALES, LEAST = 10, 61, 52, 64
EVEN, ODD = (0, 5, 1, 4, 2, 7, 3, 6), (2, 7, 3, 6, 0, 5, 1, 4)


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
    states = [0] * width
    for first in range(0, len(columns), 2):
        pair = columns[first : first + 2]
        # The quantiser of the second column is that after either parity of the first.
        quantisers = [states[i] % 2 for i in range(len(pair[0]))] + [
            EVEN[states[i]] % 2 for column in pair[1:] for i in range(len(column))
        ]
        places = [place for column in pair for place in column]
        rows = [s - FIRST for s in scales[places].tolist()]
        ids = [256 + 2 * (SCALES * kind + row) + t for row, t in zip(rows, quantisers, strict=True)]
        for index, number in enumerate(coder.chunk(np.array(ids), tables, low_bits).tolist()):
            near, i = min(abs(number), 8), index % len(pair[0])
            r = int(points[kind, rows[index], quantisers[index], near]) + 72 * (abs(number) - near)
            residuals[places[index]] = r if number > 0 else -r
            states[i] = (ODD if number % 2 else EVEN)[states[i]]
    return residuals
