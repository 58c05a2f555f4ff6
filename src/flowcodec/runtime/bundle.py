"""A model on disk: an uncompressed zip of ONNX graphs, integer tables (.npy) and a JSON card, with an id from its content."""

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from flowcodec.errors import MissingModel, ModelError
from flowcodec.runtime.channel import ChannelTables
from flowcodec.runtime.coder import Tables
from flowcodec.runtime.header import MODEL_ID_BYTES
from flowcodec.runtime.integer import GraphInfo

SUFFIX = ".flowmodel"
BUNDLE_VERSION = 1
SHIPPED = Path(__file__).parents[1] / "models"
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Model:
    """All that encoding and decoding need of a model."""

    id: bytes
    """First MODEL_ID_BYTES of the SHA-256 over names and contents of all members."""
    card: dict[str, Any]
    graphs: dict[str, bytes]
    graph_info: dict[str, GraphInfo]
    step_multipliers: np.ndarray
    """uint16 (1409, 3, 9): step of a band over Delta for each grid step and level group, 12 fractional bits."""
    tables: Tables
    channels: ChannelTables

    @property
    def predicts(self) -> bool:
        """Whether this is a model of P-frames, whose networks also see a prediction of the picture."""
        return bool(self.card.get("prediction", False))


def _content_id(members: dict[str, bytes]) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(members):
        digest.update(name.encode() + b"\0" + len(members[name]).to_bytes(8, "little") + members[name])
    return digest.digest()[:MODEL_ID_BYTES]


def _pack_array(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _unpack_array(data: bytes) -> np.ndarray:
    return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)


def _array_members(step_multipliers: np.ndarray, tables: Tables, channels: ChannelTables) -> dict[str, np.ndarray]:
    arrays = {"step_multipliers": step_multipliers}
    arrays |= {f"tables.{f.name}": getattr(tables, f.name) for f in fields(tables)}
    arrays |= {f"channels.{f.name}": getattr(channels, f.name) for f in fields(channels)}
    return arrays


def write_model(
    path: Path,
    card: dict[str, Any],
    graphs: dict[str, bytes],
    graph_info: dict[str, GraphInfo],
    step_multipliers: np.ndarray,
    tables: Tables,
    channels: ChannelTables,
) -> bytes:
    """Writes a model file, the same bytes for the same content; returns its id."""
    card = card | {"version": BUNDLE_VERSION, "graphs": {name: [i.halo, i.double_rows] for name, i in sorted(graph_info.items())}}
    members = {"card.json": json.dumps(card, indent=1, sort_keys=True).encode()}
    members |= {f"{name}.onnx": graph for name, graph in graphs.items()}
    members |= {f"{name}.npy": _pack_array(a) for name, a in _array_members(step_multipliers, tables, channels).items()}
    partial = path.with_name(path.name + ".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), members[name])
    partial.replace(path)
    return _content_id(members)


def read_model(path: Path) -> Model:
    """Raises MissingModel where there is no file, ModelError where it is not a model of this version."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: archive.read(info) for info in archive.infolist()}
        card = json.loads(members["card.json"])
        if card["version"] != BUNDLE_VERSION:
            raise ModelError(f"{path}: expected a model of version {BUNDLE_VERSION}, found {card['version']}; update FlowCodec")
        arrays = {name.removesuffix(".npy"): _unpack_array(data) for name, data in members.items() if name.endswith(".npy")}
        return Model(
            id=_content_id(members),
            card=card,
            graphs={name.removesuffix(".onnx"): data for name, data in members.items() if name.endswith(".onnx")},
            graph_info={name: GraphInfo(*values) for name, values in card["graphs"].items()},
            step_multipliers=arrays["step_multipliers"],
            tables=Tables(**{f.name: arrays[f"tables.{f.name}"] for f in fields(Tables)}),
            channels=ChannelTables(**{f.name: arrays[f"channels.{f.name}"] for f in fields(ChannelTables)}),
        )
    except FileNotFoundError as error:
        raise MissingModel(
            f"{path}: no such model; give a path or one of: {', '.join(shipped_models()) or 'none shipped'}"
        ) from error
    except (OSError, zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: not a FlowCodec model ({error})") from error


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob(f"*{SUFFIX}"))


@lru_cache(maxsize=4)
def _read_cached(path: Path, modified: int) -> Model:
    return read_model(path)


def load_model(name: str | Path = "default") -> Model:
    """A shipped model by name, or a model file by path."""
    path = Path(name)
    if path.suffix != SUFFIX and str(name) in shipped_models():
        path = SHIPPED / f"{name}{SUFFIX}"
    return _read_cached(path.resolve(), path.stat().st_mtime_ns if path.exists() else 0)


def find_model(model_id: bytes) -> Model:
    """The shipped model with the given id. Raises MissingModel."""
    for name in shipped_models():
        model = load_model(name)
        if model.id == model_id:
            return model
    raise MissingModel(f"the file needs model {model_id.hex()}, which is not installed; pass --model PATH")
