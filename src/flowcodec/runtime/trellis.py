"""The ``trellis`` channel: dependent scalar quantisation, two quantisers that the parities of earlier symbols choose from.

Q0 has the even multiples of a fine step, Q1 the odd ones and zero. Along a *trellis* of coefficients, with p the parities of the
symbols, the quantisers t follow a convolutional code, t[n] = t[n - 2] + t[n - 5] + p[n - 3] (mod 2), of 32 states, so that the
points in reach lie twice as dense as those that are coded. The encoder looks for the path of least D + price * R with the
Viterbi algorithm; the decoder walks one, at a cost that does not grow with the states.

The N coefficients of a chunk with scales that are worth it are dealt out to B = floor(sqrt(N)) >> 1 trellises, which advance
together: the coefficients of *column* j are those of rank j B ... (j + 1) B - 1. Long trellises gain more, since their first
symbols have little choice; short ones are read in fewer pieces. Over chunks of all sizes B as the root of N serves both best.
Ranked by their scales, the first of a trellis are those with least to gain, and a column has few tables. Three columns can be
read at a time: no quantiser depends on the two parities just before it. All other coefficients are as in ``round``.

Reference: Schwarz, Nguyen, Marpe & Wiegand, Hybrid video coding with trellis-coded quantization, DCC 2019; Fischer & Wang,
Entropy-constrained trellis-coded quantization, 1992; Ungerboeck, Channel coding with multilevel/phase signals, 1982 (the code).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from flowcodec.runtime.channel import SCALE_COUNT, Block, ChannelTables, Pop, Push, Rounding, signed_points
from flowcodec.runtime.coder import Tables
from flowcodec.runtime.integer import FRACTION_BITS

QUANTISER_LAGS, PARITY_LAG = (2, 5), 3
"""Of the code: parity checks 45 and 10 in octal."""
FINE_STEP = 36
"""Distance of the points of both quantisers together, in 1/64 step."""
FIRST_SCALE, SCALE_END = 10, 62
"""Scale indices in a trellis: below, it gains nothing; above, raw low bits would hide the parity."""
LEAST = 64
"""Coefficients below which a chunk has no trellis: many small steps of the decoder for few bits."""
NEAR = 8
"""Magnitudes with reconstructions of their own."""
RATE_WEIGHT = 0.85
"""Price of a bit over that of the high-rate theory; with this one the PSNR is about that of ``round`` at equal step."""
DATA = Path(__file__).with_name("trellis.npz")

_MEMORY = max(QUANTISER_LAGS)
_STATES = 1 << _MEMORY
_ROUND_TABLES = 2 * SCALE_COUNT
_PRICE = RATE_WEIGHT * math.log(2) / 6 * 4**FRACTION_BITS
_FAR = np.float32(1e20)


@dataclass(frozen=True)
class TrellisTables:
    """Constants of the format, of each kind, scale index from ``FIRST_SCALE`` on, and quantiser, in this order."""

    tables: Tables
    centroids: np.ndarray
    """int32 (2, scales, 2, 9): |reconstruction| of the magnitudes 0 ... 8, in 1/64 step."""

    @cached_property
    def costs(self) -> np.ndarray:
        """Bits of the magnitudes 0 ... reach of all tables, one after the other."""
        starts, ends = self.tables.starts[:-1] + self.tables.reach, self.tables.starts[1:]
        return np.concatenate([self.tables.costs[a:b] for a, b in zip(starts, ends, strict=True)])

    @cached_property
    def cost_starts(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.tables.reach + 1)])[:-1]


@lru_cache
def load_tables() -> TrellisTables:
    with np.load(DATA) as arrays:
        frequencies, starts = arrays["frequencies"], arrays["starts"]
        tables = Tables(frequencies, starts, np.zeros(len(starts) - 1, np.int64))
        return TrellisTables(tables, arrays["centroids"].astype(np.int32))


def _next_states() -> np.ndarray:
    """(32, 2) state after each state and parity. Bit i is what is known of the quantiser i symbols ahead: bit 0 is the next."""
    state = np.arange(_STATES)[:, None]
    taps = sum(1 << (lag - 1) for lag in QUANTISER_LAGS)
    return (state >> 1) ^ np.where(state & 1, taps, 0) ^ (np.arange(2) << (PARITY_LAG - 1))


def _predecessors() -> tuple[np.ndarray, np.ndarray]:
    """(32, 2) states before each state, and the branches (2 * quantiser + parity) that lead from them."""
    order = np.argsort(_next_states().reshape(-1), kind="stable").reshape(_STATES, 2)
    states, parities = order >> 1, order & 1
    return states, 2 * (states & 1) + parities


def _strides() -> tuple[np.ndarray, np.ndarray]:
    """For three columns at a time, with states in eighths: (3, 256) their quantisers; (256,) the state behind them, for each
    state plus the number of their parities, the first of which is bit 0."""
    step, parities = _next_states(), np.arange(1 << PARITY_LAG)
    ahead, after = [], np.broadcast_to(np.arange(_STATES)[:, None], (_STATES, len(parities)))
    for column in range(PARITY_LAG):
        # Equal for all parities: those of these columns do not reach their quantisers.
        ahead.append(after.reshape(-1) & 1)
        after = step[after, parities >> column & 1]
    return np.stack(ahead).astype(np.uint16), after.reshape(-1) << PARITY_LAG


_BEFORE, _BRANCH = _predecessors()
_AHEAD, _AFTER = _strides()
_PLACES = 1 << np.arange(PARITY_LAG)
"""Of the parities of three columns in their number."""


def _count(coefficients: int) -> int:
    """Number of trellises."""
    return math.isqrt(coefficients) // 2


def _columns(coefficients: int, together: int = 1) -> Iterator[slice]:
    size = _count(coefficients) * together
    return (slice(begin, min(begin + size, coefficients)) for begin in range(0, coefficients, size))


def quantisers(symbols: np.ndarray) -> np.ndarray:
    """0 or 1 for each symbol of the trellises of a chunk.

    With z a delay by one symbol, modulo 2: t = p z^3 / f, f = 1 + z^2 + z^5, and 1 / f = f f^2 f^4 f^8 ..., in which
    f^(2^k) = 1 + z^(2 2^k) + z^(5 2^k). Those with delays beyond the end are 1.
    """
    count, size = _count(len(symbols)), len(symbols)
    found = np.zeros(size, np.uint8)
    found[PARITY_LAG * count :] = symbols[: -PARITY_LAG * count] & 1
    power = count
    while min(QUANTISER_LAGS) * power < size:
        factor = found.copy()
        for lag in QUANTISER_LAGS:
            if lag * power < size:
                factor[lag * power :] ^= found[: -lag * power]
        found, power = factor, 2 * power
    return found


def _costs(magnitudes: np.ndarray, k: np.ndarray, table_ids: np.ndarray, constants: TrellisTables) -> np.ndarray:
    """(n,) squared error + price * bits of each magnitude k of a symbol; of numbers beyond a table's reach about their length."""
    near = np.minimum(k, NEAR)
    points = constants.centroids.reshape(-1)[table_ids * (NEAR + 1) + near] + (k - near) * (2 * FINE_STEP)
    inside = np.minimum(k, constants.tables.reach[table_ids])
    bits = constants.costs[constants.cost_starts[table_ids] + inside]
    beyond = k - inside
    if beyond.any():
        bits += 2 * np.log2(1 + beyond).astype(np.float32)
    return (magnitudes - points.astype(np.float32)) ** 2 + np.float32(_PRICE) * bits


def _branches(values: np.ndarray, table_ids: np.ndarray, constants: TrellisTables) -> tuple[np.ndarray, np.ndarray]:
    """(4, n) least cost, and its magnitude, of each coefficient on each branch, 2 * quantiser + parity.

    ``table_ids``: those of Q0. Of a parity the nearest magnitude, the next smaller one and, where it is even, zero are tried.
    """
    magnitudes = np.abs(values).astype(np.float32)
    lowest = np.empty((4, len(values)), np.float32)
    chosen = np.empty((4, len(values)), np.int32)
    for branch in range(4):
        quantiser, parity = branch >> 1, branch & 1
        # The points of a branch are four fine steps apart.
        offset = (2 * parity - quantiser) * FINE_STEP
        nearest = np.floor((magnitudes - offset) / (4 * FINE_STEP) + 0.5).astype(np.int32)
        candidates = [np.maximum(2 * nearest + parity, parity)]
        candidates.append(np.maximum(candidates[0] - 2, parity))
        if parity == 0:
            candidates.append(np.zeros_like(candidates[0]))
        costs = np.stack([_costs(magnitudes, k, table_ids + quantiser, constants) for k in candidates])
        best = costs.argmin(0)[None]
        lowest[branch] = np.take_along_axis(costs, best, 0)[0]
        chosen[branch] = np.take_along_axis(np.stack(candidates), best, 0)[0]
    return lowest, chosen


def search(values: np.ndarray, table_ids: np.ndarray, constants: TrellisTables) -> np.ndarray:
    """Symbols of the cheapest paths for ``values`` (n,), 1/64 step relative to the location; ``table_ids``: those of Q0."""
    size, count = len(values), _count(len(values))
    lowest, chosen = _branches(values, table_ids, constants)
    total = np.full((_STATES, count), _FAR)
    total[0] = 0
    second = np.zeros((-(-size // count), _STATES, count), bool)
    for number, column in enumerate(_columns(size)):
        width = column.stop - column.start
        paths = total[:, :width].take(_BEFORE.T, axis=0)
        paths += lowest[:, column].take(_BRANCH.T, axis=0)
        np.less(paths[1], paths[0], out=second[number, :, :width])
        np.minimum(paths[0], paths[1], out=total[:, :width])
    state = total.argmin(0)
    symbols = np.empty(size, np.int64)
    trellises = np.arange(count)
    for number, column in reversed(list(enumerate(_columns(size)))):
        width = column.stop - column.start
        taken = second[number, state[:width], trellises[:width]].astype(np.int64)
        branch = _BRANCH[state[:width], taken]
        symbols[column] = chosen[branch, np.arange(column.start, column.stop)]
        state[:width] = _BEFORE[state[:width], taken]
    return np.where(values < 0, -symbols, symbols)


@lru_cache(maxsize=8)
def _joined(model_tables: Tables) -> Tables:
    own, end = load_tables().tables, model_tables.starts[_ROUND_TABLES]
    return Tables(
        np.concatenate([model_tables.frequencies[:end], own.frequencies]),
        np.concatenate([model_tables.starts[:_ROUND_TABLES], end + own.starts]),
        np.concatenate([model_tables.low_bits[:_ROUND_TABLES], own.low_bits]),
    )


class Trellis:
    """The ``trellis`` channel. Tables 0 ... 255 of the coder are those of ``round``, then come those of the trellis."""

    def __init__(self, tables: ChannelTables) -> None:
        self._rounding, self._constants = Rounding(tables), load_tables()
        own = self._constants.centroids.reshape(-1, NEAR + 1)
        self._points = np.concatenate([tables.centroids.reshape(-1, NEAR + 1), own])
        """(tables, NEAR + 1): |reconstruction| of the small magnitudes under each table of the coder."""
        self._distances = np.repeat([1 << FRACTION_BITS, 2 * FINE_STEP], [len(self._points) - len(own), len(own)])
        self._last_split: tuple[np.ndarray, tuple[np.ndarray, np.ndarray]] | None = None
        self._last_ids: tuple[np.ndarray, np.ndarray] | None = None

    def symbol_tables(self, model_tables: Tables) -> Tables:
        return _joined(model_tables)

    def split(self, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places of the coefficients in the trellises, in the order of their scales, and of all others."""
        # Each method that is called for a run of coefficients asks for it.
        if self._last_split is None or self._last_split[0] is not scales:
            self._last_split = scales, self._split(scales)
        return self._last_split[1]

    @staticmethod
    def _split(scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inside = (scales >= FIRST_SCALE) & (scales < SCALE_END)
        if np.count_nonzero(inside) < LEAST:
            inside[:] = False
        places = inside.nonzero()[0]
        return places[scales[places].argsort(kind="stable")], (~inside).nonzero()[0]

    @staticmethod
    def first_ids(kind: int, scales: np.ndarray) -> np.ndarray:
        """Tables of Q0 among those of the trellis; those of Q1 are the next."""
        return 2 * (kind * (SCALE_END - FIRST_SCALE) + scales.astype(np.int64) - FIRST_SCALE)

    def _start_ids(self, kind: int, scales: np.ndarray, block: Block) -> np.ndarray:
        """uint16 tables of the coder for each coefficient, in the trellises those of Q0."""
        inside, _ = self.split(scales)
        ids = self._rounding.table_ids(kind, scales, block)
        ids[inside] = _ROUND_TABLES + self.first_ids(kind, scales[inside])
        return ids

    def _ids(self, symbols: np.ndarray, kind: int, scales: np.ndarray, block: Block) -> np.ndarray:
        """uint16 table of the coder for each symbol."""
        # The symbols that are reconstructed are those that were just read, or that are written next.
        if self._last_ids is None or self._last_ids[0] is not symbols:
            ids, (inside, _) = self._start_ids(kind, scales, block), self.split(scales)
            if len(inside):
                ids[inside] += quantisers(symbols[inside])
            self._last_ids = symbols, ids
        return self._last_ids[1]

    def quantise(self, values: np.ndarray, kind: int, scales: np.ndarray, block: Block) -> np.ndarray:
        inside, others = self.split(scales)
        symbols = np.empty(len(values), np.int64)
        symbols[others] = self._rounding.quantise(values[others], kind, scales[others], block)
        if len(inside):
            symbols[inside] = search(values[inside], self.first_ids(kind, scales[inside]), self._constants)
        return symbols

    def reconstruct(self, symbols: np.ndarray, kind: int, scales: np.ndarray, block: Block) -> np.ndarray:
        ids = self._ids(symbols, kind, scales, block)
        return signed_points(symbols, ids, self._points, self._distances.take(ids))

    def write(self, push: Push, symbols: np.ndarray, kind: int, scales: np.ndarray, block: Block) -> None:
        inside, others = self.split(scales)
        ids = self._ids(symbols, kind, scales, block)
        push(symbols[others], ids[others])
        if len(inside):
            push(symbols[inside], ids[inside], PARITY_LAG * _count(len(inside)))

    def read(self, pop: Pop, kind: int, scales: np.ndarray, block: Block) -> np.ndarray:
        inside, others = self.split(scales)
        ids, symbols = self._start_ids(kind, scales, block), np.empty(len(scales), np.int64)
        symbols[others] = pop(ids[others])
        if len(inside):
            symbols[inside], ids[inside] = self._read_trellises(pop, ids[inside])
        self._last_ids = symbols, ids
        return symbols

    @staticmethod
    def _read_trellises(pop: Pop, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Symbols of trellises, and their tables, from those of Q0."""
        symbols, used = np.empty(len(ids), np.int64), np.empty_like(ids)
        states = np.zeros(_count(len(ids)), np.int64)
        for columns in _columns(len(ids), together=PARITY_LAG):
            ahead = _AHEAD.take(states, axis=1).reshape(-1)
            own = np.add(ids[columns], ahead[: columns.stop - columns.start], out=used[columns])
            found = symbols[columns] = pop(own)
            if columns.stop < len(ids):
                states = _AFTER.take(states + _PLACES @ (found & 1).reshape(PARITY_LAG, -1))
        return symbols, used
