"""Hybrid transmissions: degrade step by step instead of falling off a cliff, and rise with the CSNR."""

import numpy as np
import pytest

for package in ("scipy", "torch", "sionna", "ldpc"):
    pytest.importorskip(package, reason=f"hybrid coding needs {package}: pip install 'flowcodec[radio]'")

from flowcodec.errors import InputError
from flowcodec.radio import picture, transmission
from flowcodec.radio.ladder import Ladder
from flowcodec.radio.link import awgn, rayleigh_slow
from flowcodec.radio.transmission import Transmission
from flowcodec.runtime.decode import decode_picture
from flowcodec.runtime.quality import psnr_db

DESIGN_DB = 10.0


@pytest.fixture(scope="module")
def ladder(photograph: np.ndarray) -> Ladder:
    return Ladder(photograph[150:278, 250:442])


@pytest.fixture(scope="module")
def sent(ladder: Ladder) -> Transmission:
    return transmission.transmit(ladder, transmission.uses_of(128, 192, 1 / 4), DESIGN_DB)


def received_psnr(ladder: Ladder, sent: Transmission, csnr_db: float) -> tuple[float, str]:
    received = awgn(sent.symbols, csnr_db, np.random.default_rng(1))
    header = transmission.receive_header(received)
    assert header == sent.header
    found = transmission.receive(received, header)
    return psnr_db(ladder.image, found.pixels), found.layer


def test_power_is_one_and_uses_are_kept(sent: Transmission) -> None:
    assert np.mean(np.abs(sent.symbols) ** 2) == pytest.approx(1)
    uses = transmission.uses_of(128, 192, 1 / 4)
    pilots = int(np.ceil(len(sent.symbols) / transmission.PILOT_SPACING))
    assert uses - 2 <= transmission.PREAMBLE_USES + len(sent.symbols) + pilots <= uses + 2


def test_quality_rises_with_the_csnr_and_never_vanishes(ladder: Ladder, sent: Transmission) -> None:
    at = {csnr_db: received_psnr(ladder, sent, csnr_db) for csnr_db in (4, 10, 16, 22)}
    assert [layer for _, layer in at.values()] == ["base", "main", "main", "main"]
    values = [value for value, _ in at.values()]
    assert values == sorted(values)
    assert at[4][0] > 24
    file_db = psnr_db(ladder.image, decode_picture(sent.main, 1).pixels)
    assert at[10][0] > file_db + 0.3
    assert at[22][0] > file_db + 2


def test_below_the_base_layer_the_mean_colour_is_left(ladder: Ladder, sent: Transmission) -> None:
    received = awgn(sent.symbols, -12.0, np.random.default_rng(2))
    found = transmission.receive(received, sent.header)
    assert found.layer == "colour"
    assert found.pixels.shape == ladder.image.shape
    assert transmission.receive(received, None).layer == "nothing"


def test_a_known_fade_is_undone(ladder: Ladder, sent: Transmission) -> None:
    received = rayleigh_slow(sent.symbols, 60.0, np.random.default_rng(3))
    found = transmission.receive(received, transmission.receive_header(received))
    assert psnr_db(ladder.image, found.pixels) > 36


def test_headers_survive_packing_and_damage_is_seen(sent: Transmission) -> None:
    assert transmission.unpack_header(sent.header.pack()) == sent.header
    assert transmission.unpack_header(b"\xff" * 64) is None


def test_too_few_uses_are_refused(ladder: Ladder) -> None:
    with pytest.raises(InputError, match="channel uses"):
        transmission.transmit(ladder, 500, DESIGN_DB)


def test_without_analog_layer_the_picture_is_that_of_the_file(sent: Transmission) -> None:
    quantised = picture.read(sent.main)
    assert np.array_equal(quantised.render(), decode_picture(sent.main, 1).pixels)


def test_the_true_errors_restore_the_picture_almost_exactly(ladder: Ladder, sent: Transmission) -> None:
    quantised = picture.read(sent.main)
    assert psnr_db(ladder.image, quantised.render(quantised.errors(ladder.image))) > 50


def test_a_file_cut_short_is_a_blurred_picture(ladder: Ladder, sent: Transmission) -> None:
    values = [psnr_db(ladder.image, picture.read(sent.main, boxes).render()) for boxes in (1, 2, 3, 4)]
    assert values == sorted(values)
    assert values[0] > 15
