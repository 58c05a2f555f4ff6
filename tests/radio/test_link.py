"""Links: the CSNR, the fades and the losses are those of the definitions."""

import numpy as np
import pytest

from flowcodec.errors import InputError
from flowcodec.radio.link import BURST_LENGTH, BURST_LOSS, IMPULSE_PROBABILITY, LINKS, awgn, circular, find_link

pytest.importorskip("scipy", reason="radio needs scipy")


@pytest.fixture
def symbols() -> np.ndarray:
    return circular(200_000, np.random.default_rng(1))


@pytest.mark.parametrize("name", ["awgn", "rayleigh-fast", "impulsive"])
def test_the_noise_has_the_power_of_the_csnr(name: str, symbols: np.ndarray) -> None:
    received = LINKS[name](symbols, 7.0, np.random.default_rng(2))
    noise = received.samples - received.gains * symbols
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(10**-0.7, rel=0.05)
    assert received.noise_power == pytest.approx(10**-0.7)


def test_real_and_imaginary_part_have_half_the_noise_each(symbols: np.ndarray) -> None:
    noise = awgn(symbols, 0.0, np.random.default_rng(3)).samples - symbols
    assert np.var(noise.real) == pytest.approx(0.5, rel=0.02)
    assert np.var(noise.imag) == pytest.approx(0.5, rel=0.02)


def test_fades_have_unit_mean_power_and_are_one_or_many(symbols: np.ndarray) -> None:
    fast = LINKS["rayleigh-fast"](symbols, 10, np.random.default_rng(4)).gains
    assert np.mean(np.abs(fast) ** 2) == pytest.approx(1, rel=0.02)
    slow = [LINKS["rayleigh-slow"](symbols[:4], 10, np.random.default_rng(seed)).gains for seed in range(2000)]
    assert all(len(set(gains)) == 1 for gains in slow)
    assert np.mean([abs(gains[0]) ** 2 for gains in slow]) == pytest.approx(1, rel=0.1)


def test_erasures_come_in_bursts_at_known_places(symbols: np.ndarray) -> None:
    received = LINKS["erasure"](symbols, 10, np.random.default_rng(5))
    lost = received.gains == 0
    assert np.mean(lost) == pytest.approx(BURST_LOSS, rel=0.25)
    assert not received.samples[lost].any()
    starts = np.count_nonzero(np.diff(lost.astype(int)) == 1)
    assert np.count_nonzero(lost) / starts == pytest.approx(BURST_LENGTH, rel=0.25)


def test_impulses_hit_few_uses_hard(symbols: np.ndarray) -> None:
    received = LINKS["impulsive"](symbols, 10, np.random.default_rng(6))
    background = received.noise[0][1]
    hit = np.abs(received.samples - symbols) ** 2 > 20 * background
    assert 0.3 * IMPULSE_PROBABILITY < np.mean(hit) < IMPULSE_PROBABILITY


def test_an_unknown_link_is_refused() -> None:
    with pytest.raises(InputError, match="expected one of awgn"):
        find_link("wire")
