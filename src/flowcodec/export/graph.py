"""The networks as ONNX graphs on integers, with the proof that no sum leaves the exact range of float32.

Every convolution is Conv -> Mul by a power of two for each channel -> Floor -> (Clip); the bound max_c(sum|w_c| * max|x| + |b_c|)
< 2^24 is proved for each.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from flowcodec.errors import ModelError
from flowcodec.model.codec import FlowCodecModel
from flowcodec.model.coupling import Transformation
from flowcodec.model.networks import FixedConv2d, ResidualBlock
from flowcodec.model.prior import CONTRAST_CHANNELS, Carry, StageNetwork, Trunk
from flowcodec.model.restoration import Restoration
from flowcodec.runtime.channel import SCALE_COUNT
from flowcodec.runtime.context import (
    CARRIED_CHANNELS,
    CONDITION_CHANNELS,
    DETAIL_CHANNELS,
    GATE_MAX,
    GATE_MIN,
    LEVEL_GROUPS,
    PHASES,
    PREDICTION_CHANNELS,
)
from flowcodec.runtime.integer import ACCUMULATOR_LIMIT, ACTIVATION_MAX, CORRECTION_MAX, FRACTION_BITS, LOCATION_MAX, GraphInfo

OPSET = 17


@dataclass(frozen=True)
class LayerProof:
    """The largest |partial sum| a convolution can reach, below 2^24."""

    graph: str
    layer: int
    bound: int
    macs_per_site: float
    """Multiplications for each site of the graph's input grid."""


class GraphBuilder:
    """Collects the nodes of one graph."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.proofs: list[LayerProof] = []

    def input(self, name: str, channels: int) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", channels, "H", "W"]))
        return name

    def output(self, value: str, name: str) -> None:
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4))

    def add(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, values: np.ndarray) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def clip(self, x: str, low: int, high: int) -> str:
        return self.add("Clip", [x, self.constant(np.array(low, np.float32)), self.constant(np.array(high, np.float32))])

    def rectify(self, x: str) -> str:
        return self.clip(x, 0, ACTIVATION_MAX)

    def clip_signed(self, x: str) -> str:
        return self.clip(x, -ACTIVATION_MAX, ACTIVATION_MAX)

    @torch.no_grad()
    def conv(self, x: str, layer: FixedConv2d) -> str:
        """A fixed-point convolution."""
        shift = layer.shift().double()
        unit = torch.exp2(shift)
        weight, bias = (p.double() for p in layer.fixed_parameters())
        weights = (weight * unit[:, None]).numpy()
        biases = (bias * unit * (1 << FRACTION_BITS)).numpy()
        self._prove(weights, biases, weights.size)
        kernel = self.constant(weights.reshape(layer.outputs, layer.inputs, layer.size, layer.size).astype(np.float32))
        offset = self.constant(biases.astype(np.float32))
        y = self.add("Conv", [x, kernel, offset], pads=[layer.size // 2] * 4)
        factor = torch.exp2(layer.out_bits - FRACTION_BITS - shift).numpy().astype(np.float32).reshape(1, -1, 1, 1)
        return self.add("Floor", [self.add("Mul", [y, self.constant(factor)])])

    def _prove(self, weights: np.ndarray, biases: np.ndarray, macs: float) -> None:
        if not (np.array_equal(weights, np.rint(weights)) and np.array_equal(biases, np.rint(biases))):
            raise ModelError(f"{self.name}: a weight is not on its integer grid; the exporter is at fault")
        bound = int((np.abs(weights).sum(1) * ACTIVATION_MAX + np.abs(biases)).max())
        if bound >= ACCUMULATOR_LIMIT:
            raise ModelError(f"{self.name}: a sum may reach {bound}, expected below 2^24; train with smaller weights")
        self.proofs.append(LayerProof(self.name, len(self.proofs), bound, macs))

    def residual(self, x: str, block: ResidualBlock) -> str:
        inner = self.rectify(self.conv(x, block.inner))
        return self.clip_signed(self.add("Add", [x, self.conv(inner, block.outer)]))

    def serialise(self) -> bytes:
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="flowcodec")
        onnx.checker.check_model(model)
        return model.SerializeToString(deterministic=True)


def _trunk(b: GraphBuilder, trunk: Trunk) -> None:
    parts = [
        b.input("contrast", CONTRAST_CHANNELS),
        b.input("carried", CARRIED_CHANNELS),
        b.input("condition", CONDITION_CHANNELS),
    ]
    x = b.conv(b.add("Concat", parts, axis=1), trunk.enter)
    if trunk.from_prediction is not None:
        x = b.add("Add", [x, b.conv(b.input("prediction", PREDICTION_CHANNELS), trunk.from_prediction)])
    x = b.rectify(x)
    for block in trunk.blocks:
        x = b.residual(x, block)  # type: ignore[arg-type]
    b.output(x, "trunk")


def _stage(b: GraphBuilder, stage: StageNetwork) -> None:
    x = b.conv(b.input("trunk", stage.from_trunk.inputs), stage.from_trunk)
    if stage.from_seen is not None:
        x = b.add("Add", [x, b.conv(b.input("seen", stage.from_seen.inputs), stage.from_seen)])
    if stage.from_prediction is not None:
        x = b.add("Add", [x, b.conv(b.input("compared", stage.from_prediction.inputs), stage.from_prediction)])
    x = b.rectify(b.residual(b.rectify(x), stage.block))
    b.output(b.clip(b.conv(x, stage.location), -LOCATION_MAX, LOCATION_MAX), "location")
    b.output(b.clip(b.conv(x, stage.scale), 0, SCALE_COUNT - 1), "scale")
    if stage.gate is not None:
        b.output(b.clip(b.conv(x, stage.gate), GATE_MIN, GATE_MAX), "gate")


def _carry(b: GraphBuilder, carry: Carry) -> None:
    trunk, seen = b.input("trunk", carry.from_trunk.inputs), b.input("seen", 2 * DETAIL_CHANNELS)
    x = b.rectify(b.add("Add", [b.conv(trunk, carry.from_trunk), b.conv(seen, carry.from_seen)]))
    x = b.clip_signed(b.conv(x, carry.leave))
    b.output(b.add("DepthToSpace", [x], blocksize=2, mode="CRD"), "carried")


def _transformation(b: GraphBuilder, net: Transformation) -> None:
    values = b.input("values", net.enter.inputs - CONDITION_CHANNELS)
    x = b.add("Concat", [values, b.input("condition", CONDITION_CHANNELS)], axis=1)
    b.output(b.clip(b.conv(b.rectify(b.conv(x, net.enter)), net.leave), -CORRECTION_MAX, CORRECTION_MAX), "output")


def _restoration(b: GraphBuilder, net: Restoration) -> None:
    values = b.input("values", net.enter.inputs - CONDITION_CHANNELS)
    x = b.conv(b.add("Concat", [values, b.input("condition", CONDITION_CHANNELS)], axis=1), net.enter)
    if net.from_prediction is not None:
        x = b.add("Add", [x, b.conv(b.input("difference", net.from_prediction.inputs), net.from_prediction)])
    x = b.rectify(x)
    x = b.clip(b.conv(b.rectify(b.residual(x, net.block)), net.leave), -CORRECTION_MAX, CORRECTION_MAX)
    b.output(b.add("DepthToSpace", [x], blocksize=2, mode="CRD"), "output")


def _is_zero(layer: FixedConv2d) -> bool:
    return not (layer.weight.any() or layer.bias.any())


def build_graphs(model: FlowCodecModel) -> tuple[dict[str, bytes], dict[str, GraphInfo], list[LayerProof]]:
    """All graphs of a model, what the runtime must know of them, and the proofs.

    Couplings and restoration that are zero are left out. Raises ModelError where a bound cannot be kept.
    """
    graphs: dict[str, bytes] = {}
    info: dict[str, GraphInfo] = {}
    proofs: list[LayerProof] = []

    def emit(name: str, build: Callable[..., None], module: Any, halo: int, double_rows: int) -> None:
        builder = GraphBuilder(name)
        build(builder, module)
        graphs[name], info[name] = builder.serialise(), GraphInfo(halo, double_rows)
        proofs.extend(builder.proofs)

    for group in range(LEVEL_GROUPS):
        prior = model.priors[group]
        emit(f"trunk_{group}", _trunk, prior.trunk, 1 + len(prior.trunk.blocks), 2)  # type: ignore[union-attr, arg-type]
        for index, stage in enumerate(prior.stages):  # type: ignore[arg-type]
            alone = stage.from_seen is None and stage.from_prediction is None
            emit(f"stage{index}_{group}", _stage, stage, 0 if alone else 1, 2)
        if prior.carry is not None:
            emit(f"carry_{group}", _carry, prior.carry, 1, 4)
        coupling = model.flow.couplings[group]
        if not (_is_zero(coupling.update.leave) and _is_zero(coupling.predict.leave)):  # type: ignore[union-attr, arg-type]
            for name in ("update", "predict"):
                emit(f"{name}_{group}", _transformation, getattr(coupling, name), 2, 2)
    if not _is_zero(model.restoration.leave):
        emit("restoration", _restoration, model.restoration, 3, 4)
    return graphs, info, proofs


def decoder_kmac_per_pixel(proofs: list[LayerProof]) -> float:
    """Thousand multiplications a pixel for decoding a large image: level l has 4^-l sites a pixel, restoration a quarter."""
    total = 0.0
    for proof in proofs:
        group = proof.graph.rpartition("_")[2]
        # Levels 3, 4, ... share the last group: 1/64 + 1/256 + ... = 1/48.
        sites = {"0": 1 / 4, "1": 1 / 16, "2": 1 / 48}.get(group, 1 / 4)
        if proof.graph.startswith("stage"):
            sites /= len(PHASES)
        total += proof.macs_per_site * sites
    return total / 1000
