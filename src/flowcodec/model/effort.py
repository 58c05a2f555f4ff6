"""What an encoder's effort stands for. Loads PyTorch only where it is needed."""

from flowcodec.errors import InputError
from flowcodec.extras import extra
from flowcodec.runtime.bundle import load_model
from flowcodec.runtime.encode import DEFAULT_CHANNEL, Refiner

DEFAULT_EFFORT, MAX_EFFORT = 3, 9
"""Below the default each coefficient is quantised by itself, at the default with error feedback, above it refined."""


def refiner_of(effort: int, model: str, threads: int | None, channel: str | None = None) -> Refiner | None:
    """The latent refinement of an effort for files of a channel: 2^(effort - 4) iterations above the default, else None.

    Raises InputError for an effort that is not 1 to 9 or where PyTorch is not installed, MissingModel, ModelError.
    """
    if not 1 <= effort <= MAX_EFFORT:
        raise InputError(f"effort: expected 1 to {MAX_EFFORT}, found {effort}")
    if effort <= DEFAULT_EFFORT:
        return None
    with extra("train"):
        from flowcodec.model.refinement import Refiner as LatentRefiner
    return LatentRefiner(load_model(model), 1 << (effort - DEFAULT_EFFORT - 1), threads, channel or DEFAULT_CHANNEL)
