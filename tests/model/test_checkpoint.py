"""Checkpoints: whole files, the averaged weights first, and one clear error for everything else."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from flowcodec.errors import MissingModel, ModelError
from flowcodec.model import checkpoint
from flowcodec.model.codec import FlowCodecModel, ModelConfig

TINY = ModelConfig(widths=(4, 4, 4), blocks=(1, 1, 1), coupling_width=4, restoration_width=4)


def build(seed: int) -> FlowCodecModel:
    torch.manual_seed(seed)
    return FlowCodecModel(TINY)


def header(**changes: Any) -> dict[str, Any]:
    return {"config": {"model": asdict(TINY) | changes}, "step": 7, "pixels_seen": 99}


def equal(a: FlowCodecModel, b: FlowCodecModel) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_weights_and_header_come_back(tmp_path: Path) -> None:
    model = build(0)
    checkpoint.save_weights(tmp_path / "w.safetensors", model, header())
    loaded, found = checkpoint.load_model(tmp_path / "w.safetensors")
    assert equal(loaded, model) and not equal(loaded, build(1))
    assert loaded.config == TINY and not loaded.training
    assert found["step"] == 7 and found["pixels_seen"] == 99
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_the_average_is_preferred_to_the_plain_weights(tmp_path: Path) -> None:
    plain, average = build(0), build(1)
    tensors = {f"model.{n}": t for n, t in plain.state_dict().items()} | {f"ema.{n}": t for n, t in average.state_dict().items()}
    checkpoint.save(tmp_path / "state.safetensors", tensors, header())
    assert equal(checkpoint.load_model(tmp_path / "state.safetensors")[0], average)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingModel, match="none"):
        checkpoint.load_model(tmp_path / "none.safetensors")


def write_junk(path: Path) -> None:
    path.write_bytes(b"junk" * 100)


def write_nothing(path: Path) -> None:
    path.write_bytes(b"")


def write_half(path: Path) -> None:
    checkpoint.save_weights(path, build(0), header())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def write_foreign(path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(2)}, path)


def write_folder(path: Path) -> None:
    path.mkdir()


def write_other_sizes(path: Path) -> None:
    checkpoint.save_weights(path, build(0), header(widths=[8, 8, 8]))


def write_unknown_size(path: Path) -> None:
    checkpoint.save_weights(path, build(0), header(heads=3))


def write_no_config(path: Path) -> None:
    checkpoint.save_weights(path, build(0), {"step": 7})


@pytest.mark.parametrize(
    "write",
    [write_junk, write_nothing, write_half, write_foreign, write_folder, write_other_sizes, write_unknown_size, write_no_config],
    ids=lambda write: write.__name__,
)
def test_a_file_that_is_no_checkpoint_of_this_model_is_one_clear_error(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "bad.safetensors"
    write(path)
    with pytest.raises(ModelError, match=r"bad\.safetensors") as caught:
        checkpoint.load_model(path)
    assert "\n" not in str(caught.value)
