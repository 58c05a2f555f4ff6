"""Training pairs for P-frames: a picture and its prediction, made once (``scripts/video_pairs.py``) and kept in one array.

A folder of pairs holds ``pairs.npy``, uint8 (N, S, S, 6): RGB of the picture, then of the prediction; and ``pairs.json``: for
each pair the step index it was made for, whether it is held out for validation, and its source. A prediction is a decoded
picture, so its noise belongs to a step: a pair is trained at about that step.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flowcodec.errors import InputError
from flowcodec.runtime.step import STEP_COUNT
from flowcodec.training.config import DataConfig

ARRAY_FILE, INDEX_FILE = "pairs.npy", "pairs.json"
_STEP_JITTER = 32
"""A pair is trained at up to a quarter of an octave from its own step."""


class PairStore:
    """The pairs of some folders; all of one size."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.arrays: list[np.ndarray] = []
        steps: list[int] = []
        held_out: list[bool] = []
        for folder in folders:
            try:
                index = json.loads((folder / INDEX_FILE).read_text())
                self.arrays.append(np.load(folder / ARRAY_FILE, mmap_mode="r"))
                steps += index["step"]
                held_out += index["held"]
            except (OSError, ValueError, KeyError) as error:
                raise InputError(
                    f"{folder}: expected {ARRAY_FILE} and {INDEX_FILE} of scripts/video_pairs.py ({error})"
                ) from error
        self.side = self.arrays[0].shape[1]
        if any(array.shape[1:] != (self.side, self.side, 6) for array in self.arrays):
            raise InputError(f"{folders[0]}: expected pairs of one size in all folders, (N, S, S, 6)")
        self.steps, self.held_out = np.array(steps), np.array(held_out)
        self._ends = np.cumsum([len(array) for array in self.arrays])
        if self._ends[-1] != len(self.steps):
            raise InputError(f"{folders[0]}: {ARRAY_FILE} and {INDEX_FILE} are not of one length; make the pairs again")

    def __len__(self) -> int:
        return len(self.steps)

    def pair(self, number: int) -> np.ndarray:
        """uint8 (S, S, 6)"""
        array = int(np.searchsorted(self._ends, number, side="right"))
        return self.arrays[array][number - self._ends[array]]


class PairSampler:
    """Random crops of the training pairs; the batch of a step depends on (seed, step, rank) alone."""

    def __init__(self, store: PairStore, config: DataConfig, seed: int) -> None:
        self.store, self.config, self.seed = store, config, seed
        self.numbers = np.flatnonzero(~store.held_out)
        if len(self.numbers) == 0 or store.side < config.crop:
            raise InputError(f"expected training pairs of at least {config.crop} pixels a side; lower data.crop")

    def batch(self, step: int, rank: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """(uint8 (count, 6, crop, crop), step indices (count,))."""
        random = np.random.Generator(np.random.Philox(key=[self.seed, (step << 16) + rank]))
        side = self.config.crop
        chosen = random.choice(self.numbers, size=count)
        crops = []
        for number in chosen:
            top, left = random.integers(0, self.store.side - side + 1, 2)
            crop = self.store.pair(number)[top : top + side, left : left + side]
            if random.random() < 0.5:
                crop = crop[:, ::-1]
            if random.random() < self.config.transpose_probability:
                crop = crop.transpose(1, 0, 2)
            crops.append(crop.transpose(2, 0, 1))
        jitter = random.integers(-_STEP_JITTER, _STEP_JITTER + 1, count)
        return np.ascontiguousarray(crops), np.clip(self.store.steps[chosen] + jitter, 0, STEP_COUNT - 1)


def spread_pairs(store: PairStore, held_out: bool, count: int) -> tuple[list[np.ndarray], list[int]]:
    """(pairs (S, S, 6), their step indices), spread evenly over the held-out or the training part."""
    numbers = np.flatnonzero(store.held_out == held_out)
    chosen = numbers[np.linspace(0, len(numbers) - 1, min(count, len(numbers))).astype(int)]
    return [store.pair(number) for number in chosen], [int(store.steps[number]) for number in chosen]


def validation_pairs(store: PairStore, config: DataConfig) -> list[tuple[np.ndarray, int]]:
    """[(uint8 (6, S, S), step index)]: centres of held-out pairs, spread evenly over them."""
    held_out = np.flatnonzero(store.held_out)
    if len(held_out) == 0:
        raise InputError("expected some held-out pairs, found none; make them with more sources")
    side = min(config.validation_crop, store.side)
    begin = (store.side - side) // 2
    chosen = held_out[np.linspace(0, len(held_out) - 1, min(config.validation_crops, len(held_out))).astype(int)]
    return [
        (
            np.ascontiguousarray(store.pair(number)[begin : begin + side, begin : begin + side].transpose(2, 0, 1)),
            int(store.steps[number]),
        )
        for number in chosen
    ]
