"""Training material of the learned parts: crops of photographs, and thumbnails reduced from them.

CIFAR-10 is used for tests only; what is tested on it is trained on 32x32 reductions of photographs of other sources.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from flowcodec.errors import InputError
from flowcodec.training.data import list_images

HELD_OUT_EVERY = 20
"""Every n-th file of a folder, by name, is kept for validation, as in the codec's own training."""
THUMBNAIL = 32
_SMALLEST_SOURCE, _LARGEST_SOURCE = 96, 480

Progress = Callable[[int, int], None]


def photographs(folders: Sequence[Path], held_out: bool) -> list[Path]:
    """The training files of some folders, or those held out. Raises InputError where there are none."""
    chosen = [path for path, position in list_images(folders) if (position % HELD_OUT_EVERY == 0) == held_out]
    if not chosen:
        raise InputError(f"expected folders with more than {HELD_OUT_EVERY} images, found {', '.join(map(str, folders))}")
    return chosen


def crops(paths: Sequence[Path], side: int, each: int, rng: np.random.Generator, progress: Progress | None = None) -> np.ndarray:
    """uint8 (n, 3, side, side): ``each`` random crops of every photograph that is large enough, half of them mirrored."""

    def crop(image: Image.Image) -> Image.Image | None:
        if min(image.size) < side:
            return None
        left, top = (int(rng.integers(0, extent - side + 1)) for extent in image.size)
        return image.crop((left, top, left + side, top + side))

    return _collect(paths, each, crop, rng, progress)


def thumbnails(paths: Sequence[Path], each: int, rng: np.random.Generator, progress: Progress | None = None) -> np.ndarray:
    """uint8 (n, 3, 32, 32): squares of random size and place reduced by area averaging, half of them mirrored."""

    def reduce(image: Image.Image) -> Image.Image | None:
        largest = min(*image.size, _LARGEST_SOURCE)
        if largest < _SMALLEST_SOURCE:
            return None
        side = int(rng.integers(_SMALLEST_SOURCE, largest + 1))
        left, top = (int(rng.integers(0, extent - side + 1)) for extent in image.size)
        box = (left, top, left + side, top + side)
        return image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX, box=box)

    return _collect(paths, each, reduce, rng, progress)


def _collect(
    paths: Sequence[Path],
    each: int,
    take: Callable[[Image.Image], Image.Image | None],
    rng: np.random.Generator,
    progress: Progress | None,
) -> np.ndarray:
    found = []
    for count, path in enumerate(paths, start=1):
        try:
            with Image.open(path) as file:
                image = file.convert("RGB")
        except (OSError, UnidentifiedImageError) as error:
            raise InputError(f"{path}: cannot be read as an image ({error})") from error
        for _ in range(each):
            part = take(image)
            if part is not None:
                pixels = np.asarray(part)
                found.append((pixels[:, ::-1] if rng.random() < 0.5 else pixels).transpose(2, 0, 1))
        if progress:
            progress(count, len(paths))
    if not found:
        raise InputError("no photograph is large enough for the crops asked for")
    return np.ascontiguousarray(found)
