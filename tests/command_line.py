"""What the tests of the command line share: runs a command in this process, and what it says when it fails."""

import os
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from flowcodec.cli import app

SOURCE = Path(__file__).parents[1] / "src"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(SOURCE)}


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


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
