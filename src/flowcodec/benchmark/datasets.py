"""Test images as 8-bit RGB pixels: files and folders of files, such as the 24 of Kodak, and the data sets of ``sources``."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from flowcodec.benchmark import sources
from flowcodec.errors import InputError
from flowcodec.runtime.image import READ_SUFFIXES

Kind = Literal["auto", "folder", "cifar10", "imagenet", "video"]
DEFAULT_LIMITS = {"folder": None, "cifar10": 100, "imagenet": 100, "video": 8}
"""Images of one path, where no limit is given, evenly spread over the set; frames of each film."""


class SourceImage(Protocol):
    """What the benchmark asks of an image; can be handed to another process."""

    @property
    def name(self) -> str: ...

    def pixels(self) -> np.ndarray:
        """uint8 (H, W, 3)"""


@dataclass(frozen=True)
class DatasetImage:
    """``grey``: whether a grey file is taken as R = G = B, as is usual for ImageNet."""

    name: str
    path: Path
    grey: bool = False

    def pixels(self) -> np.ndarray:
        """uint8 (H, W, 3); images of other modes are refused, since converting them would change what is measured."""
        try:
            with Image.open(self.path) as image:
                if self.grey and image.mode == "L":
                    return np.asarray(image.convert("RGB"))
                if image.mode != "RGB":
                    raise InputError(f"{self.path}: expected 8-bit RGB, found mode {image.mode}; convert it first")
                return np.asarray(image)
        except (OSError, UnidentifiedImageError) as error:
            raise InputError(f"{self.path}: cannot be read as an image ({error})") from error


def pixel_hash(pixels: np.ndarray) -> str:
    """SHA-256 of shape and values: the identity of a test image, whatever file holds it."""
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def find_images(paths: Sequence[Path], kind: Kind = "auto", limit: int | None = None) -> list[SourceImage]:
    """All images of the given files, folders and data sets, in the order given, folders by file name; names must differ.

    ``auto`` looks at what is there: class folders are ImageNet, batch files CIFAR-10, films frames, all else images. ``limit``
    is per path (per film for films), DEFAULT_LIMITS without. Raises InputError, for a missing data set with where to get it.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit: expected at least 1 image, found {limit}")
    images: dict[str, SourceImage] = {}
    total = 0
    for path in paths:
        found = _images_of(path, guess(path) if kind == "auto" else kind, limit)
        images |= {image.name: image for image in found}
        total += len(found)
    if len(images) < total:
        raise InputError("two images have the same name; results are kept by name, so give each its own")
    return list(images.values())


def _images_of(path: Path, kind: str, limit: int | None) -> Sequence[SourceImage]:
    limit = DEFAULT_LIMITS[kind] if limit is None else limit
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; expected {sources.HINTS[kind]}")
    if kind == "cifar10":
        return sources.cifar_images(path, limit)
    if kind == "video":
        return sources.video_frames(path, limit)
    if kind == "imagenet":
        return [DatasetImage(file.stem, file, grey=True) for file in sources.imagenet_files(path, READ_SUFFIXES, limit)]
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in READ_SUFFIXES)
        if not files:
            raise InputError(f"{path}: no images; expected files ending in {', '.join(sorted(READ_SUFFIXES))}")
    return [DatasetImage(file.stem, file) for file in sources.spread(files, limit)]


def guess(path: Path) -> str:
    """The kind of what is at a path."""
    if path.is_dir():
        if sources.cifar_batches(path):
            return "cifar10"
        entries = list(path.iterdir())
        if any(entry.suffix.lower() in READ_SUFFIXES for entry in entries):
            return "folder"
        if any(entry.suffix.lower() in sources.VIDEO_SUFFIXES for entry in entries):
            return "video"
        return "imagenet" if any(entry.is_dir() for entry in entries) else "folder"
    if path.stem in sources.CIFAR_BATCHES and path.suffix in (".bin", ""):
        return "cifar10"
    return "video" if path.suffix.lower() in sources.VIDEO_SUFFIXES else "folder"
