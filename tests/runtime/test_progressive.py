"""Pictures from the front of a file: the same as from the whole, like the original made smaller, better with every box."""

from itertools import pairwise

import numpy as np
import pytest

import flowcodec
from flowcodec.errors import ChecksumMismatch, FormatError, InputError, TruncatedFile
from flowcodec.runtime import container
from flowcodec.runtime.color import RGB_TO_YCC, rgb_to_ycc
from flowcodec.runtime.container import BoxKind
from flowcodec.runtime.flow import analyse_level, level_count, level_shapes, synthesise_level
from flowcodec.runtime.progressive import inverse_gain, latent_boxes_needed, reduced_pixels, split_count
from flowcodec.runtime.quality import psnr_db

SIZES = [(97, 131), (64, 64), (1, 37), (50, 1), (2, 3), (1, 1), (5, 200)]


def box_offsets(data: bytes) -> list[int]:
    """Where the header and each latent box end."""
    file = container.read(data)
    latents = [box for box in file.boxes if box.kind == BoxKind.LATENT]
    return [len(container.write(file.header, latents[:count])) for count in range(len(latents) + 1)]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("channel", ["round", "dither"])
def test_a_prefix_gives_the_picture_of_the_whole_file(photograph: np.ndarray, height: int, width: int, channel: str) -> None:
    """For every level: the boxes it takes give the same pixels as the whole file, one byte fewer gives none."""
    for pixels in (photograph[100 : 100 + height, 200 : 200 + width], photograph[100 : 100 + height, 200 : 200 + width, 1]):
        data = flowcodec.encode(pixels, step=10, channel=channel, threads=1)
        ends = box_offsets(data)
        for levels, (rows, columns) in enumerate(level_shapes(height, width)[1:], start=1):
            expected = flowcodec.decode(data, levels=levels, threads=1)
            assert expected.shape == (rows, columns, *pixels.shape[2:])
            end = ends[latent_boxes_needed(height, width, levels)]
            np.testing.assert_array_equal(flowcodec.decode(data[:end], levels=levels, threads=1), expected)
            np.testing.assert_array_equal(flowcodec.decode(data[:end] + b"anything", levels=levels, threads=1), expected)
            with pytest.raises(TruncatedFile, match="smaller"):
                flowcodec.decode(data[: end - 1], levels=levels, threads=1)


def test_boxes_that_a_level_takes() -> None:
    """Half the size takes all but the finest box, an eighth and less the first alone."""
    assert [latent_boxes_needed(512, 768, levels) for levels in range(11)] == [4, 3, 2, 1, 1, 1, 1, 1, 1, 1, 1]
    assert [latent_boxes_needed(3, 4, levels) for levels in range(3)] == [2, 1, 1]
    assert latent_boxes_needed(1, 1, 0) == 1


def test_reduced_picture_is_the_original_made_smaller(photograph: np.ndarray) -> None:
    """Against the low bands of the wavelet itself, in floating point; and brightness and colours stay where they were."""
    data = flowcodec.encode(photograph, step=4, threads=1)
    low = rgb_to_ycc(photograph)
    for levels in range(1, 6):
        low, _ = analyse_level(low)
        rgb = np.tensordot(RGB_TO_YCC.T, low / 1.40202 ** (2 * levels), axes=1).transpose(1, 2, 0)
        small = flowcodec.decode(data, levels=levels, threads=1)
        assert psnr_db(np.clip(np.rint(rgb), 0, 255).astype(np.uint8), small) > 36
        np.testing.assert_allclose(small.mean((0, 1)), photograph.mean((0, 1)), atol=2.5)


def test_half_size_is_like_block_means(photograph: np.ndarray) -> None:
    small = flowcodec.decode(flowcodec.encode(photograph, step=4, threads=1), levels=1, threads=1)
    means = photograph.reshape(256, 2, 384, 2, 3).mean((1, 3))
    assert psnr_db(np.rint(means).astype(np.uint8), small) > 28


@pytest.mark.parametrize(("height", "width"), [(97, 131), (1, 37), (50, 1), (7, 7), (1, 2000)])
@pytest.mark.parametrize("value", [0, 1, 100, 255])
def test_a_constant_keeps_its_value_at_every_level(height: int, width: int, value: int) -> None:
    """Low bands that the integer synthesis turns into a constant picture of some value become that value, within one."""
    shapes = level_shapes(height, width)
    for levels in range(1, level_count(height, width) + 1):
        gain = (1 << 30) / inverse_gain(split_count(height, width, levels))
        planes = np.full((1, *shapes[levels]), round(value * 64 * np.sqrt(3) * gain), np.int64)
        assert np.abs(reduced_pixels(planes, height, width, levels).astype(int) - value).max() <= 1
        for shape, finer in reversed(list(zip(shapes[1 : levels + 1], shapes, strict=False))):
            planes = synthesise_level(planes, np.zeros((3, *shape), np.int64), *finer)
        assert np.abs(planes / (64 * np.sqrt(3)) - value).max() <= 0.5 + 0.002 * value


def test_reduced_pixels_of_any_planes() -> None:
    """Planes that only a hostile file has are clipped, not wrapped around."""
    extreme = np.array([-(1 << 40), 1 << 40, 1 << 62, 0], np.int64).reshape(1, 2, 2)
    np.testing.assert_array_equal(reduced_pixels(extreme, 4, 4, 1)[..., 0], [[0, 255], [255, 0]])


@pytest.mark.parametrize("levels", [-1, 9, 100])
def test_levels_that_the_picture_does_not_have(photograph: np.ndarray, levels: int) -> None:
    data = flowcodec.encode(photograph[:100, :140], threads=1)
    with pytest.raises(InputError, match=f"levels: expected 0 to 8 .* found {levels}"):
        flowcodec.decode(data, levels=levels)


def test_no_levels_left_out_is_the_plain_picture(photograph: np.ndarray) -> None:
    rgba = np.dstack([photograph[:40, :50], photograph[:40, :50, 0]])
    data = flowcodec.encode(rgba, threads=1)
    expected = flowcodec.decode(data, threads=1)
    np.testing.assert_array_equal(flowcodec.decode(data, levels=0, threads=1), expected)
    np.testing.assert_array_equal(flowcodec.decode(data, partial=True, threads=1), expected)
    assert flowcodec.decode(data, levels=1, threads=1).shape == (20, 25, 3)


# --- partial files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [4, 20, 80])
def test_partial_picture_gets_better_with_each_box(photograph: np.ndarray, step: float) -> None:
    part = photograph[100:356, 150:534]
    data = flowcodec.encode(part, step=step, threads=1)
    pictures = [flowcodec.decode(data[:end], partial=True, threads=1) for end in box_offsets(data)[1:]]
    qualities = [psnr_db(part, picture) for picture in pictures]
    assert qualities == sorted(set(qualities)), qualities
    np.testing.assert_array_equal(pictures[-1], flowcodec.decode(data, threads=1))


def test_a_box_that_is_cut_counts_as_missing(photograph: np.ndarray) -> None:
    """Between two ends of boxes the picture stays that of the first; before the first latent box there is none."""
    data = flowcodec.encode(photograph[:70, :90], step=16, threads=1)
    ends = box_offsets(data)
    for begin, end in pairwise(ends[1:]):
        expected = flowcodec.decode(data[:begin], partial=True, threads=1)
        for cut in (begin + 1, (begin + end) // 2, end - 1):
            np.testing.assert_array_equal(flowcodec.decode(data[:cut], partial=True, threads=1), expected)
        damaged = bytearray(data)
        damaged[(begin + end) // 2] ^= 4
        np.testing.assert_array_equal(flowcodec.decode(bytes(damaged), partial=True, threads=1), expected)
    for cut in range(ends[1]):
        with pytest.raises(FormatError):
            flowcodec.decode(data[:cut], partial=True, threads=1)


def test_without_partial_a_cut_file_is_refused(photograph: np.ndarray) -> None:
    data = flowcodec.encode(photograph[:70, :90], threads=1)
    for cut in box_offsets(data)[:-1]:
        with pytest.raises(TruncatedFile):
            flowcodec.decode(data[:cut], threads=1)
    damaged = bytearray(data)
    damaged[-1] ^= 1
    with pytest.raises(ChecksumMismatch):
        flowcodec.decode(bytes(damaged), threads=1)


def test_a_partial_file_keeps_what_is_whole_behind_the_latents(photograph: np.ndarray) -> None:
    rgba = np.dstack([photograph[:40, :50], photograph[:40, :50, 0]])
    data = flowcodec.encode(rgba, threads=1)
    assert flowcodec.decode(data[:-1], partial=True, threads=1).shape == (40, 50, 3)
    np.testing.assert_array_equal(flowcodec.decode(data + b"more", partial=True), flowcodec.decode(data, threads=1))


def test_levels_and_partial_together(photograph: np.ndarray) -> None:
    data = flowcodec.encode(photograph[:70, :90], step=16, threads=1)
    ends = box_offsets(data)
    whole = flowcodec.decode(data, levels=2, threads=1)
    np.testing.assert_array_equal(flowcodec.decode(data[: ends[2]], levels=2, partial=True, threads=1), whole)
    predicted = flowcodec.decode(data[: ends[1]], levels=2, partial=True, threads=1)
    assert predicted.shape == whole.shape
    assert not np.array_equal(predicted, whole)


def test_what_a_cut_file_says_about_itself(photograph: np.ndarray) -> None:
    data = flowcodec.encode(photograph[:70, :90], threads=1)
    whole, cut = flowcodec.info(data, partial=True), flowcodec.info(data[:-9], partial=True)
    assert whole == flowcodec.info(data) | {"ends_early": None}
    assert cut["boxes"] == whole["boxes"][:-1]
    assert "expected" in cut["ends_early"]
    with pytest.raises(TruncatedFile):
        flowcodec.info(data[:-9])


def test_a_lossless_file_is_decoded_whole_or_not_at_all(photograph: np.ndarray) -> None:
    data = flowcodec.encode(photograph[:24, :30], lossless=True)
    assert np.array_equal(flowcodec.decode(data, partial=True), photograph[:24, :30])
    with pytest.raises(InputError, match="no smaller pictures"):
        flowcodec.decode(data, levels=1)
    with pytest.raises(FormatError, match="in part"):
        flowcodec.decode(data[:-3], partial=True)
