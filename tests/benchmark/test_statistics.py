"""Bootstrap intervals: their coverage, and what they say of curves that are known."""

import numpy as np
import pytest

from flowcodec.benchmark.bdrate import Curve
from flowcodec.benchmark.statistics import Points, band, bd_rate_interval, draws, mean_interval, to_points

WINDOW = (31.0, 39.0)
RATES, QUALITIES = np.array([0.1, 0.3, 0.8, 2.0]), np.array([28.0, 32.0, 36.0, 41.0])


def points(factors: np.ndarray) -> Points:
    """Images whose curves are that of RATES and QUALITIES at so many times the rate."""
    return Points((1.0, 2.0, 3.0, 4.0), factors[:, None] * RATES, {"psnr_db": np.tile(QUALITIES, (len(factors), 1))})


def test_the_mean_is_covered_about_as_often_as_said() -> None:
    random = np.random.default_rng(7)
    hits = [low <= 0 <= high for low, high in (mean_interval(list(random.normal(size=24))) for _ in range(400))]
    assert 0.90 <= np.mean(hits) <= 0.98
    assert mean_interval([1.0]) is None and mean_interval([2.0, 2.0]) == [2.0, 2.0]


def test_equal_images_leave_no_doubt_and_unequal_ones_do() -> None:
    anchor = Curve("anchor", tuple(RATES), tuple(QUALITIES))
    same = bd_rate_interval(lambda _: anchor, points(np.full(6, 1.2)), WINDOW)
    assert same == pytest.approx([20.0, 20.0])
    low, high = bd_rate_interval(lambda _: anchor, points(np.array([1.0, 1.1, 1.2, 1.3, 1.4])), WINDOW)
    assert 5 < low < 18 and 22 < high < 35


def test_a_paired_difference_is_narrower_than_either_codec() -> None:
    """Hard images cost both codecs more; drawn together, that cancels."""
    factors = np.geomspace(0.3, 3, 9)
    anchor, test = points(factors), points(1.1 * factors)
    paired = bd_rate_interval(lambda chosen: anchor.curve("anchor", chosen), test, WINDOW)
    assert paired == pytest.approx([10.0, 10.0])


def test_no_interval_where_there_is_nothing_to_draw_or_no_overlap() -> None:
    anchor = Curve("anchor", tuple(RATES), tuple(QUALITIES))
    assert bd_rate_interval(lambda _: anchor, points(np.array([1.0])), WINDOW) is None
    assert bd_rate_interval(lambda _: anchor, points(np.array([1.0, 2.0])), (20.0, 30.0)) is None
    assert band(points(np.array([1.0])), "psnr_db") is None


def test_bands_hold_the_mean_and_skip_settings_without_a_value() -> None:
    random = np.random.default_rng(3)
    table = points(np.ones(12))
    table.quality["psnr_db"][:] += random.normal(0, 1, (12, 1))
    found = band(table, "psnr_db")
    mean = table.quality["psnr_db"].mean(axis=0)
    assert all(
        low < value < high and 0.5 < high - low < 2 for low, value, high in zip(found["low"], mean, found["high"], strict=True)
    )
    table.quality["psnr_db"][0, 1] = np.nan
    assert band(table, "psnr_db")["low"][1] is None and band(table, "psnr_db")["low"][2] is not None


def test_draws_are_the_same_every_time_and_points_mark_gaps() -> None:
    assert (draws(5) == draws(5)).all() and draws(5).max() == 4
    rows = [{"image": "a", "setting": 1.0, "bpp": 0.5, "x": 2.0}, {"image": "a", "setting": 2.0, "bpp": 1.0}]
    table = to_points(rows, ["a"], [1.0, 2.0], ["x"])
    assert table.bpp.tolist() == [[0.5, 1.0]] and table.quality["x"][0, 0] == 2 and np.isnan(table.quality["x"][0, 1])
