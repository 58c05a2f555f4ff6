"""What a measurement was made with: machine, versions and commit, for every file under results/."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from flowcodec import __version__

PACKAGES = ("numpy", "onnxruntime", "constriction", "pillow", "imagecodecs", "pillow-heif", "ssimulacra2")


def environment() -> dict[str, Any]:
    return {"machine": machine(), "python": platform.python_version(), "packages": _versions(), "commit": _commit()}


def machine() -> dict[str, Any]:
    """Kind of machine: processor and the cores this process may use."""
    return {"cpu": _cpu(), "cores": usable_cores(), "system": f"{platform.system()} {platform.machine()}"}


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = {line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")}
    return ", ".join(sorted(names)) or platform.processor() or "unknown"


def _versions() -> dict[str, str]:
    found = {"flowcodec": __version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _commit() -> str | None:
    """Commit of the checkout this file lies in, with ``+changes`` where sources differ from it; None outside a checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", "..") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
