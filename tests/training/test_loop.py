"""Training: restarts exact to the bit, stops when told, and learns."""

import itertools
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowcodec.errors import InputError, MissingModel
from flowcodec.model import checkpoint
from flowcodec.training.config import ObjectiveConfig, OptimizerConfig, TrainingConfig
from flowcodec.training.loop import (
    METRICS_FILE,
    STATE_FILE,
    WEIGHTS_FILE,
    Optimizers,
    Report,
    Trainer,
    choose_device,
    draw_step_indices,
)

Rows = list[dict[str, Any]]
Build = Callable[..., Trainer]
VARIANTS = {
    "noise, flow fixed": {},
    "noise, flow trained": {"run": {"train_flow": True}},
    "rounding in integers": {"objective": {"channel": "round"}, "run": {"train_flow": True, "fixed_arithmetic": True}},
    "bf16": {"run": {"precision": "bf16"}},
}


@pytest.fixture(name="build")
def build_fixture(image_folder: Path, tmp_path: Path, tiny_tables: Callable[..., dict[str, Any]]) -> Build:
    """build(name, rows, **changes): a trainer that writes to a folder of that name and reports into rows."""

    def build(name: str, rows: Rows | None = None, report: Report | None = None, **changes: Any) -> Trainer:
        config = TrainingConfig.from_dict(tiny_tables(**changes))
        return Trainer(config, [image_folder], tmp_path / name, "cpu", report or (rows if rows is not None else []).append)

    return build


def state(trainer: Trainer) -> dict[str, torch.Tensor]:
    """What the state file holds."""
    trainer.save()
    return checkpoint.load(trainer.out / STATE_FILE)[0]


def differing(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> list[str]:
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]


# --- restarts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_a_resumed_run_ends_as_if_never_interrupted(build: Build, variant: dict[str, Any]) -> None:
    """6 steps in one go, and 3 + 3 through a file: weights, averages and optimiser moments equal to the bit."""
    rows: Rows = []
    whole = build("whole", rows, **variant)
    whole.run()
    first = build("parts", **variant)
    for _ in range(3):
        first.train_step()
    first.save()
    rest: Rows = []
    second = build("parts", rest, **variant)
    second.resume()
    assert second.step == 3
    second.run()
    assert second.step == whole.step == 6 and second.pixels_seen == whole.pixels_seen == 6 * 2 * 16 * 16
    assert not differing(state(second), state(whole))
    losses = [row["loss"] for row in rows if row["event"] == "train"]
    assert losses[3:] == [row["loss"] for row in rest if row["event"] == "train"]


def test_what_a_restart_must_keep_matters(build: Build) -> None:
    """So that the test above can fail: weights alone, without moments, averages or the step, end elsewhere."""
    whole = build("whole")
    whole.run()
    first = build("parts")
    for _ in range(3):
        first.train_step()
    for loses in ("optimizer", "step", "ema"):
        second = build("parts")
        second.model.load_state_dict(first.model.state_dict())
        if loses != "ema":
            second.ema.load_state_dict(first.ema.state_dict())
        if loses != "optimizer":
            second.optimizers.load_state(first.optimizers.state())
        if loses != "step":
            second.step = 3
        for _ in range(3):
            second.train_step()
        assert differing(state(second), state(whole)), loses


def test_runs_of_other_seeds_differ(build: Build) -> None:
    ends = []
    for seed in (1, 2):
        trainer = build(f"seed{seed}", run={"seed": seed})
        trainer.train_step()
        ends.append(state(trainer))
    assert differing(*ends)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_a_later_run_goes_on(build: Build, number: int) -> None:
    """The signal comes with the report of step 2; the run ends with that step, and resumed it ends as if never stopped."""
    before = signal.getsignal(number)

    def interrupt(row: dict[str, Any]) -> None:
        if row["event"] == "train" and row["step"] == 2:
            os.kill(os.getpid(), number)

    stopped = build("stopped", report=interrupt)
    stopped.run()
    assert stopped.step == 2
    assert signal.getsignal(number) is before
    assert checkpoint.load(stopped.out / STATE_FILE)[1]["step"] == 2
    resumed = build("stopped")
    resumed.resume()
    resumed.run()
    whole = build("whole")
    whole.run()
    assert not differing(state(resumed), state(whole))


def test_a_run_ends_when_its_time_is_up_and_saves(build: Build) -> None:
    trainer = build("timed")
    trainer.run(minutes=0.0)
    assert trainer.step == 1
    assert checkpoint.load(trainer.out / STATE_FILE)[1]["step"] == 1


def test_an_error_leaves_the_signals_as_they_were(build: Build) -> None:
    def fail(row: dict[str, Any]) -> None:
        if row["event"] == "train":
            raise RuntimeError("report failed")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError, match="report failed"):
        build("failing", report=fail).run()
    assert signal.getsignal(signal.SIGTERM) is before


# --- files ----------------------------------------------------------------------------------------------------------------


def test_a_finished_run_leaves_state_weights_and_metrics(build: Build) -> None:
    trainer = build("files", run={"validate_every": 6, "checkpoint_every": 2})
    trainer.run()
    model, header = checkpoint.load_model(trainer.out / WEIGHTS_FILE)
    assert header["step"] == 6 and TrainingConfig.from_dict(header["config"]) == trainer.config
    for average, loaded in zip(trainer.ema.parameters(), model.parameters(), strict=True):
        assert torch.equal(average, loaded)
    rows = [json.loads(line) for line in (trainer.out / METRICS_FILE).read_text().splitlines()]
    assert [row["step"] for row in rows if row["event"] == "train"] == [1, 2, 3, 4, 5, 6]
    assert all(row["pixels_seen"] == row["step"] * 2 * 256 and row["kl_bpp"] > 0 for row in rows if row["event"] == "train")
    (validation,) = [row for row in rows if row["event"] == "validation"]
    assert validation["loss"] > 0 and len(validation["steps"]) == 8
    assert not list(trainer.out.glob("*.partial*"))


def test_a_run_starts_from_the_weights_of_another(build: Build) -> None:
    source = build("source", run={"seed": 5})
    source.run()
    trainer = build("next", run={"start_from": str(source.out / WEIGHTS_FILE)})
    for mine, theirs in zip(trainer.model.parameters(), source.ema.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert trainer.step == 0


def test_a_run_takes_what_fits_from_weights_of_another_size(build: Build) -> None:
    """All tensors of equal name and shape, and no other: the level groups whose width is the same, not the first."""
    source = build("source", run={"seed": 5})
    source.run()
    trainer = build("next", model={"widths": [8, 4, 4]}, run={"start_from": str(source.out / WEIGHTS_FILE)})
    theirs = source.ema.state_dict()
    for name, tensor in trainer.model.state_dict().items():
        if name.startswith("priors.0.trunk") and tensor.shape != theirs[name].shape:
            continue
        if tensor.shape == theirs[name].shape:
            assert torch.equal(tensor, theirs[name]), name
    assert trainer.model.state_dict()["priors.0.trunk.enter.weight"].shape != theirs["priors.0.trunk.enter.weight"].shape


def test_a_run_of_another_model_is_not_resumed(build: Build) -> None:
    build("run").save()
    with pytest.raises(InputError, match="another model configuration"):
        build("run", model={"widths": [8, 4, 4]}).resume()
    with pytest.raises(MissingModel, match=r"state\.safetensors"):
        build("empty").resume()


def test_an_unknown_device_is_refused() -> None:
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(InputError, match="--device abacus"):
        choose_device("abacus")


# --- learning -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train_flow", [False, True], ids=["flow fixed", "flow trained"])
def test_the_loss_on_held_out_images_falls(build: Build, train_flow: bool) -> None:
    """30 steps of 4 crops of 32x32: the validation loss of the averaged weights, KL and rounding, falls by a fifth at least."""
    rows: Rows = []
    data, optimizer = {"crop": 32, "batch": 4}, {"steps": 30, "muon_lr": 0.01, "adam_lr": 0.01}
    trainer = build("learn", rows, data=data, optimizer=optimizer, run={"train_flow": train_flow})
    before = trainer.validate()
    trainer.run()
    after = trainer.validate()
    assert after["loss"] < 0.8 * before["loss"]
    assert after["file_loss"] < 0.9 * before["file_loss"]
    losses = [row["loss"] for row in rows if row["event"] == "train"]
    assert len(losses) == 30 and np.median(losses[-10:]) < np.median(losses[:5])


def test_a_fixed_flow_stays_the_wavelet_and_a_trained_one_moves(build: Build) -> None:
    for train_flow in (False, True):
        trainer = build(f"flow{train_flow}", run={"train_flow": train_flow})
        before = [p.clone() for p in trainer.model.flow.parameters()]
        trainer.run()
        moved = any(not torch.equal(a, b) for a, b in zip(before, trainer.model.flow.parameters(), strict=True))
        assert moved == train_flow


def test_the_average_follows_the_weights(build: Build) -> None:
    """One step with the warm-up of the average: ema = (1 - k)*w + k*ema, k = 1/10."""
    trainer = build("ema")
    before = [p.clone() for p in trainer.ema.parameters()]
    trainer.train_step()
    for old, average, weight in zip(before, trainer.ema.parameters(), trainer.model.parameters(), strict=True):
        assert torch.allclose(average, 0.1 * old + 0.9 * weight, atol=1e-6)


def test_a_step_with_a_gradient_that_is_not_finite_moves_nothing(build: Build) -> None:
    trainer = build("nan")
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}
    handle = next(iter(trainer.model.priors.parameters())).register_hook(lambda gradient: gradient * float("nan"))
    trainer.train_step()
    handle.remove()
    assert all(torch.equal(p, before[name]) for name, p in trainer.model.named_parameters())
    assert trainer.step == 1
    trainer.train_step()
    assert not all(torch.equal(p, before[name]) for name, p in trainer.model.named_parameters())


def test_every_parameter_has_one_optimizer_and_matrices_have_muon(build: Build) -> None:
    trainer = build("names")
    muon, adam = (set(trainer.optimizers.names[name]) for name in ("muon", "adam"))
    assert not muon & adam
    assert muon | adam == {name for name, _ in trainer.model.named_parameters()}
    assert muon and all(name.endswith("weight") for name in muon)
    assert "log2_multipliers" in adam and "density.logits" in adam


def test_the_learning_rate_warms_up_holds_and_falls(build: Build) -> None:
    config = OptimizerConfig(steps=100, warmup=10, decay_from=0.5, final_lr=0.1)
    factor = Optimizers(build("lr").model, config).factor
    assert [factor(step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert factor(30) == factor(50) == 1.0
    assert factor(75) == pytest.approx(0.55) and factor(100) == pytest.approx(0.1)
    falling = [factor(step) for step in range(50, 101)]
    assert all(a > b for a, b in itertools.pairwise(falling))


def test_steps_are_taken_at_the_learning_rate_of_the_schedule(build: Build) -> None:
    trainer = build("rates", optimizer={"warmup": 4, "muon_lr": 0.02, "adam_lr": 0.008})
    rates = []
    for _ in range(2):
        trainer.train_step()
        rates.append([trainer.optimizers.optimizers[name].param_groups[0]["lr"] for name in ("muon", "adam")])
    assert np.allclose(rates, [[0.005, 0.002], [0.01, 0.004]])


def test_steps_are_drawn_from_the_core_three_times_in_four() -> None:
    config = ObjectiveConfig(step_range=(1.0, 256.0), step_core=(4.0, 64.0))
    drawn = draw_step_indices(config, np.random.default_rng(0), 20_000)
    assert 256 <= drawn.min() < 262 and 1274 < drawn.max() <= 1280
    outside = np.mean((drawn < 512) | (drawn > 1024))
    assert outside == pytest.approx(0.25 * (1025 - 513) / 1025, abs=0.01)
    single = ObjectiveConfig(step_range=(8.0, 8.0), step_core=(8.0, 8.0))
    assert set(draw_step_indices(single, np.random.default_rng(0), 50)) == {640}


def test_train_only_leaves_all_else_alone(build: Build) -> None:
    """With ``train_only`` the named part moves and every other weight keeps its bits."""
    trainer = build("part", run={"train_only": "restoration"}, objective={"channel": "round"})
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.run()
    changed = {name for name, tensor in trainer.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and all(name.startswith("restoration") for name in changed)


def test_frozen_parameters_stay(build: Build) -> None:
    trainer = build("frozen", run={"freeze": "log2_multipliers"})
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.run()
    kept = {name for name, tensor in trainer.model.state_dict().items() if torch.equal(tensor, before[name])}
    assert "log2_multipliers" in kept and "density.logits" not in kept


def test_a_fresh_part_does_not_come_from_the_checkpoint(build: Build, tmp_path: Path) -> None:
    """Of ``start_from`` all is taken but the part that begins anew."""
    source = build("source")
    with torch.no_grad():
        for parameter in source.model.parameters():
            parameter += 1.0
    checkpoint.save_weights(tmp_path / "w.safetensors", source.model, source.header())
    run = {"start_from": str(tmp_path / "w.safetensors"), "fresh": "restoration"}
    started = build("fresh", run=run).model.state_dict()
    for name, tensor in source.model.state_dict().items():
        assert torch.equal(started[name], tensor) != name.startswith("restoration"), name
