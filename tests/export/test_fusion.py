"""Graphs rewritten for speed: what is put into a convolution, what must not be, and that results are equal."""

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flowcodec.export.verify import OracleRunner
from flowcodec.runtime.bundle import load_model
from flowcodec.runtime.fusion import fused
from flowcodec.runtime.integer import ACTIVATION_MAX, OrtRunner
from flowcodec.runtime.onnx_message import Graph

SHIFT = 8


def operators(graph: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(graph).graph.node)


def residual(weight: int, rectified: bool = True) -> bytes:
    """One channel: clip(x + floor(2^-8 (w r + 255)), -1023, 1023), r = clip(x, 0 or -1023, 1023)."""
    constants = {
        "w": np.full((1, 1, 1, 1), weight, np.float32),
        "b": np.array([(1 << SHIFT) - 1], np.float32),
        "f": np.full((1, 1, 1, 1), 2.0**-SHIFT, np.float32),
        "zero": np.array(0, np.float32),
        "low": np.array(-ACTIVATION_MAX, np.float32),
        "high": np.array(ACTIVATION_MAX, np.float32),
    }
    nodes = [
        helper.make_node("Clip", ["x", "zero" if rectified else "low", "high"], ["r"]),
        helper.make_node("Conv", ["r", "w", "b"], ["y"], pads=[0] * 4),
        helper.make_node("Mul", ["y", "f"], ["m"]),
        helper.make_node("Floor", ["m"], ["n"]),
        helper.make_node("Add", ["x", "n"], ["s"]),
        helper.make_node("Clip", ["s", "low", "high"], ["c"]),
        helper.make_node("Identity", ["c"], ["o"]),
    ]
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, "H", "W"])],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


# The largest sum in 1/256 is |w| 1023 + 255 + 1023 * 256: below 2^24 up to |w| = 16143.
@pytest.mark.parametrize(("weight", "together"), [(100, True), (-16143, True), (16143, True), (16144, False), (-16200, False)])
@pytest.mark.parametrize("rectified", [True, False])
def test_a_sum_joins_a_convolution_only_where_it_is_proved(weight: int, together: bool, rectified: bool) -> None:
    graph = residual(weight, rectified)
    found = operators(fused(graph))
    assert found["FusedConv"] == together and found["Add"] == (not together) and "Mul" not in found
    x = np.arange(-ACTIVATION_MAX, ACTIVATION_MAX + 1, dtype=np.float32).reshape(1, 1, 1, -1)
    (truth,) = OracleRunner({"g": graph})("g", [x])
    np.testing.assert_array_equal(OrtRunner({"g": graph}, 1)("g", [x])[0], truth)


@pytest.mark.parametrize("name", ["default", "video"])
def test_most_passes_over_memory_are_gone(name: str) -> None:
    """No factor is left, there is one floor a convolution, and most clips and sums are part of one."""
    graphs = load_model(name).graphs.values()
    before, after = (sum((operators(graph) for graph in side), Counter()) for side in (graphs, map(fused, graphs)))
    assert after["Conv"] + after["FusedConv"] == before["Conv"] == after["Floor"]
    assert "Mul" not in after and after["Clip"] < 0.4 * before["Clip"] and after["Add"] < 0.7 * before["Add"]


def test_what_is_not_rewritten_is_kept() -> None:
    graph = load_model("default").graphs["trunk_0"]
    before, after = (onnx.load_from_string(data) for data in (graph, Graph.read(graph).write()))
    for field in ("node", "input", "output", "name"):
        assert getattr(before.graph, field) == getattr(after.graph, field)
    arrays = [{c.name: numpy_helper.to_array(c) for c in model.graph.initializer} for model in (before, after)]
    assert arrays[0].keys() == arrays[1].keys()
    assert all(np.array_equal(values, arrays[1][key]) for key, values in arrays[0].items())
    assert before.opset_import == after.opset_import and before.producer_name == after.producer_name
