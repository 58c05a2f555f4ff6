"""Writes the golden files of the shipped model: ``python tests/golden/regenerate.py``. Needed after a change of format or model.

Each file's bytes and the SHA-256 of its decoded pixels are pinned; a decoder on any machine must reproduce the pixels.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
from PIL import Image

import flowcodec
from flowcodec.demo import PHOTO

FOLDER = Path(__file__).parent
HASHES = FOLDER / "hashes.json"


def cases() -> dict[str, tuple[np.ndarray, dict]]:
    """Name -> (pixels, encoder settings)."""
    with Image.open(PHOTO) as image:
        photograph = np.asarray(image.convert("RGB"))
    crop = photograph[180:277, 300:431]
    alpha = np.tile(np.arange(131, dtype=np.uint8), (97, 1))
    deep = crop[:26, :20].astype(np.uint16) * 251 + np.random.default_rng(0).integers(0, 500, (26, 20, 3)).astype(np.uint16)
    return {
        "color_round": (crop, {"step": 16, "channel": "round"}),
        "color_dither": (crop, {"step": 16, "channel": "dither", "seed": 1234}),
        "color_trellis": (photograph[100:164, 200:330], {"step": 8, "channel": "trellis"}),
        "color_coarse": (photograph, {"step": 200, "channel": "round"}),
        "color_fine": (crop[:33, :40], {"step": 1, "channel": "round"}),
        "grey": (crop[:, :, 1], {"quality": 50, "channel": "round"}),
        "alpha": (np.dstack([crop, alpha]), {"quality": 40, "channel": "round"}),
        "pixel": (crop[:1, :1], {"channel": "round"}),
        "lossless": (crop[:33, :40], {"lossless": True}),
        "lossless_alpha": (np.dstack([crop, alpha])[:40, :23], {"lossless": True}),
        "lossless_grey": (crop[:30, :30, 1], {"lossless": True}),
        "lossless_flat": (crop[:64, :64] // 64 * 64, {"lossless": True}),
        "near_lossless": (crop[:31, :45], {"max_error": 2}),
        "lossless_deep": (np.dstack([deep, deep[..., 0]]), {"lossless": True}),
        "lossless_deep_flat": (deep[:, :, 1] // 40000, {"lossless": True}),
        "near_lossless_deep": (deep[:, :, 0], {"max_error": 300}),
        "line": (crop[:1], {"step": 5, "channel": "round"}),
    }


def pixel_hash(array: np.ndarray) -> str:
    return hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()


def main() -> None:
    hashes = {}
    for name, (pixels, settings) in cases().items():
        data = flowcodec.encode(pixels, threads=1, **settings)
        (FOLDER / f"{name}.flow").write_bytes(data)
        hashes[name] = pixel_hash(flowcodec.decode(data, threads=1))
    HASHES.write_text(json.dumps(hashes, indent=1) + "\n")


if __name__ == "__main__":
    main()
