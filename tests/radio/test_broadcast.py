"""Analog mode: unit power, a coarse picture that arrives early, no cliff above it, a denoiser that knows how large errors are."""

from pathlib import Path

import numpy as np
import pytest

for package in ("scipy", "torch", "sionna", "ldpc"):
    pytest.importorskip(package, reason=f"the analog mode needs {package}: pip install 'flowcodec[radio]'")

import torch

from flowcodec.errors import InputError
from flowcodec.radio import denoiser, layering, linear, transmission
from flowcodec.radio.denoiser import Denoiser
from flowcodec.radio.digital import threshold_db
from flowcodec.radio.ladder import Ladder
from flowcodec.radio.layering import BROADCAST_LOWEST_DB
from flowcodec.radio.link import LINKS, awgn
from flowcodec.radio.systems import BroadcastSystem, Sender, Source
from flowcodec.radio.transmission import HEADER_USES, Transmission, data_uses, uses_of
from flowcodec.runtime.quality import psnr_db

CBR = 0.25


@pytest.fixture(scope="module")
def source(photograph: np.ndarray) -> Source:
    return Source("picture", np.ascontiguousarray(photograph[:128, :160]), similarity=False)


@pytest.fixture(scope="module")
def sent(source: Source) -> Transmission:
    return layering.broadcast(source.ladder, uses_of(128, 160, CBR), 10.0)


def received(source: Source, sent: Transmission, csnr_db: float, receiver: str) -> float:
    return BroadcastSystem(source, sent, receiver).draw(None, csnr_db, np.random.default_rng(1)).psnr_db


def test_power_is_one_and_all_uses_are_counted(source: Source, sent: Transmission) -> None:
    assert len(sent.symbols) == HEADER_USES + data_uses(uses_of(128, 160, CBR))
    assert np.mean(np.abs(sent.symbols) ** 2) == pytest.approx(1, abs=1e-9)
    assert BroadcastSystem(source, sent).facts()["power"] == pytest.approx(1, abs=1e-9)


def test_the_coarse_picture_is_decoded_from_the_lowest_csnr_on_whatever_the_design(source: Source, sent: Transmission) -> None:
    header = sent.header
    mode = header.layers[0].mode
    margin = header.snr_db(0, BROADCAST_LOWEST_DB) - threshold_db(transmission.MODES[mode])
    assert 0 <= margin < 0.3
    other = layering.broadcast(source.ladder, uses_of(128, 160, CBR), 16.0)
    assert other.files == sent.files and not np.array_equal(other.analog, sent.analog)


@pytest.mark.parametrize("receiver", transmission.RECEIVERS)
def test_a_frame_is_received_as_the_simulation_says(source: Source, sent: Transmission, receiver: str) -> None:
    """Every block decoded, the header's bytes included, at a CSNR a little above the lowest."""
    frame = awgn(sent.symbols, BROADCAST_LOWEST_DB + 0.5, np.random.default_rng(3))
    header = transmission.receive_header(frame)
    assert header == sent.header
    found = transmission.receive(frame, header, receiver)
    assert found.layer == "main"
    expected = received(source, sent, BROADCAST_LOWEST_DB + 0.5, receiver)
    assert psnr_db(source.image, found.pixels) == pytest.approx(expected, abs=0.3)


@pytest.mark.parametrize("receiver", transmission.RECEIVERS)
def test_quality_rises_with_the_csnr_without_a_cliff(source: Source, sent: Transmission, receiver: str) -> None:
    values = [received(source, sent, csnr_db, receiver) for csnr_db in (0.0, 4.0, 8.0, 12.0, 16.0, 20.0)]
    steps = np.diff(values)
    assert (steps > 0.4).all() and (steps < 5).all(), values


@pytest.mark.parametrize(("csnr_db", "least"), [(0.0, 0.0), (4.0, 0.1), (10.0, 0.15), (16.0, 0.3), (22.0, 0.5)])
def test_the_denoiser_lowers_the_error(source: Source, sent: Transmission, csnr_db: float, least: float) -> None:
    gain = received(source, sent, csnr_db, "denoiser") - received(source, sent, csnr_db, "linear")
    assert gain > least


@pytest.mark.parametrize("csnr_db", [4.0, 14.0])
def test_the_variances_are_those_of_what_is_left_of_the_errors(source: Source, sent: Transmission, csnr_db: float) -> None:
    """By level and kind, over sent and unsent coefficients."""
    assert sent.quantised is not None
    rest = awgn(np.sqrt(sent.header.share) * sent.analog, csnr_db, np.random.default_rng(2))
    found = transmission.estimate(rest, sent.header, sent.quantised)
    left = sent.quantised.levels_of((sent.quantised.errors(source.image) - found.errors) ** 2)
    told = sent.quantised.levels_of(found.variances)
    for level in (1, 2, 3):
        for bands in (slice(0, 3), slice(3, 9)):
            assert left[level][bands].mean() == pytest.approx(told[level][bands].mean(), rel=0.35), (level, bands)
    assert sum(part.sum() for part in left.values()) == pytest.approx(sum(part.sum() for part in told.values()), rel=0.1)


def test_maps_say_how_large_errors_are_and_where(sent: Transmission) -> None:
    assert sent.quantised is not None
    flat = np.full(sent.quantised.count, 16.0)
    levels = sent.quantised.levels_of(flat)
    levels[1][:3, 10, 20] = 4096.0
    levels[2][3:, 3, 5] = 4096.0
    maps = denoiser.error_maps(sent.quantised, np.concatenate([part.reshape(-1) for part in levels.values()]))
    assert maps.shape == (denoiser.MAPS, 64, 80)
    assert np.argwhere(maps[0] > 2).tolist() == [[10, 20]]
    assert np.argwhere(maps[3] > 2).tolist() == [[row, column] for row in (6, 7) for column in (10, 11)]
    assert maps[1] == pytest.approx(1, abs=0.01)  # log2 of a root mean square of 4, over 2


def test_remaining_variances_are_those_of_linear_estimates() -> None:
    rng = np.random.default_rng(6)
    levels = rng.integers(8, 90, 4000)
    numbers = rng.standard_normal(4000) * np.exp2(levels / linear.LEVELS_PER_OCTAVE / 2)
    allocation = linear.allocate(levels, 2000, 0.2)
    values, scale = linear.send(numbers, allocation)
    found = linear.receive(values + rng.standard_normal(2000) * np.sqrt(0.1), allocation, scale, 0.1)
    told = linear.remaining(allocation, scale, 0.1)
    assert np.mean((found - numbers[allocation.chosen]) ** 2 / told) == pytest.approx(1, abs=0.1)


def test_an_untrained_network_changes_nothing() -> None:
    torch.manual_seed(0)
    planes = np.random.default_rng(0).normal(200, 50, (2, 3, 16, 24))
    assert not denoiser.correction(Denoiser(), *planes, np.ones((denoiser.MAPS, 8, 12), np.float32)).any()


def test_tiles_give_what_the_whole_gives() -> None:
    torch.manual_seed(2)
    network = Denoiser()
    torch.nn.init.normal_(network.leave.weight, std=0.1)
    planes = np.random.default_rng(0).normal(200, 50, (2, 3, 139, 210))
    maps = np.random.default_rng(1).normal(1, 0.3, (denoiser.MAPS, 70, 105))
    whole = denoiser.correction(network, *planes, maps)
    assert np.abs(whole).max() > 1
    assert np.allclose(denoiser.correction(network, *planes, maps, tile=64), whole, atol=1e-3)


@pytest.mark.parametrize("shape", [(33, 70), (64, 51)])
def test_any_size(photograph: np.ndarray, shape: tuple[int, int]) -> None:
    source = Source("picture", np.ascontiguousarray(photograph[: shape[0], : shape[1]]), similarity=False)
    sent = layering.broadcast(source.ladder, uses_of(*shape, 1.0), 10.0)
    assert received(source, sent, 12.0, "denoiser") > 25


@pytest.mark.parametrize("link", ["rayleigh-fast", "erasure"])
def test_other_links(source: Source, sent: Transmission, link: str) -> None:
    found = BroadcastSystem(source, sent).draw(LINKS[link], 14.0, np.random.default_rng(5))
    assert found.layer == "main" and found.psnr_db > 25


def test_weights_come_back_and_other_files_are_refused(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = Denoiser()
    torch.nn.init.normal_(network.leave.weight, std=0.1)
    path = tmp_path / "weights.npz"
    denoiser.save(path, network, {"steps": 3})
    found, facts = denoiser.read(path)
    assert facts == {"steps": 3}
    for name, value in network.state_dict().items():
        assert torch.allclose(found.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    whole = path.read_bytes()
    for data in (b"", b"no archive", whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(InputError, match="denoiser"):
            denoiser.read(path)
    np.savez(path, facts=np.array("{}"), other=np.zeros(3))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="denoiser"):
        denoiser.read(path)
    with pytest.raises(InputError, match="none"):
        denoiser.read(tmp_path / "none.npz")


def test_the_shipped_weights_say_how_they_were_trained() -> None:
    _, facts = denoiser.read(denoiser.WEIGHTS_FILE)
    assert facts["held_out_psnr_db"] > facts["held_out_linear_psnr_db"] + 0.3  # type: ignore[operator]
    assert denoiser.WEIGHTS_FILE.stat().st_size < 500_000


def test_one_transmission_serves_all_receivers(source: Source) -> None:
    sender, uses = Sender(), uses_of(128, 160, CBR)
    assert sender(source, uses, 10.0) is sender(source, uses, 10.0)
    assert sender(source, uses, 10.0) is not sender(source, uses, 4.0)


def test_errors_are_one_line(source: Source, sent: Transmission) -> None:
    with pytest.raises(InputError, match="receiver"):
        BroadcastSystem(source, sent, "best")
    with pytest.raises(InputError, match="bytes"):
        layering.broadcast(Ladder(source.image), 1500, 10.0)
