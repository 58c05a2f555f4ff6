"""The command line: what it writes and where, and what starts with it. The codec is a stand-in."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import ENVIRONMENT, SOURCE, error_of, everything_in, noise, run
from flowcodec.runtime import container
from flowcodec.runtime.container import MAGIC, Box, BoxKind
from flowcodec.runtime.header import Header
from flowcodec.runtime.image import read_picture, to_array

# --- encode and decode --------------------------------------------------------------------------------------------------


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
    assert (default.quality, default.step, default.channel, default.model, default.seed) == (60, None, None, "default", 0)
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
        ("--channel", "vector"),
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


# --- info and compare ---------------------------------------------------------------------------------------------------


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


# --- start-up -----------------------------------------------------------------------------------------------------------


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


# --- benchmark ----------------------------------------------------------------------------------------------------------


def test_benchmark_writes_results(settings_seen, tmp_path):
    Image.fromarray(noise(24, 24, 3)).save(tmp_path / "a.png")
    out = tmp_path / "results.json"
    run("benchmark", tmp_path / "a.png", "--codec", "JPEG", "--out", out, "--no-timing")
    document = json.loads(out.read_text())
    assert {row["codec"] for row in document["rows"]} == {"JPEG"}
    assert document["runs"][0]["workers"] == document["runs"][0]["machine"]["cores"], "one process for each core"
    assert "JPEG 2000" in error_of("benchmark", tmp_path / "a.png", "--codec", "nonsense", "--out", out)


def test_a_count_that_goes_in_leaps_is_shown_at_every_tenth(capsys):
    from flowcodec.progress import CountReport

    with CountReport("measuring") as progress:
        for done in range(7, 100, 7):
            progress(done, 98)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("/")[0] for line in lines] == ["14", "21", "35", "42", "49", "63", "70", "84", "91", "98"]
