"""Training of P-frames: pairs, their sampler, and runs that restart exactly."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowcodec.errors import InputError
from flowcodec.model import checkpoint
from flowcodec.training.config import DataConfig, TrainingConfig
from flowcodec.training.loop import METRICS_FILE, STATE_FILE, Trainer
from flowcodec.training.pairs import ARRAY_FILE, INDEX_FILE, PairSampler, PairStore, validation_pairs

COUNT, SIDE = 10, 24
CONFIG = DataConfig(crop=16, batch=4, validation_crops=3, validation_crop=16)


@pytest.fixture(scope="module")
def pair_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of a number each, whose predictions are a little darker; the first two are held out."""
    folder = tmp_path_factory.mktemp("pairs")
    pairs = np.full((COUNT, SIDE, SIDE, 6), 20 * np.arange(COUNT).reshape(-1, 1, 1, 1), np.uint8)
    pairs[..., :3] += np.random.default_rng(0).integers(3, 9, (COUNT, SIDE, SIDE, 3), np.uint8)
    np.save(folder / ARRAY_FILE, pairs)
    index = {"step": [700 + 50 * n for n in range(COUNT)], "held": [n < 2 for n in range(COUNT)]}
    (folder / INDEX_FILE).write_text(json.dumps(index))
    return folder


def test_pairs_stay_together_and_held_out_ones_are_not_drawn(pair_folder: Path) -> None:
    sampler = PairSampler(PairStore([pair_folder]), CONFIG, seed=3)
    drawn = set()
    for step in range(12):
        pixels, indices = sampler.batch(step, 0, 4)
        assert pixels.shape == (4, 6, 16, 16) and pixels.dtype == np.uint8
        for pair, index in zip(pixels, indices, strict=True):
            number = int(pair[3, 0, 0]) // 20
            drawn.add(number)
            assert (pair[3:] == 20 * number).all() and (pair[:3] > pair[3:]).all()
            assert abs(index - (700 + 50 * number)) <= 32
    assert drawn == set(range(2, COUNT))


def test_a_batch_depends_on_seed_step_and_rank_alone(pair_folder: Path) -> None:
    store = PairStore([pair_folder])
    first, again = (PairSampler(store, CONFIG, seed=3).batch(5, 0, 4) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    for other in (
        PairSampler(store, CONFIG, seed=4).batch(5, 0, 4),
        PairSampler(store, CONFIG, seed=3).batch(6, 0, 4),
        PairSampler(store, CONFIG, seed=3).batch(5, 1, 4),
    ):
        assert not np.array_equal(first[0], other[0])


def test_folders_are_joined_and_validation_is_the_held_out_part(pair_folder: Path) -> None:
    store = PairStore([pair_folder, pair_folder])
    assert len(store) == 2 * COUNT
    assert np.array_equal(store.pair(COUNT + 4), store.pair(4)) and not np.array_equal(store.pair(3), store.pair(4))
    pairs = validation_pairs(store, CONFIG)
    assert [index for _, index in pairs] == [700, 750, 750]
    assert all(pair.shape == (6, 16, 16) for pair, _ in pairs)


def test_broken_folders_are_refused(pair_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="video_pairs"):
        PairStore([tmp_path])
    np.save(tmp_path / ARRAY_FILE, np.zeros((3, SIDE, SIDE, 6), np.uint8))
    (tmp_path / INDEX_FILE).write_text(json.dumps({"step": [1, 2], "held": [True, False]}))
    with pytest.raises(InputError, match="not of one length"):
        PairStore([tmp_path])
    with pytest.raises(InputError, match=r"lower data\.crop"):
        PairSampler(PairStore([pair_folder]), DataConfig(crop=SIDE + 1), seed=0)


@pytest.fixture
def build(pair_folder: Path, tmp_path: Path, tiny_tables: Callable[..., dict[str, Any]]) -> Callable[..., Trainer]:
    def build(name: str, **changes: Any) -> Trainer:
        changes = {"model": {"prediction": True}, "objective": {"channel": "round"}} | changes
        config = TrainingConfig.from_dict(tiny_tables(**changes))
        return Trainer(config, [pair_folder], tmp_path / name, "cpu", lambda row: None)

    return build


def test_a_resumed_run_is_the_uninterrupted_one(build: Callable[..., Trainer]) -> None:
    """Also where only some levels are coded in some steps, and with learning rates of their own for new layers."""
    changes = {"run": {"levels": 2}, "optimizer": {"prediction_gain": 3.0}}
    whole, first = build("whole", **changes), build("parts", **changes)
    for _ in range(5):
        whole.train_step()
    for _ in range(2):
        first.train_step()
    first.save()
    second = build("parts", **changes)
    second.resume()
    for _ in range(3):
        second.train_step()
    whole.save(), second.save()
    a, b = (checkpoint.load(trainer.out / STATE_FILE)[0] for trainer in (whole, second))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_to_use_the_prediction(build: Callable[..., Trainer]) -> None:
    """From zero the layers that see the prediction move, more with a higher gain, and the loss falls."""

    def gate(trainer: Trainer) -> torch.Tensor:
        return torch.cat([stage.gate.bias.detach() for prior in trainer.model.priors for stage in prior.stages])  # type: ignore

    plain, faster = build("plain"), build("faster", optimizer={"prediction_gain": 4.0})
    assert not gate(plain).any()
    losses = [faster.train_step()["loss"] for _ in range(6)]
    for _ in range(6):
        plain.train_step()
    assert gate(faster).abs().mean() > 2 * gate(plain).abs().mean() > 0
    assert min(losses[3:]) < losses[0]


def test_validation_is_recorded(build: Callable[..., Trainer]) -> None:
    trainer = build("run", optimizer={"steps": 1}, run={"validate_every": 1})
    trainer.run()
    rows = [json.loads(line) for line in (trainer.out / METRICS_FILE).read_text().splitlines()]
    (row,) = [row for row in rows if row["event"] == "validation"]
    assert row["file_loss"] > 0 and row["steps"]["pairs_file"]["bpp"] > 0
