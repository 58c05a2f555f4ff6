"""What the scripts under benchmarks/ count and compare; never how long anything takes."""

import runpy
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import flowcodec
from flowcodec.runtime.bundle import shipped_models

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
needs_model = pytest.mark.skipif("default" not in shipped_models(), reason="no default model in the package")


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """A file of 700x500 pixels, enough for several tiles at the finest level of the prior and in the restoration."""
    rows, columns = np.mgrid[0:700, 0:500] / 40
    planes = np.stack([np.sin(rows + k) * np.cos(columns) for k in range(3)], axis=2)
    path = tmp_path / "photograph.png"
    Image.fromarray((128 + 90 * planes).astype(np.uint8)).save(path)
    return path


def test_macs_of_a_graph_counted_by_hand() -> None:
    """3x3 convolution 4 -> 8 at full size, then a depthwise one of stride 2: 8*4*9*H*W + 8*9*H/2*W/2."""
    weights = [np.zeros((8, 4, 3, 3), np.float32), np.zeros((8, 1, 3, 3), np.float32)]
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Floor", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w1"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2], group=8),
    ]
    graph = helper.make_graph(
        nodes,
        "hand",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, "H", "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(w, f"w{k}") for k, w in enumerate(weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    count = runpy.run_path(str(BENCHMARKS / "speed.py"))["convolution_macs"]
    assert count(model.SerializeToString(), [(1, 4, 20, 30)]) == 8 * 4 * 9 * 20 * 30 + 8 * 9 * 10 * 15
    model.graph.node.append(onnx.helper.make_node("MatMul", ["y", "y"], ["z"]))
    with pytest.raises(NotImplementedError, match="MatMul"):
        count(model.SerializeToString(), [(1, 4, 20, 30)])


@needs_model
def test_macs_of_the_shipped_decoder_keep_the_budget(photograph: Path) -> None:
    """Counted on a real decode; the card counts an endless image, without borders and levels of odd size."""
    data = flowcodec.encode(np.asarray(Image.open(photograph)), threads=1)
    counted = runpy.run_path(str(BENCHMARKS / "speed.py"))["decoder_kmac_per_pixel"](data)
    assert counted <= 60
    assert counted == pytest.approx(flowcodec.load_model("default").card["kmac_per_pixel"], rel=0.15)


@needs_model
def test_tiles_leave_no_trace(photograph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = runpy.run_path(str(BENCHMARKS / "memory.py"))
    result = script["compare_tiles"](photograph, 60, 1)
    assert result["same_file"] and result["pixels_that_differ"] == 0 and result["rate_penalty_percent"] == 0
