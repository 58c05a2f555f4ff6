"""ONNX graphs read and written as what they are, protocol buffers: just enough to rewrite nodes and constants.

The runtime has no ``onnx`` package, and needs of it only a few message fields. Everything that is not touched keeps its bytes.
Reference: onnx/onnx.proto; https://protobuf.dev/programming-guides/encoding/.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

_VARINT, _BYTES, _FLOAT = 0, 2, 5
_FLOAT_SIZE = 4
_MODEL_OPSET, _MODEL_GRAPH = 8, 7
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT = 1, 5, 11
_NODE_INPUT, _NODE_OUTPUT, _NODE_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 2, 4, 5, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_STRING, _ATTRIBUTE_FLOATS, _ATTRIBUTE_KIND = 1, 4, 7, 20
_KIND_STRING, _KIND_FLOATS = 3, 6
_TENSOR_DIMENSION, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 8, 9
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_TENSOR_FLOAT = 1
_NAME = 1

Value = int | bytes


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[place]
        number |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return number, place


def _fields(data: bytes) -> Iterator[tuple[int, int, Value]]:
    """(field number, wire type, value) of a message; ONNX has no 64-bit ones where graphs of float32 are concerned."""
    place = 0
    while place < len(data):
        key, place = _read_varint(data, place)
        wire = key & 7
        if wire == _VARINT:
            number, place = _read_varint(data, place)
            yield key >> 3, wire, number
            continue
        if wire == _BYTES:
            size, place = _read_varint(data, place)
        else:
            size = _FLOAT_SIZE
        yield key >> 3, wire, data[place : place + size]
        place += size


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _field(number: int, value: Value, wire: int = _BYTES) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    size = _varint(len(value)) if wire == _BYTES else b""
    return _varint(number << 3 | wire) + size + value


def _of(data: bytes, number: int) -> list[bytes]:
    return [value for found, _, value in _fields(data) if found == number and isinstance(value, bytes)]


def _texts(data: bytes, number: int) -> list[str]:
    return [value.decode() for value in _of(data, number)]


@dataclass
class Node:
    """An operation. ``attributes`` are encoded messages."""

    operator: str
    inputs: list[str]
    outputs: list[str]
    attributes: list[bytes] = field(default_factory=list)
    domain: str = ""

    @classmethod
    def read(cls, data: bytes) -> "Node":
        (operator,) = _texts(data, _NODE_TYPE)
        domain = "".join(_texts(data, _NODE_DOMAIN))
        return cls(operator, _texts(data, _NODE_INPUT), _texts(data, _NODE_OUTPUT), _of(data, _NODE_ATTRIBUTE), domain)

    def write(self) -> bytes:
        parts = [_field(_NODE_INPUT, name.encode()) for name in self.inputs]
        parts += [_field(_NODE_OUTPUT, name.encode()) for name in self.outputs]
        parts.append(_field(_NODE_TYPE, self.operator.encode()))
        parts += [_field(_NODE_ATTRIBUTE, attribute) for attribute in self.attributes]
        parts += [_field(_NODE_DOMAIN, self.domain.encode())] if self.domain else []
        return b"".join(parts)


def text_attribute(name: str, text: str) -> bytes:
    parts = _field(_ATTRIBUTE_NAME, name.encode()), _field(_ATTRIBUTE_STRING, text.encode())
    return b"".join([*parts, _field(_ATTRIBUTE_KIND, _KIND_STRING)])


def floats_attribute(name: str, numbers: list[float]) -> bytes:
    parts = [_field(_ATTRIBUTE_FLOATS, struct.pack("<f", number), _FLOAT) for number in numbers]
    return b"".join([_field(_ATTRIBUTE_NAME, name.encode()), *parts, _field(_ATTRIBUTE_KIND, _KIND_FLOATS)])


def _read_tensor(data: bytes) -> tuple[str, np.ndarray]:
    shape = [int(value) for number, _, value in _fields(data) if number == _TENSOR_DIMENSION]
    (name,), (raw,) = _texts(data, _TENSOR_NAME), _of(data, _TENSOR_RAW)
    return name, np.frombuffer(raw, "<f4").reshape(shape)


def _write_tensor(name: str, values: np.ndarray) -> bytes:
    parts = [_field(_TENSOR_DIMENSION, size) for size in values.shape]
    parts += [_field(_TENSOR_TYPE, _TENSOR_FLOAT), _field(_TENSOR_NAME, name.encode())]
    return b"".join([*parts, _field(_TENSOR_RAW, values.astype("<f4").tobytes())])


@dataclass
class Graph:
    """The nodes of a model in the order in which they run, its float32 constants and the names of its inputs."""

    nodes: list[Node]
    constants: dict[str, np.ndarray]
    inputs: list[str]
    _model: list[tuple[int, int, Value]]
    _rest: list[tuple[int, int, Value]]

    @classmethod
    def read(cls, data: bytes) -> "Graph":
        """Raises ValueError where a constant is of another type than float32 or not kept as raw bytes."""
        model = list(_fields(data))
        (graph,) = (value for number, _, value in model if number == _MODEL_GRAPH)
        assert isinstance(graph, bytes)
        rest = [part for part in _fields(graph) if part[0] not in (_GRAPH_NODE, _GRAPH_INITIALIZER)]
        return cls(
            nodes=[Node.read(node) for node in _of(graph, _GRAPH_NODE)],
            constants=dict(_read_tensor(tensor) for tensor in _of(graph, _GRAPH_INITIALIZER)),
            inputs=[_texts(value, _NAME)[0] for value in _of(graph, _GRAPH_INPUT)],
            _model=[part for part in model if part[0] != _MODEL_GRAPH],
            _rest=rest,
        )

    def write(self) -> bytes:
        """The model, with version 1 of every domain of a node that it did not name."""
        graph = [_field(_GRAPH_NODE, node.write()) for node in self.nodes]
        graph += [_field(_GRAPH_INITIALIZER, _write_tensor(name, values)) for name, values in self.constants.items()]
        graph += [_field(number, value, wire) for number, wire, value in self._rest]
        named = {"".join(_texts(value, _OPSET_DOMAIN)) for number, _, value in self._model if number == _MODEL_OPSET}  # type: ignore[arg-type]
        new = sorted({node.domain for node in self.nodes} - named)
        opsets = [_field(_OPSET_DOMAIN, domain.encode()) + _field(_OPSET_VERSION, 1) for domain in new]
        model = [_field(number, value, wire) for number, wire, value in self._model]
        model += [_field(_MODEL_OPSET, opset) for opset in opsets]
        return b"".join([*model, _field(_MODEL_GRAPH, b"".join(graph))])
