"""Layered transmissions: degrade step by step instead of falling off a cliff, and rise with the CSNR."""

from dataclasses import replace

import numpy as np
import pytest

for package in ("scipy", "torch", "sionna", "ldpc"):
    pytest.importorskip(package, reason=f"layered transmission needs {package}: pip install 'flowcodec[radio]'")

from flowcodec.errors import FormatError, InputError
from flowcodec.radio import cells, layering, picture, transmission
from flowcodec.radio.conditional import Coarse
from flowcodec.radio.digital import MODES, threshold_db
from flowcodec.radio.ladder import Ladder
from flowcodec.radio.link import awgn, noise_power, rayleigh_slow
from flowcodec.radio.transmission import Transmission
from flowcodec.runtime import container
from flowcodec.runtime.bundle import load_model
from flowcodec.runtime.encode import EncodeSettings, encode_picture
from flowcodec.runtime.image import to_picture
from flowcodec.runtime.quality import psnr_db
from flowcodec.runtime.step import log2_step
from flowcodec.runtime.trellis import quantisers

DESIGN_DB = 10.0
USES = transmission.uses_of(128, 192, 1 / 4)


@pytest.fixture(scope="module")
def ladder(photograph: np.ndarray) -> Ladder:
    return Ladder(photograph[150:278, 250:442])


@pytest.fixture(scope="module")
def sent(ladder: Ladder) -> Transmission:
    return layering.hybrid(ladder, USES, DESIGN_DB)


def received_psnr(ladder: Ladder, sent: Transmission, csnr_db: float) -> tuple[float, str]:
    received = awgn(sent.symbols, csnr_db, np.random.default_rng(1))
    header = transmission.receive_header(received)
    assert header == sent.header
    found = transmission.receive(received, header)
    return psnr_db(ladder.image, found.pixels), found.layer


def test_power_is_one_and_uses_are_kept(sent: Transmission) -> None:
    assert np.mean(np.abs(sent.symbols) ** 2) == pytest.approx(1)
    header = sent.header
    assert sum(layer.power for layer in header.layers) + header.analog == transmission.POWER_UNIT
    pilots = int(np.ceil(len(sent.symbols) / transmission.PILOT_SPACING))
    assert USES - 2 <= transmission.PREAMBLE_USES + len(sent.symbols) + pilots <= USES + 2


def test_quality_rises_with_the_csnr_and_never_vanishes(ladder: Ladder, sent: Transmission) -> None:
    at = {csnr_db: received_psnr(ladder, sent, csnr_db) for csnr_db in (4.2, 10.2, 16, 22)}
    assert [layer for _, layer in at.values()] == ["base", "main", "main", "main"]
    values = [value for value, _ in at.values()]
    assert values == sorted(values)
    assert values[0] > 24
    file_db = psnr_db(ladder.image, sent.pictures[-1])
    assert values[1] > file_db + 0.8
    assert values[3] > file_db + 3


def test_the_base_works_just_where_it_is_meant_to(sent: Transmission) -> None:
    """p / (1 - p + N) of the base layer is its mode's threshold BASE_MARGIN_DB below the design; the main one's at the design."""
    base, main = sent.header.layers
    snr_db = sent.header.snr_db(0, DESIGN_DB - layering.BASE_MARGIN_DB)
    assert snr_db == pytest.approx(threshold_db(MODES[base.mode]), abs=0.02)
    power = main.power / (sent.header.analog + transmission.POWER_UNIT * noise_power(DESIGN_DB))
    assert sent.header.snr_db(1, DESIGN_DB) == pytest.approx(10 * np.log10(power))
    assert 0 <= sent.header.snr_db(1, DESIGN_DB) - threshold_db(MODES[main.mode]) < 0.5


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
    assert transmission.unpack_header(replace(sent.header, uses=10).pack()) is None


def test_too_few_uses_are_refused(ladder: Ladder) -> None:
    with pytest.raises(InputError, match="channel uses"):
        layering.hybrid(ladder, 500, DESIGN_DB)


def test_a_file_for_receivers_of_the_base_is_smaller_and_decodes_with_it_alone(ladder: Ladder, sent: Transmission) -> None:
    """A good part of the base's bytes is saved at equal step; the decoder's picture is the sender's."""
    known = ladder.of_psnr(28.0)
    index = container.read(sent.files[1]).header.step_index
    assert len(ladder.file(index)) - len(ladder.above(known).file(index)) > 0.6 * len(known)
    base, main = sent.files
    coarse = Coarse(picture.read(base).render(), container.read(base).header.step_index)
    assert np.array_equal(picture.read(main, coarse).render(), sent.pictures[-1])


def test_the_pictures_of_a_ladder_are_those_of_a_decoder(ladder: Ladder) -> None:
    data = ladder.of_size(4000)
    assert 3900 < len(data) <= 4000
    assert np.array_equal(picture.read(data).render(), ladder.pixels(data))


def test_a_layer_costs_no_more_than_a_file_of_the_codec(ladder: Ladder) -> None:
    """Without a coarse picture it is the same file, byte by byte."""
    index = container.read(ladder.of_size(4000)).header.step_index
    picture_of = to_picture(ladder.image)
    assert ladder.file(index) == encode_picture(picture_of, EncodeSettings(step=2.0 ** float(log2_step(index)), threads=1))


def test_files_of_other_channels_are_no_layers(ladder: Ladder) -> None:
    data = encode_picture(to_picture(ladder.image[:32, :32]), EncodeSettings(channel="round"))
    with pytest.raises(FormatError, match="trellis, found round"):
        picture.read(data)


def test_the_table_knows_how_large_errors_are(sent: Transmission, ladder: Ladder) -> None:
    """On a picture that is not in it, without corrections: mean e^2 of each part, by rising variance, and by cell."""
    quantised = sent.quantised
    assert quantised is not None
    squares, variances = quantised.errors(ladder.image) ** 2, quantised.variances
    states = np.concatenate([states.reshape(-1) for states in quantised.states.values()])
    coded = (states != cells.NOWHERE) & (states % cells.CELL_COUNT != cells.UNCODED)
    order = np.flatnonzero(coded)[np.argsort(variances[coded], kind="stable")]
    parts = np.array_split(order, 5)
    for part in parts:
        assert np.mean(squares[part]) / np.mean(variances[part]) == pytest.approx(1, abs=0.25)
    assert np.mean(squares[parts[-1]]) > 1.3 * np.mean(squares[parts[0]])
    for cell in range(cells.UNCODED):
        part = np.flatnonzero(coded & (states % cells.CELL_COUNT == cell))
        if len(part) > 1000:
            assert np.mean(squares[part]) / np.mean(variances[part]) == pytest.approx(1, abs=0.25)


def test_watched_cells_are_those_of_the_symbols() -> None:
    """Quantiser and symbol, in the order of the coefficients, whether in a trellis or not."""
    channel = cells.Watched(load_model().channels)
    rng = np.random.default_rng(5)
    scales = rng.integers(0, 40, 500).astype(np.uint8)
    values = rng.normal(0, 100, 500)
    symbols = channel.quantise(values, 0, scales, (0, 0))
    channel.reconstruct(symbols, 0, scales, (0, 0))
    found = channel.take_cells()
    assert np.array_equal(found % cells.MAGNITUDES, np.minimum(np.abs(symbols), 2))
    inside, others = channel.split(scales)
    assert set(found[others] // cells.MAGNITUDES) == {cells.OUTSIDE}
    assert np.array_equal(found[inside] // cells.MAGNITUDES, quantisers(symbols[inside]))
    assert len(channel.take_cells()) == 0


def test_the_true_errors_restore_the_picture_almost_exactly(ladder: Ladder, sent: Transmission) -> None:
    quantised = sent.quantised
    assert quantised is not None
    assert psnr_db(ladder.image, quantised.render(quantised.errors(ladder.image))) > 50


def test_corrected_variances_are_those_of_the_errors(ladder: Ladder, sent: Transmission) -> None:
    """By class: what the receiver takes for the mean of e^2 is within half a correction step, a quarter octave, of the truth."""
    quantised = sent.quantised
    assert quantised is not None
    errors = quantised.errors(ladder.image)
    variances = np.exp2(quantised.levels(quantised.corrections(errors)) / 8)
    for number in np.unique(quantised.classes):
        of_class = quantised.classes == number
        if of_class.sum() > 100 and np.mean(variances[of_class]) > 0.1:
            ratio = np.mean(errors[of_class] ** 2) / np.mean(variances[of_class])
            assert abs(np.log2(ratio)) < 0.4


def test_layers_for_fading_use_the_power_and_beat_one_layer() -> None:
    """By the rate curve: a base layer gains over one mode, the analog layer more; layers are decoded in their order."""
    single = layering.fading_layers(0.5, 10.0, 1, analog=False)
    digital, full = layering.fading_layers(0.5, 10.0, 2, analog=False), layering.fading_layers(0.5, 10.0)
    assert single.expected_db < digital.expected_db < full.expected_db
    assert sum(full.powers) + full.analog == pytest.approx(1)
    noise, above = noise_power(10.0), full.analog
    gains = []
    for mode, power in zip(reversed(full.modes), reversed(full.powers), strict=True):
        needed = 10 ** (threshold_db(mode) / 10)
        gains.append(noise * needed / (power - needed * above))
        above += power
    assert 0 < gains[1] < gains[0] < 1
    assert layering.best_fading_mode(0.5, 10.0) == single.modes[0]


def test_the_best_single_mode_for_fading_is_the_best_of_all() -> None:
    """The search against the formula, mode by mode: P(arrives) PSNR + P(lost) LOST_DB."""
    found = layering.fading_layers(0.5, 10.0, 1, analog=False)
    for mode in MODES[::7]:
        lost = -np.expm1(-(10 ** (threshold_db(mode) / 10)) * noise_power(10.0))
        rate = layering.rate_curve(np.array([0.5 * mode.efficiency]))[0]
        assert rate * (1 - lost) + layering.LOST_DB * lost < found.expected_db + 0.05
