"""One training loop for all neural rivals, on the crops that FlowCodec's own training draws; and a rival as a benchmark codec."""

import hashlib
import math
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from flowcodec.benchmark.rivals.discrete_flow import DiscreteFlowConfig, IntegerDiscreteFlow
from flowcodec.benchmark.rivals.flow import FlowConfig, SmallFlow
from flowcodec.benchmark.rivals.hyperprior import HyperpriorConfig, MeanScaleHyperprior
from flowcodec.benchmark.rivals.vq import VectorQuantisedCodec, VqConfig
from flowcodec.errors import InputError, ModelError
from flowcodec.model import checkpoint
from flowcodec.training.config import DataConfig
from flowcodec.training.data import CropSampler, PixelStore, validation_crops

KINDS: dict[str, tuple[Callable[..., Any], Callable[[Any], nn.Module]]] = {
    "vq": (VqConfig, VectorQuantisedCodec),
    "hyperprior": (HyperpriorConfig, MeanScaleHyperprior),
    "discrete_flow": (DiscreteFlowConfig, IntegerDiscreteFlow),
    "flowcodec": (FlowConfig, SmallFlow),
}
CHECKPOINTS = 16
_WARMUP, _FINAL_RATE = 50, 0.02


class Rival(Protocol):
    """What measuring asks of a rival's network."""

    def encode(self, pixels: np.ndarray) -> bytes: ...

    def decode(self, data: bytes) -> np.ndarray: ...


@dataclass(frozen=True)
class RivalConfig:
    """A rival: how its models are trained, all alike, and the sizes of each. ``settings`` name the models, one for each rate."""

    name: str
    rival: str
    steps: int
    settings: tuple[float, ...]
    models: tuple[dict[str, Any], ...]
    batch: int = 8
    crop: int = 64
    reduce: int = 1
    """Crops of ``reduce * crop`` are reduced to ``crop`` by the mean of reduce x reduce pixels, as sets of small pictures are."""
    learning_rate: float = 1e-3
    seed: int = 1

    def __post_init__(self) -> None:
        if self.rival not in KINDS:
            raise InputError(f"{self.name}: rival: expected one of {', '.join(KINDS)}, found {self.rival!r}")
        if min(self.steps, self.batch, self.crop, self.reduce, len(self.models)) < 1:
            raise InputError(f"{self.name}: expected at least one step, picture, pixel and model")
        if len(set(self.settings)) != len(self.models):
            raise InputError(f"{self.name}: expected a setting of its own for each of {len(self.models)} models")

    @classmethod
    def read(cls, path: Path) -> "RivalConfig":
        """Raises InputError for a file that cannot be read or that names what there is not."""
        try:
            values = tomllib.loads(path.read_text())
            models = values.pop("models")
            settings = tuple(float(model.pop("setting")) for model in models)
            config = cls(**values, settings=settings, models=tuple(models))
            for model in config.models:
                KINDS[config.rival][0](**model)
        except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
            raise InputError(f"{path}: cannot be read as the configuration of a rival ({error})") from error
        return config

    @property
    def pixels_seen(self) -> int:
        """By each model, in training."""
        return self.steps * self.batch * self.crop**2

    def build(self, setting: float) -> nn.Module:
        config, network = KINDS[self.rival]
        return network(config(**self.models[self.settings.index(setting)]))


def reduced(images: np.ndarray, factor: int) -> Tensor:
    """uint8 (N, 3, H, W) -> floats of whole numbers, (N, 3, H / factor, W / factor): means of squares, rounded."""
    return torch.round(nn.functional.avg_pool2d(torch.from_numpy(np.ascontiguousarray(images)).float(), factor))


def train(
    config: RivalConfig, setting: float, store: PixelStore, report: Callable[[str], None] = lambda _: None
) -> tuple[nn.Module, list[dict[str, float]]]:
    """(trained model, its test on held-out crops on the way: step, CPU seconds, squared error and bits per pixel)"""
    torch.manual_seed(config.seed)
    model: Any = config.build(setting)
    # loss(images (N, 3, H, W) in 0 ... 255) is a scalar; evaluate(images) is (squared error, estimated bits) per pixel.
    side = config.crop * config.reduce
    sampler = CropSampler(store, DataConfig(crop=side, batch=config.batch), config.seed)
    held_out = reduced(validation_crops(store, DataConfig(validation_crops=8, validation_crop=side)), config.reduce)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
    seconds, way = 0.0, []
    for step in range(config.steps):
        start = time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _rate(step, config.steps)
        model.train()
        model.loss(reduced(sampler.batch(step, 0, config.batch), config.reduce)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds += time.process_time() - start
        if (step + 1) % max(config.steps // CHECKPOINTS, 1) == 0 or step + 1 == config.steps:
            error, bits = model.eval().evaluate(held_out)
            way.append({"step": step + 1, "cpu_s": seconds, "squared_error": float(error), "bpp": float(bits)})
            report(f"{config.name} {setting:g}, step {step + 1}: squared error {error:.2f}, {bits:.3f} bpp")
    return model.eval(), way


def _rate(step: int, steps: int) -> float:
    """Warm-up, then a cosine down to ``_FINAL_RATE``."""
    warm = min(1.0, (step + 1) / min(_WARMUP, steps))
    return warm * (_FINAL_RATE + (1 - _FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * step / steps)))


def train_all(
    config: RivalConfig, store: Callable[[], PixelStore], folder: Path, report: Callable[[str], None] = lambda _: None
) -> "TrainedRival":
    """Trains those models of a rival that ``folder`` does not hold yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for setting in config.settings:
        path = weights_file(folder, config, setting)
        if not (path.exists() and checkpoint.load(path)[1]["config"] == _described(config)):
            model, way = train(config, setting, store(), report)
            checkpoint.save(path, dict(model.state_dict()), {"config": _described(config), "way": way})
    return TrainedRival(config, folder)


@dataclass(frozen=True)
class TrainedRival:
    """A rival as a codec of the benchmark: a setting is a model of its own."""

    config: RivalConfig
    folder: Path

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def settings(self) -> tuple[float, ...]:
        return self.config.settings

    def describe(self) -> dict[str, Any]:
        """Besides the usual, ``training``: the configuration, pixels seen, and of each model its size, weights and way."""
        files = {f"{setting:g}": weights_file(self.folder, self.config, setting) for setting in self.config.settings}
        training = {
            **_described(self.config),
            "pixels_seen_by_each_model": self.config.pixels_seen,
            "parameters": {key: _parameters(path) for key, path in files.items()},
            "weights": {key: _hash(path) for key, path in files.items()},
            "way": {key: checkpoint.load(path)[1]["way"] for key, path in files.items()},
        }
        options = {"rival": self.config.rival, "pixels seen by each model": self.config.pixels_seen}
        version = f"PyTorch {torch.__version__}, float networks"
        return {"version": version, "options": options, "setting": "model", "training": training}

    def model(self, setting: float) -> Rival:
        return _load(weights_file(self.folder, self.config, setting), self.config, setting)

    def encode(self, pixels: np.ndarray, setting: float) -> bytes:
        """A byte that names the model, and its file."""
        return bytes([self.config.settings.index(setting)]) + self.model(setting).encode(pixels)

    def decode(self, data: bytes) -> np.ndarray:
        return self.model(self.config.settings[data[0]]).decode(data[1:])


def weights_file(folder: Path, config: RivalConfig, setting: float) -> Path:
    """The file of a trained model."""
    return folder / f"{config.rival}_{config.crop}_{setting:g}.safetensors"


def _described(config: RivalConfig) -> Mapping[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}


def _parameters(path: Path) -> int:
    return sum(tensor.numel() for tensor in checkpoint.load(path)[0].values())


def _hash(path: Path) -> str:
    """Start of the SHA-256 over names and values of the weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(checkpoint.load(path)[0].items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=8)
def _loaded(path: Path, _modified: int) -> dict[str, Tensor]:
    return checkpoint.load(path)[0]


def _load(path: Path, config: RivalConfig, setting: float) -> Any:
    model = config.build(setting)
    try:
        model.load_state_dict(_loaded(path, path.stat().st_mtime_ns))
    except (OSError, RuntimeError) as error:
        raise ModelError(f"{path}: not the weights of {config.name} {setting:g} ({str(error).splitlines()[0]})") from error
    return model.eval()
