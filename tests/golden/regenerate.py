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
    framed = np.pad(crop[:56, :70], ((0, 1), (3, 2), (0, 0)), constant_values=250)
    framed = np.pad(framed, ((20, 0), (1, 1), (0, 0)))
    fine = crop[:70, :80].astype(int)
    fine[:, :50] += 60 * (np.indices((70, 50)).sum(0) % 2 * 2 - 1)[..., None]
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
        "margins": (framed, {"step": 20, "channel": "round"}),
        "margins_grey": (framed[..., 1], {"step": 20}),
        "shifts": (np.clip(fine, 0, 255).astype(np.uint8), {"step": 64}),
        "turned": ((photograph[60:124, 40:140] // [3, 2, 1]).astype(np.uint8), {"step": 20}),
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
