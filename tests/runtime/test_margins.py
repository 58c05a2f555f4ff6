"""Margins: strips are found where they are, cost next to nothing, and never change what has none."""

from dataclasses import replace

import numpy as np
import pytest

import flowcodec
from flowcodec.errors import FormatError, InputError
from flowcodec.runtime import container
from flowcodec.runtime.header import Header, header_payload, parse_header
from flowcodec.runtime.margins import SIDES, Strip, find_margins, inside, inside_size, paint
from flowcodec.runtime.quality import psnr_db
from flowcodec.runtime.step import step_index

HEADER = Header(40, 30, 3, 560, "round", 0, bytes(8))
GREY, RED = (99, 99, 99), (200, 10, 20)


@pytest.fixture(scope="module")
def part(photograph: np.ndarray) -> np.ndarray:
    return photograph[128:240, 200:330]


@pytest.fixture(scope="module")
def framed(part: np.ndarray) -> np.ndarray:
    """Two frames around each other, the inner one without a right side, and dark: a photograph by night."""
    strips = [Strip(side, 2, GREY) for side in range(4)] + [Strip(0, 9, RED), Strip(1, 1, RED), Strip(2, 1, RED)]
    return paint(part // 4, strips)


def header_of(data: bytes) -> Header:
    return container.read(data).header


def test_paint_undoes_inside(framed: np.ndarray) -> None:
    strips = [Strip(1, 3, GREY), Strip(2, 5, RED), Strip(0, 1, RED)]
    painted = paint(framed, strips)
    assert painted.shape[:2] == (framed.shape[0] + 4, framed.shape[1] + 5)
    assert inside_size(*painted.shape[:2], strips) == framed.shape[:2]
    np.testing.assert_array_equal(inside(painted, strips), framed)
    assert (painted[-3:] == GREY).all() and (painted[:-3, :5] == RED).all() and (painted[0, 5:] == RED).all()


@pytest.mark.parametrize("step", [4, 20, 90])
def test_strips_are_found_and_cut_off(part: np.ndarray, framed: np.ndarray, step: float) -> None:
    strips = find_margins(framed, step_index(step))
    np.testing.assert_array_equal(inside(framed, strips), part // 4)
    painted = flowcodec.decode(flowcodec.encode(framed, step=step, threads=1), threads=1)
    rest = framed.astype(int) - painted
    assert not rest[:11].any() and not rest[-3:].any() and not rest[:, :3].any() and not rest[:, -2:].any()


@pytest.mark.parametrize("step", [4, 20, 90])
def test_photographs_have_none(photograph: np.ndarray, step: float) -> None:
    assert find_margins(photograph, step_index(step)) == ()
    rows = np.linspace(0, 200, 200, dtype=np.uint8)
    assert find_margins(np.broadcast_to(rows[:, None, None], (200, 100, 3)), step_index(step)) == ()
    assert find_margins(np.full((60, 50, 1), 7, np.uint8), step_index(step)) == ()


def test_a_rough_frame_is_painted_at_coarse_steps_alone(part: np.ndarray, framed: np.ndarray) -> None:
    """Noise of 6 grey levels: more than a fine quantiser leaves, less than a coarse one. Nine lines of it would not look flat."""
    noise = np.random.default_rng(0).normal(0, 6, framed.shape)
    rough = np.clip(framed + noise, 0, 255).astype(np.uint8)
    assert find_margins(rough, step_index(8)) == ()
    assert inside(rough, find_margins(rough, step_index(64))).shape[:2] == (part.shape[0] + 9, part.shape[1])


def test_a_frame_costs_a_few_bytes(part: np.ndarray, framed: np.ndarray) -> None:
    """Strips and colours, but not their pixels; and the inside is as good as by itself."""
    plain, around = (flowcodec.encode(pixels, step=30, threads=1) for pixels in (part // 4, framed))
    assert len(around) - len(plain) <= 1 + 7 + 2 * 3
    np.testing.assert_array_equal(flowcodec.decode(around, threads=1)[11:-3, 3:-2], flowcodec.decode(plain, threads=1))


@pytest.mark.parametrize(
    "settings", [{"size": 1500}, {"psnr": 36.0}, {"channel": "round"}, {"quality": 30}, {"step": 50, "verify": True}]
)
def test_rate_control_and_channels_see_the_whole_picture(framed: np.ndarray, settings: dict) -> None:
    data = flowcodec.encode(framed, threads=1, **settings)
    assert header_of(data).margins
    decoded = flowcodec.decode(data, threads=1)
    assert decoded.shape == framed.shape
    if "size" in settings:
        assert 0.97 * 1500 <= len(data) <= 1500
    if "psnr" in settings:
        assert psnr_db(framed, decoded) == pytest.approx(36, abs=0.1)


def test_region_and_alpha_have_the_size_of_the_picture(framed: np.ndarray) -> None:
    mask = np.zeros(framed.shape[:2], np.uint8)
    mask[40:80, 40:80] = 255
    alpha = np.arange(framed.shape[0], dtype=np.uint8)[:, None] + np.zeros(framed.shape[:2], np.uint8)
    data = flowcodec.encode(np.dstack([framed, alpha]), step=20, roi=mask, threads=1)
    assert header_of(data).margins
    np.testing.assert_array_equal(flowcodec.decode(data, threads=1)[..., 3], alpha)


@pytest.mark.parametrize("settings", [{"channel": "dither"}, {"lossless": True}, {"max_error": 2}])
def test_what_promises_something_of_every_pixel_has_none(framed: np.ndarray, settings: dict) -> None:
    small = framed[:60, :60]
    data = flowcodec.encode(small, threads=1, **settings)
    assert not header_of(data).margins
    if "channel" not in settings:
        assert np.abs(flowcodec.decode(data, threads=1).astype(int) - small).max() <= settings.get("max_error", 0)


def test_reduced_and_partial_pictures(framed: np.ndarray) -> None:
    """Strips keep their share of whole lines; what is cut off at the end of a file is predicted within them."""
    data = flowcodec.encode(framed, step=20, threads=1)
    height, width = header_of(data).coded_size
    strips = header_of(data).margins
    for levels in (1, 2, 3):
        small = flowcodec.decode(data, levels=levels, threads=1)
        lines = [sum(strip.lines >> levels for strip in strips if strip.side == side) for side in range(4)]
        assert small.shape[:2] == (-(-height >> levels) + sum(lines[:2]), -(-width >> levels) + sum(lines[2:]))
        assert (small[: 2 >> levels] == GREY).all()
    partial = flowcodec.decode(data[: len(data) - len(data) // 3], partial=True, threads=1)
    assert partial.shape == framed.shape
    np.testing.assert_array_equal(partial[:11, 2:-2], framed[:11, 2:-2])


strips = [Strip(0, 3, GREY), Strip(3, 1, GREY), Strip(0, 200 >> 4, RED)]


def test_header_round_trip() -> None:
    for header in (replace(HEADER, margins=tuple(strips)), replace(HEADER, channels=1, margins=(Strip(2, 39, (5,)),))):
        header = replace(header, scale_shifts=((17, 5), (91, -127)))
        data = container.write(header, [])
        assert container.read(data).header == header
        assert header.coded_size == inside_size(30, 40, header.margins)


@pytest.mark.parametrize(
    "margins",
    [
        (Strip(0, 30, GREY),),
        (Strip(0, 15, GREY), Strip(1, 15, GREY)),
        (Strip(2, 1 << 24, GREY),),
        (Strip(2, 0, GREY),),
        (Strip(4, 1, GREY),),
        (Strip(0, 1, (1,)),),
        (Strip(0, 1, GREY),) * 256,
    ],
)
def test_margins_that_no_picture_has_are_refused(margins: tuple[Strip, ...]) -> None:
    with pytest.raises(InputError, match="margins"):
        replace(HEADER, margins=margins)


@pytest.mark.parametrize("shifts", [((15, 1),), ((112, 1),), ((17, 0),), ((17, 128),), ((18, 1), (17, 1)), ((17, 1), (17, 2))])
def test_shifts_that_no_picture_has_are_refused(shifts: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(InputError, match="shifts"):
        replace(HEADER, scale_shifts=shifts)
    with pytest.raises(InputError, match="shifts"):
        replace(HEADER, channels=1, scale_shifts=((28, 1),))
    with pytest.raises(InputError, match="lossless"):
        replace(HEADER, lossless=True, step_index=0, scale_shifts=((17, 1),))


@pytest.mark.parametrize(
    ("mode", "rest"),
    [
        (0x20, "00"),  # no strips
        (0x20, "01 0c"),  # the first has the colour of none
        (0x20, "01 08 0102"),  # half a colour
        (0x20, "02 08 010203 09 010203"),  # the same colour told twice
        (0x20, "01 f801 010203"),  # as many lines as the picture has
        (0x20, "01 08 010203 00"),  # something behind
        (0x40, "00"),  # no shifts
        (0x40, "01 00 81"),  # a stage of no level
        (0x40, "01 01 80"),  # a shift of nothing
        (0x40, "01 62 81"),  # a level too many
        (0x40, "02 01 81 00 81"),  # a stage twice
    ],
)
def test_hostile_headers(mode: int, rest: str) -> None:
    payload = header_payload(HEADER)
    payload = payload[:2] + bytes([payload[2] | mode]) + payload[3:] + bytes.fromhex(rest)
    with pytest.raises(FormatError):
        parse_header(memoryview(payload))


def test_sides_are_named() -> None:
    assert [f"{name} 2" for name in SIDES[:1]] == flowcodec.info(
        container.write(replace(HEADER, margins=(Strip(0, 2, GREY),)), [])
    )["margins"]
