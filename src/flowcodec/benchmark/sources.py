"""Readers of published data sets: CIFAR-10 in both of its layouts, ImageNet folders, and films as sources of frames.

Each ``*_images`` function lists what a path holds without decoding it; each image reads its own pixels, so a list is small and
can be handed to another process.
"""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from flowcodec.errors import InputError

Item = TypeVar("Item")
CIFAR_SIDE = 32
_CIFAR_PIXELS = 3 * CIFAR_SIDE * CIFAR_SIDE
_CIFAR_RECORD = 1 + _CIFAR_PIXELS
CIFAR_BATCHES = ("test_batch", "data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")
VIDEO_SUFFIXES = frozenset({".mkv", ".mp4", ".mov", ".webm", ".avi", ".y4m"})

HINTS = {
    "folder": "a folder of PNG or other losslessly stored RGB images; Kodak: kodim01.png ..., from r0k.us/graphics/kodak",
    "cifar10": "a folder with cifar-10-batches-py/ (test_batch, data_batch_1 ...) or cifar-10-batches-bin/ (test_batch.bin ...), "
    "as unpacked from the archives at www.cs.toronto.edu/~kriz/cifar.html",
    "imagenet": "a folder with one folder for each class (n01440764/*.JPEG ...), such as ILSVRC2012 val/ from image-net.org, "
    "sorted by class",
    "video": "a film, or a folder of films, that FFmpeg reads (.mkv, .mp4, .y4m ...), such as those at media.xiph.org/video/derf",
}
"""What a data set must look like, and where it is to be had; for messages."""


def missing(path: Path, kind: str) -> InputError:
    return InputError(f"{path}: no {kind} data set here; expected {HINTS[kind]}")


def spread(items: Sequence[Item], limit: int | None) -> list[Item]:
    """At most ``limit`` of the items, evenly spaced, in order, the first always among them."""
    if limit is None or len(items) <= limit:
        return list(items)
    return [items[k * len(items) // limit] for k in range(limit)]


@dataclass(frozen=True)
class StoredPicture:
    """One picture of a file that holds many, ``read(path, index)``; the reader is a function of this module."""

    name: str
    path: Path
    index: int
    read: Callable[[Path, int], np.ndarray]

    def pixels(self) -> np.ndarray:
        """uint8 (H, W, 3)"""
        return self.read(self.path, self.index)


# --- CIFAR-10 -----------------------------------------------------------------------------------------------------------


def cifar_batches(folder: Path) -> list[Path]:
    """The batch files in ``folder`` or in the folder of the archive inside it, test batch first; binary ones where both are
    there.
    """
    for inner in (folder / "cifar-10-batches-bin", folder / "cifar-10-batches-py", folder):
        for suffix in (".bin", ""):
            found = [inner / (batch + suffix) for batch in CIFAR_BATCHES if (inner / (batch + suffix)).is_file()]
            if found:
                return found
    return []


def cifar_images(path: Path, limit: int | None) -> list[StoredPicture]:
    """Pictures of one batch file, or of the test batch of a folder (of its first batch where there is no test batch)."""
    batch = path
    if path.is_dir():
        batches = cifar_batches(path)
        if not batches:
            raise missing(path, "cifar10")
        batch = batches[0]
    count = len(_cifar_batch(batch))
    return [StoredPicture(f"{batch.stem}-{index:05d}", batch, index, read_cifar) for index in spread(range(count), limit)]


def read_cifar(batch: Path, index: int) -> np.ndarray:
    """uint8 (32, 32, 3)"""
    return _cifar_batch(batch)[index].reshape(3, CIFAR_SIDE, CIFAR_SIDE).transpose(1, 2, 0).copy()


@lru_cache(maxsize=2)
def _cifar_batch(path: Path) -> np.ndarray:
    """uint8 (N, 3072): three planes of 32 rows for each picture. Raises InputError."""
    try:
        if path.suffix != ".bin":
            with path.open("rb") as stream:
                return _checked(path, _SafeUnpickler(stream, encoding="bytes").load())
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except (OSError, pickle.UnpicklingError, EOFError, KeyError, ValueError, IndexError, AttributeError, ImportError) as error:
        raise InputError(f"{path}: cannot be read as a CIFAR-10 batch ({error}); expected {HINTS['cifar10']}") from error
    if len(data) == 0 or len(data) % _CIFAR_RECORD:
        raise InputError(f"{path}: expected records of {_CIFAR_RECORD} bytes, found {len(data)} bytes; is the file complete?")
    return data.reshape(-1, _CIFAR_RECORD)[:, 1:]


def _checked(path: Path, batch: Any) -> np.ndarray:
    data = batch.get(b"data") if isinstance(batch, dict) else None
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != _CIFAR_PIXELS:
        raise InputError(f"{path}: expected a CIFAR-10 batch, a dict with 'data' of uint8 (N, {_CIFAR_PIXELS})")
    return data


class _SafeUnpickler(pickle.Unpickler):
    """A pickle may name any function to be called; a batch needs these three, so no others are there."""

    _ALLOWED = frozenset({"_reconstruct", "ndarray", "dtype"})

    def __init__(self, stream: BinaryIO, *, encoding: str) -> None:
        super().__init__(stream, encoding=encoding)

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in self._ALLOWED:
            return np.ndarray if name == "ndarray" else np.dtype if name == "dtype" else np.ndarray(0).__reduce__()[0]
        if (module, name) == ("_codecs", "encode"):
            return _encode_latin1
        raise pickle.UnpicklingError(f"it names {module}.{name}, which a CIFAR-10 batch has no need of")


def _encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    """How Python 3 pickles bytes for protocol 2."""
    return text.encode("latin1")


# --- ImageNet -----------------------------------------------------------------------------------------------------------


def imagenet_files(folder: Path, suffixes: frozenset[str], limit: int | None) -> list[Path]:
    """Images of all class folders, evenly spread over the classes."""
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    files = [file for entry in classes for file in sorted(entry.iterdir()) if file.suffix.lower() in suffixes]
    if not files:
        raise missing(folder, "imagenet")
    return spread(files, limit)


# --- films --------------------------------------------------------------------------------------------------------------


def read_frame(film: Path, index: int) -> np.ndarray:
    """uint8 (H, W, 3), RGB by FFmpeg's conversion: these pixels are the original that is compared with."""
    return _decode_frames(film, index + 1)[index]


def video_frames(path: Path, limit: int | None) -> list[StoredPicture]:
    """Frames of a film, or of every film of a folder, ``limit`` of each."""
    films = sorted(file for file in path.iterdir() if file.suffix.lower() in VIDEO_SUFFIXES) if path.is_dir() else [path]
    if not films or not path.exists():
        raise missing(path, "video")
    frames = []
    for film in films:
        count = len(_decode_frames(film, None))
        frames += [StoredPicture(f"{film.stem}-{k:04d}", film, k, read_frame) for k in spread(range(count), limit)]
    return frames


@lru_cache(maxsize=2)
def _decode_frames(path: Path, count: int | None) -> list[np.ndarray]:
    """The first ``count`` frames, or all. Raises InputError."""
    try:
        import av
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: reading films needs the package av: pip install 'flowcodec[video]'") from error
    frames = []
    try:
        with av.open(str(path)) as film:
            for frame in film.decode(video=0):
                frames.append(frame.to_ndarray(format="rgb24"))
                if len(frames) == count:
                    break
    except (av.FFmpegError, OSError, IndexError) as error:
        raise InputError(f"{path}: cannot be read as a film ({error})") from error
    if not frames or (count is not None and len(frames) < count):
        raise InputError(f"{path}: expected at least {count or 1} frames, found {len(frames)}")
    return frames
