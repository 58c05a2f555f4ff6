"""Kept decodes for the page: of each image the crop where the codecs differ most at about the same rate, stored exactly."""

import base64
import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flowcodec.errors import InputError

CROP = 272
"""Side of a crop in pixels; on the page one pixel is shown as two by two."""
MOST_BYTES = 14_000_000
"""Of all pictures on the page; what would go beyond is left out, and the page says so."""


def load_pictures(folders: Sequence[Path]) -> dict[str, Any]:
    """{"images": {name: {"crop": [left, top, width, height], "original": URI, "decodes": [{codec, setting, bpp, psnr_db, uri}]}},
    "left_out": count}. Raises InputError for a folder without an index or with files missing.
    """
    images: dict[str, Any] = {}
    spent, left_out = 0, 0
    for folder in folders:
        index = _index(folder)
        for name, file in index["images"].items():
            decodes = [(entry, _read(folder / entry["file"])) for entry in index["decodes"] if entry["image"] == name]
            original = _read(folder / file)
            left, top, width, height = find_crop([pixels for _, pixels in decodes] or [original])
            window = slice(top, top + height), slice(left, left + width)
            shown = []
            for entry, pixels in decodes:
                uri = _uri(pixels[window])
                spent += len(uri)
                if spent > MOST_BYTES:
                    left_out += 1
                    continue
                shown.append({key: entry[key] for key in ("codec", "setting", "bpp", "psnr_db")} | {"uri": uri})
            images[name] = {"crop": [left, top, width, height], "original": _uri(original[window]), "decodes": shown}
    return {"images": images, "left_out": left_out}


def find_crop(pictures: Sequence[np.ndarray]) -> tuple[int, int, int, int]:
    """(left, top, width, height) of the CROP-sized window, on a grid of 8, with the largest variance between the pictures."""
    luma = np.stack([picture.astype(np.float32).mean(axis=2) for picture in pictures])
    height, width = (min(CROP, extent) for extent in luma.shape[1:])
    sums = np.pad(luma.var(axis=0).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    tops, lefts = np.arange(0, luma.shape[1] - height + 1, 8), np.arange(0, luma.shape[2] - width + 1, 8)
    corner = [sums[np.ix_(tops + down, lefts + right)] for down, right in ((0, 0), (0, width), (height, 0), (height, width))]
    best = np.argmax(corner[3] - corner[1] - corner[2] + corner[0])
    row, column = np.unravel_index(best, (len(tops), len(lefts)))
    return int(lefts[column]), int(tops[row]), width, height


def _index(folder: Path) -> Mapping[str, Any]:
    try:
        return json.loads((folder / "index.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: expected a folder written by `flowcodec benchmark --keep` ({error})") from error


def _read(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise InputError(f"{path}: a kept decode cannot be read ({error}); run `flowcodec benchmark --keep` again") from error


def _uri(pixels: np.ndarray) -> str:
    stream = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "WEBP", lossless=True, quality=50, method=2)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
