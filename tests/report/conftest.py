"""Results files as the benchmarks write them, of codecs and pictures made here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flowcodec.benchmark.summary import summarise

pytest.importorskip("av")
pytest.importorskip("cv2")
from flowcodec.benchmark.film_codecs import ANCHOR
from flowcodec.benchmark.film_summary import summary

ROOT = Path(__file__).parents[2]
IMAGES = ("castle", "lake", "</script>")
ENVIRONMENT = {"machine": {"cpu": "CPU", "cores": 2, "system": "X"}, "python": "3", "packages": {}, "commit": "0" * 40}


def rows_of(codec: str, factor: float, images: tuple[str, ...] = IMAGES) -> list[dict[str, Any]]:
    """The published AV1 curve at ``factor`` times its rate, images one more costly than the other; one setting failed."""
    anchors = json.loads((ROOT / "results/anchors/kodak_anchors.json").read_text())["AV1"]
    rows = []
    for position, image in enumerate(images):
        for setting, (bpp, psnr) in enumerate(zip(anchors["bpp"], anchors["psnr_rgb"], strict=True)):
            rate = factor * bpp * (1 + 0.2 * position)
            row = {
                "codec": codec,
                "image": image,
                "setting": setting,
                "size_bytes": int(rate * 1000),
                "bpp": rate,
                "psnr_db": psnr,
            }
            detail = (
                {"ssimulacra2": 2 * psnr - 10, "detail_kept": [0.5 + psnr / 100, 0.6 + psnr / 120]} if setting % 3 == 0 else {}
            )
            rows.append({**row, "ms_ssim": psnr / 50, **detail, "encode_s": None, "decode_s": None, "encode_cpu_s": factor})
            rows[-1]["decode_cpu_s"] = factor / 2
    return rows


def benchmark_document(codecs: dict[str, float], images: tuple[str, ...] = IMAGES, failing: str | None = None) -> dict[str, Any]:
    anchors = json.loads((ROOT / "results/anchors/kodak_anchors.json").read_text())
    rows = [row for codec, factor in codecs.items() for row in rows_of(codec, factor, images)]
    if failing:
        kept = {"codec": failing, "image": images[0], "setting": 99, "size_bytes": None, "bpp": None, "encode_s": None}
        rows.append({**kept, "decode_s": None, "error": "ValueError: <b>no</b> such colour"})
    described = {"version": "1", "options": {"speed": 6}, "setting": "quality", "environment": ENVIRONMENT}
    return {
        "format": 1,
        "images": {name: {"width": 64, "height": 48, "sha256": name} for name in images},
        "codecs": {codec: described for codec in codecs},
        **summarise(rows, images, anchors, intervals=True),
        "rows": rows,
    }


def films_document() -> dict[str, Any]:
    """Two clips and three codecs, one of which failed once."""
    rows: list[dict[str, Any]] = []
    for codec, factor in (("FlowCodec", 1.0), (ANCHOR, 1.5), ("x265 medium B-frames", 0.8)):
        for film in ("pan", "</script>"):
            for setting in range(3):
                psnr = 30.0 + 3 * setting
                row = {"codec": codec, "film": film, "setting": setting, "frames": 2, "megapixels": 0.5, "size_bytes": 1000}
                row |= {"kbps": factor * 100 * 1.8**setting, "psnr_yuv_db": psnr, "psnr_rgb_db": psnr - 2, "ms_ssim_y": None}
                row |= {"frames_psnr_yuv_db": [psnr + 0.5, psnr - 0.5], "encode_cpu_s": factor, "decode_cpu_s": factor / 2}
                rows.append(row)
    rows.append({"codec": ANCHOR, "film": "pan", "setting": 9, "frames": 2, "error": "ValueError: <b>no</b> such rate"})
    film = {"width": 64, "height": 48, "frames": 2, "fps": 25.0, "seconds": 0.08, "camera_px": 1.5, "sha256": "0"}
    described = {"version": "1", "options": {"preset": "medium"}, "setting": "crf"}
    codecs = {row["codec"]: {"description": described, "environment": ENVIRONMENT} for row in rows}
    films = {name: film for name in ("pan", "</script>")}
    return {"kind": "films", "films": films, "codecs": codecs, "rows": rows, "summary": summary(rows)}


@pytest.fixture(scope="session")
def make_document() -> Callable[..., dict[str, Any]]:
    return benchmark_document


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of every kind."""
    folder = tmp_path_factory.mktemp("results")
    side = {"median_s": 0.5, "min_s": 0.4, "max_s": 0.6}
    peaks = {"width": 6000, "height": 4000, "encode": {"peak_mib": 900.0}, "decode": {"peak_mib": 800.0}}
    means = {"psnr_db": [35.0, 34.5, 34.4], "relative_size": [1.0, 0.99, 0.98], "lost_after_first_db": 0.6}
    documents = {
        "kodak": benchmark_document({"FlowCodec": 1.05, "AVIF": 1.3, "WebP": 1.8}, failing="WebP"),
        "generations": {
            "kind": "generations",
            "images": {"castle": "0"},
            "count": 3,
            "bpp": 0.75,
            "rows": [{"codec": "WebP", "image": "castle", "error": "OSError: gone"}],
            "means": {"FlowCodec": means, "AVIF": means},
        },
        "films": films_document(),
        "study": {
            "kind": "study",
            "title": "Noise & rounding",
            "description": "Two arms.",
            "columns": ["arm", "bpp", "kept"],
            "rows": [{"arm": "noise", "bpp": 0.51234567, "kept": True}, {"arm": "rounding", "bpp": None}],
        },
        "ablation": {
            "data": "crops",
            "rows": [{"arm": "default", "bd_rate_percent": 0.0, "bd_rate_percent_low": 0.0, "bd_rate_percent_high": 1.5}],
        },
        "speed": {
            "image": {"width": 768, "height": 512},
            "settings": {"threads": 2},
            "encode": side,
            "decode": side,
            "decoder_kmac_per_pixel": 43.1,
        },
        "memory": {"photographs": {"p.jpg": peaks}},
    }
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document))
    return {name: folder / f"{name}.json" for name in documents}


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of decodes: FlowCodec and AVIF at two rates each, that differ in the lower right corner."""
    folder = tmp_path_factory.mktemp("kept")
    random = np.random.default_rng(5)
    original = random.integers(60, 190, (400, 500, 3), np.uint8)
    Image.fromarray(original).save(folder / "castle.png")
    decodes = []
    for codec, error in (("FlowCodec", 10), ("AVIF", -40)):
        for setting, bpp in ((1.0, 0.2), (2.0, 0.9)):
            picture = original.copy()
            picture[200:, 300:] = np.clip(picture[200:, 300:].astype(int) + int(error * setting), 0, 255)
            file = f"{codec}-{setting:g}.png"
            Image.fromarray(picture).save(folder / file)
            entry = {"codec": codec, "image": "castle", "setting": setting, "size_bytes": 1, "bpp": bpp, "psnr_db": 33.0}
            decodes.append({**entry, "file": file})
    (folder / "index.json").write_text(json.dumps({"images": {"castle": "castle.png"}, "decodes": decodes}))
    return folder
