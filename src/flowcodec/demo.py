"""``flowcodec demo``: a bundled photograph at three qualities, beside JPEG, WebP and AVIF at no more than the same bytes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import flowcodec
from flowcodec.benchmark.classical import Avif, Jpeg, PillowCodec, WebP
from flowcodec.errors import InputError
from flowcodec.runtime.image import read_picture, to_picture, write_picture, write_whole
from flowcodec.runtime.quality import ms_ssim, psnr_db

PHOTO = Path(__file__).with_name("demo_photo.webp")
"""An osprey, 768x512; source and licence are in demo_photo.txt."""
QUALITIES = (30.0, 50.0, 70.0)
RIVALS: tuple[PillowCodec, ...] = (Avif(), WebP(), Jpeg())
CROPS = ((205, 95), (480, 370))
"""(left, top) of the parts shown enlarged."""
CROP_WIDTH, CROP_HEIGHT, ZOOM = 192, 128, 2
_SETTINGS = range(1, 101)
_GAP, _LABEL = 8, 52
_PAPER, _INK, _FAINT = (24, 24, 27), (250, 250, 250), (160, 160, 170)


@dataclass(frozen=True)
class Entry:
    """One codec at one setting."""

    codec: str
    setting: float
    size_bytes: int
    bpp: float
    psnr_db: float
    ms_ssim: float | None
    pixels: np.ndarray


@dataclass(frozen=True)
class Demo:
    """``rounds``: for each quality our entry, then the rivals'."""

    photo: np.ndarray
    rounds: tuple[tuple[Entry, ...], ...]
    picture: Path


def run_demo(out: Path, say: Callable[[str], None], photo: np.ndarray | None = None) -> Demo:
    """Encodes and decodes everything and writes the files and the side-by-side picture to ``out``. Raises FlowCodecError.

    ``photo``: uint8 (H, W, 3), at least as large as the crops reach; the bundled photograph by default.
    """
    if photo is None:
        photo = read_picture(PHOTO).pixels
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be made a folder ({error.strerror})") from error
    rounds = []
    for quality in QUALITIES:
        say(f"FlowCodec, quality {quality:g}")
        data = flowcodec.encode(photo, quality)
        write_whole(out / f"photo_q{quality:g}.flow", data)
        entries = [_entry("FlowCodec", quality, data, flowcodec.decode(data), photo)]
        for codec in RIVALS:
            say(f"{codec.name}, at most {len(data)} bytes")
            setting, theirs = nearest_not_above(codec, photo, len(data))
            entries.append(_entry(codec.name, setting, theirs, codec.decode(theirs), photo))
        rounds.append(tuple(entries))
    picture = out / "side_by_side.png"
    write_picture(to_picture(side_by_side(photo, rounds[0])), picture)
    return Demo(photo, tuple(rounds), picture)


def nearest_not_above(codec: PillowCodec, pixels: np.ndarray, size_bytes: int) -> tuple[int, bytes]:
    """(setting, file): the highest quality of a codec whose file is not larger, its lowest where every file is.

    By bisection: sizes grow with the setting.
    """
    low, high = _SETTINGS[0], _SETTINGS[-1] + 1
    best = codec.encode(pixels, low)
    while high - low > 1:
        middle = (low + high) // 2
        data = codec.encode(pixels, middle)
        if len(data) <= size_bytes:
            low, best = middle, data
        else:
            high = middle
    return low, best


def _entry(codec: str, setting: float, data: bytes, pixels: np.ndarray, photo: np.ndarray) -> Entry:
    bpp = 8 * len(data) / (photo.shape[0] * photo.shape[1])
    return Entry(codec, setting, len(data), bpp, psnr_db(photo, pixels), ms_ssim(photo, pixels), pixels)


# --- what is shown -------------------------------------------------------------------------------------------------------


def table_rows(demo: Demo) -> list[tuple[str, ...]]:
    """Rows of the table: codec, setting, bytes, bits per pixel, PSNR, MS-SSIM; an empty row between qualities."""
    rows: list[tuple[str, ...]] = []
    for entries in demo.rounds:
        if rows:
            rows.append(("",) * 6)
        for e in entries:
            similarity = "-" if e.ms_ssim is None else f"{e.ms_ssim:.4f}"
            rows.append((e.codec, f"{e.setting:g}", f"{e.size_bytes:,}", f"{e.bpp:.3f}", f"{e.psnr_db:.2f}", similarity))
    return rows


def side_by_side(photo: np.ndarray, entries: Sequence[Entry]) -> np.ndarray:
    """uint8 (H, W, 3): enlarged crops, a column for the original and for each entry, with labels."""
    columns = [("Original", f"{photo.shape[1]}x{photo.shape[0]}", photo)]
    columns += [(e.codec, f"{e.size_bytes:,} bytes, {e.psnr_db:.2f} dB", e.pixels) for e in entries]
    width, height = CROP_WIDTH * ZOOM, CROP_HEIGHT * ZOOM
    sheet = Image.new("RGB", (len(columns) * (width + _GAP) + _GAP, _LABEL + len(CROPS) * (height + _GAP)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    name_font, fact_font = ImageFont.load_default(22), ImageFont.load_default(15)
    for column, (name, facts, pixels) in enumerate(columns):
        x = _GAP + column * (width + _GAP)
        draw.text((x, 4), name, _INK, name_font)
        draw.text((x, 30), facts, _FAINT, fact_font)
        for row, (left, top) in enumerate(CROPS):
            crop = Image.fromarray(pixels[top : top + CROP_HEIGHT, left : left + CROP_WIDTH])
            enlarged = crop.resize((crop.width * ZOOM, crop.height * ZOOM), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (x, _LABEL + row * (height + _GAP)))
    return np.asarray(sheet)
