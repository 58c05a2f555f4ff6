"""A region of interest: outside it a bit has to remove more squared error to be spent. A matter of the encoder alone.

The quantiser spends a bit where it lowers the squared error by (ln 2 / 6) Delta^2, the slope of the high-rate theory. Where the
mask m is below 255 that price is multiplied by 2^(8 (1 - m / 255)), and each symbol gives way to one nearer to zero wherever that
lowers D + price * R. What is saved there, rate control spends on a finer step everywhere. The prior follows by itself: it expects
little where little is sent.
"""

import math

import numpy as np

from flowcodec.errors import InputError
from flowcodec.runtime.channel import Block, Channel
from flowcodec.runtime.coder import Tables
from flowcodec.runtime.flow import level_count
from flowcodec.runtime.integer import FRACTION_BITS

LOG2_PRICE = 8.0
"""Price of a bit where the mask is black, as a power of two over that where it is white."""
_WHITE = 255
SLOPE = math.log(2) / 6 * 4**FRACTION_BITS
"""Squared error, in (1/64 step)^2, that a bit has to remove."""
_EIGHTHS = 8


def check_mask(mask: np.ndarray, height: int, width: int) -> None:
    """Raises InputError where a mask is not uint8 (height, width)."""
    if not isinstance(mask, np.ndarray) or mask.dtype != np.uint8 or mask.ndim != 2:
        found = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise InputError(f"roi: expected a grey mask, uint8 (H, W), found {found}")
    if mask.shape != (height, width):
        found = f"{mask.shape[1]}x{mask.shape[0]}"
        raise InputError(f"roi: expected a mask of {width}x{height} like the picture, found {found}; resize the mask")


class Region:
    """The price of a bit at every site of every level."""

    def __init__(self, mask: np.ndarray) -> None:
        """uint8 (H, W): 255 important, 0 not. A site has the highest value under it and its neighbours: what filters reach."""
        self._masks = [mask]
        for _ in range(level_count(*mask.shape)):
            self._masks.append(_widen(_halve(self._masks[-1])))

    def prices(self, level: int) -> np.ndarray:
        """float32 (h, w) of the planes of a level, 1 and up."""
        return np.exp2(LOG2_PRICE * (1 - self._masks[level].astype(np.float32) / _WHITE))


def _halve(mask: np.ndarray) -> np.ndarray:
    """The largest of each 2x2, (ceil(H/2), ceil(W/2))."""
    height, width = mask.shape
    mask = np.pad(mask, ((0, height % 2), (0, width % 2)), mode="edge")
    return mask.reshape(mask.shape[0] // 2, 2, mask.shape[1] // 2, 2).max((1, 3))


def _widen(mask: np.ndarray) -> np.ndarray:
    """The largest of each 3x3."""
    height, width = mask.shape
    padded = np.pad(mask, 1, mode="edge")
    rows = np.maximum.reduce([padded[k : k + height] for k in range(3)])
    return np.maximum.reduce([rows[:, k : k + width] for k in range(3)])


def symbol_bits(tables: Tables, symbols: np.ndarray, table_ids: np.ndarray) -> np.ndarray:
    """About what the symbols cost; of numbers beyond a table's reach the length alone."""
    low_bits, reach = tables.low_bits[table_ids], tables.reach[table_ids]
    high = symbols >> low_bits
    clipped = np.clip(high, -reach, reach)
    beyond = np.abs(high) - np.abs(clipped)
    return tables.costs[tables.starts[table_ids] + clipped + reach] + low_bits + 2 * np.log2(1 + beyond)


def economise(
    symbols: np.ndarray,
    values: np.ndarray,
    prices: np.ndarray,
    channel: Channel,
    tables: Tables,
    kind: int,
    scales: np.ndarray,
    table_ids: np.ndarray,
    block: Block,
) -> np.ndarray:
    """The symbols of ``values`` (1/64 step, relative to the location), made smaller where the price of their bits asks for it.

    All arrays are flat and of one length. Candidates are 0/8 ... 7/8 of a symbol, rounded down, and its neighbour.
    """
    chosen = symbols.copy()
    if prices.max(initial=1.0) <= 1.0:
        return chosen

    def cost(candidates: np.ndarray) -> np.ndarray:
        errors = values - channel.reconstruct(candidates, kind, scales, block)
        return errors**2 + SLOPE * prices * symbol_bits(tables, candidates, table_ids)

    lowest = cost(symbols)
    magnitudes = np.abs(symbols)
    for part in range(_EIGHTHS + 1):
        smaller = np.maximum(magnitudes - 1, 0) if part == _EIGHTHS else magnitudes * part // _EIGHTHS
        candidates = np.sign(symbols) * smaller
        costs = cost(candidates)
        better = (costs < lowest) & (prices > 1.0)
        chosen[better], lowest[better] = candidates[better], costs[better]
    return chosen
