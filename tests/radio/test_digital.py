"""The digital layer: bytes come back, the code is 5G's, and its thresholds are where they are known to be."""

import numpy as np
import pytest

for package in ("scipy", "torch", "sionna", "ldpc"):
    pytest.importorskip(package, reason=f"the digital layer needs {package}: pip install 'flowcodec[radio]'")

from flowcodec.errors import InputError
from flowcodec.radio import digital
from flowcodec.radio.digital import MEASURED_MODES, MODES, Mode, segment
from flowcodec.radio.link import LINKS, awgn
from flowcodec.radio.modulation import llrs


@pytest.mark.parametrize("mode", [Mode(2, 0.35), Mode(4, 0.5), Mode(6, 0.6), Mode(8, 0.7)], ids=lambda mode: mode.name)
def test_bytes_come_back_and_fill_the_segment(mode: Mode) -> None:
    rng = np.random.default_rng(1)
    plan = segment(4001, mode)
    payload = rng.bytes(plan.size_bytes)
    symbols = digital.send(payload, plan)
    assert len(symbols) == 4001
    assert np.mean(np.abs(symbols) ** 2) == pytest.approx(1, abs=0.05)
    decoded = digital.receive(awgn(symbols, 25.0, rng), plan)
    assert decoded.whole and decoded.data == payload
    assert plan.size_bytes > 0.9 * 4001 * mode.efficiency / 8


def test_what_cannot_be_decoded_is_known_to_be_wrong() -> None:
    rng = np.random.default_rng(2)
    plan = segment(3600, Mode(4, 0.5))
    decoded = digital.receive(awgn(digital.send(b"picture", plan), 0.0, rng), plan)
    assert not decoded.right.any()


def test_too_many_bytes_or_too_few_uses_are_refused() -> None:
    plan = segment(2000, Mode(2, 0.5))
    with pytest.raises(InputError, match="expected at most"):
        digital.send(bytes(plan.size_bytes + 1), plan)
    with pytest.raises(InputError, match="channel uses"):
        segment(10, Mode(2, 0.5))


@pytest.mark.parametrize("size", [1, 100, 5000])
def test_the_fewest_uses_for_a_size(size: int) -> None:
    mode = Mode(2, 0.55)
    assert segment(digital.uses_for(size, mode), mode).size_bytes >= size


def test_it_decodes_what_the_decoder_of_sionna_decodes() -> None:
    """The second implementation: same code words, same rate matching, within an error or two of the same blocks."""
    import torch
    from sionna.phy.fec.ldpc import LDPC5GDecoder

    rng = np.random.default_rng(3)
    plan = segment(8 * 1800, Mode(4, 0.5), nominal=7200)
    received = awgn(digital.send(rng.bytes(plan.size_bytes), plan), 6.0, rng)
    ratios = llrs(received.samples, received.gains, received.noise, 4)
    order = digital._shuffle(plan.uses)[: plan.blocks * plan.block_uses]
    blocks = ratios.reshape(-1, 4)[order].reshape(plan.blocks, -1)
    code = digital._code(plan.information, plan.block_uses * 4, 4)
    _, right = code.decode(blocks)
    other = LDPC5GDecoder(code.encoder, cn_update="boxplus-phi", num_iter=40)
    _, other_right = code.check(other(torch.from_numpy(blocks.astype(np.float32))))
    assert abs(int(right.sum()) - int(other_right.sum())) <= 2


def test_the_threshold_of_qpsk_at_half_rate_is_the_known_one() -> None:
    """Capacity of QPSK at rate 1/2 is 0.19 dB; 5G LDPC of this length needs about 0.8 dB more."""
    rng, mode = np.random.default_rng(4), Mode(2, 0.5)
    plan = segment(6 * 3600, mode)
    symbols = digital.send(rng.bytes(plan.size_bytes), plan)
    assert not digital.receive(awgn(symbols, 0.19, rng), plan).right.any()
    assert digital.receive(awgn(symbols, 1.4, rng), plan).whole


def test_an_analog_layer_counts_as_noise() -> None:
    """Decoded with its power known at a ratio of signal to noise and layer that the mode just bears; not where it is left out."""
    rng, mode = np.random.default_rng(5), Mode(6, 0.6)
    plan = segment(4 * 1200, mode)
    symbols = digital.send(rng.bytes(plan.size_bytes), plan)
    layer = np.sqrt(0.05) * LINKS["rayleigh-fast"](np.zeros(plan.uses, complex), 0.0, rng).gains
    received = awgn(symbols + layer, 30.0, rng)
    assert digital.receive(received, plan, layer=0.05).whole
    told = llrs(received.samples, received.gains, received.noise, 6, 0.05)
    assert np.mean(np.abs(told)) < 0.2 * np.mean(np.abs(llrs(received.samples, received.gains, received.noise, 6)))


@pytest.mark.parametrize("link", ["rayleigh-fast", "erasure", "impulsive"])
def test_the_code_bridges_other_links(link: str) -> None:
    rng = np.random.default_rng(6)
    plan = segment(6 * 3600, Mode(2, 0.45))
    payload = rng.bytes(plan.size_bytes)
    decoded = digital.receive(LINKS[link](digital.send(payload, plan), 7.0, rng), plan)
    assert decoded.whole and decoded.data == payload


def test_the_table_of_block_errors_is_that_of_the_modes() -> None:
    """Thresholds of measured modes rise with the efficiency, those of all lie above capacity; the choice keeps its error rate."""
    for mode in MODES:
        threshold = digital.threshold_db(mode)
        assert 0.5 < threshold - digital.capacity_db(mode.efficiency) < 4
        assert digital.block_error_rate(mode, threshold) == pytest.approx(1e-4, rel=1e-3)
    for bits in (2, 4, 6, 8):
        thresholds = [digital.threshold_db(mode) for mode in MEASURED_MODES if mode.bits == bits]
        assert thresholds == sorted(thresholds)
    efficiencies = [digital.best_mode(snr).efficiency for snr in range(-5, 25)]
    assert efficiencies == sorted(efficiencies)


def test_repetitions_work_at_so_much_lower_snr() -> None:
    rng, mode = np.random.default_rng(8), Mode(2, 0.25, repeats=4)
    plan = segment(2 * 4 * 3600, mode)
    payload = rng.bytes(plan.size_bytes)
    symbols = digital.send(payload, plan)
    assert np.mean(np.abs(symbols) ** 2) == pytest.approx(1, abs=1e-3)
    single = digital.threshold_db(Mode(2, 0.25))
    assert digital.threshold_db(mode) == pytest.approx(single - 10 * np.log10(4))
    decoded = digital.receive(awgn(symbols, single - 6.02 + 0.3, rng), plan)
    assert decoded.whole and decoded.data == payload
    assert not digital.receive(awgn(symbols, single - 6.02 - 1.5, rng), plan).right.any()


def test_a_table_entry_agrees_with_blocks_sent_now() -> None:
    mode = next(mode for mode in MEASURED_MODES if mode.name == "16-QAM 0.500")
    rng = np.random.default_rng(7)
    plan = segment(6 * 1800, mode)
    payload = rng.bytes(plan.size_bytes)
    symbols = digital.send(payload, plan)
    threshold = digital.threshold_db(mode)
    assert digital.receive(awgn(symbols, threshold + 0.3, rng), plan).whole
    assert not digital.receive(awgn(symbols, threshold - 1.5, rng), plan).right.any()
