"""The gaussian channel of the second decoder: section 6.6 of ``docs/format.md``."""

import math
import statistics

import numpy as np

from .independent_frame import Array, Coder, require

WEIGHTS, RATIOS = (304, 448, 240, 28, 4), (4, 16, 81, 1024, 65536)


def gaussian_tables() -> tuple[list[list[int]], Array]:
    """6.6, 3: cumulative frequencies of the tables, and their low bits."""
    tables, low_bits = [], []
    for t in range(24):
        low_bits.append(max(t - 3, 0))
        c = 1 << (t - low_bits[-1])
        frequencies = (
            [1] * 255 + [max(1, (c << 20) // ((j + c) * (j + c + 1))) for j in range(255)] + [max(1, (c << 20) // (255 + c))]
        )
        frequencies[255] += (1 << 20) - sum(frequencies)
        tables.append([0, *(16 * np.cumsum(frequencies)).tolist()])
    return tables, np.array(low_bits)


def gaussian_deviations(s: int) -> list[int]:
    """6.6, 4: S[s, a]."""
    v = math.isqrt(math.isqrt(1 << (s + 58 + 32)))
    return [math.isqrt(((v * ratio) >> 12) + 87381) for ratio in RATIOS]


def gaussian_shrink(s: int, y: int) -> int:
    """6.6, 6: H[s, y]."""
    variances = [(S / 16) ** 2 for S in gaussian_deviations(s)]
    p = [w * v**-0.5 * math.exp(-(y**2) / (2 * v)) for w, v in zip(WEIGHTS, variances, strict=True)]
    return round(y * sum(a * (4096 / 12) / v for a, v in zip(p, variances, strict=True)) / sum(p))


def read_gaussian(coder: Coder, seed: int, place: tuple[int, int], scales: list[int]) -> list[int]:
    """6.6: the residuals of a chunk."""
    inner = [40 if s >= 54 else s for s in scales]
    nominal = [round(8 * math.log2(1 + 12 * 2 ** (s / 4 - 5.5))) for s in inner]
    blocks: list[list[int]] = []
    for i, n in enumerate(nominal):
        if not blocks or len(blocks[-1]) == 16 or sum(nominal[j] + 12 for j in blocks[-1]) + n + 12 > 176:
            blocks.append([])
        blocks[-1].append(i)
    wide = [i for i, s in enumerate(scales) if s >= 54]
    tables = [(sum(nominal[i] for i in block) + 8) >> 4 for block in blocks] + [((scales[i] - 54) >> 3) + 1 for i in wide]
    numbers = coder.chunk(np.array(tables, np.int64), *gaussian_tables()).tolist()
    require(min(numbers, default=0) >= 0, "negative number")
    inverse = statistics.NormalDist().inv_cdf
    edges = [-24576, *(round(4096 * inverse(j / 1024)) for j in range(1, 1024)), 24576]
    values = [0] * len(scales)
    for index, block in enumerate(blocks):
        counter = np.array([numbers[index] * -(-len(block) // 4), index + 1, *place], np.uint64)
        words = np.random.Philox(key=np.array([seed, 0], np.uint64), counter=counter).random_raw(len(block)).tolist()
        for i, w in zip(block, words, strict=True):
            a = next(a for a in range(5) if w & 1023 < sum(WEIGHTS[: a + 1]))
            j, f = (w >> 10) & 1023, (w >> 20) & 65535
            g = (edges[j] << 16) + (edges[j + 1] - edges[j]) * f
            values[i] = (g * gaussian_deviations(inner[i])[a] + (1 << 31)) >> 32
    for i, k in zip(wide, numbers[len(blocks) :], strict=True):
        values[i] += 1024 * (-(k + 1) // 2 if k & 1 else k // 2)
    sign = [(y > 0) - (y < 0) for y in values]
    shrunk = [0 if s >= 54 else gaussian_shrink(s, min(abs(y), 1024)) for s, y in zip(scales, values, strict=True)]
    return [y - sgn * h for y, sgn, h in zip(values, sign, shrunk, strict=True)]
