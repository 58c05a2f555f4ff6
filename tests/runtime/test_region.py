"""A region of interest: more decibels inside, fewer outside, in a file of the same size that any decoder reads."""

import numpy as np
import pytest

import flowcodec
from flowcodec.errors import InputError
from flowcodec.runtime.bundle import Model
from flowcodec.runtime.channel import Rounding
from flowcodec.runtime.quality import psnr_db
from flowcodec.runtime.region import LOG2_PRICE, Region, economise


@pytest.fixture(scope="module")
def part(photograph: np.ndarray) -> np.ndarray:
    return photograph[128:320, 200:456]


@pytest.fixture(scope="module")
def mask(part: np.ndarray) -> np.ndarray:
    """A quarter of the picture is white."""
    mask = np.zeros(part.shape[:2], np.uint8)
    mask[48:144, 64:192] = 255
    return mask


def inside_and_outside(part: np.ndarray, data: bytes, mask: np.ndarray) -> tuple[float, float]:
    """PSNR in dB where the mask is white, and where it is not."""
    back = flowcodec.decode(data, threads=1)
    return tuple(psnr_db(part[chosen][None], back[chosen][None]) for chosen in (mask == 255, mask != 255))  # type: ignore[return-value]


@pytest.mark.parametrize("size", [1800, 6000])
def test_bits_move_into_the_region(part: np.ndarray, mask: np.ndarray, size: int) -> None:
    """At the same number of bytes 1.5 dB more inside, and less outside."""
    plain = flowcodec.encode(part, size=size, threads=1)
    moved = flowcodec.encode(part, size=size, roi=mask, threads=1)
    assert len(moved) <= size
    before, after = inside_and_outside(part, plain, mask), inside_and_outside(part, moved, mask)
    assert after[0] >= before[0] + 1.5
    assert after[1] < before[1]


def test_quality_is_that_of_the_region(part: np.ndarray, mask: np.ndarray) -> None:
    """At one quality the region keeps its PSNR and the file becomes smaller; greys lie between black and white."""
    plain = flowcodec.encode(part, quality=60, channel="round", threads=1)
    black = flowcodec.encode(part, quality=60, roi=mask, threads=1)
    grey = flowcodec.encode(part, quality=60, roi=np.maximum(mask, 128), threads=1)
    assert len(black) < len(grey) < len(plain)
    qualities = [inside_and_outside(part, data, mask) for data in (plain, grey, black)]
    assert qualities[2][0] == pytest.approx(qualities[0][0], abs=0.3)
    assert qualities[0][1] > qualities[1][1] > qualities[2][1]


def test_a_white_mask_changes_nothing(part: np.ndarray) -> None:
    crop = part[:40, :50]
    white = np.full(crop.shape[:2], 255, np.uint8)
    assert flowcodec.encode(crop, roi=white, threads=1) == flowcodec.encode(crop, channel="round", threads=1)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (33, 50)])
def test_masks_of_any_size_and_grey_pictures(part: np.ndarray, height: int, width: int) -> None:
    mask = np.zeros((height, width), np.uint8)
    for pixels in (part[:height, :width], part[:height, :width, 1]):
        data = flowcodec.encode(pixels, step=4, roi=mask, threads=1, verify=True)
        assert flowcodec.decode(data, threads=1).shape == pixels.shape


def test_prices() -> None:
    """White is 1 and black 2^LOG2_PRICE; a white pixel reaches the sites around it, at every level."""
    mask = np.zeros((21, 40), np.uint8)
    mask[10, 20] = 255
    region = Region(mask)
    for level, shape in ((1, (11, 20)), (2, (6, 10)), (5, (1, 2))):
        prices = region.prices(level)
        assert prices.shape == shape
        assert prices[10 >> level, 20 >> level] == 1
        assert set(np.unique(prices)) <= {1, 2**LOG2_PRICE}
    assert (region.prices(1)[4:7, 9:12] == 1).all() and (region.prices(1) == 1).sum() == 9
    assert (Region(np.full((5, 5), 255, np.uint8)).prices(2) == 1).all()


def test_economised_symbols_are_nearer_to_zero(model: Model) -> None:
    """Never farther from zero nor of the other sign, smaller the higher the price, and the same at a price of 1."""
    rng = np.random.default_rng(3)
    scales = rng.integers(10, 70, 4000).astype(np.uint8)
    values = rng.normal(0, 64 * 2.0 ** (scales / 8 - 2.75))
    channel = Rounding(model.channels)
    tables = channel.table_ids(0, scales, (0, 0))
    symbols = channel.quantise(values, 0, scales, (0, 0))
    sums = []
    for price in (1.0, 4.0, 64.0, 4096.0):
        fewer = economise(symbols, values, np.full(4000, price, np.float32), channel, model.tables, 0, scales, tables, (0, 0))
        assert (np.abs(fewer) <= np.abs(symbols)).all() and (fewer * symbols >= 0).all()
        sums.append(int(np.abs(fewer).sum()))
    assert sums[0] == np.abs(symbols).sum()
    assert sums == sorted(set(sums), reverse=True)


@pytest.mark.parametrize(
    ("roi", "message"),
    [
        (np.zeros((40, 51), np.uint8), "expected a mask of 50x40 like the picture, found 51x40"),
        (np.zeros((40, 50, 3), np.uint8), "grey mask"),
        (np.zeros((40, 50)), "uint8"),
        ("mask.png", "found str"),
    ],
)
def test_masks_that_do_not_fit(part: np.ndarray, roi: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        flowcodec.encode(part[:40, :50], roi=roi)


def test_dither_keeps_its_promise(part: np.ndarray) -> None:
    with pytest.raises(InputError, match="channel round"):
        flowcodec.encode(part[:4, :4], roi=np.zeros((4, 4), np.uint8), channel="dither")
