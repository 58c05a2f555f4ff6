"""The script that fills the tables about films."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("av")
pytest.importorskip("cv2")
from flowcodec.benchmark.film_codecs import ANCHOR
from flowcodec.benchmark.film_summary import summary

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts/render_films.py"))


@pytest.fixture
def document() -> dict[str, Any]:
    rows = [
        {
            "codec": codec,
            "film": film,
            "setting": k,
            "kbps": factor * 100 * 2**k,
            "psnr_yuv_db": 30 + 3 * k,
            "psnr_rgb_db": 29 + 3 * k,
        }
        | {"frames_psnr_yuv_db": [30 + 3 * k, 29], "megapixels": 1, "encode_cpu_s": 2.0, "decode_cpu_s": 1.0}
        for codec, factor in (("FlowCodec", 0.8), (ANCHOR, 1.0), ("AVIF all-intra", 3.0))
        for film in ("pan", "still")
        for k in range(3)
    ]
    rows.append({"codec": ANCHOR, "film": "pan", "setting": 7, "error": "ValueError: no"})
    film = {"width": 64, "height": 48, "frames": 2, "fps": 25.0, "seconds": 0.08, "camera_px": 1.5}
    described = {"description": {"version": "1", "options": {"g": "250"}, "setting": "crf"}}
    codecs = dict.fromkeys(("FlowCodec", ANCHOR, "AVIF all-intra"), described)
    return {
        "kind": "films",
        "films": dict.fromkeys(("pan", "still"), film),
        "codecs": codecs,
        "rows": rows,
        "summary": summary(rows),
    }


def test_tables_and_figure(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "films.json").write_text(json.dumps(document))
    text = SCRIPT["fill"]((ROOT / "docs/video.md").read_text(), tmp_path)
    assert "| **FlowCodec** | -20.0 % | -20.0 % | -20.0 % |" in text and "| AVIF all-intra | -73.3 % |" in text
    assert "| pan | 64x48 | 2 | 25.00 | 1.50 |" in text and "g=250" in text
    assert text.count("Not measured yet.") == 4 and SCRIPT["fill"](text, tmp_path) == text
    SCRIPT["draw"](document, tmp_path / "films.png")
    with Image.open(tmp_path / "films.png") as figure:
        assert figure.width > 800


def test_the_committed_results_can_be_shown() -> None:
    for _, file, table in SCRIPT["TABLES"]:
        path = ROOT / "results" / f"{file}.json"
        if path.exists():
            assert table(json.loads(path.read_text())).startswith(("| ", "BD-rate"))
