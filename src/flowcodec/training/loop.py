"""One training loop for every phase: read top to bottom. Restarts exactly at any step.

Nothing random is kept between steps: data, steps Delta and noise of step n derive from (seed, n, rank), so that the state of a
run is its weights, averages, optimiser moments and n.
"""

import copy
import json
import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from flowcodec.errors import InputError
from flowcodec.model import checkpoint
from flowcodec.model.channel import GaussianNoise, Rounding
from flowcodec.model.codec import FlowCodecModel
from flowcodec.model.objective import psnr_db, rate_distortion_loss
from flowcodec.runtime.step import step_index
from flowcodec.training.config import ObjectiveConfig, OptimizerConfig, TrainingConfig
from flowcodec.training.data import CropSampler, PixelStore, validation_crops
from flowcodec.training.pairs import PairSampler, PairStore, validation_pairs

Report = Callable[[dict[str, Any]], None]
VALIDATION_STEPS = (5.0, 14.0, 40.0, 110.0)
"""Quantiser steps at which validation is run, pixel units."""
STATE_FILE, WEIGHTS_FILE, METRICS_FILE = "state.safetensors", "weights.safetensors", "metrics.jsonl"
_SMALLEST_MUON_ROWS = 9
_EMA_WARMUP = 10
_CORE_SHARE = 0.75
_PREDICTION_LAYERS = ("from_prediction", "gate")
_ALL_LEVELS_EVERY = 4


@dataclass
class Team:
    """The processes of one run: torchrun sets rank and size, alone they are 0 and 1."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls, device: torch.device) -> "Team":
        if not dist.is_torchelastic_launched():
            return cls()
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), dist.get_world_size())

    def average_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def any(self, flag: bool) -> bool:
        if self.size == 1:
            return flag
        tensor = torch.tensor([float(flag)])
        dist.all_reduce(tensor)
        return bool(tensor.item() > 0)


def choose_device(name: str) -> torch.device:
    """auto = CUDA where there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name}: expected auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: no CUDA device is available")
    return device


class Optimizers:
    """Muon for the weight matrices (Jordan 2024; torch.optim.Muon), Adam for everything else; one learning-rate schedule."""

    def __init__(self, model: FlowCodecModel, config: OptimizerConfig) -> None:
        self.config = config
        named = dict(model.named_parameters())
        matrices = [n for n, p in named.items() if p.ndim == 2 and n.endswith("weight") and p.shape[0] >= _SMALLEST_MUON_ROWS]
        others = [n for n in named if n not in set(matrices)]
        self.names = {"muon": matrices, "adam": others}
        self.parameters = named
        self.optimizers = {
            "muon": torch.optim.Muon(self._groups(matrices), lr=config.muon_lr, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
            "adam": torch.optim.Adam(self._groups(others), lr=config.adam_lr, betas=(0.9, 0.99)),
        }

    def _groups(self, names: list[str]) -> list[dict[str, Any]]:
        """Parameter groups by the gain of their learning rate."""
        gains = {n: self.config.prediction_gain if any(part in n for part in _PREDICTION_LAYERS) else 1.0 for n in names}
        return [
            {"params": [self.parameters[n] for n in names if gains[n] == gain], "gain": gain}
            for gain in sorted(set(gains.values()))
        ]

    def factor(self, step: int) -> float:
        """Learning rate of a step over its peak: linear warm-up, constant, cosine to ``final_lr``."""
        c = self.config
        if step < c.warmup:
            return (step + 1) / c.warmup
        start = c.decay_from * c.steps
        progress = min(max((step - start) / max(c.steps - start, 1), 0.0), 1.0)
        return c.final_lr + (1 - c.final_lr) * 0.5 * (1 + math.cos(math.pi * progress))

    def step(self, step: int) -> None:
        for name, optimizer in self.optimizers.items():
            peak = self.config.muon_lr if name == "muon" else self.config.adam_lr
            for group in optimizer.param_groups:
                group["lr"] = peak * self.factor(step) * group["gain"]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        tensors = {}
        for name, optimizer in self.optimizers.items():
            for parameter_name in self.names[name]:
                for key, value in optimizer.state.get(self.parameters[parameter_name], {}).items():
                    tensors[f"optimizer.{parameter_name}.{key}"] = torch.as_tensor(value)
        return tensors

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        for name, optimizer in self.optimizers.items():
            for parameter_name in self.names[name]:
                prefix = f"optimizer.{parameter_name}."
                parameter = self.parameters[parameter_name]
                found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
                if found:
                    optimizer.state[parameter] = {k: v if k == "step" else v.to(parameter.device) for k, v in found.items()}


def draw_step_indices(config: ObjectiveConfig, random: np.random.Generator, count: int) -> np.ndarray:
    core, whole = ([step_index(step) for step in steps] for steps in (config.step_core, config.step_range))
    ranges = np.where(random.random(count)[:, None] < _CORE_SHARE, core, whole)
    return random.integers(ranges[:, 0], ranges[:, 1] + 1)


class Trainer:
    """The state of a run and what is done with it."""

    def __init__(self, config: TrainingConfig, folders: list[Path], out: Path, device: str, report: Report) -> None:
        self.config, self.out, self.report = config, out, report
        self.device = choose_device(device)
        self.team = Team.join(self.device)
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.run.seed)
        self.model = FlowCodecModel(config.model)
        if config.run.start_from:
            source = checkpoint.load_weights(Path(config.run.start_from))[0]
            fresh, own = config.run.fresh, self.model.state_dict()
            taken = {
                name: tensor
                for name, tensor in source.items()
                if name in own and own[name].shape == tensor.shape and not (fresh and name.startswith(fresh))
            }
            self.model.load_state_dict(taken, strict=False)
            report({"event": "start", "from": config.run.start_from, "taken": len(taken), "of": len(own)})
        self.model.to(self.device)
        for name, parameter in self.model.named_parameters():
            frozen = config.run.freeze and name.startswith(config.run.freeze)
            parameter.requires_grad_(name.startswith(config.run.train_only) and not frozen)
        self.model.arithmetic.fixed = config.run.fixed_arithmetic
        self.ema = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizers = Optimizers(self.model, config.optimizer)
        self.step = 0
        self.pixels_seen = 0
        self.pairs: PairSampler | None = None
        if config.model.prediction:
            pairs = PairStore(folders)
            self.pairs = PairSampler(pairs, config.data, config.run.seed)
            self.validation_pairs = validation_pairs(pairs, config.data)
            return
        if self.team.rank == 0:
            store = PixelStore.open(
                folders, out / "pixels.npy", lambda done, total: report({"event": "decode", "done": done, "total": total})
            )
        if self.team.size > 1:
            dist.barrier()
        if self.team.rank != 0:
            store = PixelStore.open(folders, out / "pixels.npy")
        self.sampler = CropSampler(store, config.data, config.run.seed)
        self.validation_images = validation_crops(store, config.data)

    # --- state ------------------------------------------------------------------------------------------------------------

    def header(self) -> dict[str, Any]:
        return {"config": self.config.to_dict(), "step": self.step, "pixels_seen": self.pixels_seen}

    def save(self) -> None:
        """The state to resume from, and the averaged weights alone."""
        if self.team.rank != 0:
            return
        tensors = {f"model.{n}": t for n, t in self.model.state_dict().items()}
        tensors |= {f"ema.{n}": t for n, t in self.ema.state_dict().items()}
        checkpoint.save(self.out / STATE_FILE, tensors | self.optimizers.state(), self.header())
        checkpoint.save_weights(self.out / WEIGHTS_FILE, self.ema, self.header())

    def resume(self) -> None:
        tensors, header = checkpoint.load(self.out / STATE_FILE)
        if header["config"]["model"] != json.loads(json.dumps(self.config.to_dict()["model"])):
            raise InputError(
                f"{self.out}: holds a run of another model configuration; give another --out or the old configuration"
            )
        self.model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
        self.ema.load_state_dict({n.removeprefix("ema."): t for n, t in tensors.items() if n.startswith("ema.")})
        self.optimizers.load_state(tensors)
        self.step, self.pixels_seen = header["step"], header["pixels_seen"]

    # --- one step ---------------------------------------------------------------------------------------------------------

    def train_step(self) -> dict[str, float]:
        c = self.config
        count = max(c.data.batch // self.team.size, 1)
        random = np.random.Generator(np.random.Philox(key=[c.run.seed + 1, (self.step << 16) + self.team.rank]))
        if self.pairs is None:
            pixels_drawn = self.sampler.batch(self.step, self.team.rank, count)
            steps_drawn = draw_step_indices(c.objective, random, count)
        else:
            pixels_drawn, steps_drawn = self.pairs.batch(self.step, self.team.rank, count)
        images = torch.from_numpy(pixels_drawn).to(self.device).float()
        indices = torch.from_numpy(steps_drawn).to(self.device)
        generator = torch.Generator(self.device).manual_seed(int(random.integers(1 << 62)))
        channel = GaussianNoise(generator) if c.objective.channel == "gaussian" else Rounding(c.objective.beta)
        bf16 = c.run.precision == "bf16" and not c.run.fixed_arithmetic
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16):
            levels = c.run.levels if c.run.levels and self.step % _ALL_LEVELS_EVERY else None
            result = self.model(images, indices, channel, c.run.train_flow, levels)
        o = c.objective
        loss = rate_distortion_loss(result, indices, o.beta, c.run.train_flow, o.restoration_weight, o.balance)
        loss.backward()
        parameters = list(self.model.parameters())
        self.team.average_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, c.optimizer.clip_norm)
        if torch.isfinite(norm):
            self.optimizers.step(self.step)
        self.model.zero_grad(set_to_none=True)
        self.average_weights()
        self.step += 1
        pixels = images.shape[2] * images.shape[3]
        self.pixels_seen += count * self.team.size * pixels
        psnr = psnr_db(result.image_sse.detach(), pixels).mean()
        return {
            "loss": loss.item(),
            "kl_bpp": result.bits.mean().item() / pixels,
            "psnr_db": psnr.item(),
            "grad_norm": norm.item(),
        }

    @torch.no_grad()
    def average_weights(self) -> None:
        keep = min(self.config.optimizer.ema, (self.step + 1) / (self.step + _EMA_WARMUP))
        for average, weight in zip(self.ema.parameters(), self.model.parameters(), strict=True):
            average.lerp_(weight, 1 - keep)

    @torch.no_grad()
    def validate(self) -> dict[str, Any]:
        """Loss, KL and PSNR under Gaussian noise, and the bits that rounding would cost (an estimate), on the held-out part."""
        if self.pairs is not None:
            return self.validate_pairs()
        rows: dict[str, Any] = {}
        totals = {"kl": 0.0, "file": 0.0}
        for step in VALIDATION_STEPS:
            for name, channel in (
                ("kl", GaussianNoise(torch.Generator(self.device).manual_seed(0))),
                ("file", Rounding(self.config.objective.beta)),
            ):
                losses, rates, psnrs = [], [], []
                for image in self.validation_images:
                    batch = torch.from_numpy(image)[None].to(self.device).float()
                    indices = torch.tensor([step_index(step)], device=self.device)
                    result = self.ema(batch, indices, channel)
                    pixels = batch[0, 0].numel()
                    losses.append(rate_distortion_loss(result, indices, self.config.objective.beta, True, 0.0).item())
                    rates.append(result.bits.item() / pixels)
                    psnrs.append(psnr_db(result.image_sse, pixels).item())
                rows[f"step_{step:g}_{name}"] = {
                    "bpp": float(np.mean(rates)),
                    "psnr_db": float(np.mean(psnrs)),
                    "loss": float(np.mean(losses)),
                }
                totals[name] += float(np.mean(losses)) / len(VALIDATION_STEPS)
        return {"loss": totals["kl"], "file_loss": totals["file"], "steps": rows}

    def validate_pairs(self) -> dict[str, Any]:
        """Loss, bits of rounding (an estimate) and PSNR on the held-out pairs, each at its own step."""
        rows = []
        for pair, index in self.validation_pairs:
            batch = torch.from_numpy(pair)[None].to(self.device).float()
            indices = torch.tensor([index], device=self.device)
            result = self.ema(batch, indices, Rounding(self.config.objective.beta))
            pixels = batch[0, 0].numel()
            loss = rate_distortion_loss(result, indices, self.config.objective.beta, True, 0.0).item()
            rows.append((loss, result.bits.item() / pixels, psnr_db(result.image_sse, pixels).item()))
        loss, rate, psnr = np.mean(rows, axis=0)
        whole = {"bpp": float(rate), "psnr_db": float(psnr), "loss": float(loss)}
        return {"loss": float(loss), "file_loss": float(loss), "steps": {"pairs_file": whole}}

    # --- the run ----------------------------------------------------------------------------------------------------------

    def run(self, minutes: float | None = None) -> None:
        """Trains until the configured number of steps, the time is up, or SIGTERM or SIGINT; saves before returning."""
        stop = []
        previous = {s: signal.signal(s, lambda *_: stop.append(True)) for s in (signal.SIGTERM, signal.SIGINT)}
        started = last_time = time.monotonic()
        last_step, sums = self.step, dict[str, float]()
        run = self.config.run
        try:
            while self.step < self.config.optimizer.steps:
                for key, value in self.train_step().items():
                    sums[key] = sums.get(key, 0.0) + value
                if self.step % run.log_every == 0:
                    now, count = time.monotonic(), self.step - last_step
                    rate = count * self.config.data.batch * self.config.data.crop**2 / (now - last_time)
                    self.record({"event": "train", **{k: v / count for k, v in sums.items()}, "pixels_per_s": rate})
                    last_time, last_step, sums = now, self.step, {}
                if self.step % run.validate_every == 0:
                    if self.team.rank == 0:
                        self.record({"event": "validation", **self.validate()})
                    if self.team.size > 1:
                        dist.barrier()
                    last_time = time.monotonic()
                if self.step % run.checkpoint_every == 0:
                    self.save()
                late = minutes is not None and time.monotonic() - started > 60 * minutes
                if self.team.any(bool(stop) or late):
                    break
            self.save()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def record(self, row: dict[str, Any]) -> None:
        """A line to the metrics file and the report."""
        if self.team.rank != 0:
            return
        row = {"step": self.step, "steps": self.config.optimizer.steps, "pixels_seen": self.pixels_seen, **row}
        with (self.out / METRICS_FILE).open("a") as file:
            file.write(json.dumps(row) + "\n")
        self.report(row)
