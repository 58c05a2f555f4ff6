"""The report on a model: the normalised space of its prior, data kept apart, and costs that have a cap."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from flowcodec.bounds import divergence as dv
from flowcodec.bounds.model import ImageSet, ReportSettings, report, split
from flowcodec.bounds.rate import ModelRates, RecordedNoise, model_rates
from flowcodec.cli import app
from flowcodec.errors import InputError
from flowcodec.model.checkpoint import save_weights
from flowcodec.model.codec import FlowCodecModel, ModelConfig
from flowcodec.model.density import ScaleMixture
from flowcodec.runtime.step import step_index

TINY = ModelConfig(widths=(8, 8, 8), blocks=(1, 1, 1), coupling_width=4, restoration_width=4)


@pytest.fixture(scope="module")
def tiny() -> FlowCodecModel:
    torch.manual_seed(0)
    return FlowCodecModel(TINY).eval()


@pytest.fixture
def folder(tmp_path, photograph: np.ndarray):
    """Six different pictures; the held-out rule of every third leaves four to the critic."""
    for index in range(6):
        part = photograph[40 * index : 40 * index + 48, 60 * index : 60 * index + 56]
        Image.fromarray(part).save(tmp_path / f"{index}.png")
    return tmp_path


def test_what_the_prior_draws_is_normal_after_gaussianising() -> None:
    """z from the mixture itself plus noise has u ~ N(0, 1), at scales below and above the noise."""
    density, n = ScaleMixture(), 40_000
    with torch.no_grad():
        density.logits.copy_(torch.randn(density.logits.shape, generator=torch.Generator().manual_seed(1)))
    for log2_scale in (-2.0, 0.5, 3.0):
        scales = torch.full((n,), log2_scale)
        weights, deviations = density.components(scales, 1)
        generator = torch.Generator().manual_seed(2)
        chosen = torch.multinomial(weights[:, 0].exp(), n, replacement=True, generator=generator)
        z = torch.randn(n, generator=generator) * deviations[:, 0][chosen]
        channel = RecordedNoise(torch.Generator().manual_seed(3))
        with torch.no_grad():
            channel(z, torch.zeros(n), scales, density, 1)
        u = np.sort(channel.uniformised[0].double().numpy())
        normal = torch.special.ndtr(torch.from_numpy(u)).numpy()
        assert np.abs(normal - (np.arange(n) + 0.5) / n).max() < 1.63 / n**0.5  # Kolmogorov-Smirnov at 1 %


def test_rates_agree_with_the_training_channel(tiny: FlowCodecModel, photograph: np.ndarray) -> None:
    from flowcodec.model.channel import GaussianNoise

    crops = np.stack([photograph[i : i + 32, i : i + 32].transpose(2, 0, 1) for i in (0, 100, 200)])
    found = model_rates(tiny, crops, step_index(20.0), seed=5)
    with torch.no_grad():
        expected = tiny(torch.from_numpy(crops).float(), torch.full((3,), step_index(20.0)), GaussianNoise())
    assert found.kl_bpp == pytest.approx(expected.bits.numpy() / 1024, rel=0.1)
    assert (found.kl_bpp > expected.bits.numpy() / 1024 - 0.1).all()
    assert {level: blocks.shape for level, blocks in found.blocks.items()} == {1: (3, 64, 36), 2: (3, 16, 36)}
    with pytest.raises(InputError, match="power of two"):
        model_rates(tiny, crops[:, :, :20, :20], 0, 0)


def test_costs_are_capped_upwards_only() -> None:
    rates = ModelRates(np.array([-0.5, 1.0, 23.0, 99.0]), np.zeros(4), {}, pixels=64)
    flag = rates.cap_bpp - 24
    assert 1 / 64 < flag < 2 / 64
    np.testing.assert_allclose(rates.capped_bpp, np.array([0, 1, 23, 24]) + flag)


def test_critic_and_certification_share_no_picture(folder, tmp_path) -> None:
    critic, certification = split([folder], [], every=3, most=10)
    assert (len(critic.pictures), len(certification.pictures)) == (4, 2)
    assert not critic.hashes & certification.hashes
    with pytest.raises(InputError, match="proves nothing"):
        split([folder], [folder], every=3, most=10)
    with pytest.raises(InputError, match="--side"):
        critic.crops(2, 128, np.random.default_rng(0))


def test_report_holds_together(tiny: FlowCodecModel, folder) -> None:
    """An untrained prior is far off: the certified correction is positive, less than the rate, and its critic is checked."""
    critic, certification = split([folder], [], every=3, most=10)
    settings = ReportSettings(steps=(20.0,), crops=60, critic_crops=60, side=32)
    (row,) = report(tiny, critic, certification, settings, [dv.KL, dv.HELLINGER])
    assert row["kl_bpp"] < row["upper_bpp"]["betting"] < row["upper_bpp"]["hoeffding"]
    assert 0 < row["correction_bpp"]["kl"]["level 1"] < row["kl_bpp"]
    assert row["certified_bpp"]["kl"] < row["certified_bpp"]["hellinger"]
    mixed = ImageSet(certification.pictures, critic.hashes)
    with pytest.raises(InputError, match="used to train it"):
        next(report(tiny, critic, mixed, settings, [dv.KL]))


def test_command_line(tiny: FlowCodecModel, folder, tmp_path) -> None:
    import dataclasses

    weights = tmp_path / "w.safetensors"
    save_weights(weights, tiny, {"config": {"model": dataclasses.asdict(TINY)}})
    run = CliRunner().invoke
    base = ["bounds", "model", str(weights), "--data", str(folder), "--side", "16", "--crops", "20", "--step", "20"]
    done = run(app, [*base, "--json"])
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)
    assert row["step"] == pytest.approx(20, rel=0.01) and set(row["certified_bpp"]) == {"kl"}
    for name, reason in (("dv", "not a bound"), ("pearson", "from above only")):
        refused = run(app, [*base, "--divergence", name])
        assert refused.exit_code == 1 and reason in refused.output
    same = run(app, [*base, "--certify", str(folder)])
    assert same.exit_code == 1 and "proves nothing" in same.output
