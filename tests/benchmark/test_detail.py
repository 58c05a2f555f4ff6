"""Measures of detail, on pictures whose detail is known."""

import math
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from flowcodec.benchmark import detail
from flowcodec.benchmark.classical import Jpeg
from flowcodec.benchmark.metrics import COLUMNS, METRICS, choose
from flowcodec.demo import PHOTO
from flowcodec.errors import InputError
from flowcodec.runtime.image import read_picture


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Grey noise on a slope with one edge; uint8 (96, 120, 3)."""
    random = np.random.default_rng(1)
    plane = 90 + np.arange(120) / 4 + 20 * (np.arange(120) > 60) + random.normal(0, 12, (96, 120))
    return np.clip(plane, 0, 255).astype(np.uint8)[:, :, None].repeat(3, axis=2)


def blurred(picture: np.ndarray) -> np.ndarray:
    return np.rint(ndimage.gaussian_filter(picture.astype(float), (1, 1, 0))).astype(np.uint8)


def test_equal_pictures_keep_everything(picture: np.ndarray) -> None:
    found = detail.detail_energy(picture, picture)
    assert found["detail_energy"] == found["detail_kept"] == [1.0] * detail.SCALES
    assert detail.gradient_similarity(picture, picture) == pytest.approx(1)
    assert math.isinf(detail.edge_psnr_db(picture, picture)) and math.isinf(detail.psnr_y_db(picture, picture))


def test_blur_loses_detail_and_most_at_the_finest_scale(picture: np.ndarray) -> None:
    found = detail.detail_energy(picture, blurred(picture))
    kept = found["detail_kept"]
    assert kept == sorted(kept) and kept[0] < 0.25 and kept[-1] > 0.9
    assert found["detail_energy"][0] < kept[0], "a filter's energy is the square of its amplitude"
    assert detail.gradient_similarity(picture, blurred(picture)) < 0.97


def test_noise_adds_energy_but_keeps_no_more_detail(picture: np.ndarray) -> None:
    noisy = np.clip(blurred(picture) + np.random.default_rng(2).normal(0, 12, (*picture.shape[:2], 1)), 0, 255).astype(np.uint8)
    blur, noise = detail.detail_energy(picture, blurred(picture)), detail.detail_energy(picture, noisy)
    assert noise["detail_energy"][0] > 4 * blur["detail_energy"][0]
    assert noise["detail_kept"][0] == pytest.approx(blur["detail_kept"][0], abs=0.05)


def test_flat_pictures_have_no_ratio_and_tiny_ones_do_not_fail() -> None:
    flat = np.full((1, 3, 3), 7, np.uint8)
    assert detail.detail_energy(flat, flat + 1)["detail_kept"] == [None] * detail.SCALES
    assert detail.psnr_y_db(flat, flat + 1) == pytest.approx(10 * math.log10(255**2), abs=1e-6)
    assert 0 < detail.gradient_similarity(flat, flat) <= 1


def test_edge_psnr_counts_errors_at_edges_only() -> None:
    step = np.zeros((64, 64, 3), np.uint8)
    step[:, 32:] = 200
    far, near = step.copy(), step.copy()
    far[:, 2] += 40
    near[:, 31] += 40
    assert detail.edge_psnr_db(step, near) < 40 < detail.edge_psnr_db(step, far)


def test_luma_psnr_is_that_of_bt601() -> None:
    grey = np.full((8, 8, 3), 100, np.uint8)
    green = grey.copy()
    green[:, :, 1] += 10
    assert detail.psnr_y_db(grey, green) == pytest.approx(20 * math.log10(255 / 5.87), abs=1e-6)


def test_the_pyramid_and_gradient_equal_scipy(picture: np.ndarray) -> None:
    plane = detail.luma(picture)
    spline = np.array([1, 4, 6, 4, 1]) / 16
    smooth = ndimage.convolve1d(ndimage.convolve1d(plane, spline, 0, mode="reflect"), spline, 1, mode="reflect")
    np.testing.assert_allclose(detail._pyramid(plane)[0], plane - smooth, atol=1e-9)
    expected = np.hypot(ndimage.prewitt(plane, 0, mode="nearest"), ndimage.prewitt(plane, 1, mode="nearest")) / 3
    np.testing.assert_allclose(detail._gradient(plane), expected, atol=1e-9)


def test_metrics_return_the_columns_they_name(picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = choose(None)
    for metric in chosen:
        against_original = metric.against(picture)
        found = against_original(blurred(picture))
        assert set(found) == set(metric.columns) <= set(COLUMNS)
        assert against_original(blurred(picture)) == found, "what is kept of the original stays as it is"
    assert METRICS["psnr"].measure(picture, picture) == {"psnr_db": None}
    assert [metric.name for metric in choose(["detail"])] == ["psnr", "detail"]
    with pytest.raises(InputError, match=r"--metric: expected one of psnr, .* found 'vmaf'"):
        choose(["vmaf"])
    monkeypatch.setattr("flowcodec.benchmark.metrics.find_spec", lambda _: None)
    assert [metric.name for metric in choose(None)] == ["psnr", "ms-ssim", "detail"]
    with pytest.raises(InputError, match="--metric st-lpips: needs the package stlpips-pytorch: pip install stlpips-pytorch"):
        choose(["st-lpips"])


def test_ssimulacra2_falls_with_quality(picture: np.ndarray) -> None:
    pytest.importorskip("ssimulacra2")
    measure = METRICS["ssimulacra2"].measure
    photograph = read_picture(PHOTO).pixels[100:260, 200:400]
    scores = [measure(photograph, Jpeg().decode(Jpeg().encode(photograph, quality)))["ssimulacra2"] for quality in (8, 35, 92)]
    assert scores == sorted(scores) and scores[0] < 30 < 50 < scores[1] < 80 < scores[2] < 100
    assert measure(picture, picture)["ssimulacra2"] == pytest.approx(100, abs=0.01)
    assert measure(picture[:7], picture[:7]) == {"ssimulacra2": None}


@pytest.mark.parametrize("size", [(96, 120), (61, 83), (8, 200)])
def test_ssimulacra2_equals_its_package(size: tuple[int, int]) -> None:
    package = pytest.importorskip("ssimulacra2")
    from flowcodec.benchmark import ssimulacra2

    original = read_picture(PHOTO).pixels[100 : 100 + size[0], 200 : 200 + size[1]]
    score = ssimulacra2.against(original)
    for quality in (10, 60):
        decoded = Jpeg().decode(Jpeg().encode(original, quality))
        assert score(decoded) == package.compute_ssimulacra2(in_file(original), in_file(decoded))


def in_file(pixels: np.ndarray) -> BytesIO:
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "BMP")
    return stream


def test_st_lpips_is_zero_for_equal_pictures_and_forgives_a_shift(picture: np.ndarray) -> None:
    pytest.importorskip("stlpips_pytorch", reason="the package with the weights of ST-LPIPS is not installed")
    measure = METRICS["st-lpips"].measure
    smooth = blurred(picture)
    shifted = measure(smooth[:, :-1], smooth[:, 1:])["st_lpips"]
    assert measure(picture, picture)["st_lpips"] == 0
    assert 0 < shifted < measure(picture, smooth)["st_lpips"]
