"""Imports point one way, and the runtime comes without the research side."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT / "src")}


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False)


def test_the_import_contract_is_kept() -> None:
    code = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("module", ["torch", "scipy", "matplotlib", "onnx", "safetensors"])
def test_encoding_and_decoding_load_nothing_heavy(module: str) -> None:
    """All modules of the runtime ring, in a fresh interpreter."""
    code = f"""
import importlib, pkgutil, sys
import flowcodec, flowcodec.cli, flowcodec.runtime
for found in pkgutil.iter_modules(flowcodec.runtime.__path__):
    importlib.import_module("flowcodec.runtime." + found.name)
sys.exit({module!r} in sys.modules)
"""
    result = python(code)
    assert result.returncode == 0, f"{module} was loaded {result.stderr}"


def test_start_up_loads_little() -> None:
    """What ``flowcodec --help`` and ``import flowcodec`` may not load, so that they start at once."""
    result = python(
        "import sys, flowcodec, flowcodec.cli; sys.exit(bool({'numpy', 'onnxruntime', 'PIL', 'constriction'} & set(sys.modules)))"
    )
    assert result.returncode == 0, f"a heavy module was loaded {result.stderr}"


def test_no_registry_hosts_in_the_project_files() -> None:
    names = ["pyproject.toml", "constraints.txt", "scripts/test", "scripts/demo", ".ci/run"]
    assert not [name for name in names if "://" in (ROOT / name).read_text()]
