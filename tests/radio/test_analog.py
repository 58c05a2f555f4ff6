"""Latents with a map of spectra: unit power for every picture, a map that comes back, and receivers each better than the last."""

import numpy as np
import pytest

for package in ("scipy", "torch", "sionna", "ldpc"):
    pytest.importorskip(package, reason=f"the analog mode needs {package}: pip install 'flowcodec[radio]'")

import torch

from flowcodec.errors import FormatError, InputError
from flowcodec.radio import analog, deep_jscc, profiles, short_code
from flowcodec.radio.analog import AnalogSystem
from flowcodec.radio.link import LINKS, awgn, noise_power
from flowcodec.radio.profiles import Profiles
from flowcodec.radio.simulate import Experiment, simulate
from flowcodec.radio.softcast import DctSystem
from flowcodec.radio.systems import Source
from flowcodec.radio.transmission import data_uses, uses_of
from flowcodec.runtime.flow import level_shapes
from flowcodec.runtime.quality import psnr_db


@pytest.fixture(scope="module")
def picture(photograph: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(photograph[:96, :112])


def quality_of(picture: np.ndarray, receiver: str, csnr_db: float, cbr: float = 0.5) -> float:
    uses = uses_of(*picture.shape[:2], cbr)
    system = AnalogSystem(Source("picture", picture), analog.transmit(picture, uses, 10.0), receiver)
    found = system.pixels(None, csnr_db, np.random.default_rng(1))
    assert found is not None and found.shape == picture.shape
    return psnr_db(picture, found)


@pytest.mark.parametrize("shape", [(96, 112), (33, 70), (64, 64)])
@pytest.mark.parametrize("design_db", [0.0, 10.0, 20.0])
def test_power_is_exactly_one_for_every_picture_and_all_uses_are_counted(
    photograph: np.ndarray, shape: tuple[int, int], design_db: float
) -> None:
    picture = np.ascontiguousarray(photograph[: shape[0], : shape[1]])
    uses = uses_of(*shape, 0.6)
    sent = analog.transmit(picture, uses, design_db)
    assert len(sent.symbols) == data_uses(uses)
    assert np.mean(np.abs(sent.symbols) ** 2) == pytest.approx(1, abs=1e-9)
    flat = analog.transmit(np.full_like(picture, 77), uses, design_db)
    assert np.mean(np.abs(flat.symbols) ** 2) == pytest.approx(1, abs=1e-9)
    dct = DctSystem(Source("picture", picture), uses, design_db)
    assert len(dct.symbols) == data_uses(uses)
    assert np.mean(np.abs(dct.symbols) ** 2) == pytest.approx(1, abs=1e-9)


def test_a_bare_frame_has_the_uses_asked_for_and_at_most_unit_power(photograph: np.ndarray) -> None:
    for top in range(0, 96, 32):
        sent = analog.transmit(np.ascontiguousarray(photograph[top : top + 32, :32]), 512, 10.0, bare=True)
        assert len(sent.symbols) == 512
        assert 0.9 < np.mean(np.abs(sent.symbols) ** 2) <= 1 + 1e-9


@pytest.mark.parametrize("receiver", ["linear", "prior"])
def test_quality_rises_with_the_csnr_without_a_cliff(picture: np.ndarray, receiver: str) -> None:
    values = [quality_of(picture, receiver, csnr_db) for csnr_db in (0.0, 4.0, 8.0, 12.0, 16.0, 20.0)]
    steps = np.diff(values)
    assert (steps > 0.4).all() and (steps < 5).all(), values


def test_the_prior_knows_more_than_each_coefficient_alone(picture: np.ndarray) -> None:
    assert quality_of(picture, "prior", 6.0, cbr=0.25) > quality_of(picture, "linear", 6.0, cbr=0.25) + 0.1


@pytest.mark.parametrize("link", ["rayleigh-fast", "erasure"])
def test_other_links(picture: np.ndarray, link: str) -> None:
    uses = uses_of(*picture.shape[:2], 0.5)
    system = AnalogSystem(Source("picture", picture), analog.transmit(picture, uses, 10.0), "linear")
    found = system.pixels(LINKS[link], 14.0, np.random.default_rng(5))
    assert found is None or psnr_db(picture, found) > 20


def test_noise_of_an_observation_is_what_it_says(picture: np.ndarray) -> None:
    """The received coefficients minus the true ones have the told variances."""
    uses = uses_of(*picture.shape[:2], 0.5)
    sent = analog.transmit(picture, uses, 10.0)
    clean = analog.receive(awgn(sent.symbols, 120.0, np.random.default_rng(1)), sent.about, sent.profiles)
    noisy = analog.receive(awgn(sent.symbols, 6.0, np.random.default_rng(2)), sent.about, sent.profiles)
    assert clean is not None and noisy is not None
    heard = np.isfinite(np.concatenate([part.reshape(-1) for part in noisy.noise]))
    difference = np.concatenate([(a - b).reshape(-1) for a, b in zip(noisy.values, clean.values, strict=True)])[heard]
    told = np.concatenate([part.reshape(-1) for part in noisy.noise])[heard]
    assert np.mean(difference**2 / told) == pytest.approx(1, abs=0.05)
    assert noise_power(6.0) < np.median(told)


def test_a_lost_map_shows_the_mean_colour(picture: np.ndarray) -> None:
    uses = uses_of(*picture.shape[:2], 0.5)
    source = Source("picture", picture)
    system = AnalogSystem(source, analog.transmit(picture, uses, 10.0), "linear")
    assert system.draw(None, -15.0, np.random.default_rng(0)) == source.concealed


@pytest.mark.parametrize("size", [(96, 112), (16, 16), (200, 40)])
def test_the_map_comes_back_from_its_bytes(size: tuple[int, int]) -> None:
    known = profiles.load("photograph")
    rows, columns = known.grid(*size)
    rng = np.random.default_rng(3)
    for chosen in (rng.integers(0, known.count, (rows, columns)), np.full((rows, columns), known.count - 1)):
        assert np.array_equal(known.unpack(known.pack(chosen), *size), chosen)
    with pytest.raises(FormatError, match="blocks"):
        known.unpack(known.pack(chosen) + b"\x01", *size)


def test_profiles_of_one_kind_of_block_are_found(photograph: np.ndarray) -> None:
    """Blocks of two variances: two profiles, each with the variance of its blocks."""
    rng = np.random.default_rng(4)
    latents = []
    for _ in range(8):
        latent = [np.zeros((3, 1, 1))]
        shapes = level_shapes(64, 64)
        for level in range(len(shapes) - 1, 0, -1):
            h, w = shapes[level]
            deviation = np.where(np.arange(w) < w / 2, 10.0, 200.0)
            latent.append(rng.standard_normal((9, h, w)) * deviation)
        latents.append(latent)
    found = profiles.train(latents, 16, 2, iterations=10)
    assert found.levels[0].mean() == pytest.approx(8 * np.log2(100), abs=4)
    assert found.levels[1].mean() == pytest.approx(8 * np.log2(40_000), abs=4)
    chosen = found.choose(latents[0], 0.1, 1 / 14)
    assert np.array_equal(chosen, np.tile([0, 0, 1, 1], (4, 1)))
    assert len(found.pack(chosen)) <= 4
    with pytest.raises(InputError, match="blocks"):
        profiles.train(latents[:1], 16, 64)


@pytest.mark.parametrize("bits", [2, 5, 6])
def test_short_words_come_back_through_noise(bits: int) -> None:
    rng = np.random.default_rng(5)
    for value in range(1 << bits):
        symbols = short_code.send(value, bits)
        assert len(symbols) == short_code.uses_for(bits)
        assert np.mean(np.abs(symbols) ** 2) == pytest.approx(1)
        received = awgn(symbols, 8.0 if bits > 2 else 14.0, rng)
        assert short_code.receive(received.samples, received.gains, bits) == value


def test_deep_jscc_has_unit_power_and_the_right_uses() -> None:
    torch.manual_seed(0)
    model = deep_jscc.DeepJscc(deep_jscc.filters_for(1 / 6))
    pixels = torch.randint(0, 256, (3, 3, 32, 32))
    symbols = model.send(pixels)
    assert symbols[0].numel() == 2 * uses_of(32, 32, 1 / 6)
    assert torch.allclose(symbols.square().mean((1, 2, 3)), torch.ones(3), atol=1e-5)
    assert model(pixels, 10.0).shape == pixels.shape
    with pytest.raises(InputError, match="cbr"):
        deep_jscc.filters_for(1 / 7)
    with pytest.raises(InputError, match="multiples"):
        model.send(torch.zeros(1, 3, 30, 32))


def test_deep_jscc_learns() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 3, 1, 1)).astype(np.uint8).repeat(16, 2).repeat(16, 3)
    torch.manual_seed(0)
    with torch.no_grad():
        before = float((deep_jscc.DeepJscc(16)(torch.from_numpy(pixels), 10.0) - torch.from_numpy(pixels)).square().mean())
    _, after = deep_jscc.train(pixels, 1 / 6, 10.0, steps=40, batch=8)
    assert after < 0.9 * before


def test_the_simulation_compares_analog_with_linear_dct(picture: np.ndarray) -> None:
    (document,) = simulate(
        {"picture": picture}, [Experiment(mode="analog", cbr=0.5, csnr_db=(4, 10), draws=2, receiver="linear")]
    )
    curves = {curve["system"]: [point["psnr_db"] for point in curve["points"]] for curve in document["curves"]}
    assert set(curves) == {
        "analog",
        "analog, matched",
        "analog, map of spectra alone",
        "linear DCT",
        "linear DCT, 64 chunks",
    }
    assert all(values[1] > values[0] + 2 for values in curves.values())
    # At the design CSNR the two are the same system, but for the draws of the noise.
    assert curves["analog"][1] == pytest.approx(curves["analog, matched"][1], abs=1.5)
    assert all(row["power"] == pytest.approx(1, abs=1e-9) for row in document["rows"])


def test_errors_are_one_line(picture: np.ndarray) -> None:
    with pytest.raises(InputError, match="channel uses"):
        analog.transmit(picture, 900, 10.0)
    with pytest.raises(InputError, match="colour"):
        analog.transmit(picture[:, :, :1], 10_000, 10.0)
    with pytest.raises(InputError, match="bare frame"):
        analog.transmit(picture, 10_000, 10.0, bare=True)
    with pytest.raises(InputError, match="receiver"):
        Experiment(mode="analog", receiver="best")
    with pytest.raises(InputError, match="profiles"):
        profiles.load("film")
    with pytest.raises(InputError, match="number of"):
        short_code.send(64, 6)


def test_profiles_are_read_once() -> None:
    assert profiles.load("photograph") is profiles.load("photograph")
    assert isinstance(profiles.load("thumbnail"), Profiles)
