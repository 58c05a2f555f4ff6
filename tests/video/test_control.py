"""Rate control on a model of a film: bits of a frame as a power of its step, with noise."""

import numpy as np
import pytest

from flowcodec.runtime.step import STEPS_PER_OCTAVE
from flowcodec.video.control import INTRA_OCTAVES, BitRate, FixedStep


@pytest.mark.parametrize("frames", [60, 96, 300])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("exponent", [0.8, 1.2])
@pytest.mark.parametrize("kbps", [60, 250, 900])
def test_a_film_takes_the_bits_it_is_given(frames: int, known: bool, exponent: float, kbps: float) -> None:
    rng = np.random.default_rng(1)
    control = BitRate(1000 * kbps, 30, 352 * 288, frames if known else None, 2000)
    spent = 2000.0
    for number in range(frames):
        intra = number % 128 == 0
        octaves = (control.choose(intra) - 800) / STEPS_PER_OCTAVE
        size = round(2 ** (np.log2(40000 if intra else 9000) - exponent * octaves + rng.normal(0, 0.15)) / 8) + 8
        control.spent(size, intra)
        spent += 8 * size
    assert abs(spent / (1000 * kbps / 30 * frames) - 1) < 0.05


def test_a_scene_cut_is_paid_for() -> None:
    control = BitRate(300_000, 30, 352 * 288, None, 0)
    spent = 0.0
    for number in range(120):
        intra = number in (0, 50)
        harder = 2.0 if number >= 50 else 0.0
        octaves = (control.choose(intra) - 800) / STEPS_PER_OCTAVE
        size = round(2 ** (np.log2(60000 if intra else 6000) + harder - octaves) / 8)
        control.spent(size, intra)
        spent += 8 * size
    assert abs(spent / (300_000 * 4) - 1) < 0.05


def test_fixed_steps() -> None:
    control = FixedStep(600)
    assert control.choose(False) == 600 and control.choose(True) == 600 - round(INTRA_OCTAVES * STEPS_PER_OCTAVE)
    assert FixedStep(3).choose(True) == 0
