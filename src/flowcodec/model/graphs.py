"""The networks of a model file in torch: the decoder's integers forward, gradients straight through the floors.

Weights are constants here, so that a convolution's gradient needs neither its input nor its output: of each layer only the mask
of its clip is kept, a byte a value.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor

Values = dict[str, Tensor]
Operation = Callable[[Values], Tensor]


class _Clip(torch.autograd.Function):
    """x clipped to [low, high]; no gradient from outside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        y = x.clamp(low, high)
        ctx.save_for_backward(y == x)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient * ctx.saved_tensors[0], None, None


class _Layer(torch.autograd.Function):
    """clip(floor(conv(x))), the floor with the gradient of its argument.

    The weight (O, C, k, k) is a constant; ``adjoint`` (C, O, k, k) is the same turned round, for the way back.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, adjoint: Tensor, bias: Tensor, low: float, high: float) -> Tensor:
        y = F.conv2d(x, weight, bias, padding=weight.shape[2] // 2).floor_()
        ctx.clipped = low > -math.inf
        clipped = y.clamp(low, high) if ctx.clipped else y
        ctx.save_for_backward(adjoint, *([clipped == y] if ctx.clipped else []))
        return clipped

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        adjoint = ctx.saved_tensors[0]
        if ctx.clipped:
            gradient = gradient * ctx.saved_tensors[1]
        return F.conv2d(gradient, adjoint, padding=adjoint.shape[2] // 2), None, None, None, None, None


class DifferentiableGraphs:
    """Runs graphs by name on integer-valued tensors (1, C, H, W); equal to ``OrtRunner`` and differentiable in its inputs."""

    def __init__(self, graphs: dict[str, bytes]) -> None:
        self._graphs = graphs
        self._parsed: dict[str, tuple[list[str], list[tuple[str, Operation]], list[str]]] = {}

    def __call__(self, graph: str, inputs: Sequence[Tensor]) -> list[Tensor]:
        if graph not in self._parsed:
            self._parsed[graph] = _parse(self._graphs[graph])
        names, operations, outputs = self._parsed[graph]
        values = dict(zip(names, inputs, strict=True))
        for target, operation in operations:
            values[target] = operation(values)
        return [values[name] for name in outputs]


def _parse(data: bytes) -> tuple[list[str], list[tuple[str, Operation]], list[str]]:
    """Names of the inputs, (name, operation) in order, names of the outputs; Conv, Mul, Floor and Clip become one operation."""
    graph = onnx.load_from_string(data).graph
    constants = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    nodes = list(graph.node)
    operations: list[tuple[str, Operation]] = []
    while nodes:
        if nodes[0].op_type != "Conv":
            node = nodes.pop(0)
            operations.append((node.output[0], _operation(node, constants)))
            continue
        convolution, multiplication, last = (nodes.pop(0) for _ in range(3))
        low, high = -math.inf, math.inf
        if nodes and nodes[0].op_type == "Clip" and nodes[0].input[0] == last.output[0]:
            last = nodes.pop(0)
            low, high = (constants[name].item() for name in last.input[1:])
        factor = constants[multiplication.input[1]].flatten()
        # A power of two moves into the weights without a rounding.
        weight = constants[convolution.input[1]] * factor.view(-1, 1, 1, 1)
        bias = constants[convolution.input[2]] * factor
        operations.append((last.output[0], _layer(convolution.input[0], weight, bias, low, high)))
    return [i.name for i in graph.input], operations, [o.name for o in graph.output]


def _layer(name: str, weight: Tensor, bias: Tensor, low: float, high: float) -> Operation:
    adjoint = weight.flip(2, 3).transpose(0, 1).contiguous()
    return lambda values: _Layer.apply(values[name], weight, adjoint, bias, low, high)


def _operation(node: onnx.NodeProto, constants: Values) -> Operation:
    names = list(node.input)
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Clip":
        low, high = (constants[name].item() for name in names[1:])
        return lambda values: _Clip.apply(values[names[0]], low, high)
    if node.op_type == "Concat":
        return lambda values: torch.cat([values[name] for name in names], attributes["axis"])
    if node.op_type == "DepthToSpace":
        return lambda values: F.pixel_shuffle(values[names[0]], attributes["blocksize"])
    return {
        "Add": lambda values: values[names[0]] + values[names[1]],
        "Identity": lambda values: values[names[0]],
    }[node.op_type]
