"""P-frames: exact on every runner, equal to the image codec while the new layers are zero, no drift, clear errors."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flowcodec.errors import FormatError, InputError, ModelError
from flowcodec.export.run import export_model
from flowcodec.export.verify import OracleRunner
from flowcodec.model import checkpoint
from flowcodec.model.codec import FlowCodecModel, ModelConfig
from flowcodec.model.runner import TorchRunner
from flowcodec.runtime import tiles
from flowcodec.runtime.bundle import Model, load_model, read_model
from flowcodec.runtime.coder import SymbolDecoder, SymbolEncoder
from flowcodec.runtime.color import ycc_to_rgb
from flowcodec.runtime.decode import make_runner
from flowcodec.runtime.frame import decode_frame, encode_frame
from flowcodec.runtime.integer import OrtRunner

SIZES = {"widths": (6, 7, 8), "blocks": (1, 2, 1), "coupling_width": 5, "restoration_width": 6, "prediction": True}
STEP = 640
Export = Callable[[FlowCodecModel], Model]


@pytest.fixture(scope="module", name="export")
def export_fixture(tmp_path_factory: pytest.TempPathFactory) -> Export:
    def export(network: FlowCodecModel) -> Model:
        folder = tmp_path_factory.mktemp("model")
        header = {"config": {"model": vars(network.config)}, "step": 0, "pixels_seen": 0}
        checkpoint.save_weights(folder / "w.safetensors", network, header)
        export_model(folder / "w.safetensors", folder / "m.flowmodel", lambda row: None)
        return read_model(folder / "m.flowmodel")

    return export


@pytest.fixture(scope="module")
def network() -> FlowCodecModel:
    """A small model of P-frames with no weight at zero."""
    torch.manual_seed(4)
    network = FlowCodecModel(ModelConfig(**SIZES))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return network


@pytest.fixture(scope="module")
def predicting(network: FlowCodecModel, export: Export) -> Model:
    return export(network)


@pytest.fixture(scope="module")
def previous(photograph: np.ndarray, model: Model) -> np.ndarray:
    """Planes of an I-frame."""
    return encode_frame(photograph[100:145, 60:123], None, model, make_runner(model, 1), STEP).planes


def test_planes_are_one_on_all_runners_and_tiles(
    network: FlowCodecModel, predicting: Model, photograph: np.ndarray, previous: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = photograph[102:147, 61:124]
    encoded = encode_frame(pixels, previous, predicting, make_runner(predicting, 2), STEP)
    runners = [
        OrtRunner(predicting.graphs, 1),
        OrtRunner(predicting.graphs, 4),
        OrtRunner(predicting.graphs, 2, optimise=False),
        TorchRunner(network),
        OracleRunner(predicting.graphs),
    ]
    for runner in runners:
        planes = decode_frame(encoded.payload, (45, 63), previous, predicting, runner, STEP)
        np.testing.assert_array_equal(planes, encoded.planes)
    monkeypatch.setattr(tiles, "TILE_SITES", 50)
    planes = decode_frame(encoded.payload, (45, 63), previous, predicting, runners[0], STEP)
    np.testing.assert_array_equal(planes, encoded.planes)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (17, 31), (64, 48)])
def test_any_size_without_drift(predicting: Model, photograph: np.ndarray, size: tuple[int, int]) -> None:
    """A chain of frames, each predicted by the one before: the decoder's planes stay the encoder's."""
    runner = make_runner(predicting, 1)
    height, width = size
    mine = theirs = np.full((3, height, width), 5000, np.int32)
    for shift in range(4):
        pixels = photograph[40 + shift : 40 + shift + height, 90:][:, :width]
        encoded = encode_frame(pixels, mine, predicting, runner, STEP + 40 * shift)
        mine = encoded.planes
        theirs = decode_frame(encoded.payload, size, theirs, predicting, runner, STEP + 40 * shift)
        np.testing.assert_array_equal(mine, theirs)


def test_untrained_model_is_the_image_codec(model: Model, export: Export, photograph: np.ndarray, previous: np.ndarray) -> None:
    """New layers are zero: whatever the prediction, an image model's weights give the image model's picture."""
    weights, header = checkpoint.load_weights(Path(__file__).parents[2] / "weights" / "default.safetensors")
    config = {name: tuple(v) if isinstance(v, list) else v for name, v in header["config"]["model"].items()}
    untrained = FlowCodecModel(ModelConfig(**config | {"prediction": True}))
    missing = untrained.load_state_dict(weights, strict=False).missing_keys
    assert missing and all("from_prediction" in name or "gate" in name for name in missing)
    predicting = replace(export(untrained), tables=model.tables, channels=model.channels)
    pixels = photograph[102:147, 61:124]
    intra = encode_frame(pixels, None, model, make_runner(model, 1), STEP)
    inter = encode_frame(pixels, previous, predicting, make_runner(predicting, 1), STEP)
    np.testing.assert_array_equal(inter.planes, intra.planes)
    # Only the coarsest sample is coded relative to the prediction.
    assert intra.ideal_bits - 100 < inter.ideal_bits < intra.ideal_bits + 1


def test_a_frame_may_follow_other_things_in_its_stream(predicting: Model, photograph: np.ndarray, previous: np.ndarray) -> None:
    """As motion vectors do."""
    runner = make_runner(predicting, 1)
    coder = SymbolEncoder(predicting.tables)
    coder.push_numbers(np.array([3, -70, 0]))
    encoded = encode_frame(photograph[102:147, 61:124], previous, predicting, runner, STEP, coder=coder)
    reader = SymbolDecoder(predicting.tables, encoded.payload)
    assert reader.pop_numbers(3).tolist() == [3, -70, 0]
    planes = decode_frame(encoded.payload, (45, 63), previous, predicting, runner, STEP, coder=reader)
    np.testing.assert_array_equal(planes, encoded.planes)


def test_the_prediction_matters(predicting: Model, photograph: np.ndarray, previous: np.ndarray) -> None:
    """Another prediction: another stream, and the wrong one at the decoder gives an error or another picture."""
    runner = make_runner(predicting, 1)
    pixels = photograph[102:147, 61:124]
    other = previous.copy()
    other[0, 20:30, 20:30] += 900
    encoded = encode_frame(pixels, previous, predicting, runner, STEP)
    assert encode_frame(pixels, other, predicting, runner, STEP).payload != encoded.payload
    try:
        planes = decode_frame(encoded.payload, (45, 63), other, predicting, runner, STEP)
    except FormatError:
        return
    assert not np.array_equal(planes, encoded.planes)


def test_the_shipped_model_uses_the_prediction(photograph: np.ndarray, model: Model) -> None:
    """A scene that moves by a pixel, with its exact motion: far fewer bits than alone, at no lower quality. A useless
    prediction costs more bits than none (scene cuts are for I-frames), but not twice as many.
    """
    video = load_model("video")
    runner, own = make_runner(model, 1), make_runner(video, 1)
    first, second = photograph[160:288, 200:360], photograph[160:288, 201:361]
    before = encode_frame(first, None, model, runner, STEP + 100).planes
    alone = encode_frame(second, None, model, runner, STEP + 100)
    moved = encode_frame(second, np.concatenate([before[..., 1:], before[..., -1:]], 2), video, own, STEP + 100)
    useless = encode_frame(second, np.full_like(before, 9000), video, own, STEP + 100)
    error, error_alone = (np.square(ycc_to_rgb(f.planes).astype(float) - second).mean() for f in (moved, alone))
    assert len(moved.payload) < 0.5 * len(alone.payload) and error < 1.05 * error_alone
    assert len(useless.payload) < 2 * len(alone.payload)


def test_errors_say_what_was_expected(model: Model, predicting: Model, photograph: np.ndarray, previous: np.ndarray) -> None:
    pixels = photograph[102:147, 61:124]
    with pytest.raises(ModelError, match="without a prediction"):
        encode_frame(pixels, previous, model, make_runner(model, 1), STEP)
    with pytest.raises(ModelError, match="need a prediction"):
        encode_frame(pixels, None, predicting, make_runner(predicting, 1), STEP)
    with pytest.raises(InputError, match="3 components"):
        encode_frame(pixels[..., :1], None, model, make_runner(model, 1), STEP)
    with pytest.raises(InputError, match="expected planes"):
        encode_frame(pixels, previous[:, 1:], predicting, make_runner(predicting, 1), STEP)
    with pytest.raises(FormatError, match="63x45, found 63x44"):
        decode_frame(b"", (45, 63), previous[:, 1:], predicting, make_runner(predicting, 1), STEP)


def test_damaged_payloads_end_in_a_format_error_or_a_picture(
    predicting: Model, photograph: np.ndarray, previous: np.ndarray
) -> None:
    runner = make_runner(predicting, 1)
    payload = encode_frame(photograph[102:147, 61:124], previous, predicting, runner, STEP).payload
    with pytest.raises(FormatError):
        decode_frame(payload[:-3], (45, 63), previous, predicting, runner, STEP)
    with pytest.raises(FormatError):
        decode_frame(payload[: len(payload) // 8 * 4], (45, 63), previous, predicting, runner, STEP)
    random = np.random.default_rng(0)
    for place in random.integers(0, len(payload), 4):
        damaged = bytearray(payload)
        damaged[place] ^= 1 << int(random.integers(8))
        with contextlib.suppress(FormatError):
            assert decode_frame(bytes(damaged), (45, 63), previous, predicting, runner, STEP).shape == (3, 45, 63)
