"""The document of the format is enough to write a decoder from: one that was, beside the package, gives the same pixels."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from regenerate import FOLDER, HASHES, pixel_hash

import flowcodec
from flowcodec.runtime.bundle import SHIPPED
from flowcodec.runtime.pixel_model import DATA

from .independent_decoder import decode
from .independent_frame import Rejected

MODEL = SHIPPED / "default.flowmodel"
TOO_LARGE = {"color_coarse"}
"""A whole photograph takes this decoder too long."""
NAMES = sorted(set(json.loads(HASHES.read_text())) - TOO_LARGE)


@pytest.mark.parametrize("name", NAMES)
def test_golden_file_decodes_to_the_pinned_pixels(name: str) -> None:
    assert pixel_hash(decode((FOLDER / f"{name}.flow").read_bytes(), MODEL, DATA)) == json.loads(HASHES.read_text())[name]


@pytest.mark.parametrize("name", ["color_dither", "grey", "line", "alpha"])
def test_reduced_sizes(name: str) -> None:
    data = (FOLDER / f"{name}.flow").read_bytes()
    size = flowcodec.info(data)
    for levels in range(1, (max(size["width"], size["height"]) - 1).bit_length() + 1):
        expected = flowcodec.decode(data, levels=levels, threads=1)
        assert np.array_equal(decode(data, MODEL, DATA, levels), expected)
        assert np.array_equal(decode(data[:-1], MODEL, DATA, levels), expected)


def test_gaussian_channel(photograph: np.ndarray) -> None:
    """Section 6.6 on a small picture with wide coefficients, in colour."""
    data = flowcodec.encode(photograph[100:122, 200:217], channel="gaussian", seed=3, step=5.0, threads=1)
    np.testing.assert_array_equal(decode(data, MODEL, DATA), flowcodec.decode(data, threads=1))


def test_flipped_bit_is_refused() -> None:
    data = (FOLDER / "line.flow").read_bytes()
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Rejected):
            decode(bytes(damaged), MODEL, DATA)


def coupling(inputs: list[tuple[str, int]], outputs: int, generator: np.random.Generator) -> bytes:
    """A network of one convolution with random weights, as in 5.3."""
    count = sum(channels for _, channels in inputs)
    constants = {
        "weight": generator.integers(-3, 4, (outputs, count, 3, 3)).astype(np.float32),
        "bias": generator.integers(-99, 100, outputs).astype(np.float32),
        "factor": np.exp2(-generator.integers(3, 6, (1, outputs, 1, 1))).astype(np.float32),
        "low": np.float32(-16368),
        "high": np.float32(16368),
    }
    nodes = [
        helper.make_node("Concat", [name for name, _ in inputs], ["all"], axis=1),
        helper.make_node("Conv", ["all", "weight", "bias"], ["sum"], pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["sum", "factor"], ["scaled"]),
        helper.make_node("Floor", ["scaled"], ["whole"]),
        helper.make_node("Clip", ["whole", "low", "high"], ["output"]),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", c, "H", "W"]) for name, c in [*inputs, ("output", outputs)]
    ]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "coupling", values[:-1], values[-1:], initializers)
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


@pytest.fixture(scope="module")
def model_with_couplings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model with couplings of random weights in place of its own, if it has any."""
    generator = np.random.default_rng(0)
    with zipfile.ZipFile(MODEL) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    card = json.loads(members["card.json"])
    for group in range(3):
        members[f"predict_{group}.onnx"] = coupling([("contrast", 9), ("condition", 2)], 9, generator)
        members[f"update_{group}.onnx"] = coupling([("seen", 18), ("condition", 2)], 3, generator)
        card["graphs"] |= {f"predict_{group}": [1, 2], f"update_{group}": [1, 2]}
    members["card.json"] = json.dumps(card).encode()
    path = tmp_path_factory.mktemp("model") / "coupled.flowmodel"
    with zipfile.ZipFile(path, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return path


@pytest.mark.parametrize("channel", ["round", "dither", "trellis"])
@pytest.mark.parametrize("color", [True, False])
@pytest.mark.parametrize("step", [1, 40])
def test_model_with_couplings(photograph: np.ndarray, model_with_couplings: Path, channel: str, color: bool, step: float) -> None:
    pixels = photograph[200:245, 300:339] if color else photograph[200:245, 300:339, 1]
    model = str(model_with_couplings)
    data = flowcodec.encode(pixels, step=step, channel=channel, seed=2**32 - 1, model=model, threads=1)
    expected = flowcodec.decode(data, threads=1, model=model)
    assert np.array_equal(decode(data, model, DATA), expected)
    plain = flowcodec.decode(flowcodec.encode(pixels, step=step, channel=channel, seed=2**32 - 1, threads=1), threads=1)
    assert not np.array_equal(expected, plain)
