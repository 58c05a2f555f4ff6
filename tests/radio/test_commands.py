"""The commands: a picture there and back through a SigMF recording, and errors of one line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

for package in ("scipy", "torch", "sionna", "ldpc", "sigmf"):
    pytest.importorskip(package, reason=f"the commands need {package}: pip install 'flowcodec[radio]'")

from flowcodec.cli import app


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["radio", *map(str, arguments)])
    return result.exit_code, result.output


@pytest.mark.parametrize(("mode", "cbr"), [("digital", "1/3"), ("analog", "1")])
def test_a_picture_goes_through_a_recording(tmp_path: Path, photograph: np.ndarray, mode: str, cbr: str) -> None:
    picture = tmp_path / "picture.png"
    Image.fromarray(photograph[:64, :64]).save(picture)
    recording, out = tmp_path / "air.sigmf", tmp_path / "out.png"
    code, text = run("send", picture, recording, "--mode", mode, "--cbr", cbr)
    assert code == 0, text
    code, text = run("receive", recording, out)
    assert code == 0, text
    assert "main layer" in text
    assert Image.open(out).size == (64, 64)


def test_errors_are_one_line(tmp_path: Path) -> None:
    code, text = run("receive", tmp_path / "none.sigmf", tmp_path / "out.png")
    assert code == 1
    assert text.startswith("error: ") and text.count("\n") == 1
    assert run("simulate", tmp_path, "--cbr", "x")[0] == 2
    assert run("simulate", tmp_path, "--snr", "a:b")[0] == 2
