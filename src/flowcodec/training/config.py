"""Configuration of a training run: frozen dataclasses, read from a TOML file with a table for each."""

import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from flowcodec.errors import InputError
from flowcodec.model.codec import ModelConfig
from flowcodec.runtime.step import STEP_COUNT


@dataclass(frozen=True)
class DataConfig:
    crop: int = 128
    """Side of a training crop, pixels."""
    batch: int = 16
    """Crops a step over all processes."""
    small_source_weight: float = 4.0
    """How much likelier a pixel of an image of at most 256x256 is drawn (the losslessly stored crops)."""
    transpose_probability: float = 0.25
    validation_every: int = 20
    """Every n-th file of each folder, by name, is kept for validation and never trained on."""
    validation_crops: int = 12
    validation_crop: int = 256

    def __post_init__(self) -> None:
        if self.crop < 2 or self.batch < 1 or self.validation_every < 2:
            raise InputError("data: crop must be at least 2, batch at least 1 and validation_every at least 2")


@dataclass(frozen=True)
class ObjectiveConfig:
    beta: float = 1.0
    """Multiplier of the theory value (ln 2 / 6) * Delta^2 of the price of a bit in squared error."""
    channel: str = "gaussian"
    """gaussian | round"""
    step_index_range: tuple[int, int] = (48, 332)
    step_index_core: tuple[int, int] = (120, 300)
    """Three quarters of the images draw Delta from the core, the others from the whole range; both log-uniform."""
    restoration_weight: float = 1.0
    """Weight of the restored image's error beside the latent's, where the flow itself is not trained."""

    def __post_init__(self) -> None:
        if self.channel not in ("gaussian", "round"):
            raise InputError(f"objective.channel: expected gaussian or round, found {self.channel!r}")
        for low, high in (self.step_index_range, self.step_index_core):
            if not 0 <= low <= high < STEP_COUNT:
                raise InputError(f"objective: step indices must satisfy 0 <= low <= high < {STEP_COUNT}, found {low}, {high}")


@dataclass(frozen=True)
class OptimizerConfig:
    steps: int = 16000
    muon_lr: float = 2e-3
    adam_lr: float = 2e-3
    warmup: int = 200
    decay_from: float = 0.3
    """Fraction of the steps after which the learning rate falls, along a cosine, to ``final_lr`` of its value."""
    final_lr: float = 0.02
    clip_norm: float = 1.0
    ema: float = 0.998


@dataclass(frozen=True)
class RunConfig:
    seed: int = 1
    precision: str = "bf16"
    """bf16 (autocast) | f32"""
    train_flow: bool = False
    """Whether gradients pass through the flow; without it couplings stay as they are and levels learn locally, far cheaper."""
    fixed_arithmetic: bool = False
    """Train with the decoder's integer arithmetic in the loop."""
    start_from: str = ""
    """Checkpoint whose weights a new run starts from."""
    log_every: int = 50
    validate_every: int = 1000
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        if self.precision not in ("bf16", "f32"):
            raise InputError(f"run.precision: expected bf16 or f32, found {self.precision!r}")


@dataclass(frozen=True)
class TrainingConfig:
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)

    @classmethod
    def from_dict(cls, tables: dict[str, Any]) -> "TrainingConfig":
        parts = {f.name: f.default_factory for f in fields(cls)}
        unknown = set(tables) - set(parts)
        if unknown:
            raise InputError(f"configuration: unknown table {sorted(unknown)[0]!r}; expected one of {', '.join(parts)}")
        return cls(**{name: _build(part, name, tables.get(name, {})) for name, part in parts.items()})

    @classmethod
    def read(cls, path: Path) -> "TrainingConfig":
        try:
            return cls.from_dict(tomllib.loads(path.read_text()))
        except OSError as error:
            raise InputError(f"{path}: cannot read the configuration ({error.strerror})") from error
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"{path}: not valid TOML ({error})") from error

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _build(part: Any, table: str, values: dict[str, Any]) -> Any:
    known = {f.name for f in fields(part)}
    for name in values:
        if name not in known:
            raise InputError(f"configuration: unknown key {table}.{name}; expected one of {', '.join(sorted(known))}")
    return part(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})
