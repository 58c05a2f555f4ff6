"""The oracle: the shipped ONNX graphs evaluated in plain NumPy int64, the definition of what every runner must compute."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from flowcodec.errors import ModelError


def _attributes(node: onnx.NodeProto) -> dict:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def _conv(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, pads: Sequence[int]) -> np.ndarray:
    """(N, C, H, W) * (O, C, k, k), all int64."""
    top, left, bottom, right = pads
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    size = weight.shape[2]
    height, width = padded.shape[2] - size + 1, padded.shape[3] - size + 1
    total = np.broadcast_to(bias[None, :, None, None], (len(x), len(weight), height, width)).copy()
    for dy in range(size):
        for dx in range(size):
            total += np.einsum("oc,nchw->nohw", weight[:, :, dy, dx], padded[:, :, dy : dy + height, dx : dx + width])
    return total


def _depth_to_space(x: np.ndarray, block: int) -> np.ndarray:
    n, c, h, w = x.shape
    x = x.reshape(n, c // block**2, block, block, h, w).transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(n, c // block**2, h * block, w * block)


def _as_integers(values: np.ndarray) -> np.ndarray:
    integers = np.rint(values).astype(np.int64)
    if not np.array_equal(integers, values):
        raise ModelError("oracle: expected integers, found fractions")
    return integers


class OracleRunner:
    """Runs graphs in int64; ``Mul`` by 2^-s followed by ``Floor`` is the arithmetic shift by s. Slow and right."""

    threads = 1

    def __init__(self, graphs: dict[str, bytes]) -> None:
        self._graphs = {name: onnx.load_from_string(data).graph for name, data in graphs.items()}

    def __call__(self, graph: str, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        proto = self._graphs[graph]
        constants = {t.name: numpy_helper.to_array(t) for t in proto.initializer}
        values = {i.name: _as_integers(x) for i, x in zip(proto.input, inputs, strict=True)}
        for node in proto.node:
            operands = [values[n] if n in values else constants[n] for n in node.input]
            values[node.output[0]] = _OPERATORS[node.op_type](operands, _attributes(node))
        return [values[o.name] for o in proto.output]


def _run_conv(operands: list, attributes: dict) -> np.ndarray:
    return _conv(operands[0], _as_integers(operands[1]), _as_integers(operands[2]), **attributes)


def _run_mul(operands: list, attributes: dict) -> tuple[np.ndarray, np.ndarray]:
    shift = _as_integers(-np.log2(operands[1].astype(np.float64)))
    return operands[0], shift


def _run_floor(operands: list, attributes: dict) -> np.ndarray:
    value, shift = operands[0]
    return np.where(shift >= 0, value >> np.maximum(shift, 0), value << np.maximum(-shift, 0))


_OPERATORS: dict[str, Callable] = {
    "Conv": _run_conv,
    "Mul": _run_mul,
    "Floor": _run_floor,
    "Clip": lambda o, a: np.clip(o[0], int(o[1]), int(o[2])),
    "Add": lambda o, a: o[0] + o[1],
    "Concat": lambda o, a: np.concatenate(o, axis=a["axis"]),
    "DepthToSpace": lambda o, a: _depth_to_space(o[0], a["blocksize"]),
    "Identity": lambda o, a: o[0],
}
