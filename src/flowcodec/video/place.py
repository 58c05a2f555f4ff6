"""Outputs that appear whole or not at all: a file, or a set of files, made beside its place and renamed at the end."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowcodec.errors import InputError


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A path to write to, which becomes ``target`` unless an exception passes; devices and pipes are written directly.

    Raises InputError if the place cannot be written to.
    """
    place = Path(os.path.realpath(target))
    if place.is_dir():
        raise InputError(f"{target}: is a folder; expected a file name")
    if place.exists() and not place.is_file():
        yield place
        return
    partial = place.with_name(_partial(place))
    try:
        partial.touch()
        yield partial
        os.replace(partial, place)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_files(folder: Path) -> Iterator[Path]:
    """A folder to write to, whose files move to ``folder`` (made if need be) unless an exception passes. Raises InputError."""
    place = Path(os.path.realpath(folder))
    partial = place.with_name(_partial(place))
    try:
        partial.mkdir()
        yield partial
        place.mkdir(exist_ok=True)
        for file in sorted(partial.iterdir()):
            os.replace(file, place / file.name)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _partial(place: Path) -> str:
    return f".{place.name[:100]}.{secrets.token_hex(4)}.partial"
