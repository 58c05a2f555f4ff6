"""The script that turns results into the README's tables and figure."""

import json
import runpy
from pathlib import Path

import pytest
from PIL import Image

from flowcodec.benchmark.summary import summarise
from flowcodec.errors import InputError

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts/render_results.py"))


@pytest.fixture
def document() -> dict:
    anchors = json.loads((ROOT / "results/anchors/kodak_anchors.json").read_text())
    rows = [
        {"codec": codec, "image": "a", "setting": k, "bpp": factor * rate, "psnr_db": quality, "ms_ssim": None}
        for codec, factor in (("FlowCodec", 1.1), ("WebP", 2.0), ("JPEG 2000", 1.9))
        for k, (rate, quality) in enumerate(zip(anchors["AV1"]["bpp"], anchors["AV1"]["psnr_rgb"], strict=True))
    ]
    return {"images": {"a": {}}, **summarise(rows, ["a"], anchors)}


def test_table_and_figure(document: dict, tmp_path: Path) -> None:
    table = SCRIPT["kodak_table"](document)
    lines = table.splitlines()
    names = [line.split("|")[1].strip() for line in lines[2:9]]
    assert names[0] == "VTM (CompressAI) (published)"
    assert names.index("**FlowCodec**") < names.index("JPEG 2000") < names.index("WebP")
    assert "FlowCodec is above WebP from 0.2 to 2 bpp" in table
    SCRIPT["draw"](document, tmp_path / "figures" / "rd.png")
    with Image.open(tmp_path / "figures" / "rd.png") as figure:
        assert figure.width > 800


def test_speed_table() -> None:
    time = {"median_s": 0.5, "min_s": 0.4, "max_s": 0.6}
    speed = {
        "environment": {"machine": {"cpu": "CPU", "cores": 2}},
        "model": "00ff",
        "settings": {"threads": 2, "quality": 60.0, "repeats": 5},
        "image": {"name": "a", "width": 768, "height": 512, "bpp": 1.0},
        "encode": time,
        "decode": time,
        "start_up": {"help": time, "info": time},
        "decoder_kmac_per_pixel": 41.25,
    }
    peaks = {"encode": {"peak_mib": 900.4}, "decode": {"peak_mib": 700.0}}
    memory = {"photographs": {"p.jpg": {**peaks, "width": 6000, "height": 4000}}}
    table = SCRIPT["speed_table"](speed, memory)
    assert "| decode | 0.50 s |" in table and "41.2 k per pixel" in table and "24 megapixels | 900 / 700 MiB" in table


def test_channel_table() -> None:
    row = {f"bd_rate_percent{part}": value for part, value in (("", -4.444), ("_low", -3.0), ("_high", -5.0))}
    row |= {"channel": "trellis", "bd_rate_percent_by_crop": [-5.06, -3.0]}
    row |= {"encode_cpu_s_per_megapixel": 5.26, "decode_cpu_s_per_megapixel": 4.0}
    document = {"rows": [row], "steps": [10.0, 30.0], "data": "crops", "model": "00ff"}
    expected = "| `trellis` | -4.44 % | -3.00 % | -5.00 % | -5.1 to -3.0 % | 5.3 s | 4.0 s |"
    assert expected in SCRIPT["channel_table"](document)


def test_effort_table() -> None:
    row = {"effort": 6, "bd_rate_percent": -4.44, "bd_rate_percent_by_crop": [-5.0, -3.0], "cpu_s_per_megapixel": 81.6}
    document = {"rows": [{}, row], "steps": [10.0, 30.0], "data": "crops", "model": "00ff"}
    assert "| `--effort 6` | -4.4 % | -5.0 to -3.0 % | 82 s |" in SCRIPT["effort_table"](document)


def test_study_table() -> None:
    study = {
        "columns": ["codec", "rate %", "why"],
        "rows": [{"codec": "JPEG", "rate %": -2.51, "why": None}],
        "description": "Text.",
    }
    assert SCRIPT["study_table"](study).splitlines()[2:] == ["| JPEG | -2.5 | – |", "", "Text."]  # noqa: RUF001


def test_blocks_are_replaced_and_missing_markers_refused() -> None:
    text = "head\n<!-- kodak:begin -->\nold\n<!-- kodak:end -->\ntail\n"
    once = SCRIPT["replace_block"](text, "kodak", "new \\1")
    assert once == "head\n<!-- kodak:begin -->\nnew \\1\n<!-- kodak:end -->\ntail\n"
    assert SCRIPT["replace_block"](once, "kodak", "new \\1") == once
    with pytest.raises(InputError, match="speed:begin"):
        SCRIPT["replace_block"](text, "speed", "")
