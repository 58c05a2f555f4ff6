"""The exactness rule: ONNX Runtime, torch and the NumPy int64 oracle compute equal integers, and the bound is proved."""

import zlib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from flowcodec.errors import ModelError
from flowcodec.export.graph import GraphBuilder, build_graphs
from flowcodec.export.run import export_model
from flowcodec.export.verify import OracleRunner
from flowcodec.model import checkpoint
from flowcodec.model.codec import FlowCodecModel, ModelConfig
from flowcodec.model.networks import Arithmetic, FixedConv2d
from flowcodec.model.runner import TorchRunner
from flowcodec.runtime.bundle import SHIPPED, Model, load_model, read_model
from flowcodec.runtime.decode import decode_picture
from flowcodec.runtime.encode import EncodeSettings, encode_picture
from flowcodec.runtime.image import Picture
from flowcodec.runtime.integer import ACCUMULATOR_LIMIT, ACTIVATION_MAX, OrtRunner

WEIGHTS = Path(__file__).parents[2] / "weights" / "default.safetensors"


@pytest.fixture(scope="module")
def trained() -> FlowCodecModel:
    """The weights that the shipped model was exported from."""
    return checkpoint.load_model(WEIGHTS)[0]


@pytest.fixture(scope="module")
def random_model() -> FlowCodecModel:
    """A small model with no weight at zero, couplings and restoration included."""
    torch.manual_seed(3)
    model = FlowCodecModel(ModelConfig(widths=(6, 7, 8), blocks=(1, 2, 1), coupling_width=5, restoration_width=6))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


def graph_inputs(graph: bytes, batch: int, height: int, width: int, seed: int) -> list[np.ndarray]:
    """Integers over the whole range that a graph may be given."""
    random = np.random.default_rng(seed)
    inputs = onnx.load_from_string(graph).graph.input
    shapes = [(batch, i.type.tensor_type.shape.dim[1].dim_value, height, width) for i in inputs]
    return [random.integers(-ACTIVATION_MAX, ACTIVATION_MAX + 1, shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("source", ["trained", "random_model"])
@pytest.mark.parametrize(("height", "width"), [(2, 2), (10, 14)])
def test_runners_are_equal(source: str, height: int, width: int, request: pytest.FixtureRequest) -> None:
    """Every graph: torch, and ONNX Runtime with 1, 2, 4 threads, optimised or not, equal the oracle."""
    model: FlowCodecModel = request.getfixturevalue(source)
    graphs, _, _ = build_graphs(model)
    runners = [
        TorchRunner(model),
        OrtRunner(graphs, 1),
        OrtRunner(graphs, 2),
        OrtRunner(graphs, 4),
        OrtRunner(graphs, 2, optimise=False),
    ]
    oracle = OracleRunner(graphs)
    for name, graph in graphs.items():
        inputs = graph_inputs(graph, 2, height, width, seed=hash(name) % 1000)
        expected = oracle(name, inputs)
        for runner in runners:
            for result, truth in zip(runner(name, inputs), expected, strict=True):
                np.testing.assert_array_equal(result, truth, err_msg=name)


@pytest.mark.parametrize("name", ["default", "video"])
def test_shipped_graphs_are_those_of_the_weights(name: str) -> None:
    """Torch on the committed weights equals the shipped model: the wheel holds what was trained."""
    trained, model = checkpoint.load_model(WEIGHTS.with_name(f"{name}.safetensors"))[0], load_model(name)
    runner, torch_runner = OrtRunner(model.graphs, 2), TorchRunner(trained)
    assert set(build_graphs(trained)[0]) == set(model.graphs)
    for name, graph in model.graphs.items():
        inputs = graph_inputs(graph, 1, 12, 16, seed=5)
        for result, truth in zip(runner(name, inputs), torch_runner(name, inputs), strict=True):
            np.testing.assert_array_equal(result, truth, err_msg=name)


def test_batch_of_eight_equals_single_images(model: Model) -> None:
    runner = OrtRunner(model.graphs, 2)
    for name, graph in model.graphs.items():
        inputs = graph_inputs(graph, 8, 8, 6, seed=1)
        together = runner(name, inputs)
        for index in range(8):
            alone = runner(name, [x[index : index + 1] for x in inputs])
            for whole, single in zip(together, alone, strict=True):
                np.testing.assert_array_equal(whole[index : index + 1], single, err_msg=name)


def test_a_photograph_decodes_alike_with_torch_and_the_oracle(
    photograph: np.ndarray, trained: FlowCodecModel, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole file through the torch runner and the oracle gives the picture of ONNX Runtime."""
    from flowcodec.runtime import decode

    data = encode_picture(Picture(photograph[200:248, 300:364]), EncodeSettings(step=20, threads=1))
    expected = decode_picture(data, 1).pixels
    for runner in (TorchRunner(trained), OracleRunner(model.graphs)):
        monkeypatch.setattr(decode, "make_runner", lambda *_, runner=runner: runner)
        np.testing.assert_array_equal(decode_picture(data, 1).pixels, expected)


def test_bound_holds_and_is_nearly_used(model: Model, trained: FlowCodecModel) -> None:
    """Every layer stays below 2^24, and weights have as many digits as that allows: none could be doubled."""
    proofs = build_graphs(trained)[2]
    assert all(proof.bound < ACCUMULATOR_LIMIT for proof in proofs)
    assert np.median([proof.bound for proof in proofs]) > ACCUMULATOR_LIMIT / 2
    assert model.card["largest_sum"] == max(proof.bound for proof in proofs)


def test_bound_is_reached_by_the_worst_input() -> None:
    """The proof is tight: signs of the weights at full scale give the bound less the bias, computed without error."""
    torch.manual_seed(0)
    layer = FixedConv2d(5, 3, 3, Arithmetic(fixed=True))
    builder = GraphBuilder("conv")
    builder.output(builder.conv(builder.input("x", 5), layer), "y")
    graph = builder.serialise()
    weights = onnx.numpy_helper.to_array(onnx.load_from_string(graph).graph.initializer[0])
    worst = np.sign(weights[0])[None] * ACTIVATION_MAX
    reached = int(np.abs(weights[0]).sum() * ACTIVATION_MAX)
    assert reached <= builder.proofs[0].bound < ACCUMULATOR_LIMIT
    results = [
        runner("conv", [worst.astype(np.float32)])[0] for runner in (OracleRunner({"conv": graph}), OrtRunner({"conv": graph}, 1))
    ]
    np.testing.assert_array_equal(*results)


def test_a_sum_beyond_the_range_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights with two digits more than their layer has room for."""
    layer = FixedConv2d(5, 3, 3, Arithmetic(fixed=True))
    shift = layer.shift() + 2
    monkeypatch.setattr(layer, "shift", lambda: shift)
    builder = GraphBuilder("conv")
    with pytest.raises(ModelError, match="2\\^24"):
        builder.conv(builder.input("x", 5), layer)


def test_export_of_a_model_round_trips(random_model: FlowCodecModel, photograph: np.ndarray, tmp_path: Path) -> None:
    """A model with couplings and restoration from checkpoint to a decoded picture; the same bytes each time."""
    header = {"config": {"model": {"widths": [6, 7, 8], "blocks": [1, 2, 1], "coupling_width": 5, "restoration_width": 6}}}
    checkpoint.save_weights(tmp_path / "w.safetensors", random_model, header | {"step": 1, "pixels_seen": 2})
    rows: list[dict] = []
    first = export_model(tmp_path / "w.safetensors", tmp_path / "a.flowmodel", rows.append, [photograph[:64, :64]])
    export_model(tmp_path / "w.safetensors", tmp_path / "a2.flowmodel", rows.append)
    assert {row["event"] for row in rows} == {"bound", "loss"}
    exported = read_model(tmp_path / "a.flowmodel")
    assert exported.id.hex() == first["id"]
    assert {"update_0", "predict_2", "restoration"} <= set(exported.graphs)
    data = encode_picture(
        Picture(photograph[:45, :51]), EncodeSettings(step=10, model=str(tmp_path / "a.flowmodel"), verify=True)
    )
    assert decode_picture(data, model=exported).pixels.shape == (45, 51, 3)


def test_shipped_model_meets_its_budgets(model: Model) -> None:
    """At most 8 MB, 60 kMAC a pixel in the decoder, and 0.5 % of the rate lost to integers at every step measured."""
    assert (SHIPPED / "default.flowmodel").stat().st_size <= 8_000_000
    assert model.card["kmac_per_pixel"] <= 60
    assert len(model.card["rate_lost_percent"]) == 4
    assert max(model.card["rate_lost_percent"]) < 0.5


def test_shipped_models_fit_the_wheel_together() -> None:
    """A wheel is compressed; 12 MB are for everything, of which code and data take one. P-frames cost little more."""
    assert sum(len(zlib.compress(path.read_bytes())) for path in SHIPPED.glob("*.flowmodel")) <= 11_000_000
    video = load_model("video")
    assert video.card["kmac_per_pixel"] <= 70
    assert max(video.card["rate_lost_percent"]) < 0.5
