"""Keeps some decoded pictures for looking at: a few images, at the settings nearest to a few rates, in a folder with an index.

    DIR/index.json   {"images": {name: file}, "decodes": [{codec, image, setting, bpp, psnr_db, file}]}
    DIR/*.png        the exact pixels

Which images: those where the codecs disagree most about how hard they are, i.e. the best and the worst for ours, see
``pick_images``.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flowcodec.benchmark.datasets import SourceImage
from flowcodec.benchmark.document import Codec, replace_file

INDEX = "index.json"
TARGET_BPP = (0.15, 0.35, 0.8)
MOST_IMAGES = 4
LARGEST_SIDE = 1024
"""Images with a longer side are not kept: a page with them would be too large."""


def keep_decodes(
    document: Mapping[str, Any],
    images: Sequence[SourceImage],
    codecs: Sequence[Codec],
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Encodes and decodes again what ``folder`` does not hold yet, and writes the index. Rows that failed are left out."""
    chosen = set(pick_images(document))
    by_name = {codec.name: codec for codec in codecs}
    wanted = [row for row in nearest_rows(document["rows"]) if row["image"] in chosen and row["codec"] in by_name]
    old = _read_index(folder)
    index: dict[str, Any] = {"images": {}, "decodes": []}
    held = {(entry["codec"], entry["image"], entry["setting"], entry["size_bytes"]): entry for entry in old["decodes"]}
    pixels = {image.name: image.pixels() for image in images if image.name in chosen}
    for name, original in pixels.items():
        index["images"][name] = _save(folder, f"{_plain(name)}.png", original)
    for done, row in enumerate(wanted, start=1):
        entry = held.get((row["codec"], row["image"], row["setting"], row["size_bytes"]))
        if entry is None or not (folder / entry["file"]).exists():
            codec = by_name[row["codec"]]
            decoded = codec.decode(codec.encode(pixels[row["image"]], row["setting"]))
            file = _save(folder, f"{_plain(row['image'])}_{_plain(row['codec'])}_{row['setting']:g}.png", decoded)
            columns = ("codec", "image", "setting", "size_bytes", "bpp", "psnr_db")
            entry = {**{column: row[column] for column in columns}, "file": file}
        index["decodes"].append(entry)
        if progress is not None:
            progress(done, len(wanted))
    rest = [entry for entry in old["decodes"] if entry["codec"] not in by_name and entry["image"] in chosen]
    index["decodes"] += [entry for entry in rest if (folder / entry["file"]).exists()]
    replace_file(folder / INDEX, json.dumps(index, indent=1) + "\n")


def pick_images(document: Mapping[str, Any]) -> list[str]:
    """At most MOST_IMAGES names: where ours does best and worst against the first rival, else the first ones."""
    small = [name for name, image in document["images"].items() if max(image["width"], image["height"]) <= LARGEST_SIDE]
    rivals = document["image_by_image"].get("values", {})
    against: dict[str, float] = next(iter(rivals.values()), {})
    ranked = sorted((name for name in small if name in against), key=lambda name: against[name]) or small
    half = MOST_IMAGES // 2
    return list(dict.fromkeys([*ranked[:half], *ranked[-half:]]))


def nearest_rows(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """For each codec and image the row nearest in rate (as a ratio) to each target; each row once."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row.get("error") is None:
            groups.setdefault((row["codec"], row["image"]), []).append(row)
    chosen = []
    for found in groups.values():
        picked = {}
        for target in TARGET_BPP:
            row = min(found, key=lambda row: abs(np.log(row["bpp"] / target)))
            picked[row["setting"]] = row
        chosen += list(picked.values())
    return chosen


def _save(folder: Path, name: str, pixels: np.ndarray) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / name, "PNG")
    return name


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]+", "-", text).strip("-")


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / INDEX).read_text())
    except (OSError, ValueError):
        return {"images": {}, "decodes": []}
