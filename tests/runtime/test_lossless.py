"""Lossless files give back every pixel, near-lossless ones stay within their bound, and neither is larger than a PNG."""

import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

import flowcodec
from flowcodec.errors import FormatError, InputError, WrongModel
from flowcodec.runtime import container, lossless
from flowcodec.runtime.coder import Tables
from flowcodec.runtime.container import Box, BoxKind
from flowcodec.runtime.header import Header
from flowcodec.runtime.lossless import batches, encode_lossless
from flowcodec.runtime.pixel_model import MASS_BITS, REACH, Mixture, pixel_model
from flowcodec.runtime.wavefront import OWN_TAPS, REFERENCE_TAPS, VALUE_MAX, Sheared, front_count, front_rows

RNG = np.random.default_rng(11)


def text(height: int = 72, width: int = 120) -> np.ndarray:
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for line in range(0, height, 12):
        draw.text((3, line), "lossless text, line by line", fill=(20, line % 256, 90))
    return np.asarray(image)


def noise(height: int = 40, width: int = 48, channels: int = 3) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, channels), dtype=np.uint8)


def palette(height: int = 60, width: int = 90) -> np.ndarray:
    colours = RNG.integers(0, 256, (7, 3), dtype=np.uint8)
    return colours[RNG.integers(0, 7, (height // 6, width // 6)).repeat(6, 0).repeat(6, 1)]


SYNTHETIC = {
    "text": text(),
    "noise": noise(),
    "palette": palette(),
    "black": np.zeros((50, 70, 3), np.uint8),
    "white": np.full((64, 64, 3), 255, np.uint8),
    "ramp": np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (40, 256, 3)),
    "checks": np.kron(np.indices((30, 40)).sum(0) % 2, np.ones((1, 1))).astype(np.uint8)[..., None].repeat(3, 2) * 255,
    "grey noise": noise(40, 50, 1)[..., 0],
}


def png_size(pixels: np.ndarray) -> int:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG", optimize=True)
    return len(stream.getvalue())


def coded_pixels(pixels: np.ndarray, max_error: int = 0) -> np.ndarray:
    """Through the pixel model, whatever else would be smaller."""
    payload, _ = lossless._encode_pixels(pixels, max_error)
    return lossless._decode_pixels(payload, *pixels.shape, max_error, 8 * pixels.itemsize)


@pytest.fixture(autouse=True)
def small_payloads_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule that keeps hostile files small does not stand in the way of what the pixel model itself can do."""
    monkeypatch.setattr(lossless, "EXPANSION", 1 << 20)


@pytest.mark.parametrize("height", range(1, 11))
def test_every_width(height: int) -> None:
    for width in (*range(1, 11), 17):
        channels = 3 if (height + width) % 7 == 0 or min(height, width) == 1 else 1
        pixels = noise(height, width, channels) // (1 if width % 2 else 16)
        assert np.array_equal(coded_pixels(pixels), pixels), (height, width)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]), st.integers(0, 2**32 - 1), st.integers(0, 255))
def test_any_size_and_contrast(height: int, width: int, channels: int, seed: int, contrast: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, contrast + 1, (height, width, channels)).astype(np.uint8)
    array = pixels if channels == 3 else pixels[..., 0]
    assert np.array_equal(flowcodec.decode(flowcodec.encode(array, lossless=True)), array)
    assert np.array_equal(coded_pixels(pixels), pixels)


@pytest.mark.parametrize("name", SYNTHETIC)
def test_synthetic(name: str) -> None:
    pixels = SYNTHETIC[name]
    data = flowcodec.encode(pixels, lossless=True, verify=True)
    assert np.array_equal(flowcodec.decode(data), pixels)
    assert len(data) <= 1.02 * png_size(pixels)
    planes = pixels if pixels.ndim == 3 else pixels[..., None]
    assert np.array_equal(coded_pixels(planes), planes)


def test_photograph_is_coded_by_the_model(photograph: np.ndarray) -> None:
    pixels = photograph[100:180, 200:320]
    data = flowcodec.encode(pixels, lossless=True)
    assert np.array_equal(flowcodec.decode(data), pixels)
    assert flowcodec.info(data)["boxes"][0]["kind"] == "pixels"
    assert len(data) < 0.8 * png_size(pixels)


def test_high_pictures_are_turned(photograph: np.ndarray) -> None:
    pixels = photograph[:90, :31]
    assert np.array_equal(coded_pixels(pixels), pixels)


@pytest.mark.parametrize("bound", [1, 5, 127])
@pytest.mark.parametrize("name", ["photograph", "noise", "text", "grey noise"])
def test_bound_holds(bound: int, name: str, photograph: np.ndarray) -> None:
    pixels = photograph[300:332, 300:340] if name == "photograph" else SYNTHETIC[name]
    data = flowcodec.encode(pixels, max_error=bound)
    assert np.abs(flowcodec.decode(data).astype(int) - pixels).max() <= bound
    planes = pixels if pixels.ndim == 3 else pixels[..., None]
    assert np.abs(coded_pixels(planes, bound).astype(int) - planes).max() <= bound
    assert (flowcodec.info(data)["max_error"], flowcodec.info(data)["lossless"]) == (bound, False)


def test_a_larger_bound_makes_a_smaller_file(photograph: np.ndarray) -> None:
    pixels = photograph[100:140, 200:260]
    sizes = [len(flowcodec.encode(pixels, max_error=bound)) for bound in (0, 1, 2, 5)]
    assert sizes == sorted(sizes, reverse=True) and sizes[1] < 0.75 * sizes[0]


def test_alpha_and_metadata(photograph: np.ndarray) -> None:
    alpha = np.tile(np.arange(60, dtype=np.uint8), (40, 1))
    pixels = np.dstack([photograph[:40, :60], alpha])
    assert np.array_equal(flowcodec.decode(flowcodec.encode(pixels, lossless=True)), pixels)
    pixels[..., :3] = 7  # a stored picture
    assert np.array_equal(flowcodec.decode(flowcodec.encode(pixels, lossless=True)), pixels)


def test_tiles_cover_the_picture_once() -> None:
    for height, width in ((1, 1), (512, 1024), (513, 1025), (1, 3000), (1500, 1600)):
        seen = np.zeros((height, width), int)
        for rows, columns, corners in batches(height, width):
            assert rows <= columns or height > width
            for top, left in corners:
                seen[top : top + rows, left : left + columns] += 1
        assert (seen == 1).all()


def test_several_tiles_and_batches(photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lossless, "TILE_HEIGHT", 20)
    monkeypatch.setattr(lossless, "TILE_WIDTH", 33)
    monkeypatch.setattr(lossless, "BATCH_PIXELS", 2000)
    pixels = photograph[:45, 40:110]
    assert np.array_equal(coded_pixels(pixels), pixels)


def test_sheared_planes() -> None:
    planes = RNG.integers(0, 256, (2, 5, 7))
    whole, built = Sheared.of(planes), Sheared(2, 5, 7, 128)
    for time in range(front_count(5, 7)):
        rows = front_rows(time, 5, 7)
        for up, left in OWN_TAPS[:4]:
            for row in range(rows.start, rows.stop):
                above, column = row - up, time - 2 * row - left
                if above >= 0 and 0 <= column < 7:
                    found = built.front(time, (up, left), rows)[:, row - rows.start]
                    assert np.array_equal(found, planes[:, above, column])
        built.store(time, rows, whole.front(time, (0, 0), rows))
    assert np.array_equal(built.planes(), planes)
    padded = np.pad(planes, ((0, 0), (1, 1), (1, 1)), mode="edge")
    for up, left in REFERENCE_TAPS:
        for time in range(front_count(5, 7)):
            rows = front_rows(time, 5, 7)
            for row in range(rows.start, rows.stop):
                expected = padded[:, row - up + 1, time - 2 * row - left + 1]
                assert np.array_equal(whole.front(time, (up, left), rows)[:, row - rows.start], expected)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(-VALUE_MAX, 2 * VALUE_MAX), min_size=3, max_size=3),
    st.lists(st.integers(0, 160), min_size=3, max_size=3),
    st.lists(st.integers(5, 251), min_size=2, max_size=2),
    st.integers(0, 127),
    st.sampled_from([1, 256]),
)
def test_frequencies_are_positive_and_sum_to_the_whole(
    locations: list[int], scales: list[int], shares: list[int], error: int, unit: int
) -> None:
    mixture = Mixture(
        np.array(locations, np.int32)[:, None],
        np.array(scales, np.uint8)[:, None],
        np.array(shares, np.int16)[:, None],
        unit,
        unit * (2 * error + 1),
        pixel_model(),
    )
    frequencies = mixture.frequencies()
    assert frequencies.shape == (1, 2 * REACH + 1) and frequencies.min() >= 1 and frequencies.sum() == 1 << MASS_BITS
    assert 0 <= mixture.centres[0] <= VALUE_MAX + 1 - unit and mixture.centres[0] % unit == 0


def test_networks_are_exact_in_float32() -> None:
    """No partial sum reaches 2^24, so neither the order of summation nor the machine matters."""
    model = pixel_model()
    for layers in model._layers:
        for weights, biases, factors in layers:
            assert (np.abs(weights).sum(1) * 1023 + np.abs(biases[:, 0])).max() < 1 << 24
            assert (np.log2(factors) % 1 == 0).all()


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_same_pixels_and_bytes_with_any_threads(threads: int, photograph: np.ndarray, tmp_path) -> None:
    pixels = photograph[50:80, 60:110]
    data = flowcodec.encode(pixels, lossless=True)
    (tmp_path / "a.flow").write_bytes(data)
    np.save(tmp_path / "a.npy", pixels)
    script = (
        "import sys, numpy as np, flowcodec; folder = sys.argv[1]; pixels = np.load(folder + '/a.npy');"
        "data = open(folder + '/a.flow', 'rb').read();"
        f"assert np.array_equal(flowcodec.decode(data, threads={threads}), pixels);"
        f"assert flowcodec.encode(pixels, lossless=True, threads={threads}) == data"
    )
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {"PYTHONPATH": ":".join(filter(None, sys.path)), **dict.fromkeys(names, str(threads))}
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, env=environment)


# --- what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"max_error": -1},
        {"max_error": 128},
        {"lossless": True, "max_error": 2},
        {"lossless": True, "step": 4},
        {"max_error": 1, "psnr": 40},
        {"lossless": True, "channel": "dither"},
    ],
)
def test_settings_that_contradict(settings: dict) -> None:
    with pytest.raises(InputError):
        flowcodec.encode(np.zeros((4, 4, 3), np.uint8), **settings)


def rewritten(data: bytes, **changes: object) -> bytes:
    """The file with other header fields or boxes."""
    file = container.read(data)
    boxes = changes.pop("boxes", file.boxes)
    fields = {**file.header.__dict__, **changes}
    return container.write(Header(**fields), boxes)


def test_boxes_of_the_other_mode_are_refused(photograph: np.ndarray) -> None:
    exact = flowcodec.encode(photograph[:20, :30], lossless=True)
    lossy = flowcodec.encode(photograph[:20, :30], threads=1)
    both = container.read(lossy).boxes + container.read(exact).boxes
    for data in (rewritten(exact, boxes=both), rewritten(lossy, boxes=both), rewritten(exact, boxes=())):
        with pytest.raises(FormatError):
            flowcodec.decode(data)
    with pytest.raises(WrongModel):
        flowcodec.decode(rewritten(exact, model_id=b"12345678"))
    with pytest.raises(FormatError):
        flowcodec.decode(rewritten(exact, width=29))


def test_stored_images_of_another_kind_are_refused() -> None:
    flat = np.zeros((30, 30, 3), np.uint8)
    data = flowcodec.encode(flat, lossless=True)
    for format, options in (("WEBP", {"quality": 50}), ("PNG", {}), ("GIF", {})):
        stream = io.BytesIO()
        Image.fromarray(flat if format == "WEBP" else flat[..., 0]).save(stream, format, **options)
        for kind in (0, 1, 2, 3):
            with pytest.raises(FormatError):
                flowcodec.decode(rewritten(data, boxes=[Box(BoxKind.STORED, bytes([kind]) + stream.getvalue())]))


def test_stream_with_other_ends_is_refused(photograph: np.ndarray) -> None:
    pixels = photograph[:30, :40]
    box, _ = encode_lossless(pixels)
    payload = box.payload
    for broken in (payload[:-4], payload + bytes(4), b"\xff" * 4 + payload[4:], bytes(len(payload)), payload[:4] + payload[8:]):
        with pytest.raises(FormatError):
            lossless._decode_pixels(broken, *pixels.shape, 0)


def test_no_tables() -> None:
    assert len(Tables.none().reach) == 0
