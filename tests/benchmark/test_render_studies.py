"""The script that turns studies, rivals and data sets into the tables and figures of docs/evidence.md."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

from flowcodec.benchmark.summary import summarise
from flowcodec.errors import InputError

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts/render_studies.py"))
SMALL = SCRIPT["SMALL"]


def points(codec: str, psnr: list[float]) -> list[dict]:
    rates = (0.1, 0.3, 0.9)
    return [
        {"codec": codec, "image": "a", "setting": k, "bpp": rate, "psnr_db": quality, "ms_ssim": None}
        for k, (rate, quality) in enumerate(zip(rates, psnr, strict=True))
    ]


def way(*errors: float) -> list[dict]:
    return [{"step": 10 * k, "cpu_s": 2.0 * k, "squared_error": e, "bpp": 0.5} for k, e in enumerate(errors, start=1)]


@pytest.fixture
def rivals() -> dict:
    own = {"settings": [1.0], "models": [{"channel": "gaussian"}], "parameters": {"1": 3e5}, "pixels_seen_by_each_model": 13e6}
    vq = {"settings": [1.0], "models": [{"halvings": 2}], "parameters": {"1": 5e5}, "pixels_seen_by_each_model": 13e6}
    rows = points("VQ", [20.0, 26.0, 41.0]) + points(SMALL, [24.0, 30.0, 36.0])
    codecs = {
        "VQ": {"training": vq | {"way": {"1": way(4000, 2100, 2000)}}},
        SMALL: {"training": own | {"way": {"1": way(2500, 1900, 400)}}},
    }
    return {"images": {"a": {}}, "codecs": codecs, **summarise(rows, ["a"], None)}


def test_rivals_are_held_against_the_rate_of_the_small_flowcodec(rivals: dict) -> None:
    lines = SCRIPT["rivals_table"](rivals).splitlines()
    vq = [line.split("|")[-2].strip() for line in lines if line.startswith("| VQ")]
    assert vq[0] == "< 0.100" and 0.1 < float(vq[1]) < 0.3 and vq[2] == "> 0.900"
    assert " 13.0 | 0.100 " in lines[2]


def test_speed_of_training_counts_to_the_same_loss(rivals: dict) -> None:
    line = next(line for line in SCRIPT["training_table"](rivals).splitlines() if line.startswith("| VQ"))
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells[0] == "VQ 1 (halvings 2)" and cells[2] == "6" and cells[6:] == ["20", "4", "20", "4"]


def test_runs_say_what_took_how_long() -> None:
    run = {"seconds": 750.0, "rows": 9, "of": 12, "codecs": ["JPEG", "WebP"], "workers": 2, "timed": True}
    machine = {"cpu": "a processor", "cores": 2}
    runs = {"runs": [run | {"machine": machine}]}
    text = SCRIPT["blocks"]({"kodak": runs})["kodak_runs"]
    line = "| JPEG, WebP | 9 of 12 | 2, times of an idle machine | 12.5 | a processor, 2 cores |"
    assert line in text and "--quick" not in text
    text = SCRIPT["blocks"]({"kodak": runs, "kodak_quick": runs})["kodak_runs"]
    assert line in text and line.replace("| JPEG", "| `--quick`: JPEG") in text
    assert "kodak_runs" not in SCRIPT["blocks"]({"kodak": {}})


def test_a_page_is_filled_and_blocks_without_results_stay(rivals: dict, tmp_path: Path, monkeypatch) -> None:
    results = tmp_path / "results"
    (results / "rivals").mkdir(parents=True)
    (results / "rivals" / "lossy.json").write_text(json.dumps(rivals))
    rows = [
        {"arm": f"beta {b}", "beta": b, "bpp at step 20": 2 / b, "dB at step 20": 30.0, "-dD/dR over theory": b}
        for b in (1.0, 2.0)
    ]
    study = {"columns": ["arm", "beta", "-dD/dR over theory"], "rows": rows, "description": "Small."}
    (results / "study_beta.json").write_text(json.dumps(study))
    rows = points("WebP", [24.0, 30.0, 36.0]) + points("FlowCodec", [25.0, 31.0, 35.9])
    dataset = {"images": {"a": {}}, **summarise(rows, ["a"], None)}
    (results / "imagenet.json").write_text(json.dumps(dataset))
    names = ("rivals", "training_speed", "study_beta", "imagenet", "cifar10")
    page = tmp_path / "page.md"
    page.write_text("\n".join(f"<!-- {name}:begin -->\nold {name}\n<!-- {name}:end -->" for name in names))
    arguments = ["x", "--document", str(page), "--results", str(results), "--figures", str(tmp_path / "figures")]
    monkeypatch.setattr(sys, "argv", arguments)
    assert SCRIPT["main"]() == 0
    text = page.read_text()
    assert "| beta 2.0 | 2.000 | 2.000 |" in text and "old cifar10" in text and "old imagenet" not in text
    assert "Worse than WebP somewhere at equal rate: 1 of 1 images (a)." in text
    assert Image.open(tmp_path / "figures/studies.png").width > 1000 and (tmp_path / "figures/rivals.png").exists()
    page.write_text("no markers")
    assert SCRIPT["main"]() == 1 and page.read_text() == "no markers"
    with pytest.raises(InputError, match="expected the markers"):
        SCRIPT["replace_block"]("", "rivals", "")
