"""BD-rate against the package bjontegaard, SciPy and published relations between published curves."""

import json
from pathlib import Path

import bjontegaard
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator

from flowcodec.benchmark.bdrate import Curve, Pchip, bd_psnr, bd_rate, overlap
from flowcodec.errors import InputError

ANCHORS = json.loads((Path(__file__).parents[2] / "results/anchors/kodak_anchors.json").read_text())


def published(name: str) -> Curve:
    return Curve.from_points(name, ANCHORS[name]["bpp"], ANCHORS[name]["psnr_rgb"])


# BD-rate (per cent) over the full overlap, between 30.5 and 36.5 dB, and between 37 and 40.5 dB, against "VTM (CompressAI)":
# published values, worked out with another implementation and rounded to one digit.
PUBLISHED = {
    "HPCM-Large": (-20.0, -19.5, None),
    "ELIC (official)": (-7.4, -7.0, -5.5),
    "Cool-chic 5.0": (-6.6, -5.9, -12.4),
    "mbt2018-mean": (21.3, 21.6, 11.6),
    "AV1": (16.2, 16.0, 10.1),
    "BPG 4:4:4": (22.0, 26.4, 18.3),
    "JPEG 2000 (OpenJPEG)": (71.8, 73.4, 61.4),
    "WebP": (78.7, 82.1, 62.5),
    "JPEG": (208.5, 183.8, 142.5),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_relations(name: str) -> None:
    anchor, test = published("VTM (CompressAI)"), published(name)
    for window, expected in zip((overlap(anchor, test), (30.5, 36.5), (37.0, 40.5)), PUBLISHED[name], strict=True):
        if expected is None:
            assert not test.covers_psnr(window)
        else:
            assert bd_rate(anchor, test, window) == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("name", ["mbt2018-mean", "BPG 4:4:4", "JPEG", "QARV"])
def test_bd_rate_and_bd_psnr_equal_the_package_bjontegaard(name: str) -> None:
    anchor, test = published("VTM (CompressAI)"), published(name)
    arguments = (anchor.bpp, anchor.psnr_db, test.bpp, test.psnr_db)
    options = {"method": "pchip", "require_matching_points": False, "min_overlap": 0}
    assert bd_rate(anchor, test, overlap(anchor, test)) == pytest.approx(bjontegaard.bd_rate(*arguments, **options), rel=1e-9)
    rates = max(anchor.bpp[0], test.bpp[0]), min(anchor.bpp[-1], test.bpp[-1])
    assert bd_psnr(anchor, test, rates) == pytest.approx(bjontegaard.bd_psnr(*arguments, **options), rel=1e-9)


def test_a_constant_factor_in_rate_is_the_bd_rate() -> None:
    anchor = Curve("a", (0.1, 0.3, 0.7, 1.5), (28.0, 32.0, 35.5, 40.0))
    test = Curve("b", tuple(1.3 * rate for rate in anchor.bpp), anchor.psnr_db)
    assert bd_rate(anchor, test, (29.0, 39.0)) == pytest.approx(30.0, abs=1e-9)
    assert bd_rate(test, anchor, (29.0, 39.0)) == pytest.approx(100 * (1 / 1.3 - 1), abs=1e-9)
    better = Curve("c", anchor.bpp, tuple(quality + 0.5 for quality in anchor.psnr_db))
    assert bd_psnr(anchor, better, (0.1, 1.5)) == pytest.approx(0.5, abs=1e-12)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 5), st.floats(-5, 5)), min_size=2, max_size=12), st.integers(0, 2**32 - 1))
def test_pchip_equals_scipy(steps: list[tuple[float, float]], seed: int) -> None:
    """y may turn, so that the rules for slopes at turns are exercised too."""
    x, y = np.cumsum([dx for dx, _ in steps]), np.cumsum([dy for _, dy in steps])
    ours, theirs = Pchip(x, y), PchipInterpolator(x, y)
    low, high = sorted(np.random.default_rng(seed).uniform(x[0], x[-1], 2))
    at = np.linspace(x[0], x[-1], 101)
    np.testing.assert_allclose(ours(at), theirs(at), atol=1e-9)
    if high - low > 1e-3:
        assert ours.mean(low, high) == pytest.approx(theirs.integrate(low, high) / (high - low), abs=1e-9)


def test_interpolation_passes_through_the_points_both_ways() -> None:
    curve = published("VTM (CompressAI)")
    np.testing.assert_allclose(curve.psnr_at(np.array(curve.bpp)), curve.psnr_db)
    np.testing.assert_allclose(curve.bpp_at(np.array(curve.psnr_db)), curve.bpp)


def test_curves_that_do_not_cover_the_window_are_refused() -> None:
    anchor, test = published("VTM (CompressAI)"), published("TinyLIC Base (50 kMAC/px)")
    with pytest.raises(InputError, match=r"TinyLIC Base .* does not cover 28.2 to 40.6"):
        bd_rate(anchor, test, (28.2, 40.6))
    with pytest.raises(InputError, match="does not cover"):
        bd_psnr(anchor, test, (0.1, 2.0))
    with pytest.raises(InputError, match="does not cover"):
        test.psnr_at(np.array([2.0]))


@pytest.mark.parametrize(
    ("bpp", "psnr_db"),
    [
        ((0.1,), (30.0,)),
        ((0.1, 0.2), (30.0,)),
        ((0.1, 0.2), (30.0, 29.0)),
        ((0.1, 0.1), (29.0, 30.0)),
        ((0.0, 0.1), (29.0, 30.0)),
        ((0.1, 0.2), (29.0, float("inf"))),
    ],
)
def test_curves_that_are_no_curves_are_refused(bpp: tuple[float, ...], psnr_db: tuple[float, ...]) -> None:
    with pytest.raises(InputError):
        Curve("odd", bpp, psnr_db)
