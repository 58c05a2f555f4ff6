"""The command line when something goes wrong: exit codes, errors of one line, outputs that stay as they were."""

import signal
import subprocess
import sys

import pytest

import flowcodec.runtime.decode
import flowcodec.runtime.encode
from command_line import ENVIRONMENT, error_of, everything_in, run
from flowcodec.errors import ChecksumMismatch
from flowcodec.runtime.container import MAGIC


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
