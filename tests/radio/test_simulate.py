"""Simulations: curves of several systems, and what the table of block errors says is what blocks do."""

import numpy as np
import pytest

for package in ("scipy", "torch", "sionna", "ldpc"):
    pytest.importorskip(package, reason=f"simulations need {package}: pip install 'flowcodec[radio]'")

from flowcodec.errors import InputError
from flowcodec.radio.simulate import Experiment, simulate
from flowcodec.radio.systems import RateTable


@pytest.fixture(scope="module")
def images(photograph: np.ndarray) -> dict[str, np.ndarray]:
    return {"crop": photograph[150:246, 250:378]}


def curve(document: dict, system: str) -> list[float]:
    (points,) = (curve["points"] for curve in document["curves"] if curve["system"] == system)
    return [point["psnr_db"] for point in points]


def test_digital_falls_off_a_cliff_where_hybrid_does_not(images: dict[str, np.ndarray]) -> None:
    experiment = Experiment("hybrid", 1 / 3, csnr_db=(4.2, 10.2, 20), draws=1)
    (document,) = simulate(images, [experiment])
    hybrid, digital = curve(document, "hybrid"), curve(document, "FlowCodec, fixed")
    assert digital[0] < 20 < 24 < hybrid[0]
    assert digital[1] == digital[2]
    assert hybrid[1] > digital[1] - 1.5
    assert hybrid[2] > hybrid[1] + 1.5
    (coded,) = simulate(images, [Experiment("hybrid", 1 / 3, csnr_db=(4.2, 10.2), draws=1, coded=True)])
    assert curve(coded, "hybrid") == pytest.approx(hybrid[:2], abs=0.1)


def test_rates_measured_before_stand_for_files(images: dict[str, np.ndarray]) -> None:
    table = RateTable("Known", {"crop": [(1000, 30.0, 0.9), (4000, 34.0, 0.98)]})
    assert table.quality("crop", 2000).psnr_db == pytest.approx(32)
    assert table.quality("crop", 999) is None
    assert table.quality("crop", 10**6).psnr_db == 34
    (document,) = simulate(images, [Experiment("digital", 1 / 3, csnr_db=(10, 16), draws=3)], [table])
    envelope = curve(document, "Known, envelope")
    assert 30 < envelope[0] < envelope[1] <= 34


def test_layers_beat_a_single_mode_in_fading(images: dict[str, np.ndarray]) -> None:
    experiment = Experiment("layered", 1 / 3, csnr_db=(10,), link="rayleigh-slow", draws=300)
    (document,) = simulate(images, [experiment])
    assert curve(document, "layered")[0] > curve(document, "FlowCodec, single mode")[0] + 0.5
    quantiles = document["curves"][0]["points"][0]["quantiles_db"]
    assert quantiles == sorted(quantiles) and len(quantiles) == 101


def test_experiments_that_make_no_sense_are_refused() -> None:
    for settings in ({"mode": "morse"}, {"cbr": 0}, {"draws": 0}, {"link": "erasure"}, {"mode": "layered", "link": "awgn"}):
        with pytest.raises(InputError):
            Experiment(**settings)
