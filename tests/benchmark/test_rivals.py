"""The neural rivals: files decode to what the networks made, cost what the networks say, and training is repeatable."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flowcodec.benchmark.rivals import entropy, training
from flowcodec.benchmark.rivals.discrete_flow import DiscreteFlowConfig, IntegerCoupling, IntegerDiscreteFlow
from flowcodec.benchmark.rivals.flow import FlowConfig, SmallFlow
from flowcodec.benchmark.rivals.hyperprior import HyperpriorConfig, MeanScaleHyperprior
from flowcodec.benchmark.rivals.padding import cut, joined, padded
from flowcodec.benchmark.rivals.training import RivalConfig
from flowcodec.benchmark.rivals.vq import VectorQuantisedCodec, VqConfig
from flowcodec.errors import FormatError, InputError
from flowcodec.model.objective import BIT_PRICE
from flowcodec.training.data import PixelStore

ROOT = Path(__file__).parents[2]
SMALL = {
    "vq": lambda: VectorQuantisedCodec(VqConfig(width=8, stages=2, codes=16, dimension=4)),
    "hyperprior": lambda: MeanScaleHyperprior(HyperpriorConfig(width=8, latent=8)),
    "discrete_flow": lambda: IntegerDiscreteFlow(DiscreteFlowConfig(width=8, couplings=2)),
}


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def trained(name: str, steps: int = 20):
    torch.manual_seed(0)
    model = SMALL[name]()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    batch = torch.cat([padded(smooth(64, 64, seed), 64) for seed in range(4)])
    losses = []
    for _ in range(steps):
        losses.append(model.loss(batch))
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval(), [float(loss) for loss in losses]


@pytest.mark.parametrize("name", SMALL)
def test_files_are_as_large_as_estimated_and_decode_to_what_was_meant(name: str) -> None:
    model, losses = trained(name)
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    pixels = smooth(128, 192, 9)
    images = padded(pixels, 64)
    error, bits = model.evaluate(cut(images, 64) if name == "hyperprior" else images)
    data = model.encode(pixels)
    assert 8 * len(data) == pytest.approx(bits * 128 * 192, rel=0.01, abs=150)
    decoded = model.decode(data)
    found = np.square(decoded.astype(float) - pixels).sum() / (128 * 192)
    assert decoded.shape == pixels.shape and np.array_equal(decoded, model.decode(data))
    # Pixels are rounded and clipped once more than in the estimate.
    assert found == pytest.approx(error, rel=0.02, abs=0.5)
    if name == "discrete_flow":
        assert np.array_equal(decoded, pixels)


@pytest.mark.parametrize("name", ["vq", "hyperprior"])
def test_any_size(name: str) -> None:
    model, _ = trained(name, 1)
    assert model.decode(model.encode(smooth(40, 72)[:37, :70])).shape == (37, 70, 3)


def test_tiles_are_squares_of_the_picture() -> None:
    images = torch.arange(3 * 8 * 12).float().view(1, 3, 8, 12)
    tiles = cut(images, 4)
    assert tiles.shape == (6, 3, 4, 4) and torch.equal(tiles[4], images[0, :, 4:8, 4:8])
    assert torch.equal(joined(tiles, 8, 12), images)


def test_a_coupling_is_a_bijection_of_the_integers() -> None:
    torch.manual_seed(1)
    coupling = IntegerCoupling(12, 8, seed=3)
    torch.nn.init.normal_(coupling.translation[-1].weight, std=0.3)
    x = torch.randint(-100, 356, (2, 12, 5, 7)).float()
    y = coupling(x)
    assert torch.equal(y, torch.round(y)) and not torch.equal(y, x[:, coupling.order])
    assert torch.equal(coupling.inverse(y), x)


def test_the_flow_is_exact_on_noise_and_refuses_other_sizes() -> None:
    model, _ = trained("discrete_flow", 5)
    noise = np.random.default_rng(5).integers(0, 256, (32, 40, 3), np.uint8)
    assert np.array_equal(model.decode(model.encode(noise)), noise)
    with pytest.raises(InputError, match="multiples of 8, found 41x32"):
        model.encode(np.zeros((32, 41, 3), np.uint8))


def test_logistic_tables_sum_to_one_and_are_the_bits() -> None:
    density = entropy.LogisticMixture(2)
    torch.nn.init.normal_(density.location)
    table = density.table(-60, 60)
    assert table.sum(axis=1) == pytest.approx(np.ones(2))
    values = torch.tensor([[-3.0, 0.0, 7.0], [1.0, 2.0, -20.0]])[None, :, None]
    expected = -np.log2(np.take_along_axis(table, values[0, :, 0].long().numpy() + 60, axis=1))
    assert density.bits(values)[0, :, 0].detach().numpy() == pytest.approx(expected, abs=0.01)


def test_symbols_outside_a_table_and_broken_words_are_refused() -> None:
    with pytest.raises(InputError, match=r"0 \.\.\. 1, found 0 \.\.\. 2"):
        entropy.SymbolWriter().categorical(np.array([0, 2]), np.full((2, 2), 0.5))
    with pytest.raises(FormatError, match="found 3 bytes"):
        entropy.SymbolReader(b"abc")


@pytest.mark.parametrize("channel", ["gaussian", "round"])
def test_the_small_flow_learns_with_noise_and_straight_through(channel: str) -> None:
    torch.manual_seed(2)
    flow = SmallFlow(FlowConfig(channel=channel))
    batch = padded(smooth(32, 32), 32)
    before = flow.evaluate(batch)
    flow.loss(batch).backward()
    steps = flow.model.log2_multipliers.grad
    assert steps is not None and steps.abs().max() > 0 if channel == "gaussian" else steps is None
    torch.optim.SGD(flow.parameters(), 1e-2).step()
    after = flow.evaluate(batch)
    price = BIT_PRICE * flow.config.test_step**2
    assert after[0] + price * after[1] < before[0] + price * before[1]
    with pytest.raises(InputError, match="found 'salt'"):
        FlowConfig(channel="salt")


@pytest.mark.parametrize("path", sorted((ROOT / "configs/rivals").glob("*.toml")), ids=lambda path: path.stem)
def test_the_shipped_configurations(path: Path) -> None:
    config = RivalConfig.read(path)
    assert config.pixels_seen > 2e6 and len({config.build(setting) for setting in config.settings}) == len(config.models)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "a"\nrival = "vq"\nsteps = 1\n', "models"),
        ('name = "a"\nrival = "salt"\nsteps = 1\n[[models]]\nsetting = 1\n', "found 'salt'"),
        ('name = "a"\nrival = "vq"\nsteps = 1\n[[models]]\nsetting = 1\nsalt = 2\n', "salt"),
        ('name = "a"\nrival = "vq"\nsteps = 0\n[[models]]\nsetting = 1\n', "at least one step"),
        ('name = "a"\nrival = "vq"\nsteps = 1\n[[models]]\nsetting = 1\n[[models]]\nsetting = 1\n', "setting of its own"),
    ],
)
def test_wrong_configurations_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rival.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        RivalConfig.read(path)


def test_training_is_repeatable_and_done_once(tmp_path: Path, monkeypatch) -> None:
    for k in range(3):
        Image.fromarray(smooth(80, 96, k)).save(tmp_path / f"{k}.png")
    store = PixelStore.open([tmp_path], tmp_path / "cache" / "pixels.npy")
    sizes = {"width": 8, "codes": 16, "dimension": 4}
    config = RivalConfig("VQ", "vq", 3, (1.0, 2.0), (sizes, sizes | {"stages": 2}), batch=2, crop=32, reduce=2)
    rival = training.train_all(config, lambda: store, tmp_path / "models")
    described = rival.describe()["training"]
    assert described["pixels_seen_by_each_model"] == 3 * 2 * 32**2
    assert [point["step"] for point in described["way"]["2"]] == [1, 2, 3]
    pixels = smooth(40, 48)
    data = rival.encode(pixels, 2.0)
    assert data[0] == 1 and rival.decode(data).shape == pixels.shape

    again = training.train_all(config, lambda: store, tmp_path / "other")
    assert again.describe()["training"]["weights"] == described["weights"]
    monkeypatch.setattr(training, "train", lambda *_: pytest.fail("trained again"))
    assert training.train_all(config, lambda: store, tmp_path / "models").describe() == rival.describe()
