"""The ``gaussian`` channel: exact samples y ~ N(z, 1/12) (steps), conveyed as indices into shared random candidates.

Coefficients are taken in blocks of a known expected divergence. The candidates of a block are independent draws of a proposal
that depends on the scales alone, made from Philox words in integers. The encoder chooses one by the Poisson functional
representation: arrival times T_k of a Poisson process, the k that minimises T_k / r(y_k), r = target / proposal. That is an exact
sample of the target. It sends the number k, whose logarithm is at most KL + 1 bits on average; the decoder makes that one only.
Wide coefficients (s >= 16 steps) send the nearest multiple of 16 steps first and the rest in a block.

Encoding takes about exp of the largest log-ratio of a block: it is for small pictures. A block that has not ended after
``MAX_CANDIDATES`` takes the best so far, which is then not an exact sample; ``inexact`` counts them.
Reference: Li & El Gamal, Strong functional representation lemma and applications to coding theorems, 2018, sec. II.
"""

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from flowcodec.errors import FormatError
from flowcodec.runtime.channel import SCALE_BITS, SCALE_COUNT, SCALE_LOG2_FIRST, Block, ParallelChannel
from flowcodec.runtime.coder import TABLE_BITS, Tables
from flowcodec.runtime.integer import FRACTION_BITS

NOISE_VARIANCE = (1 << (2 * FRACTION_BITS)) / 12
"""In squared 1/64 steps."""
WEIGHTS = (304, 448, 240, 28, 4)
"""Of the proposal's components, in 1/1024."""
SQUARED_RATIOS = (4, 16, 81, 1024, 65536)
"""Of each component's variance to the square of the scale, in 1/16; the noise's variance comes on top."""
MAX_CANDIDATES = 1 << 20
FIRST_WIDE = 54
WIDE_STEP = 16 << FRACTION_BITS
_WIDE_SCALE = 40
"""Scale index of what is left of a wide coefficient: uniform on +-8 steps has about its standard deviation."""

_BINS = 1024
_EDGE_BITS, _PART_BITS, _SD_BITS = 12, 16, 4
_END = 6 << _EDGE_BITS
_BLOCK_COST = 11 * 16
_BLOCK_SIZE = 16
_EXTRA_COST = 12
"""By how much, in 1/16 bit, the largest log-ratio of a coefficient exceeds its KL: about half a nat."""
_INDEX_TABLES, _INDEX_REACH, _INDEX_TOP_BITS = 24, 255, 3
_SHRINK_REACH = 16 << FRACTION_BITS
_SPAN = 1 << 17
_REACH = 8 * 19
_FIRST_CHUNK, _LAST_CHUNK = 256, 8192


# --- constants of the format, docs/format.md 6.6 -----------------------------------------------------------------------------


@lru_cache
def edges() -> np.ndarray:
    """(1025,) round(4096 Phi^-1(j / 1024)), the ends +-6: edges of equally likely cells of the standard normal, in 1/4096."""
    quantile = NormalDist().inv_cdf
    inner = [round(quantile(j / _BINS) * (1 << _EDGE_BITS)) for j in range(1, _BINS)]
    return np.array([-_END, *inner, _END], np.int64)


@lru_cache
def deviations() -> np.ndarray:
    """(128, 5) standard deviations of the components, in 1/1024 step: floor sqrt(ratio s^2 + 1/12), by integer roots."""
    guard, noise = 8, (1 << (2 * FRACTION_BITS + 2 * _SD_BITS)) // 12
    table = np.zeros((SCALE_COUNT, len(WEIGHTS)), np.int64)
    for scale in range(SCALE_COUNT):
        # s^2 in the square of 1/1024 step is 2^((scale + 58) / 4).
        square = math.isqrt(math.isqrt(1 << (scale + 58 + 4 * guard)))
        for component, ratio in enumerate(SQUARED_RATIOS):
            table[scale, component] = math.isqrt(((square * ratio) >> (4 + guard)) + noise)
    return table


@lru_cache
def nominal_bits() -> np.ndarray:
    """(128,) expected KL of a coefficient, round(16 * (1/2) log2(1 + 12 s^2)), in 1/16 bit."""
    log2_scales = [scale / (1 << SCALE_BITS) + SCALE_LOG2_FIRST for scale in range(SCALE_COUNT)]
    return np.array([round(8 * math.log2(1 + 12 * 2 ** (2 * log2_scale))) for log2_scale in log2_scales])


@lru_cache
def index_tables() -> Tables:
    """Table t is for numbers k >= 0 with P(k) = c / ((k + c) (k + c + 1)), c = 2^t: half of them below c, and Zipf's tail."""
    total, tables, low_bits = 1 << TABLE_BITS, [], []
    for t in range(_INDEX_TABLES):
        bits = max(t - _INDEX_TOP_BITS, 0)
        c = 1 << (t - bits)
        masses = [(total * c) // ((j + c) * (j + c + 1)) for j in range(_INDEX_REACH)] + [(total * c) // (_INDEX_REACH + c)]
        frequencies = [1] * _INDEX_REACH + [max(mass, 1) for mass in masses]
        frequencies[_INDEX_REACH] += total - sum(frequencies)
        tables.append(frequencies)
        low_bits.append(bits)
    starts = np.arange(_INDEX_TABLES + 1, dtype=np.int64) * (2 * _INDEX_REACH + 1)
    return Tables(np.array(tables, np.uint32).reshape(-1), starts, np.array(low_bits, np.int64))


@lru_cache
def shrinks() -> np.ndarray:
    """(54, 1025) what E[z | y] takes off |y|, by scale index and |y| up to 16 steps, in 1/64 step; rounded to the nearest."""
    return np.rint(exact_shrinks()).astype(np.int64)


def exact_shrinks() -> np.ndarray:
    """``shrinks`` before rounding: |y| sum_c p_c N / V_c, p_c ~ w_c n(y; V_c), V_c the components' variances, N the noise's."""
    variances = (deviations()[:FIRST_WIDE, None].astype(float) / (1 << _SD_BITS)) ** 2
    y = np.arange(_SHRINK_REACH + 1.0)[:, None]
    log_weights = np.log(WEIGHTS) - 0.5 * np.log(variances) - y**2 / (2 * variances)
    weights = np.exp(log_weights - log_weights.max(-1, keepdims=True))
    return y[:, 0] * (weights * (NOISE_VARIANCE / variances)).sum(-1) / weights.sum(-1)


# --- candidates ---------------------------------------------------------------------------------------------------------------


def candidates(words: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """uint64 (n, m) words -> int64 (n, m) draws of the proposals of ``scales`` (m,), in 1/64 step."""
    component = np.searchsorted(np.cumsum(WEIGHTS), (words & np.uint64(1023)).astype(np.int64), side="right")
    cell = ((words >> np.uint64(10)) & np.uint64(_BINS - 1)).astype(np.int64)
    part = ((words >> np.uint64(20)) & np.uint64((1 << _PART_BITS) - 1)).astype(np.int64)
    low, high = edges()[cell], edges()[cell + 1]
    normal = (low << _PART_BITS) + (high - low) * part
    shift = _EDGE_BITS + _PART_BITS + _SD_BITS
    return (normal * deviations()[scales, component] + (1 << (shift - 1))) >> shift


@lru_cache(maxsize=SCALE_COUNT)
def log_proposal(scale: int) -> np.ndarray:
    """(2 * _SPAN + 1,) ln of the probabilities of -_SPAN ... _SPAN (1/64 step) under the proposal of a scale."""
    bounds = np.arange(-_SPAN - 0.5, _SPAN + 1)
    mass = np.zeros(len(bounds) - 1)
    for weight, deviation in zip(WEIGHTS, deviations()[scale], strict=True):
        below = np.interp(bounds * (1 << (_EDGE_BITS + _SD_BITS)) / deviation, edges(), np.arange(_BINS + 1) / _BINS)
        mass += weight / 1024 * np.diff(below)
    return np.log(np.maximum(mass, 1e-300))


def log_target(y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """ln N(y; z, 1/12) of a cell of 1/64 step."""
    return -((y - z) ** 2) / (2 * NOISE_VARIANCE) - 0.5 * math.log(2 * math.pi * NOISE_VARIANCE)


def divergence_bits(z: np.ndarray, scale: int) -> np.ndarray:
    """KL(N(z, 1/12) || proposal) of each z (n,), relative to the location in 1/64 step, in bits; an account, not for coding.

    It is that of the proposal of the scale itself, also for wide coefficients, whose two numbers convey the same sample.
    """
    near = np.rint(z)[:, None] + np.arange(-_REACH, _REACH + 1)
    target = log_target(near, z[:, None])
    mass = np.zeros(near.shape)
    for weight, deviation in zip(WEIGHTS, deviations()[scale], strict=True):
        below, above = (
            np.interp((near + half) * (1 << (_EDGE_BITS + _SD_BITS)) / deviation, edges(), np.arange(_BINS + 1) / _BINS)
            for half in (-0.5, 0.5)
        )
        mass += weight / 1024 * (above - below)
    return (np.exp(target) * (target - np.log(np.maximum(mass, 1e-300)))).sum(1) / math.log(2)


class _Blocks:
    """How the coefficients of a chunk are put into blocks, from their scales alone."""

    def __init__(self, scales: np.ndarray) -> None:
        self.wide = np.flatnonzero(scales >= FIRST_WIDE)
        self.scales = np.where(scales >= FIRST_WIDE, _WIDE_SCALE, scales).astype(np.int64)
        bits = nominal_bits()[self.scales]
        self.ends: list[int] = []
        begin, cost = 0, 0
        for place, price in enumerate((bits + _EXTRA_COST).tolist()):
            if place > begin and (cost + price > _BLOCK_COST or place - begin == _BLOCK_SIZE):
                self.ends.append(place)
                begin, cost = place, 0
            cost += price
        if len(scales):
            self.ends.append(len(scales))
        self.begins = [0, *self.ends[:-1]]
        totals = np.add.reduceat(bits, self.begins) if len(scales) else np.zeros(0, np.int64)
        self.tables = np.concatenate([(totals + 8) >> 4, ((scales[self.wide].astype(np.int64) - FIRST_WIDE) >> 3) + 1])


class GaussianSimulation(ParallelChannel):
    """The ``gaussian`` channel. Symbols are the candidates' numbers, block by block, then the multiples of the wide coefficients.

    ``inexact`` counts the blocks of an encoder that were cut short.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.inexact = 0

    def symbol_tables(self, model_tables: Tables) -> Tables:
        return index_tables()

    def table_ids(self, kind: int, scales: np.ndarray, block: Block) -> np.ndarray:
        return _Blocks(scales).tables.astype(np.uint16)

    def quantise(self, values: np.ndarray, kind: int, scales: np.ndarray, block: Block) -> np.ndarray:
        split, z = _Blocks(scales), np.asarray(values, np.float64).copy()
        multiples = np.rint(z[split.wide] / WIDE_STEP).astype(np.int64)
        z[split.wide] -= multiples * WIDE_STEP
        limit = _SPAN - 16 * math.sqrt(NOISE_VARIANCE)
        z = np.clip(z, -limit, limit)
        chosen = [
            self.choose(z[begin:end], split.scales[begin:end], number, block)
            for number, (begin, end) in enumerate(zip(split.begins, split.ends, strict=True))
        ]
        zigzag = np.where(multiples < 0, -2 * multiples - 1, 2 * multiples)
        return np.concatenate([np.array(chosen, np.int64), zigzag])

    def reconstruct(self, symbols: np.ndarray, kind: int, scales: np.ndarray, block: Block) -> np.ndarray:
        values = self.received(symbols, scales, block)
        magnitudes, narrow = np.abs(values), np.flatnonzero(scales < FIRST_WIDE)
        magnitudes[narrow] -= shrinks()[scales[narrow], np.minimum(magnitudes[narrow], _SHRINK_REACH)]
        return np.where(values < 0, -magnitudes, magnitudes)

    def received(self, symbols: np.ndarray, scales: np.ndarray, block: Block) -> np.ndarray:
        """The samples y themselves, relative to the location, in 1/64 step. Raises FormatError for negative numbers."""
        split = _Blocks(scales)
        if len(symbols) and symbols.min() < 0:
            raise FormatError("latent box: a candidate has a negative number; the file is damaged")
        y = np.zeros(len(scales), np.int64)
        for number, (begin, end) in enumerate(zip(split.begins, split.ends, strict=True)):
            y[begin:end] = self.candidate(int(symbols[number]), split.scales[begin:end], number, block)
        zigzag = symbols[len(split.ends) :]
        y[split.wide] += np.where(zigzag & 1, -(zigzag + 1) // 2, zigzag // 2) * WIDE_STEP
        return y

    def candidate(self, index: int, scales: np.ndarray, number: int, block: Block) -> np.ndarray:
        """(m,) candidate ``index`` of the block ``number`` of coefficients of these narrow scales, in 1/64 step."""
        return candidates(self._words(index, 1, len(scales), number, block), scales)[0]

    def _words(self, first: int, count: int, size: int, number: int, block: Block) -> np.ndarray:
        """Words (count, size) of the candidates from number ``first`` on: each starts at a counter of its own."""
        groups = (size + 3) // 4
        generator = np.random.Philox(key=self.seed, counter=[first * groups, number + 1, *block])
        return generator.random_raw(4 * groups * count).reshape(count, 4 * groups)[:, :size]

    def choose(self, z: np.ndarray, scales: np.ndarray, number: int, block: Block) -> int:
        """Number of the candidate that the Poisson functional representation picks for the target N(z, 1/12 I)."""
        tables = [log_proposal(scale) for scale in scales.tolist()]
        near = np.rint(z).astype(np.int64)[:, None] + np.arange(-_REACH, _REACH + 1)
        target = log_target(near, z[:, None])
        ratio = target - np.stack([table[row + _SPAN] for table, row in zip(tables, near, strict=True)])
        largest = float(ratio.max(1).sum())
        # The arrival times are the encoder's own business: the decoder never needs them.
        arrivals = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, (1 << 32) + number, *block]))
        time, done, best, chosen, size = 0.0, 0, math.inf, 0, _FIRST_CHUNK
        while done < MAX_CANDIDATES:
            y = candidates(self._words(done, size, len(z), number, block), scales)
            times = time + np.cumsum(arrivals.exponential(size=size))
            score = np.log(times)
            for table, column, centre in zip(tables, y.T, z, strict=True):
                score += table[np.clip(column, -_SPAN, _SPAN) + _SPAN] - log_target(column, centre)
            place = int(score.argmin())
            if score[place] < best:
                best, chosen = float(score[place]), done + place
            time, done = float(times[-1]), done + size
            if math.log(time) - largest >= best:
                return chosen
            size = min(2 * size, _LAST_CHUNK)
        self.inexact += 1
        return chosen
