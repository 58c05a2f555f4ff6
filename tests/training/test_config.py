"""Configurations: read from TOML, every mistake named by its key."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from flowcodec.errors import InputError
from flowcodec.training.config import TrainingConfig

CONFIGS = Path(__file__).parents[2] / "configs"


def test_defaults_fill_what_is_left_out() -> None:
    assert TrainingConfig.from_dict({}) == TrainingConfig()
    config = TrainingConfig.from_dict({"data": {"crop": 64}, "model": {"widths": [8, 8, 8]}})
    assert config.data.crop == 64 and config.data.batch == TrainingConfig().data.batch
    assert config.model.widths == (8, 8, 8)


def test_a_configuration_survives_a_dictionary() -> None:
    config = TrainingConfig.from_dict({"data": {"crop": 64}, "objective": {"step_core": [2.0, 20.0]}})
    assert TrainingConfig.from_dict(config.to_dict()) == config


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('[data]\ncrop = 32\n[objective]\nchannel = "round"\nstep_range = [10, 20]\n')
    config = TrainingConfig.read(path)
    assert config.data.crop == 32 and config.objective.channel == "round" and config.objective.step_range == (10.0, 20.0)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.name)
def test_shipped_configurations_are_valid(path: Path) -> None:
    assert TrainingConfig.read(path).optimizer.steps > 0


def test_configurations_are_frozen() -> None:
    config = TrainingConfig()
    for part in fields(config):
        value = getattr(config, part.name)
        with pytest.raises(AttributeError):
            setattr(value, fields(value)[0].name, 1)


@pytest.mark.parametrize(
    ("tables", "key"),
    [
        # Unknown names.
        ({"optimiser": {}}, "optimiser"),
        ({"data": {"corp": 64}}, r"data\.corp"),
        ({"model": {"width": [1, 1, 1]}}, r"model\.width"),
        # Values out of range.
        ({"data": {"crop": 1}}, "crop"),
        ({"data": {"batch": 0}}, "batch"),
        ({"data": {"validation_every": 1}}, "validation_every"),
        ({"objective": {"channel": "dither"}}, r"objective\.channel"),
        ({"objective": {"step_range": [0.0, 3.0]}}, "step_range"),
        ({"objective": {"step_core": [200.0, 100.0]}}, "step_core"),
        ({"objective": {"step_core": [-1.0, 100.0]}}, "step_core"),
        ({"run": {"precision": "f16"}}, r"run\.precision"),
        ({"model": {"widths": [4, 4, 0]}}, r"model\.widths"),
        ({"model": {"blocks": [4, 4]}}, r"model\.blocks"),
        ({"run": {"log_every": 0}}, "log_every"),
        ({"run": {"validate_every": 0}}, "validate_every"),
        ({"run": {"checkpoint_every": 0}}, "checkpoint_every"),
        ({"optimizer": {"steps": 0}}, "steps"),
        ({"optimizer": {"warmup": -1}}, "warmup"),
        ({"optimizer": {"ema": 1.5}}, "ema"),
        ({"optimizer": {"muon_lr": -1e-3}}, "muon_lr"),
        ({"data": {"transpose_probability": 2.0}}, "transpose_probability"),
        ({"data": {"validation_crop": 0}}, "validation_crop"),
        ({"run": {"seed": -1}}, "seed"),
        # Values of another type.
        ({"data": 3}, "data"),
        ({"data": {"batch": "sixteen"}}, "batch"),
        ({"data": {"batch": 2.5}}, "batch"),
        ({"optimizer": {"steps": "many"}}, "steps"),
        ({"objective": {"step_range": [1, 2, 3]}}, "step_range"),
        ({"objective": {"beta": [1]}}, "beta"),
        ({"model": {"widths": 4}}, "widths"),
        ({"run": {"train_flow": "yes"}}, "train_flow"),
    ],
    ids=str,
)
def test_every_mistake_is_an_input_error_that_names_the_key(tables: dict[str, Any], key: str) -> None:
    with pytest.raises(InputError, match=key):
        TrainingConfig.from_dict(tables)


def test_a_whole_number_stands_for_a_fraction() -> None:
    assert TrainingConfig.from_dict({"objective": {"beta": 1}}).objective.beta == 1


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml"):
        TrainingConfig.read(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[data\ncrop = ")
    with pytest.raises(InputError, match=r"bad\.toml.*TOML"):
        TrainingConfig.read(tmp_path / "bad.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"binary\.toml"):
        TrainingConfig.read(tmp_path / "binary.toml")
