"""Checkpoints: safetensors, with the configuration and the step in the header. No pickles."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from flowcodec.errors import InputError, MissingModel, ModelError
from flowcodec.model.codec import FlowCodecModel, ModelConfig


def save(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Writes whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    save_file(
        {name: tensor.detach().contiguous() for name, tensor in tensors.items()}, partial, {"flowcodec": json.dumps(header)}
    )
    os.replace(partial, path)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, header). Raises MissingModel or ModelError."""
    if not path.exists():
        raise MissingModel(f"{path}: no such checkpoint")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["flowcodec"])  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path}: not a FlowCodec checkpoint ({error})") from error


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The averaged weights of a checkpoint (the plain ones where there is no average), with its header."""
    tensors, header = load(path)
    prefix = "ema." if any(name.startswith("ema.") for name in tensors) else "model."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}, header


def load_model(path: Path) -> tuple[FlowCodecModel, dict[str, Any]]:
    """The model of a checkpoint with its averaged weights, and the checkpoint's header."""
    weights, header = load_weights(path)
    try:
        config: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in header["config"]["model"].items()}
        model = FlowCodecModel(ModelConfig(**config))
    except (KeyError, TypeError, InputError) as error:
        raise ModelError(f"{path}: its configuration is not one of this version ({error})") from error
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(f"{path}: weights do not fit the model of this version ({str(error).splitlines()[0]})") from error
    return model.eval(), header


def save_weights(path: Path, model: torch.nn.Module, header: dict[str, Any]) -> None:
    """Weights alone, the form that is published and that a later run starts from."""
    save(path, {f"model.{name}": tensor for name, tensor in model.state_dict().items()}, header)
