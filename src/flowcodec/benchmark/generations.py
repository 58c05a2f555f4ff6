"""What re-encoding costs: encode and decode at one setting, then the result again, ten times over, for every codec.

The setting is the one of the codec's grid whose first file comes nearest to a given rate, so that all start alike. PSNR is always
against the original. A codec whose transform and quantiser meet the same lattice again stops losing after the first time.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from flowcodec.benchmark.datasets import SourceImage, pixel_hash
from flowcodec.benchmark.document import Codec, replace_file
from flowcodec.benchmark.environment import environment
from flowcodec.benchmark.metrics import finite
from flowcodec.errors import InputError
from flowcodec.runtime.quality import psnr_db

KIND = "generations"
COUNT = 10
BPP = 0.75


def run_generations(
    images: Sequence[SourceImage],
    codecs: Sequence[Codec],
    out: Path,
    *,
    count: int = COUNT,
    bpp: float = BPP,
    crop: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Writes and returns {kind, rows: one per codec and image, means: per codec}; what ``out`` already holds is kept.

    ``crop``: only the middle of each picture, at most this many pixels each way. Raises InputError for another kind of file in
    ``out``.
    """
    original = {image.name: _middle(image.pixels(), crop) for image in images}
    described = {codec.name: codec.describe() for codec in codecs}
    identity = {"images": {name: pixel_hash(pixels) for name, pixels in original.items()}, "count": count, "bpp": bpp}
    document = _begin(out, identity, described)
    todo = [(codec, name) for codec in codecs for name in original if (codec.name, name) not in _keys(document)]
    for done, (codec, name) in enumerate(todo, start=1):
        document["rows"].append(_row(codec, name, original[name], count, bpp))
        document["means"] = means(document["rows"], len(original))
        replace_file(out, json.dumps(document, indent=1) + "\n")
        if progress is not None:
            progress(done, len(todo))
    document["means"] = means(document["rows"], len(original))
    replace_file(out, json.dumps(document, indent=1) + "\n")
    return document


def _middle(pixels: np.ndarray, side: int | None) -> np.ndarray:
    if side is None:
        return pixels
    top, left = (max(extent - side, 0) // 2 for extent in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def repeat(codec: Codec, pixels: np.ndarray, setting: float, count: int) -> dict[str, list[Any]]:
    """Bytes and PSNR (dB, None for equal pictures) of each of ``count`` generations."""
    sizes: list[int] = []
    qualities: list[float | None] = []
    picture = pixels
    for _ in range(count):
        data = codec.encode(picture, setting)
        picture = codec.decode(data)
        sizes.append(len(data))
        qualities.append(finite(psnr_db(pixels, picture)))
    return {"size_bytes": sizes, "psnr_db": qualities}


def nearest_setting(codec: Codec, pixels: np.ndarray, bpp: float) -> float:
    """The setting whose file is nearest to ``bpp`` as a ratio, by bisection over the grid, whose rates rise or fall."""
    rates: dict[int, float] = {}

    def rate(position: int) -> float:
        if position not in rates:
            rates[position] = 8 * len(codec.encode(pixels, codec.settings[position])) / (pixels.shape[0] * pixels.shape[1])
        return rates[position]

    low, high = 0, len(codec.settings) - 1
    rising = rate(low) < rate(high)
    while high - low > 1:
        middle = (low + high) // 2
        if (rate(middle) < bpp) == rising:
            low = middle
        else:
            high = middle
    return codec.settings[min((low, high), key=lambda position: abs(np.log(rate(position) / bpp)))]


def means(rows: Sequence[dict[str, Any]], images: int) -> dict[str, dict[str, Any]]:
    """Per codec, over all images: PSNR and size relative to the first file at each generation, and dB lost after the first.

    A codec that failed on an image, or is not yet measured on all, has no means.
    """
    result = {}
    for codec in dict.fromkeys(row["codec"] for row in rows):
        found = [row for row in rows if row["codec"] == codec]
        if len(found) < images or any("error" in row or None in row["psnr_db"] for row in found):
            continue
        psnr = [fmean(values) for values in zip(*(row["psnr_db"] for row in found), strict=True)]
        ratios = [[size / row["size_bytes"][0] for size in row["size_bytes"]] for row in found]
        sizes = [fmean(values) for values in zip(*ratios, strict=True)]
        result[codec] = {"psnr_db": psnr, "relative_size": sizes, "lost_after_first_db": psnr[0] - psnr[-1]}
    return result


def _row(codec: Codec, name: str, pixels: np.ndarray, count: int, bpp: float) -> dict[str, Any]:
    try:
        setting = nearest_setting(codec, pixels, bpp)
        return {"codec": codec.name, "image": name, "setting": setting, **repeat(codec, pixels, setting, count)}
    except Exception as error:  # whatever a rival's library raises: it failed on this image, and the page says so
        return {"codec": codec.name, "image": name, "error": f"{type(error).__name__}: {error}"}


def _begin(out: Path, identity: dict[str, Any], described: dict[str, Any]) -> dict[str, Any]:
    """A new document, with those rows of an old one that were made in the same way."""
    new = {"kind": KIND, **identity, "codecs": json.loads(json.dumps(described)), "environment": environment(), "rows": []}
    if not out.exists():
        return new
    try:
        old = json.loads(out.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{out}: cannot read earlier results ({error}); move the file away to begin anew") from error
    if not isinstance(old, dict) or old.get("kind") != KIND:
        raise InputError(f"{out}: holds results of another kind; give another --out")
    if all(old.get(key) == value for key, value in identity.items()):
        new["codecs"] = old["codecs"] | new["codecs"]
        changed = {name for name, text in new["codecs"].items() if old["codecs"].get(name, text) != text}
        new["rows"] = [row for row in old["rows"] if row["codec"] not in changed and "error" not in row]
    return new


def _keys(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {(row["codec"], row["image"]) for row in document["rows"]}
