"""Test images: files or folders of files, such as the 24 of Kodak, as 8-bit RGB pixels."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from flowcodec.errors import InputError
from flowcodec.runtime.image import READ_SUFFIXES


@dataclass(frozen=True)
class DatasetImage:
    name: str
    path: Path

    def pixels(self) -> np.ndarray:
        """uint8 (H, W, 3); images of other modes are refused, since converting them would change what is measured."""
        try:
            with Image.open(self.path) as image:
                if image.mode != "RGB":
                    raise InputError(f"{self.path}: expected 8-bit RGB, found mode {image.mode}; convert it first")
                return np.asarray(image)
        except (OSError, UnidentifiedImageError) as error:
            raise InputError(f"{self.path}: cannot be read as an image ({error})") from error


def pixel_hash(pixels: np.ndarray) -> str:
    """SHA-256 of shape and values: the identity of a test image, whatever file holds it."""
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def find_images(paths: Sequence[Path]) -> list[DatasetImage]:
    """All images of the given files and folders, in the order given, folders by file name; names must differ."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in READ_SUFFIXES)
            if not found:
                raise InputError(f"{path}: no images; expected files ending in {', '.join(sorted(READ_SUFFIXES))}")
            files.extend(found)
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"{path}: no such file or folder")
    images = {file.stem: DatasetImage(file.stem, file) for file in files}
    if len(images) < len(files):
        raise InputError("two images have the same name; results are kept by name, so give each its own")
    return list(images.values())
