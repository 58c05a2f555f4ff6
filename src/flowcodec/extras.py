"""Optional parts of the package, and the error where one is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flowcodec.errors import InputError

if TYPE_CHECKING:
    from flowcodec.runtime.encode import Refiner

DEFAULT_EFFORT, MAX_EFFORT = 3, 9
"""Efforts of an encoder; up to the default the latent is quantised as it is."""


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around the imports of something that needs the extra ``name``. Raises InputError with what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "flowcodec":
            raise
        raise InputError(f"this needs {error.name}: pip install 'flowcodec[{name}]'") from error


def refiner_of(effort: int, model: str, threads: int | None) -> "Refiner | None":
    """The latent refinement of an effort: 2^(effort - 4) iterations above the default, none (None) up to it.

    Raises InputError for an effort that is not 1 to 9 or where torch is not installed, MissingModel, ModelError.
    """
    if not 1 <= effort <= MAX_EFFORT:
        raise InputError(f"effort: expected 1 to {MAX_EFFORT}, found {effort}")
    if effort <= DEFAULT_EFFORT:
        return None
    with extra("train"):
        from flowcodec.model.refinement import Refiner
    from flowcodec.runtime.bundle import load_model

    return Refiner(load_model(model), 1 << (effort - DEFAULT_EFFORT - 1), threads)
