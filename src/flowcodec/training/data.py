"""Training images: decoded once into one memory-mapped array; crops drawn by a counter, so that any step can be redone."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from flowcodec.errors import InputError
from flowcodec.training.config import DataConfig
from flowcodec.training.graphics import with_graphics

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".ppm"}
_SMALL_PIXELS = 256 * 256


def list_images(folders: Sequence[Path]) -> list[tuple[Path, int]]:
    """(file, position within its folder) of all images, in a fixed order."""
    files: list[tuple[Path, int]] = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: not a folder; --data expects folders of images")
        found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
        if not found:
            raise InputError(f"{folder}: no images; expected files ending in {', '.join(sorted(SUFFIXES))}")
        files.extend((path, position) for position, path in enumerate(found))
    return files


class PixelStore:
    """All images of some folders as one flat uint8 array with an index."""

    def __init__(self, pixels: np.ndarray, shapes: np.ndarray, positions: np.ndarray) -> None:
        self.pixels, self.shapes, self.positions = pixels, shapes, positions
        self.offsets = np.concatenate([[0], np.cumsum(3 * shapes.prod(axis=1))])

    def __len__(self) -> int:
        return len(self.shapes)

    def image(self, index: int) -> np.ndarray:
        """uint8 (H, W, 3)"""
        height, width = self.shapes[index]
        return self.pixels[self.offsets[index] : self.offsets[index + 1]].reshape(height, width, 3)

    @classmethod
    def open(cls, folders: Sequence[Path], cache: Path, progress: Callable[[int, int], None] | None = None) -> "PixelStore":
        """Reads the cache, or decodes the folders into it when they changed."""
        files = list_images(folders)
        digest = hashlib.sha256(
            "\n".join(f"{path.parent.name}/{path.name}:{path.stat().st_size}" for path, _ in files).encode()
        ).hexdigest()
        index_path = cache.with_suffix(".json")
        if not (cache.exists() and cls._digest_of(index_path) == digest):
            cls._decode(files, cache, index_path, digest, progress)
        index = json.loads(index_path.read_text())
        return cls(np.load(cache, mmap_mode="r"), np.array(index["shapes"]), np.array(index["positions"]))

    @staticmethod
    def _digest_of(index_path: Path) -> str | None:
        """None where there is no index, or a damaged one, as an interrupted run may leave it."""
        try:
            return json.loads(index_path.read_text())["digest"]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @staticmethod
    def _decode(
        files: list[tuple[Path, int]], cache: Path, index_path: Path, digest: str, progress: Callable[[int, int], None] | None
    ) -> None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        arrays, shapes = [], []
        for count, (path, _) in enumerate(files, start=1):
            array = _read_rgb(path)
            arrays.append(array.reshape(-1))
            shapes.append(array.shape[:2])
            if progress is not None:
                progress(count, len(files))
        partial = cache.with_name(cache.name + ".partial.npy")
        np.save(partial, np.concatenate(arrays))
        os.replace(partial, cache)
        index_path.write_text(json.dumps({"digest": digest, "shapes": shapes, "positions": [position for _, position in files]}))


class CropSampler:
    """Random crops of the training part; the batch of a step depends on (seed, step, rank) alone."""

    def __init__(self, store: PixelStore, config: DataConfig, seed: int) -> None:
        self.store, self.config, self.seed = store, config, seed
        sizes = store.shapes.prod(axis=1).astype(np.float64)
        weights = np.where(sizes <= _SMALL_PIXELS, config.small_source_weight, 1.0) * sizes
        weights[(store.positions % config.validation_every == 0) | (store.shapes.min(axis=1) < config.crop)] = 0
        if weights.sum() == 0:
            raise InputError(f"no training image is at least {config.crop} pixels on each side; lower data.crop")
        self.probabilities = weights / weights.sum()

    def batch(self, step: int, rank: int, count: int) -> np.ndarray:
        """uint8 (count, 3, crop, crop)"""
        random = np.random.Generator(np.random.Philox(key=[self.seed, (step << 16) + rank]))
        side = self.config.crop
        crops = []
        for index in random.choice(len(self.store), size=count, p=self.probabilities):
            image = self.store.image(index)
            top, left = (random.integers(0, extent - side + 1) for extent in image.shape[:2])
            crop = image[top : top + side, left : left + side]
            if random.random() < 0.5:
                crop = crop[:, ::-1]
            if random.random() < self.config.transpose_probability:
                crop = crop.transpose(1, 0, 2)
            # Nothing is drawn from ``random`` where there are no graphics: earlier runs are repeated as they were.
            if self.config.graphics_probability and random.random() < self.config.graphics_probability:
                crop = with_graphics(crop, random)
            crops.append(crop.transpose(2, 0, 1))
        return np.ascontiguousarray(crops)


def validation_crops(store: PixelStore, config: DataConfig) -> np.ndarray:
    """uint8 (n, 3, S, S): centres of images of the held-out part, spread evenly over it."""
    side = config.validation_crop
    held_out = np.flatnonzero((store.positions % config.validation_every == 0) & (store.shapes.min(axis=1) >= side))
    if len(held_out) == 0:
        raise InputError(f"no held-out image is at least {side} pixels on each side; lower data.validation_crop")
    chosen = held_out[np.linspace(0, len(held_out) - 1, min(config.validation_crops, len(held_out))).astype(int)]
    crops = []
    for index in chosen:
        image = store.image(index)
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        crops.append(image[top : top + side, left : left + side].transpose(2, 0, 1))
    return np.ascontiguousarray(crops)


def held_out_crops(folders: Sequence[Path], config: DataConfig) -> list[np.ndarray]:
    """uint8 (S, S, 3), S at most ``validation_crop``: centres of held-out images, spread evenly over the folders."""
    held_out = [path for path, position in list_images(folders) if position % config.validation_every == 0]
    return _centres(held_out, config.validation_crops, config.validation_crop)


def training_crops(folders: Sequence[Path], config: DataConfig, count: int, side: int) -> list[np.ndarray]:
    """uint8 (S, S, 3), S the largest power of two up to ``side`` that fits: centres of training images spread evenly."""
    paths = [path for path, position in list_images(folders) if position % config.validation_every != 0]
    crops = []
    for crop in _centres(paths, count, side):
        fitting = 1 << (min(crop.shape[:2]).bit_length() - 1)
        crops.append(crop[:fitting, :fitting])
    return crops


def _centres(paths: Sequence[Path], count: int, side: int) -> list[np.ndarray]:
    """Centre crops, at most ``side`` each way, of ``count`` images spread evenly over the paths."""
    crops = []
    for index in np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int):
        pixels = _read_rgb(paths[index])
        top, left = (max(extent - side, 0) // 2 for extent in pixels.shape[:2])
        crops.append(pixels[top : top + side, left : left + side])
    return crops


def _read_rgb(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error})") from error
