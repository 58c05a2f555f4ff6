"""Spectra of blocks: the only thing an analog transmission must tell digitally.

The latent is cut into blocks of B x B pixels: of each level j up to log2 B a square of 2^-j B coefficients a side and band. The
variances of a block are those of one of P *profiles*, so that sender and receiver know the same gains from one index a block.
Coarser levels have fixed variances. The profiles are trained by Lloyd's iteration with the cost that analog coding has,

    J = sum E (1 - a g)^2 + a^2 N + mu g^2 E,    g^2 = p / m,  p = max(0, sqrt(m N / mu) - N),  a = g m / (g^2 m + N),

the distortion of energies E coded as if their variance was m, plus mu times the power; its best m is the mean of E.
References: Lee & Petersen 1976; Jakubczak & Katabi, A cross-layer design for scalable mobile video (SoftCast), 2011.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from flowcodec.errors import FormatError, InputError
from flowcodec.radio.linear import LEVELS_PER_OCTAVE
from flowcodec.runtime.context import DETAIL_CHANNELS, valid_coefficients
from flowcodec.runtime.flow import level_shapes

NAMES = ("photograph", "thumbnail")
NEVER = -1 << 20
"""Variance class of places that hold no coefficient."""
_TABLE_BITS = 12
_LOWEST, _HIGHEST = 4.0, 1e7
MAP_PRICE = 3.0
"""Price of a bit of the map in units of mu: a bit takes 1.4 uses, 2.9 dimensions, each worth about its unit of power."""

Latent = list[np.ndarray]
"""[coarsest (3, 1, 1), details coarse to fine (9, h, w)], pixel units."""


@dataclass(frozen=True)
class Profiles:
    """Trained constants, the same at both ends."""

    block: int
    """B, a power of two."""
    levels: np.ndarray
    """int32 (P, log2 B, 9): variance classes round(8 log2 m) of levels 1, 2 ... log2 B."""
    coarse: np.ndarray
    """int32 (12, 9): the classes of levels 1 ... 12, used for those beyond a block."""
    coarsest: np.ndarray
    """int32 (3,): the classes of the coarsest sample less its centre."""
    centre: np.ndarray
    """float64 (3,): mean of the coarsest sample over the square root of the pixels."""
    tables: np.ndarray
    """int64 (2, P, P): frequencies of a profile after its left and below its upper neighbour, rows sum to 2^12."""

    @property
    def count(self) -> int:
        return len(self.levels)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Blocks down and across."""
        return -(-height // self.block), -(-width // self.block)

    def variance_levels(self, chosen: np.ndarray, height: int, width: int) -> list[np.ndarray]:
        """int64 classes of all coefficients, shaped like the latent, where the blocks (rows, columns) have these profiles."""
        shapes = level_shapes(height, width)
        found = [np.broadcast_to(self.coarsest[:, None, None], (3, 1, 1)).astype(np.int64)]
        depth = self.levels.shape[1]
        for level in range(len(shapes) - 1, 0, -1):
            h, w = (-(-extent // 2) for extent in shapes[level - 1])
            if level > depth:
                classes = np.broadcast_to(self.coarse[min(level, len(self.coarse)) - 1][:, None, None], (DETAIL_CHANNELS, h, w))
            else:
                rows, columns = np.arange(h) >> (depth - level), np.arange(w) >> (depth - level)
                classes = self.levels[:, level - 1].T[:, chosen[np.ix_(rows, columns)]]
            found.append(np.where(valid_coefficients(*shapes[level - 1]), classes, NEVER).astype(np.int64))
        return found

    def choose(self, latent: Latent, noise: float, factor: float, price: float = MAP_PRICE) -> np.ndarray:
        """int64 (rows, columns): the profile of every block, least J plus the price of its bits; raster order, greedy.

        ``noise``: N of a real dimension; ``factor`` sqrt(N / mu), which the power decides; ``price``: bits are priced at that
        many mu.
        """
        energies, counts = block_energies(latent, self.block)
        multiplier = noise / factor**2
        slope, offset = _costs(np.exp2(self.levels / LEVELS_PER_OCTAVE), noise, multiplier)
        costs = np.einsum("rcjb,pjb->rcp", energies, slope) + np.einsum("rcj,pj->rcp", counts, offset.sum(2))
        chosen = np.zeros(costs.shape[:2], np.int64)
        prices = -np.log2(self.tables / (1 << _TABLE_BITS)) * price * multiplier
        for row in range(len(chosen)):
            for column in range(len(chosen[0])):
                left = prices[0, chosen[row, column - 1]] if column else 0.0
                above = prices[1, chosen[row - 1, column]] if row else 0.0
                both = 0.5 if row and column else 1.0
                chosen[row, column] = np.argmin(costs[row, column] + both * (left + above))
        return chosen

    # --- the map as bytes ----------------------------------------------------------------------------------------------------

    def pack(self, chosen: np.ndarray) -> bytes:
        """The map, coded by ANS without renormalisation: one large integer."""
        state = 1
        for row in range(len(chosen) - 1, -1, -1):
            for column in range(len(chosen[0]) - 1, -1, -1):
                begins, total = self._frequencies(chosen, row, column)
                index = int(chosen[row, column])
                begin, size = begins[index], begins[index + 1] - begins[index]
                state = state // size * total + begin + state % size
        return state.to_bytes(-(-state.bit_length() // 8), "little")

    def unpack(self, data: bytes, height: int, width: int) -> np.ndarray:
        """Raises FormatError where the bytes are no map of this size."""
        state, chosen = int.from_bytes(data, "little"), np.zeros(self.grid(height, width), np.int64)
        for row in range(len(chosen)):
            for column in range(len(chosen[0])):
                begins, total = self._frequencies(chosen, row, column)
                place = state % total
                index = int(np.searchsorted(begins, place, "right")) - 1
                begin, size = int(begins[index]), int(begins[index + 1] - begins[index])
                state = state // total * size + place - begin
                chosen[row, column] = index
        if state != 1:
            raise FormatError(f"expected a map of {chosen.shape[1]}x{chosen.shape[0]} blocks, found {len(data)} other bytes")
        return chosen

    def _frequencies(self, chosen: np.ndarray, row: int, column: int) -> tuple[list[int], int]:
        """(cumulative integer frequencies of the next profile, their sum): the mean of what both neighbours say."""
        return _cumulative(self, int(chosen[row, column - 1]) if column else -1, int(chosen[row - 1, column]) if row else -1)


_FREQUENCIES: dict[tuple[int, int, int], tuple[list[int], int]] = {}


def _cumulative(profiles: Profiles, left: int, above: int) -> tuple[list[int], int]:
    key = (id(profiles), left, above)
    if key not in _FREQUENCIES:
        parts = [profiles.tables[way, index] for way, index in ((0, left), (1, above)) if index >= 0]
        if len(parts) == 2:
            # Product of the two over the marginal, in whole numbers.
            marginal = profiles.tables[0].sum(0) // profiles.count + 1
            counts = parts[0] * parts[1] // marginal + 1
        else:
            counts = parts[0] if parts else np.ones(profiles.count, np.int64)
        begins = [0, *(int(value) for value in np.cumsum(counts))]
        _FREQUENCIES[key] = begins, begins[-1]
    return _FREQUENCIES[key]


def block_energies(latent: Latent, block: int) -> tuple[np.ndarray, np.ndarray]:
    """(sums of squares (rows, columns, log2 B, 9), coefficients of a band (rows, columns, log2 B)) by block and level 1, 2 ..."""
    depth = block.bit_length() - 1
    h, w = latent[-1].shape[1:]
    rows, columns = -(-h // (block // 2)), -(-w // (block // 2))
    energies, counts = np.zeros((rows, columns, depth, DETAIL_CHANNELS)), np.zeros((rows, columns, depth))
    for level in range(1, min(depth, len(latent) - 1) + 1):
        detail, side = latent[len(latent) - level], block >> level
        padded = np.zeros((DETAIL_CHANNELS, rows * side, columns * side))
        padded[:, : detail.shape[1], : detail.shape[2]] = np.square(detail, dtype=np.float64)
        energies[:, :, level - 1] = padded.reshape(DETAIL_CHANNELS, rows, side, columns, side).sum((2, 4)).transpose(1, 2, 0)
        inside = np.zeros((rows * side, columns * side))
        inside[: detail.shape[1], : detail.shape[2]] = 1
        counts[:, :, level - 1] = inside.reshape(rows, side, columns, side).sum((1, 3))
    return energies, counts


def _costs(variances: np.ndarray, noise: float, multiplier: float) -> tuple[np.ndarray, np.ndarray]:
    """(factor of an energy, constant of a coefficient) of J for modelled variances m."""
    powers = np.maximum(np.sqrt(variances * noise / multiplier) - noise, 0)
    squares = powers / variances
    weights = np.sqrt(squares) * variances / (powers + noise)
    return (1 - weights * np.sqrt(squares)) ** 2 + multiplier * squares, weights**2 * noise


# --- training ------------------------------------------------------------------------------------------------------------------


def train(latents: list[Latent], block: int, count: int, iterations: int = 25, noise: float = 0.1, seed: int = 0) -> Profiles:
    """Lloyd's iteration over the blocks of some latents, at several powers. Raises InputError for too few blocks."""
    rng = np.random.default_rng(seed)
    parts = [block_energies(latent, block) for latent in latents]
    energies = np.concatenate([part[0].reshape(-1, *part[0].shape[2:]) for part in parts])
    counts = np.concatenate([part[1].reshape(-1, part[1].shape[2]) for part in parts])
    if len(energies) < 4 * count:
        raise InputError(f"expected at least {4 * count} blocks for {count} profiles, found {len(energies)}")
    flat = counts.max(0)[:, None]
    order = np.argsort(energies.sum((1, 2)))
    # Start from single blocks spread over all energies.
    start = order[np.linspace(0, len(order) - 1, count + 2).astype(int)[1:-1]]
    means = energies[start] / flat
    for _ in range(iterations):
        multiplier = noise / rng.choice([1 / 8, 1 / 14, 1 / 25]) ** 2
        slope, offset = _costs(np.clip(means, _LOWEST, _HIGHEST), noise, multiplier)
        costs = np.einsum("njb,pjb->np", energies, slope) + np.einsum("nj,pj->np", counts, offset.sum(2))
        nearest = np.argmin(costs, 1)
        for profile in range(count):
            mine = nearest == profile
            if mine.any():
                means[profile] = energies[mine].sum(0) / np.maximum(counts[mine].sum(0)[:, None], 1)
            else:
                means[profile] = energies[rng.integers(len(energies))] / flat
    means = means[np.argsort((means * flat).sum((1, 2)))]
    levels = _classes(means)
    coarse = np.zeros((12, DETAIL_CHANNELS))
    for level in range(1, 13):
        squares = [np.square(z[len(z) - level]).mean((1, 2)) for z in latents if level < len(z)]
        coarse[level - 1] = np.mean(squares, 0) if squares else 2 * coarse[level - 2]
    roots = np.array([4.0 ** ((len(z) - 1) / 2) for z in latents])
    coarsest = np.array([z[0].reshape(3) for z in latents], np.float64)
    centre = np.mean(coarsest / roots[:, None], 0)
    spread = np.mean((coarsest - centre * roots[:, None]) ** 2, 0)
    flat_tables = np.full((2, count, count), (1 << _TABLE_BITS) // count)
    plain = Profiles(block, levels, _classes(coarse), _classes(spread), centre, flat_tables)
    return _with_tables(plain, latents, noise)


def _with_tables(plain: Profiles, latents: list[Latent], noise: float) -> Profiles:
    tallies = np.full((2, plain.count, plain.count), 0.02)
    for latent in latents:
        chosen = plain.choose(latent, noise, 1 / 14, 0.0)
        np.add.at(tallies[0], (chosen[:, :-1], chosen[:, 1:]), 1)
        np.add.at(tallies[1], (chosen[:-1], chosen[1:]), 1)
    rows = tallies / tallies.sum(2, keepdims=True)
    tables = np.maximum(np.rint(rows * (1 << _TABLE_BITS)), 1).astype(np.int64)
    return Profiles(plain.block, plain.levels, plain.coarse, plain.coarsest, plain.centre, tables)


def _classes(variances: np.ndarray) -> np.ndarray:
    return np.rint(LEVELS_PER_OCTAVE * np.log2(np.clip(variances, _LOWEST / 4, _HIGHEST))).astype(np.int32)


# --- files ---------------------------------------------------------------------------------------------------------------------


def path_of(name: str) -> Path:
    return Path(__file__).with_name(f"profiles_{name}.npz")


def save(path: Path, profiles: Profiles) -> None:
    np.savez_compressed(path, **vars(profiles))


@cache
def load(name: str) -> Profiles:
    """Raises InputError."""
    if name not in NAMES:
        raise InputError(f"profiles: expected one of {', '.join(NAMES)}, found {name!r}")
    with np.load(path_of(name)) as file:
        arrays = {key: file[key] for key in file.files}
    return Profiles(int(arrays.pop("block")), **arrays)
