"""Symbols and tables <-> bytes: an ANS stream per box, coefficients grouped by table.

A coefficient k is split by its table: the high part ``k >> low_bits`` is coded with the table, clipped to +-reach; the low bits
are coded raw; a high part at the clip is followed by an Exp-Golomb code of the rest. Coding is done with constriction's
``AnsCoder`` at its 24-bit precision; table frequencies are integers that sum to 2^20, so the coder's CDF is exact.
ANS is last in, first out: the encoder keeps the operations of a box and codes them in reverse.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import constriction
import numpy as np

from flowcodec.errors import FormatError

TABLE_BITS = 20
_CODER_BITS = 24
_RAW_CHUNK_BITS = 12
# What a stream may hold beyond its size by the accounts: the final state's spare bits and float32 sums.
_ACCOUNT_SLACK, _ACCOUNT_SLACK_BITS = 0.01, 256
_ACCOUNTED_TOGETHER = 1 << 14
_Ans = constriction.stream.stack.AnsCoder
_Uniform = constriction.stream.model.Uniform
_Categorical = constriction.stream.model.Categorical
_Family = _Categorical(perfect=False)


@dataclass(frozen=True, eq=False)
class Tables:
    """Integer probability tables: ``frequencies[starts[t]:starts[t + 1]]`` sums to 2^20; 2 * reach + 1 entries for table t."""

    frequencies: np.ndarray
    starts: np.ndarray
    low_bits: np.ndarray

    def __reduce__(self) -> tuple[type["Tables"], tuple[np.ndarray, ...]]:
        """Pickled without what was made of the arrays."""
        return Tables, (self.frequencies, self.starts, self.low_bits)

    @cached_property
    def reach(self) -> np.ndarray:
        """int32."""
        return ((np.diff(self.starts) - 1) // 2).astype(np.int32)

    @cached_property
    def last_with_low_bits(self) -> int:
        """The last table whose coefficients have raw low bits; -1 if there is none."""
        return max(self.low_bits.nonzero()[0].tolist(), default=-1)

    @cached_property
    def costs(self) -> np.ndarray:
        """-log2 of the probability of each entry of ``frequencies``, bits; for accounts, never for decoding."""
        return (TABLE_BITS - np.log2(self.frequencies)).astype(np.float32)

    def bits(self, table_ids: np.ndarray, symbols: np.ndarray) -> float:
        """Sum of -log2 of the probabilities of symbols (0 ... 2 * reach) under their tables."""
        return float(self.costs.take(self.starts.take(table_ids) + symbols).sum(dtype=np.float64))

    @classmethod
    def none(cls) -> "Tables":
        """For streams whose symbols come with frequencies of their own."""
        return cls(np.zeros(0, np.int32), np.zeros(1, np.int64), np.zeros(0, np.uint8))

    @cached_property
    def models(self) -> "_Models":
        """constriction's model of each table, built at first use."""
        return _Models(self)

    def of(self, table: int) -> np.ndarray:
        return self.frequencies[self.starts[table] : self.starts[table + 1]]


class _Models(dict[int, object]):
    def __init__(self, tables: Tables) -> None:
        super().__init__()
        self._tables = tables

    def __missing__(self, table: int) -> object:
        shifted = (self._tables.of(table).astype(np.int64) << (_CODER_BITS - TABLE_BITS)) - 1
        return self.setdefault(table, _Categorical(shifted.astype(np.float64), perfect=False))


def _groups(table_ids: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """(stable order by table, [(table, begin, end)] with tables ascending) of at least one id."""
    order = table_ids.argsort(kind="stable")
    ordered = table_ids[order]
    lasts = (ordered[1:] != ordered[:-1]).nonzero()[0]
    ends = [end + 1 for end in lasts.tolist()]
    tables = [*ordered[lasts].tolist(), int(ordered[-1])]
    return order, list(zip(tables, [0, *ends], [*ends, len(order)], strict=True))


def _positive(counts: np.ndarray) -> list[int]:
    """The numbers above zero that occur among small ones, ascending; ``np.unique`` would sort, and load ``numpy.ma``."""
    return [count for count in np.bincount(counts).nonzero()[0].tolist() if count] if counts.any() else []


def _bits_of(frequencies: np.ndarray, symbols: np.ndarray) -> float:
    """Sum of -log2 of the probabilities of symbols under rows of frequencies that sum to 2^24."""
    chosen = frequencies[np.arange(len(symbols)), symbols]
    return float((_CODER_BITS - np.log2(chosen)).sum())


def _weights(frequencies: np.ndarray) -> np.ndarray:
    """What constriction, which adds one to every weight it is given, turns into these frequencies."""
    return (frequencies - 1).astype(np.float64)


class SymbolEncoder:
    """Collects the symbols of a box; ``finish`` codes them. ``ideal_bits`` is the sum of -log2 of the probabilities used."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.ideal_bits = 0.0
        self._operations: list[tuple[np.ndarray, object]] = []
        self._own: dict[int, Callable[[], np.ndarray]] = {}

    def push(self, coefficients: np.ndarray, table_ids: np.ndarray, piece: int | None = None) -> None:
        """Codes integers k, each with the table of its id; both flat and of one length. With a ``piece``, that many at a time."""
        if len(coefficients) == 0:
            return
        low_bits, reach = self.tables.low_bits.take(table_ids), self.tables.reach.take(table_ids)
        high = coefficients >> low_bits
        clipped = np.clip(high, -reach, reach)
        escaped = (np.abs(clipped) == reach).nonzero()[0]
        if piece is not None and (len(escaped) or low_bits.any()):
            # What follows the symbols of a piece stands between the pieces.
            for begin in range(0, len(coefficients), piece):
                self.push(coefficients[begin : begin + piece], table_ids[begin : begin + piece])
            return
        symbols = (clipped + reach).astype(np.int32)
        self.ideal_bits += self.tables.bits(table_ids, symbols)
        count = len(self.tables.low_bits)
        order, groups = _groups(table_ids if piece is None else np.arange(len(symbols)) // piece * count + table_ids)
        symbols = symbols[order]
        self._operations += [(symbols[begin:end], self.tables.models[key % count]) for key, begin, end in groups]
        for bits in _positive(low_bits):
            chosen = low_bits == bits
            self.push_raw((coefficients[chosen] & ((1 << bits) - 1)), bits)
        self.push_exp_golomb(np.abs(high[escaped]) - reach[escaped])

    def push_raw(self, values: np.ndarray, bits: int) -> None:
        """Codes integers of ``bits`` equally likely bits each."""
        for begin in range(0, bits, _RAW_CHUNK_BITS):
            count = min(_RAW_CHUNK_BITS, bits - begin)
            chunk = ((values >> begin) & ((1 << count) - 1)).astype(np.int32)
            self._operations.append((chunk, _Uniform(1 << count)))
        self.ideal_bits += bits * len(values)

    def push_own(self, symbols: np.ndarray, frequencies: Callable[[], np.ndarray]) -> None:
        """Codes symbols 0 ... K - 1, each with frequencies of its own: int64 (n, K), asked for only when the box is finished."""
        if len(symbols):
            self._own[len(self._operations)] = frequencies
            self._operations.append((symbols.astype(np.int32), _Family))

    def push_numbers(self, values: np.ndarray) -> None:
        """Codes a few signed integers without a model (zigzag, then Exp-Golomb)."""
        self.push_exp_golomb(np.where(values < 0, -2 * values - 1, 2 * values))

    def push_exp_golomb(self, values: np.ndarray) -> None:
        """Codes integers >= 0: the bit length of v + 1, then its bits below the leading one."""
        if len(values) == 0:
            return
        numbers = values.astype(np.int64) + 1
        lengths = np.array([int(n).bit_length() - 1 for n in numbers], np.int64)
        self.push_raw(lengths, 5)
        for length in _positive(lengths):
            self.push_raw(numbers[lengths == length] & ((1 << length) - 1), length)

    def finish(self) -> bytes:
        coder = _Ans()
        for index in reversed(range(len(self._operations))):
            symbols, model = self._operations[index]
            if index in self._own:
                frequencies = self._own[index]()
                self.ideal_bits += _bits_of(frequencies, symbols)
                coder.encode_reverse(symbols, model, _weights(frequencies))
            else:
                coder.encode_reverse(symbols, model)
        return coder.get_compressed().astype("<u4").tobytes()


class SymbolDecoder:
    """Reads a box in the order in which ``SymbolEncoder`` was given it.

    Raises FormatError where the bytes cannot be a stream, and soon after more information has been read than the payload holds:
    an exhausted ANS coder would go on giving symbols for ever.
    """

    def __init__(self, tables: Tables, payload: bytes) -> None:
        if len(payload) % 4:
            raise FormatError(f"latent box: expected whole 32-bit words, found {len(payload)} bytes; the file is damaged")
        self.tables = tables
        self.ideal_bits = 0.0
        """Sum of -log2 of the probabilities of all symbols read; of the last ones only once it is finished."""
        self._unaccounted: list[tuple[np.ndarray, np.ndarray]] = []
        self._unaccounted_count = 0
        self._bits_held = 8 * len(payload) * (1 + _ACCOUNT_SLACK) + _ACCOUNT_SLACK_BITS
        words = np.frombuffer(payload, "<u4").astype(np.uint32)
        try:
            self._coder = _Ans(words) if len(words) else _Ans()
        except ValueError as error:
            raise FormatError("latent box: not an ANS stream; the file is damaged") from error

    def pop(self, table_ids: np.ndarray) -> np.ndarray:
        """Coefficients, one for each id; int32, or int64 where some are beyond the reach of their tables or have raw low bits."""
        if len(table_ids) == 0:
            return np.zeros(0, np.int64)
        order = table_ids.argsort(kind="stable")
        ids = table_ids[order]
        counts = np.bincount(table_ids)
        tables = counts.nonzero()[0]
        numbers = tables.tolist()
        models = map(self.tables.models.__getitem__, numbers)
        # 32 bits throughout: where types differ, NumPy converts piece by piece, which costs most of a small call.
        ordered = np.concatenate(list(map(self._coder.decode, models, counts[tables].tolist())))
        reach = self.tables.reach.take(ids)
        ordered -= reach
        self._account(ids, ordered)
        values = np.empty(len(table_ids), np.int32)
        values[order] = ordered
        escaped = (np.abs(ordered) == reach).nonzero()[0]
        if len(escaped) or numbers[0] <= self.tables.last_with_low_bits:
            return self._completed(values.astype(np.int64), table_ids, np.sort(order[escaped]))
        return values

    def _completed(self, values: np.ndarray, table_ids: np.ndarray, escaped: np.ndarray) -> np.ndarray:
        """Coefficients from their high parts and what follows these: raw low bits, then the rests of those that escaped."""
        low_bits = self.tables.low_bits.take(table_ids)
        lows = [(low_bits == bits, bits) for bits in _positive(low_bits)]
        raw = [self.pop_raw(int(chosen.sum()), bits) for chosen, bits in lows]
        extra = self.pop_exp_golomb(len(escaped))
        values[escaped] += np.where(values[escaped] < 0, -extra, extra)
        for (chosen, bits), low in zip(lows, raw, strict=True):
            values[chosen] = (values[chosen] << bits) | low
        return values

    def _account(self, table_ids: np.ndarray, high: np.ndarray) -> None:
        """The bits of high parts, many at a time: their pieces may be small."""
        self._unaccounted.append((table_ids, high))
        self._unaccounted_count += len(high)
        if self._unaccounted_count >= _ACCOUNTED_TOGETHER:
            self._settle()

    def _settle(self) -> None:
        if self._unaccounted:
            table_ids, high = (np.concatenate(parts) for parts in zip(*self._unaccounted, strict=True))
            self._unaccounted, self._unaccounted_count = [], 0
            self._spend(self.tables.bits(table_ids, high + self.tables.reach.take(table_ids)))

    def _spend(self, bits: float) -> None:
        self.ideal_bits += bits
        if self.ideal_bits > self._bits_held:
            raise FormatError("latent box: holds fewer bits than its coefficients need; the file is damaged")

    def pop_raw(self, count: int, bits: int) -> np.ndarray:
        self._spend(bits * count)
        values = np.zeros(count, np.int64)
        for begin in range(0, bits, _RAW_CHUNK_BITS):
            size = 1 << min(_RAW_CHUNK_BITS, bits - begin)
            values |= self._coder.decode(_Uniform(size), count).astype(np.int64) << begin
        return values

    def pop_own(self, frequencies: np.ndarray) -> np.ndarray:
        """int64 symbols, one for each row of frequencies (n, K)."""
        if len(frequencies) == 0:
            return np.zeros(0, np.int64)
        symbols = self._coder.decode(_Family, _weights(frequencies)).astype(np.int64)
        self._spend(_bits_of(frequencies, symbols))
        return symbols

    def pop_numbers(self, count: int) -> np.ndarray:
        codes = self.pop_exp_golomb(count)
        return np.where(codes & 1, -(codes + 1) // 2, codes // 2)

    def pop_exp_golomb(self, count: int) -> np.ndarray:
        if count == 0:
            return np.zeros(0, np.int64)
        lengths = self.pop_raw(count, 5)
        numbers = np.ones(count, np.int64)
        for length in _positive(lengths):
            chosen = lengths == length
            numbers[chosen] = (1 << length) | self.pop_raw(int(chosen.sum()), length)
        return numbers - 1

    def finish(self) -> None:
        """Raises FormatError unless every bit has been used: a damaged stream hardly ever ends here."""
        self._settle()
        if not self._coder.is_empty():
            raise FormatError("latent box: the stream does not end with the last coefficient; the file is damaged")
