"""Configuration of a training run: frozen dataclasses, read from a TOML file with a table for each."""

import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_origin

from flowcodec.errors import InputError
from flowcodec.model.codec import ModelConfig


def _require_at_least(table: str, part: Any, **limits: float) -> None:
    for name, limit in limits.items():
        if not getattr(part, name) >= limit:
            raise InputError(f"{table}.{name}: expected at least {limit}, found {getattr(part, name)}")


@dataclass(frozen=True)
class DataConfig:
    crop: int = 128
    """Side of a training crop, pixels."""
    batch: int = 16
    """Crops a step over all processes."""
    small_source_weight: float = 4.0
    """How much likelier a pixel of an image of at most 256x256 is drawn (the losslessly stored crops)."""
    transpose_probability: float = 0.25
    graphics_probability: float = 0.0
    """Share of the crops that get a frame, rules, boxes or lettering (``training/graphics.py``)."""
    validation_every: int = 20
    """Every n-th file of each folder, by name, is kept for validation and never trained on."""
    validation_crops: int = 12
    validation_crop: int = 256

    def __post_init__(self) -> None:
        _require_at_least("data", self, crop=2, batch=1, small_source_weight=0, transpose_probability=0)
        _require_at_least("data", self, validation_every=2, validation_crops=1, validation_crop=1, graphics_probability=0)
        for name in ("transpose_probability", "graphics_probability"):
            if getattr(self, name) > 1:
                raise InputError(f"data.{name}: expected at most 1, found {getattr(self, name)}")


@dataclass(frozen=True)
class ObjectiveConfig:
    beta: float = 1.0
    """Multiplier of the theory value (ln 2 / 6) * Delta^2 of the price of a bit in squared error."""
    balance: float = 0.0
    """Weight (Delta / 16)^balance of an image's loss; see ``rate_distortion_loss``."""
    channel: str = "gaussian"
    """gaussian | round"""
    step_range: tuple[float, float] = (0.7, 330.0)
    step_core: tuple[float, float] = (3.4, 166.0)
    """Three quarters of the images draw Delta from the core, the others from the whole range; both log-uniform."""
    restoration_weight: float = 1.0
    """Weight of the restored image's error beside the latent's, where the flow itself is not trained."""

    def __post_init__(self) -> None:
        if self.channel not in ("gaussian", "round"):
            raise InputError(f"objective.channel: expected gaussian or round, found {self.channel!r}")
        for name in ("step_range", "step_core"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise InputError(f"objective.{name}: expected 0 < low <= high, found {low}, {high}")


@dataclass(frozen=True)
class OptimizerConfig:
    steps: int = 16000
    muon_lr: float = 2e-3
    adam_lr: float = 2e-3
    prediction_gain: float = 1.0
    """Learning rate, over that of the others, of the layers that see a prediction: they begin at zero, the others trained."""
    warmup: int = 200
    decay_from: float = 0.3
    """Fraction of the steps after which the learning rate falls, along a cosine, to ``final_lr`` of its value."""
    final_lr: float = 0.02
    clip_norm: float = 1.0
    ema: float = 0.998

    def __post_init__(self) -> None:
        _require_at_least(
            "optimizer",
            self,
            steps=1,
            muon_lr=0,
            adam_lr=0,
            prediction_gain=0,
            warmup=0,
            decay_from=0,
            final_lr=0,
            clip_norm=0,
            ema=0,
        )
        if self.ema > 1:
            raise InputError(f"optimizer.ema: expected at most 1, found {self.ema}")


@dataclass(frozen=True)
class RunConfig:
    seed: int = 1
    precision: str = "bf16"
    """bf16 (autocast) | f32"""
    train_flow: bool = False
    """Whether gradients pass through the flow; without it couplings stay as they are and levels learn locally, far cheaper."""
    fixed_arithmetic: bool = False
    """Train with the decoder's integer arithmetic in the loop."""
    levels: int = 0
    """In three of four steps only so many of the finest levels are coded, which is cheaper; 0: always all."""
    train_only: str = ""
    """Start of the names of the parameters to train, such as ``restoration``; all of them by default."""
    freeze: str = ""
    """Start of the names of the parameters to keep as they are, such as ``log2_multipliers``; none by default."""
    start_from: str = ""
    """Checkpoint whose weights a new run starts from: all that have the same name and shape."""
    fresh: str = ""
    """Start of the names of the parameters that begin anew instead, such as ``restoration``; none by default."""
    log_every: int = 50
    validate_every: int = 1000
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        if self.precision not in ("bf16", "f32"):
            raise InputError(f"run.precision: expected bf16 or f32, found {self.precision!r}")
        _require_at_least("run", self, seed=0, log_every=1, validate_every=1, checkpoint_every=1)


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
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not valid TOML ({error})") from error

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _build(part: Any, table: str, values: dict[str, Any]) -> Any:
    if not isinstance(values, dict):
        raise InputError(f"configuration: expected a table [{table}], found {values!r}")
    known = {f.name: f.type for f in fields(part)}
    for name in values:
        if name not in known:
            raise InputError(f"configuration: unknown key {table}.{name}; expected one of {', '.join(sorted(known))}")
    return part(**{name: _converted(f"{table}.{name}", known[name], value) for name, value in values.items()})


def _converted(key: str, kind: Any, value: Any) -> Any:
    """The value as the field's type; a list serves as a tuple and a whole number as a fraction. Raises InputError."""
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple) or len(value) != len(get_args(kind)):
            raise InputError(f"{key}: expected {len(get_args(kind))} values in brackets, found {value!r}")
        return tuple(_converted(key, item, v) for item, v in zip(get_args(kind), value, strict=True))
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise InputError(f"{key}: expected a value of type {kind.__name__}, found {value!r}")
    return value
