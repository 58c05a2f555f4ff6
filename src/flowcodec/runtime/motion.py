"""Motion: block vectors in quarter samples, the prediction that they make of a picture, and how they are coded.

A picture has one vector for each block of 8x8 or 16x16 pixels. The prediction is overlapped: every block predicts a window of
twice its size, weighted by a tent, so that neighbouring vectors fade into each other. Interpolation is separable with the
eight-tap filters of HEVC. All is integer arithmetic with one right answer.

Reference: Orchard & Sullivan, Overlapped block motion compensation, 1994; ITU-T H.265, 8.5.3.3.3 (the filters).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache, partial

import numpy as np

from flowcodec.runtime.coder import SymbolDecoder, SymbolEncoder

BLOCK_SIZES = (8, 16)
VECTOR_MAX = 1023
"""Largest component of a vector, in quarter samples."""
PLANE_MAX = (1 << 15) - 1
"""Predictions, and the pictures they are made of, are clipped to this, in 1/64 pixel unit."""

TAPS = (
    (0, 0, 0, 64, 0, 0, 0, 0),
    (-1, 4, -10, 58, 17, -5, 1, 0),
    (-1, 4, -11, 40, 40, -11, 4, -1),
    (0, 1, -5, 17, 58, -10, 4, -1),
)
"""Weights, times 64, of the samples -3 ... 4 for the four quarter positions."""
_TAP_BITS, _TAP_BEFORE, _TAP_AFTER = 6, 3, 4
_CHUNK_CELLS = 4096


def grid_shape(height: int, width: int, block: int) -> tuple[int, int]:
    """Rows and columns of blocks."""
    return -(-height // block), -(-width // block)


def compensate(planes: np.ndarray, vectors: np.ndarray, block: int, unpredicted: np.ndarray | None = None) -> np.ndarray:
    """The prediction int32 (C, H, W) that vectors make of planes (C, H, W), both in 1/64 pixel unit.

    ``vectors``: integers (rows, columns, 2), (down, right) in quarter samples: where in ``planes`` a block comes from; beyond the
    edges their samples are repeated. ``unpredicted``: bool (rows, columns), blocks that leave their part of each cell to the next
    one of the cell that is predicted: beside, above or below, or across.
    """
    count, height, width = planes.shape
    planes = np.clip(planes, -PLANE_MAX, PLANE_MAX).astype(np.float32)
    rows, columns = grid_shape(height, width, block)
    half = block // 2
    # One more block on every side, with the vectors of the border: then four windows cover every pixel. They are the same four in
    # all of a cell, a square of the size of a block around the corner where four blocks meet.
    field = np.pad(vectors, ((1, 1), (1, 1), (0, 0)), mode="edge").astype(np.int64)
    corners = np.stack([field[i : i + rows + 1, j : j + columns + 1].reshape(-1, 2) for i in (0, 1) for j in (0, 1)])
    if unpredicted is not None:
        field = np.pad(unpredicted, 1, mode="edge")
        missing = np.stack([field[i : i + rows + 1, j : j + columns + 1].reshape(-1) for i in (0, 1) for j in (0, 1)])
        corners = _replaced(corners, missing)
    tops, lefts = (n.reshape(-1) * block - half for n in np.mgrid[: rows + 1, : columns + 1])
    cells = np.empty((count, len(tops), block, block), np.int32)
    rising = np.arange(1, 2 * block, 2)
    weights = [
        np.multiply.outer(down, right).astype(np.int32) for down in (rising[::-1], rising) for right in (rising[::-1], rising)
    ]
    bits = 2 * block.bit_length()
    # Where all four vectors are the same, so are the four predictions.
    same = (corners == corners[0]).all(axis=(0, 2))
    for chosen in _pieces(np.flatnonzero(same)):
        cells[:, chosen] = _squares(planes, corners[0, chosen], tops[chosen], lefts[chosen], block)
    for chosen in _pieces(np.flatnonzero(~same)):
        total = np.full((count, len(chosen), block, block), 1 << (bits - 1), np.int32)
        for corner, weight in zip(corners, weights, strict=True):
            total += _squares(planes, corner[chosen], tops[chosen], lefts[chosen], block) * weight
        cells[:, chosen] = total >> bits
    picture = cells.reshape(count, rows + 1, columns + 1, block, block).transpose(0, 1, 3, 2, 4)
    picture = picture.reshape(count, (rows + 1) * block, (columns + 1) * block)[:, half : half + height, half : half + width]
    return np.clip(picture, -PLANE_MAX, PLANE_MAX)


def _replaced(corners: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Vectors (4, n, 2) of the blocks around each cell, missing ones (4, n) replaced by the first other that is not."""
    found = corners.copy()
    for place in range(4):
        left = missing[place].copy()
        for other in (place ^ 1, place ^ 2, place ^ 3):
            taken = left & ~missing[other]
            found[place, taken] = corners[other, taken]
            left &= ~taken
    return found


def _pieces(chosen: np.ndarray) -> Iterator[np.ndarray]:
    """Parts small enough that what is computed of them is."""
    return (chosen[begin : begin + _CHUNK_CELLS] for begin in range(0, len(chosen), _CHUNK_CELLS))


def _squares(planes: np.ndarray, vectors: np.ndarray, tops: np.ndarray, lefts: np.ndarray, side: int) -> np.ndarray:
    """int32 (C, n, side, side): the squares at (top, left) of float32 planes, each moved by its vector."""
    count, height, width = planes.shape
    squares = np.empty((count, len(vectors), side, side), np.int32)
    positions = (vectors[:, 0] & 3) * 4 + (vectors[:, 1] & 3)
    for position in np.flatnonzero(np.bincount(positions)):
        chosen = np.flatnonzero(positions == position)
        down, right = divmod(int(position), 4)
        y = _samples(tops[chosen] + (vectors[chosen, 0] >> 2), side, down, height)
        x = _samples(lefts[chosen] + (vectors[chosen, 1] >> 2), side, right, width)
        moved = planes.reshape(count, -1).take((y * width)[:, :, None] + x[:, None, :], axis=1)
        # Taps sum to at most 112 in absolute value: from 2^15 on, products and sums stay below 2^23 after both filters, where
        # float32 holds every integer, in whatever order they are added.
        if right:
            moved = _rounded(moved @ _filter(right, side).T)
        if down:
            moved = _rounded(_filter(down, side) @ moved)
        squares[:, chosen] = moved
    return squares


def _samples(begins: np.ndarray, side: int, position: int, extent: int) -> np.ndarray:
    """(n, side) sample numbers, or (n, side + 7) where a filter needs them, inside 0 ... extent - 1."""
    before, after = (_TAP_BEFORE, _TAP_AFTER) if position else (0, 0)
    return np.clip(begins[:, None] + np.arange(-before, side + after), 0, extent - 1)


@cache
def _filter(position: int, side: int) -> np.ndarray:
    """float32 (side, side + 7): the matrix of the filter of a quarter position."""
    matrix = np.zeros((side, side + _TAP_BEFORE + _TAP_AFTER), np.float32)
    for row in range(side):
        matrix[row, row : row + len(TAPS[position])] = TAPS[position]
    return matrix


def _rounded(sums: np.ndarray) -> np.ndarray:
    """(sum + 32) >> 6 of integers in float32, in place."""
    sums += np.float32(1 << (_TAP_BITS - 1))
    sums *= np.float32(1 / (1 << _TAP_BITS))
    return np.floor(sums, out=sums)


# --- coding -------------------------------------------------------------------------------------------------------------

_REACH = 12
"""Differences from here on are coded as this and an Exp-Golomb code of the rest."""
_SYMBOLS = 2 * _REACH + 1
_SPREAD_CLASSES = (1, 3, 9)
"""Where classes of the disagreement of the neighbours begin, in quarter samples."""
_FIRST_CLASSES = len(_SPREAD_CLASSES) + 1
_SECOND_CLASSES = 3
_CODER_TOTAL = 1 << 24
_STEP_OF_COUNTS = 24
_COUNT_LIMIT = 1 << 14
_START_COUNTS = (
    (490, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
    (390, 56, 4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
    (300, 80, 14, 4, 2, 1, 1, 1, 1, 1, 1, 1, 1),
    (160, 68, 32, 20, 12, 8, 6, 5, 4, 4, 3, 3, 14),
    (52, 36, 28, 20, 14, 11, 9, 8, 7, 6, 6, 6, 66),
)
"""First counts of the differences +-0 ... +-12, from surest to least sure; about what training clips have. A context's row is its
class of spread, for the second component plus how much the first one differed (0, 1, 2 for more)."""

_UNPREDICTED = 2
"""Number of the counts of predicted and unpredicted blocks, after those of the two components."""
_START_UNPREDICTED = ((390, 10), (280, 120), (200, 200), (120, 280), (10, 390))
"""First counts of predicted and unpredicted blocks, by how many of the four known ones around are unpredicted."""


@dataclass(frozen=True)
class _Pass:
    """Blocks coded at once, as numbers row by row."""

    blocks: np.ndarray
    """(n,)"""
    neighbours: np.ndarray
    """(4, n): the known blocks around, one beyond the grid replaced by the one on the other side; of the first block no one's."""


@lru_cache(maxsize=8)
def _passes(rows: int, columns: int) -> tuple[_Pass, ...]:
    """All blocks of a grid, from far apart to close by; the first block alone has no neighbours."""
    stride = 1 << (max(rows, columns) - 1).bit_length()
    passes = [_Pass(np.zeros(1, np.int64), np.zeros((4, 0), np.int64))]
    while stride > 1:
        half = stride // 2
        for top, left, diagonal in ((half, half, True), (0, half, False), (half, 0, False)):
            y, x = (n.reshape(-1) for n in np.mgrid[top:rows:stride, left:columns:stride])
            if y.size:
                passes.append(_Pass(y * columns + x, _neighbours(rows, columns, y, x, diagonal, half)))
        stride = half
    return tuple(passes)


def _neighbours(rows: int, columns: int, y: np.ndarray, x: np.ndarray, diagonal: bool, distance: int) -> np.ndarray:
    up = np.where(y >= distance, y - distance, y + distance)
    down = np.where(y + distance < rows, y + distance, y - distance)
    left = np.where(x >= distance, x - distance, x + distance)
    right = np.where(x + distance < columns, x + distance, x - distance)
    if diagonal:
        return np.stack([up * columns + left, up * columns + right, down * columns + left, down * columns + right])
    # A grid of one row of blocks, at this distance, has neighbours to the sides only; one of one column above and below only.
    up, down = (np.where((n >= 0) & (n < rows), n, -1) for n in (up, down))
    left, right = (np.where((n >= 0) & (n < columns), n, -1) for n in (left, right))
    vertical = [np.where(n < 0, y * columns + np.maximum(left, right), n * columns + x) for n in (up, down)]
    horizontal = [np.where(n < 0, np.maximum(up, down) * columns + x, y * columns + n) for n in (left, right)]
    return np.stack([*vertical, *horizontal])


def _forecast(vectors: np.ndarray, part: _Pass) -> tuple[np.ndarray, np.ndarray]:
    """(predicted vectors (n, 2), class of spread (n,)) of blocks from known ones: the mean of the middle two, per component.

    ``vectors``: integers (rows * columns, 2).
    """
    if not part.neighbours.size:
        return np.zeros((1, 2), vectors.dtype), np.zeros(1, np.int64)
    around = np.sort(vectors[part.neighbours], axis=0)
    spread = (around[3] - around[0]).sum(axis=1)
    return (around[1] + around[2] + 1) >> 1, np.searchsorted(_SPREAD_CLASSES, spread, side="right")


def _around(missing: np.ndarray, part: _Pass) -> np.ndarray:
    """(n,): how many of the known blocks around are unpredicted; ``missing``: bool (rows * columns,)."""
    if not part.neighbours.size:
        return np.zeros(1, np.int64)
    return missing[part.neighbours].sum(axis=0, dtype=np.int64)


def forecast_all(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Forecasts of every block of a field from its neighbours in that field: ((rows, columns, 2), (rows, columns))."""
    flat = vectors.reshape(-1, 2)
    predicted, spread = np.zeros_like(flat), np.zeros(len(flat), np.int64)
    for part in _passes(*vectors.shape[:2]):
        predicted[part.blocks], spread[part.blocks] = _forecast(flat, part)
    return predicted.reshape(vectors.shape), spread.reshape(vectors.shape[:2])


def fill(vectors: np.ndarray, unpredicted: np.ndarray) -> np.ndarray:
    """The field (rows, columns, 2) that a decoder has: ``unpredicted`` blocks (rows, columns) get what is expected of them."""
    field, missing = vectors.reshape(-1, 2).copy(), unpredicted.reshape(-1)
    for part in _passes(*vectors.shape[:2]):
        here = missing[part.blocks]
        if here.any():
            field[part.blocks[here]] = _forecast(field, part)[0][here]
    return field.reshape(vectors.shape)


class VectorModel:
    """Adaptive counts of vector differences; encoder and decoder go through the same states.

    In a frame with unpredicted blocks each block first says whether it is one; its context is how many of the known blocks
    around are. Such a block has no vector of its own, but the one that is expected of it.

    The first component (down) has a context from how much the known blocks around disagree, the second one also from whether
    the first differed. Counts learn after every pass over blocks that are coded at once.
    """

    def __init__(self) -> None:
        start = np.array(_START_COUNTS, np.int64)[:, np.abs(np.arange(_SYMBOLS) - _REACH)]
        classes = np.add.outer(np.arange(_FIRST_CLASSES), np.arange(_SECOND_CLASSES)).reshape(-1)
        self._counts = (
            start[:_FIRST_CLASSES],
            start[np.minimum(classes, len(start) - 1)],
            np.array(_START_UNPREDICTED, np.int64),
        )

    def copy(self) -> "VectorModel":
        other = VectorModel()
        other._counts = (self._counts[0].copy(), self._counts[1].copy(), self._counts[2].copy())
        return other

    def _frequencies(self, component: int) -> np.ndarray:
        """int64 (contexts, symbols) that sum to 2^24."""
        counts = self._counts[component]
        symbols = counts.shape[1]
        frequencies = 1 + counts * (_CODER_TOTAL - symbols) // counts.sum(axis=1, keepdims=True)
        frequencies[:, symbols // 2] += _CODER_TOTAL - frequencies.sum(axis=1)
        return frequencies

    def _learn(self, component: int, contexts: np.ndarray, symbols: np.ndarray) -> None:
        counts = self._counts[component]
        np.add.at(counts, (contexts, symbols), _STEP_OF_COUNTS)
        full = counts.sum(axis=1) > _COUNT_LIMIT
        counts[full] = (counts[full] + 1) >> 1

    def bits_of(self, differences: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """About the bits (rows, columns) of differences (rows, columns, 2) under the counts as they are; for searching."""
        first, second = self._bits
        near = np.clip(differences, -_REACH, _REACH) + _REACH
        contexts = spread * _SECOND_CLASSES + np.minimum(np.abs(differences[..., 0]), 2)
        beyond = np.maximum(np.abs(differences) - _REACH + 1, 1)
        far = np.where(np.abs(differences) >= _REACH, 5 + np.log2(beyond), 0).sum(axis=-1)
        return first[spread, near[..., 0]] + second[contexts, near[..., 1]] + far

    @property
    def _bits(self) -> tuple[np.ndarray, np.ndarray]:
        """-log2 of the probabilities of all symbols, for each context of the two components."""
        first, second = (np.log2(_CODER_TOTAL) - np.log2(self._frequencies(component)) for component in (0, 1))
        return first, second

    def unpredicted_bits(self, unpredicted: np.ndarray) -> np.ndarray:
        """About the bits (rows, columns, 2) of saying that a block is predicted, and that it is not; for searching."""
        costs = np.log2(_CODER_TOTAL) - np.log2(self._frequencies(_UNPREDICTED))
        flat = unpredicted.reshape(-1)
        bits = np.empty((len(flat), 2))
        for part in _passes(*unpredicted.shape):
            bits[part.blocks] = costs[_around(flat, part)]
        return bits.reshape(*unpredicted.shape, 2)

    def encode(self, vectors: np.ndarray, coder: SymbolEncoder, unpredicted: np.ndarray | None = None) -> None:
        """``vectors``: integers (rows, columns, 2) of at most VECTOR_MAX; ``unpredicted``: bool (rows, columns)."""
        field = vectors.astype(np.int64) if unpredicted is None else fill(vectors.astype(np.int64), unpredicted)
        self._exchange(field, unpredicted, coder, None)

    def decode(
        self, rows: int, columns: int, coder: SymbolDecoder, some_unpredicted: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """(int64 (rows, columns, 2), bool (rows, columns) of unpredicted blocks if the frame has some). Raises FormatError."""
        unpredicted = np.zeros((rows, columns), bool) if some_unpredicted else None
        return self._exchange(np.zeros((rows, columns, 2), np.int64), unpredicted, None, coder), unpredicted

    def _exchange(
        self, vectors: np.ndarray, unpredicted: np.ndarray | None, encoder: SymbolEncoder | None, decoder: SymbolDecoder | None
    ) -> np.ndarray:
        field = vectors.reshape(-1, 2)
        missing = None if unpredicted is None else unpredicted.reshape(-1)
        for part in _passes(*vectors.shape[:2]):
            predicted, spread = _forecast(field, part)
            blocks = part.blocks
            if missing is not None:
                self._exchange_unpredicted(missing, part, encoder, decoder)
                own = ~missing[blocks]
                if decoder is not None:
                    field[blocks[~own]] = predicted[~own]
                blocks, predicted, spread = blocks[own], predicted[own], spread[own]
                if not len(blocks):
                    continue
            differences = field[blocks] - predicted
            for component in range(2):
                contexts = spread if component == 0 else spread * _SECOND_CLASSES + np.minimum(np.abs(differences[:, 0]), 2)
                rows = self._frequencies(component)[contexts]
                if encoder is not None:
                    symbols = np.clip(differences[:, component], -_REACH, _REACH) + _REACH
                    encoder.push_own(symbols, partial(np.asarray, rows))
                    far = np.abs(symbols - _REACH) == _REACH
                    encoder.push_exp_golomb(np.abs(differences[far, component]) - _REACH)
                elif decoder is not None:
                    symbols = decoder.pop_own(rows)
                    difference = symbols - _REACH
                    far = np.abs(difference) == _REACH
                    difference[far] += np.sign(difference[far]) * decoder.pop_exp_golomb(int(far.sum()))
                    differences[:, component] = difference
                self._learn(component, contexts, symbols)
            if decoder is not None:
                field[blocks] = np.clip(predicted + differences, -VECTOR_MAX, VECTOR_MAX)
        return vectors

    def _exchange_unpredicted(
        self, missing: np.ndarray, part: _Pass, encoder: SymbolEncoder | None, decoder: SymbolDecoder | None
    ) -> None:
        contexts = _around(missing, part)
        rows = self._frequencies(_UNPREDICTED)[contexts]
        if encoder is not None:
            encoder.push_own(missing[part.blocks].astype(np.int64), partial(np.asarray, rows))
        elif decoder is not None:
            missing[part.blocks] = decoder.pop_own(rows)
        self._learn(_UNPREDICTED, contexts, missing[part.blocks].astype(np.int64))
