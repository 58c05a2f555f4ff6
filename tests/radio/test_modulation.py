"""QAM: unit power, Gray labels, LLRs that are the exact ones."""

import numpy as np
import pytest

pytest.importorskip("scipy", reason="radio needs scipy")

from flowcodec.errors import InputError
from flowcodec.radio import modulation
from flowcodec.radio.link import IMPULSE_RATIO, LINKS, Received, awgn

ALL = [2, 4, 6, 8]


@pytest.mark.parametrize("bits", ALL)
def test_power_is_one_and_neighbours_differ_in_one_bit(bits: int) -> None:
    points = modulation.points(bits)
    assert np.mean(np.abs(points) ** 2) == pytest.approx(1)
    distance = np.abs(points[:, None] - points)
    nearest = np.min(distance[distance > 1e-9])
    for a, b in zip(*np.nonzero((distance > 1e-9) & (distance < 1.01 * nearest)), strict=True):
        assert bin(a ^ b).count("1") == 1


@pytest.mark.parametrize("bits", ALL)
@pytest.mark.parametrize("link", ["awgn", "rayleigh-fast", "impulsive"])
def test_llrs_are_the_sums_of_bayes(bits: int, link: str) -> None:
    """Against densities summed point by point, with an analog layer as further noise."""
    rng, layer = np.random.default_rng(bits), 0.05
    sent = modulation.modulate(rng.integers(0, 2, 40 * bits), bits)
    received = LINKS[link](sent, 9.0, rng)
    found = modulation.llrs(received.samples, received.gains, received.noise, bits, layer).reshape(-1, bits)
    for use in range(40):
        y, h = received.samples[use], received.gains[use]
        sums = np.zeros((bits, 2))
        for label, point in enumerate(modulation.points(bits)):
            variances = [(w, v + layer * abs(h) ** 2) for w, v in received.noise]
            density = sum(w / v * np.exp(-(abs(y - h * point) ** 2) / v) for w, v in variances)
            for bit in range(bits):
                sums[bit, label >> (bits - 1 - bit) & 1] += density
        assert found[use] == pytest.approx(np.log(sums[:, 1] / sums[:, 0]), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("bits", ALL)
def test_signs_give_back_the_bits_and_lost_uses_say_nothing(bits: int) -> None:
    rng = np.random.default_rng(7)
    coded = rng.integers(0, 2, 300 * bits)
    received = awgn(modulation.modulate(coded, bits), 45.0, rng)
    assert np.array_equal(modulation.llrs(received.samples, received.gains, received.noise, bits) > 0, coded.astype(bool))
    lost = Received(np.zeros(5, complex), np.zeros(5, complex), ((1.0, 0.1),))
    assert not modulation.llrs(lost.samples, lost.gains, lost.noise, bits).any()


@pytest.mark.parametrize(("bits", "rate", "limit_db"), [(2, 0.5, 0.2), (4, 0.5, 5.3), (6, 2 / 3, 12.7)])
def test_mutual_information_meets_the_known_limits_of_bit_interleaved_coding(bits: int, rate: float, limit_db: float) -> None:
    """I = m - sum E log2(1 + exp(-+LLR)) equals the code rate times m at the limit (Caire, Taricco & Biglieri 1998)."""
    rng = np.random.default_rng(8)
    coded = rng.integers(0, 2, 30_000 * bits)
    received = awgn(modulation.modulate(coded, bits), limit_db, rng)
    ratios = modulation.llrs(received.samples, received.gains, received.noise, bits)
    information = bits * (1 - np.mean(np.logaddexp(0, np.where(coded, -ratios, ratios))) / np.log(2))
    assert information == pytest.approx(bits * rate, abs=0.03)


def test_knowing_the_impulses_is_worth_information() -> None:
    rng = np.random.default_rng(9)
    coded = rng.integers(0, 2, 60_000)
    received = LINKS["impulsive"](modulation.modulate(coded, 2), 5.0, rng)

    def information(noise: tuple[tuple[float, float], ...]) -> float:
        ratios = modulation.llrs(received.samples, received.gains, noise, 2)
        return 1 - float(np.mean(np.logaddexp(0, np.where(coded, -ratios, ratios))) / np.log(2))

    assert IMPULSE_RATIO > 10
    assert information(received.noise) > information(((1.0, received.noise_power),)) + 0.02


def test_an_unknown_modulation_is_refused() -> None:
    with pytest.raises(InputError, match="bits per symbol"):
        modulation.points(3)
