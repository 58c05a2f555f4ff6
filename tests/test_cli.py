"""The command line: what it writes and where, exit codes, errors of one line. Codec and trainer are stand-ins."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import flowcodec.runtime.decode
import flowcodec.runtime.encode
from flowcodec.cli import app
from flowcodec.errors import ChecksumMismatch, FormatError
from flowcodec.runtime import container
from flowcodec.runtime.container import MAGIC, Box, BoxKind, Header
from flowcodec.runtime.image import Picture, read_picture, to_array, to_picture

SOURCE = Path(__file__).parents[1] / "src"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(SOURCE)}


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def settings_seen(monkeypatch) -> list:
    """Stands in for the codec by one that stores arrays as they are; gives the settings of each encoding."""
    seen = []

    def encode_picture(picture: Picture, settings) -> bytes:
        seen.append(settings)
        stream = io.BytesIO()
        np.save(stream, to_array(picture))
        return MAGIC + stream.getvalue()

    def decode_picture(data: bytes, threads=None, *, model=None) -> Picture:
        if not data.startswith(MAGIC):
            raise FormatError("not a FlowCodec file")
        return to_picture(np.load(io.BytesIO(data[len(MAGIC) :])))

    monkeypatch.setattr(flowcodec.runtime.encode, "encode_picture", encode_picture)
    monkeypatch.setattr(flowcodec.runtime.decode, "decode_picture", decode_picture)
    return seen


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(noise(9, 7, 3)).save(path)
    return path


def run(*arguments, stdin: bytes | None = None, code: int = 0):
    result = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


def error_of(*arguments, stdin: bytes | None = None) -> str:
    """The message of a command that fails: exit code 1 and exactly one line on stderr."""
    result = run(*arguments, stdin=stdin, code=1)
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- encode and decode ---------------------------------------------------------------------------------------------------


def test_encode_and_decode_files(settings_seen, photo, tmp_path):
    run("encode", photo, tmp_path / "photo.flow")
    assert (tmp_path / "photo.flow").read_bytes().startswith(MAGIC)
    for name in ("back.png", "back.tiff", "back.ppm", "back.webp"):
        run("decode", tmp_path / "photo.flow", tmp_path / name)
        assert np.array_equal(to_array(read_picture(tmp_path / name)), to_array(read_picture(photo)))


def test_standard_streams(settings_seen, photo, tmp_path):
    data = run("encode", "-", "-", stdin=photo.read_bytes()).stdout_bytes
    assert data.startswith(MAGIC)
    png = run("decode", "-", "-", stdin=data).stdout_bytes
    assert png.startswith(b"\x89PNG")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), noise(9, 7, 3))
    run("encode", photo, tmp_path / "a.flow")
    assert run("encode", photo, "-").stdout_bytes == (tmp_path / "a.flow").read_bytes() == data


def test_messages_go_to_stderr_only(settings_seen, photo, tmp_path):
    result = run("encode", photo, tmp_path / "photo.flow")
    assert result.stdout == ""
    size = (tmp_path / "photo.flow").stat().st_size
    assert result.stderr == f"{tmp_path / 'photo.flow'}: 7x9, {size} bytes, {8 * size / 63:.3f} bpp\n"


def test_options_reach_the_encoder(settings_seen, photo, tmp_path):
    out = tmp_path / "photo.flow"
    run("encode", photo, out)
    run("encode", photo, out, "-q", 12.5, "--channel", "dither", "--seed", 7, "--threads", 3, "--model", "x", "--verify")
    run("encode", photo, out, "--step", 20)
    default, chosen, stepped = settings_seen
    assert (default.quality, default.step, default.channel, default.model, default.seed) == (60, None, "round", "default", 0)
    assert (default.threads, default.verify) == (None, False)
    assert (chosen.quality, chosen.channel, chosen.seed, chosen.threads, chosen.model) == (12.5, "dither", 7, 3, "x")
    assert chosen.verify
    assert stepped.step == 20


@pytest.mark.parametrize(
    "wrong",
    [
        ("-q", 101),
        ("-q", -1),
        ("-q", 50, "--step", 20),
        ("--channel", "trellis"),
        ("--threads", 0),
        ("--seed", 1 << 32),
        ("--seed", -1),
        ("--unknown",),
    ],
)
def test_usage_errors_exit_with_2_and_write_nothing(settings_seen, photo, tmp_path, wrong):
    run("encode", photo, tmp_path / "photo.flow", *wrong, code=2)
    assert not (tmp_path / "photo.flow").exists()
    run("encode", photo, code=2)
    run("nonsense", code=2)


def test_a_folder_is_encoded_and_decoded(settings_seen, tmp_path):
    images, files, back = tmp_path / "in", tmp_path / "files", tmp_path / "back"
    images.mkdir()
    for index in range(3):
        Image.fromarray(noise(5, 6, 3, seed=index)).save(images / f"{index}.png")
    (images / "notes.txt").write_text("not an image")
    run("encode", images, files)
    run("decode", *sorted(files.iterdir()), back)
    assert sorted(everything_in(files)) == ["0.flow", "1.flow", "2.flow"]
    for index in range(3):
        assert np.array_equal(np.asarray(Image.open(back / f"{index}.png")), noise(5, 6, 3, seed=index))
    run("encode", images / "0.png", f"{tmp_path / 'single'}{os.sep}")
    assert list(everything_in(tmp_path / "single")) == ["0.flow"]


def test_a_bad_file_among_many_is_reported_and_the_others_are_done(settings_seen, tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.fromarray(noise(5, 6, 3)).save(good)
    bad.write_bytes(b"not an image")
    result = run("encode", bad, good, tmp_path / "out", code=1)
    assert list(everything_in(tmp_path / "out")) == ["good.flow"]
    messages = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(messages) == 2
    assert str(bad) in messages[0]
    assert "1 of 2" in messages[1]


def test_nothing_is_written_twice_or_over_an_input(settings_seen, photo, tmp_path):
    Image.open(photo).save(tmp_path / "photo.bmp")
    before = everything_in(tmp_path)
    assert "both" in error_of("encode", photo, tmp_path / "photo.bmp", tmp_path / "out")
    assert "both input and output" in error_of("encode", photo, photo)
    (tmp_path / "link.png").symlink_to(photo)
    assert "both input and output" in error_of("encode", tmp_path / "link.png", photo)
    (tmp_path / "link.png").unlink()
    assert everything_in(tmp_path) == before


def test_several_inputs_need_a_folder(settings_seen, photo, tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    assert "expected a folder" in error_of("encode", photo, photo, tmp_path / "file")
    assert "single file" in error_of("encode", photo, photo, "-")
    assert "single file" in error_of("encode", "-", photo, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    assert "no files" in error_of("decode", tmp_path / "empty", tmp_path / "out")
    assert (tmp_path / "file").read_bytes() == b"old"


def test_the_real_codec_through_the_command_line(tmp_path):
    pixels = np.asarray(Image.open(SOURCE / "flowcodec" / "demo_photo.webp"))[80:176, 200:329]
    Image.fromarray(np.dstack([pixels, noise(96, 129)])).save(tmp_path / "a.png")
    run("encode", tmp_path / "a.png", tmp_path / "a.flow", "-q", 70, "--verify")
    run("encode", tmp_path / "a.png", tmp_path / "b.flow", "--step", 30, "--channel", "dither")
    run("decode", tmp_path / "a.flow", tmp_path / "back.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "back.png"))[:, :, 3], noise(96, 129))
    facts = json.loads(run("info", tmp_path / "a.flow", "--json").stdout)
    assert (facts["width"], facts["height"], facts["alpha"]) == (129, 96, True)
    rows = json.loads(
        run("compare", tmp_path / "a.png", *(tmp_path / n for n in ("a.flow", "back.png", "b.flow")), "--json").stdout
    )
    assert rows[0]["psnr_db"] == rows[1]["psnr_db"] > rows[2]["psnr_db"] > 25
    assert rows[0]["bpp"] == facts["bpp"] > rows[2]["bpp"]


# --- failure -------------------------------------------------------------------------------------------------------------


def test_failures_are_one_line_and_leave_the_output_alone(settings_seen, photo, tmp_path, monkeypatch):
    out = tmp_path / "out.flow"
    out.write_bytes(b"old")
    (tmp_path / "junk").write_bytes(b"junk")
    before = everything_in(tmp_path)
    assert "No such file" in error_of("encode", tmp_path / "missing.png", out)
    assert "not an image" in error_of("encode", tmp_path / "junk", out)
    assert "standard input" in error_of("encode", "-", out, stdin=b"junk")
    assert "not a FlowCodec file" in error_of("decode", tmp_path / "junk", tmp_path / "out.png")
    assert "No such file" in error_of("encode", photo, tmp_path / "missing" / "out.flow")

    def fail(*_, **__):
        raise ChecksumMismatch("box 1: damaged\nin two lines")

    monkeypatch.setattr(flowcodec.runtime.encode, "encode_picture", fail)
    assert error_of("encode", photo, out) == "box 1: damaged in two lines"
    assert everything_in(tmp_path) == before


def test_an_unknown_output_format_is_refused_before_decoding(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("decoded")

    monkeypatch.setattr(flowcodec.runtime.decode, "decode_picture", fail)
    (tmp_path / "a.flow").write_bytes(MAGIC)
    assert ".png" in error_of("decode", tmp_path / "a.flow", tmp_path / "back.xyz")


def test_even_a_fault_of_ours_is_one_line(photo, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(flowcodec.runtime.encode, "encode_picture", fail)
    assert "ZeroDivisionError" in error_of("encode", photo, tmp_path / "out.flow")


@pytest.mark.parametrize("place", [0, 1, 4])
def test_verbose_shows_the_chain_wherever_it_stands(settings_seen, tmp_path, place):
    (tmp_path / "junk").write_bytes(b"junk")
    arguments = ["encode", str(tmp_path / "junk"), str(tmp_path / "out"), "-q", "50"]
    arguments.insert(place, "--verbose")
    stderr = run(*arguments, code=1).stderr
    assert "UnidentifiedImageError" in stderr
    assert "The above exception was the direct cause" in stderr
    assert stderr.splitlines()[-1].startswith("error: ")


def heed_interrupts() -> None:
    """A shell starts its background jobs with Ctrl-C ignored, and their children inherit that; a user's terminal does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


SLOW = """
import sys, time
import flowcodec.runtime.encode as encode
def slow(*_):
    print("encoding", file=sys.stderr, flush=True)
    time.sleep(60)
encode.encode_picture = slow
from flowcodec.cli import main
main()
"""


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("many", [False, True])
def test_an_interruption_leaves_nothing_behind(photo, tmp_path, sent, code, many):
    out = tmp_path / "out"
    out.mkdir()
    arguments = [str(photo), str(photo), str(out)] if many else [str(photo), str(out / "photo.flow")]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, "encode", *arguments],
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        text=True,
        preexec_fn=heed_interrupts,
    )
    assert "encoding" in process.stderr.readline()
    process.send_signal(sent)
    assert process.wait(20) == code
    assert "Traceback" not in process.stderr.read()
    assert everything_in(out) == {}


WRITING = """
import os, sys, time
from pathlib import Path
from flowcodec.runtime import image
write = Path.write_bytes
def slowly(path, data):
    write(path, data[: len(data) // 2])
    print("writing", file=sys.stderr, flush=True)
    time.sleep(60)
Path.write_bytes = slowly
import flowcodec.runtime.encode as encode
encode.encode_picture = lambda *_: bytes(1000)
from flowcodec.cli import main
main()
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_while_writing_keeps_the_old_file(photo, tmp_path, sent):
    out = tmp_path / "out"
    out.mkdir()
    (out / "photo.flow").write_bytes(b"old")
    command = [sys.executable, "-c", WRITING, "encode", str(photo), str(out / "photo.flow")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=ENVIRONMENT, text=True, preexec_fn=heed_interrupts)
    assert "writing" in process.stderr.readline()
    assert len(everything_in(out)) == 2
    process.send_signal(sent)
    assert process.wait(20) == 128 + sent
    assert everything_in(out) == {"photo.flow": b"old"}


# --- info and compare ----------------------------------------------------------------------------------------------------


@pytest.fixture
def flow_file(tmp_path) -> Path:
    header = Header(width=40, height=30, channels=3, step_index=800, channel="dither", seed=99, model_id=b"\x01" * 8)
    path = tmp_path / "a.flow"
    path.write_bytes(container.write(header, [Box(BoxKind.LATENT, b"12345"), Box(BoxKind.ICC, b"123")]))
    return path


def test_info(flow_file):
    facts = json.loads(run("info", flow_file, "--json").stdout)
    size = flow_file.stat().st_size
    assert (facts["width"], facts["height"], facts["channel"], facts["seed"]) == (40, 30, "dither", 99)
    assert facts["size_bytes"] == size
    assert facts["bpp"] == pytest.approx(8 * size / 1200)
    assert facts["sigma"] == pytest.approx(facts["step"] / 12**0.5)
    assert json.loads(run("info", "-", "--json", stdin=flow_file.read_bytes()).stdout) == facts
    text = run("info", flow_file).stdout
    for name in facts:
        assert name in text


def test_info_refuses_other_files(photo):
    assert error_of("info", photo)


def test_compare(settings_seen, photo, tmp_path):
    pixels = to_array(read_picture(photo))
    Image.fromarray(pixels ^ 1).save(tmp_path / "near.png")
    Image.fromarray(pixels).save(tmp_path / "far.jpg", quality=10)
    run("encode", photo, tmp_path / "photo.flow")
    names = [tmp_path / name for name in ("photo.flow", "near.png", "far.jpg")]
    ours, near, far = json.loads(run("compare", photo, *names, "--json").stdout)
    assert ours == {
        "image": str(names[0]),
        "bpp": pytest.approx(8 * names[0].stat().st_size / 63),
        "psnr_db": None,
        "ms_ssim": None,
        "identical": True,
    }
    assert near["psnr_db"] == pytest.approx(48.1308, abs=1e-3)
    assert near["bpp"] is None
    assert far["bpp"] == pytest.approx(8 * names[2].stat().st_size / 63)
    table = run("compare", photo, *names).stdout.splitlines()
    assert len(table) == 4
    assert "identical" in table[1]
    assert "48.131" in table[2]


def test_compare_refuses_other_sizes(photo, tmp_path):
    Image.fromarray(noise(7, 9, 3)).save(tmp_path / "turned.png")
    message = error_of("compare", photo, tmp_path / "turned.png")
    assert "expected 7x9" in message
    assert "found 9x7" in message


# --- start-up ------------------------------------------------------------------------------------------------------------

LOADED = """
import sys
sys.argv = ["flowcodec", *{arguments}]
from flowcodec.cli import main
try:
    main()
except SystemExit as exit:
    assert not exit.code, exit.code
print("LOADED", *sorted({{name.split(".")[0] for name in sys.modules}}), file=sys.stderr)
"""


@pytest.mark.parametrize("command", ["--help", "--version", "info", "encode", "compare"])
def test_what_a_command_loads(command, flow_file):
    arguments = [command, str(flow_file)] if command == "info" else [command] if command.startswith("-") else [command, "--help"]
    script = LOADED.format(arguments=arguments)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    loaded = set(result.stderr.split("LOADED")[1].split())
    assert "flowcodec" in loaded
    assert not loaded & {"torch", "onnxruntime", "scipy", "matplotlib", "constriction", "PIL", "onnx"}
    if command != "info":
        assert "numpy" not in loaded


def test_the_module_runs_as_a_command(flow_file):
    command = [sys.executable, "-m", "flowcodec.cli", "info", str(flow_file), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert json.loads(result.stdout)["width"] == 40


# --- training and export -------------------------------------------------------------------------------------------------

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


# --- benchmark -----------------------------------------------------------------------------------------------------------


def test_benchmark_writes_results(settings_seen, tmp_path):
    Image.fromarray(noise(24, 24, 3)).save(tmp_path / "a.png")
    out = tmp_path / "results.json"
    run("benchmark", tmp_path / "a.png", "--codec", "JPEG", "--out", out, "--no-timing")
    assert {row["codec"] for row in json.loads(out.read_text())["rows"]} == {"JPEG"}
    assert "JPEG 2000" in error_of("benchmark", tmp_path / "a.png", "--codec", "nonsense", "--out", out)
