"""Pixels as the neural rivals see them: -1 ... 1, sides filled up to a multiple of their stride."""

import numpy as np
import torch
from torch import Tensor

_HALF = 127.5


def to_unit(images: Tensor) -> Tensor:
    return images / _HALF - 1


def from_unit(values: Tensor) -> Tensor:
    return (values + 1) * _HALF


def padded(pixels: np.ndarray, stride: int) -> Tensor:
    """uint8 (H, W, 3) -> float (1, 3, H', W'), the last row and column repeated."""
    height, width = pixels.shape[:2]
    filled = np.pad(pixels, ((0, -height % stride), (0, -width % stride), (0, 0)), mode="edge")
    return torch.from_numpy(np.ascontiguousarray(filled.transpose(2, 0, 1)))[None].float()


def cut(images: Tensor, side: int) -> Tensor:
    """(1, C, H, W), sides multiples of ``side`` -> (tiles, C, side, side), row by row."""
    _, channels, height, width = images.shape
    rows = images.view(channels, height // side, side, width // side, side)
    return rows.permute(1, 3, 0, 2, 4).reshape(-1, channels, side, side)


def joined(tiles: Tensor, height: int, width: int) -> Tensor:
    """The inverse of ``cut`` for a picture of this size: (1, C, height, width)."""
    _, channels, side, _ = tiles.shape
    rows = tiles.view(height // side, width // side, channels, side, side)
    return rows.permute(2, 0, 3, 1, 4).reshape(1, channels, height, width)
