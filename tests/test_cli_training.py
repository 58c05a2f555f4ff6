"""The commands that train and export. The trainer is a stand-in."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from command_line import error_of, noise, run

ROWS = (
    {"event": "decode", "done": 2, "total": 2},
    {"event": "train", "step": 50, "steps": 100, "loss": 1.5, "kl_bpp": 0.75, "psnr_db": 33.25, "pixels_per_s": 123456.0},
    {
        "event": "validation",
        "step": 50,
        "steps": {"step_5_kl": {"bpp": 3.0, "psnr_db": 42.0}, "step_5_file": {"bpp": 3.125, "psnr_db": 41.5}},
        "loss": 1.25,
        "file_loss": 1.375,
    },
    {"event": "train", "step": 100, "steps": 100, "loss": 1.0, "kl_bpp": 0.5, "psnr_db": 34.0, "pixels_per_s": 2e6},
)


@pytest.fixture
def trainer_calls(monkeypatch) -> list:
    """Stands in for the trainer; gives what it is called with."""
    pytest.importorskip("torch")
    import flowcodec.training.loop as loop

    calls = []

    class Trainer:
        step = 100

        def __init__(self, config, folders, out, device, report):
            calls.append(("start", folders, out, device))
            self.report = report

        def resume(self):
            calls.append(("resume",))

        def run(self, minutes):
            calls.append(("run", minutes))
            for row in ROWS:
                self.report(row)

    monkeypatch.setattr(loop, "Trainer", Trainer)
    return calls


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text("[optimizer]\nsteps = 100\n")
    return path


def test_train_passes_its_options_on(trainer_calls, config, tmp_path):
    a, b, out = tmp_path / "a", tmp_path / "b", tmp_path / "run"
    run("train", config, "--data", a, b, "--out", out)
    run("train", config, "--out", out, "--data", a, "--data", b, "--resume", "--device", "cpu", "--minutes", 1.5)
    assert trainer_calls == [
        ("start", [a, b], out, "auto"),
        ("run", None),
        ("start", [a, b], out, "cpu"),
        ("resume",),
        ("run", 1.5),
    ]


def test_train_reports_plain_lines_where_there_is_no_terminal(trainer_calls, config, tmp_path):
    result = run("train", config, "--data", tmp_path, "--out", tmp_path / "run")
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert "50/100  loss 1.5000  kl 0.750 bpp  PSNR 33.25 dB  0.123 Mpx/s" in lines
    assert "100/100  loss 1.0000  kl 0.500 bpp  PSNR 34.00 dB  2.000 Mpx/s  file 3.12 bpp" in lines
    assert any("validation" in line and "1.3750" in line and "3.125 bpp" in line for line in lines)


def test_only_the_first_process_reports(trainer_calls, config, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert run("train", config, "--data", tmp_path, "--out", tmp_path / "run").stderr == ""


def test_train_never_overwrites_a_run(trainer_calls, config, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.safetensors").write_bytes(b"")
    assert "--resume" in error_of("train", config, "--data", tmp_path, "--out", tmp_path / "run")
    assert trainer_calls == []
    run("train", config, "--data", tmp_path, "--out", tmp_path / "run", "--resume")


def test_train_refuses_a_bad_configuration(trainer_calls, config, tmp_path):
    config.write_text("[optimizer]\nstepz = 100\n")
    assert "stepz" in error_of("train", config, "--data", tmp_path, "--out", tmp_path / "run")
    run("train", config, "--out", tmp_path / "run", code=2)


@pytest.mark.parametrize("arguments", [("train", "c.toml", "--data", "d", "--out", "o"), ("export", "checkpoint", "m.flowmodel")])
def test_without_torch_the_message_says_what_to_install(arguments, monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("flowcodec.training", "flowcodec.export", "flowcodec.model."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "pip install 'flowcodec[train]'" in error_of(*arguments)


def test_export_prints_bounds_and_the_rate_lost(monkeypatch, tmp_path):
    pytest.importorskip("torch")
    import flowcodec.export.run as export_run

    Image.fromarray(noise(300, 280, 3)).save(tmp_path / "a.png")
    Image.fromarray(noise(100, 280, 3)).save(tmp_path / "b.png")
    seen = []

    def export_model(source, target, report, images=(), reference=None, counted=()):
        shapes = [[image.shape for image in group] for group in (images, counted)]
        seen.append((source, target, *shapes, reference))
        report({"event": "bound", "layer": "prior.stem", "bound": 1234567.0})
        return {"name": "m", "training": {"config": {}}, "rate_lost_percent": [0.25]}

    monkeypatch.setattr(export_run, "export_model", export_model)
    output = run("export", tmp_path / "w.safetensors", tmp_path / "m.flowmodel", "--data", tmp_path).stdout
    assert "prior.stem" in output
    assert "0.25" in output
    run("export", tmp_path / "w.safetensors", tmp_path / "m.flowmodel", "--reference", tmp_path / "r")
    assert seen == [
        (tmp_path / "w.safetensors", tmp_path / "m.flowmodel", [(256, 256, 3)], [(64, 64, 3)], None),
        (tmp_path / "w.safetensors", tmp_path / "m.flowmodel", [(512, 768, 3)], [], tmp_path / "r"),
    ]
