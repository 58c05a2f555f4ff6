"""Re-encoding: what is counted, at which setting, and what is kept."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flowcodec.benchmark.classical import Jpeg
from flowcodec.benchmark.datasets import find_images, pixel_hash
from flowcodec.benchmark.generations import nearest_setting, run_generations
from flowcodec.benchmark.keep import keep_decodes, nearest_rows, pick_images
from flowcodec.errors import InputError


@dataclass
class Darkener:
    """Every generation is one grey level darker; a file has ``setting`` bytes for each pixel."""

    name: str = "darkener"
    settings: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0, 8.0)
    fails: bool = False
    encoded: int = 0

    def describe(self) -> dict[str, Any]:
        return {"version": "1", "options": {}, "setting": "bytes"}

    def encode(self, pixels: np.ndarray, setting: float) -> bytes:
        self.encoded += 1
        if self.fails:
            raise OSError("gone")
        header = pixels.shape[0].to_bytes(2) + (pixels - 1).tobytes()
        return header.ljust(4) + bytes(int(setting) * pixels[..., 0].size)

    def decode(self, data: bytes) -> np.ndarray:
        height = int.from_bytes(data[:2])
        return np.frombuffer(data[2 : 2 + height * 10 * 3], np.uint8).reshape(height, 10, 3)


@pytest.fixture
def images(tmp_path: Path) -> list:
    for name in ("a", "b"):
        Image.new("RGB", (10, 6), (100, 90, 80)).save(tmp_path / f"{name}.png")
    return find_images([tmp_path / "a.png", tmp_path / "b.png"])


def test_every_generation_is_measured_against_the_original(images: list, tmp_path: Path) -> None:
    codec = Darkener()
    document = run_generations(images, [codec], tmp_path / "g.json", count=3, bpp=50.0)
    row = document["rows"][0]
    assert row["setting"] == 3.0 and row["size_bytes"] == [2 + 180 + 180] * 3
    assert row["psnr_db"] == pytest.approx([20 * np.log10(255 / lost) for lost in (1, 2, 3)])
    means = document["means"]["darkener"]
    assert means["lost_after_first_db"] == pytest.approx(20 * np.log10(3)) and means["relative_size"] == [1.0, 1.0, 1.0]
    assert json.loads((tmp_path / "g.json").read_text()) == document


def test_a_second_run_keeps_what_is_there_and_tries_failures_again(images: list, tmp_path: Path) -> None:
    out = tmp_path / "g.json"
    broken = run_generations(images, [Darkener(), Darkener("other", fails=True)], out, count=2)
    assert list(broken["means"]) == ["darkener"] and broken["rows"][2]["error"] == "OSError: gone"
    again, other = Darkener(), Darkener("other")
    whole = run_generations(images, [again, other], out, count=2)
    assert again.encoded == 0 and other.encoded > 0 and list(whole["means"]) == ["darkener", "other"]
    out.write_text('{"rows": []}')
    with pytest.raises(InputError, match="another kind"):
        run_generations(images, [Darkener()], out)


def test_only_the_middle_is_taken(tmp_path: Path) -> None:
    pixels = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    document = run_generations(find_images([tmp_path / "a.png"]), [Jpeg()], tmp_path / "g.json", count=2, crop=8)
    assert document["images"]["a"] == pixel_hash(np.ascontiguousarray(pixels[6:14, 11:19]))


@pytest.mark.parametrize(("bpp", "expected"), [(1.0, 1.0), (45.0, 3.0), (500.0, 8.0)])
@pytest.mark.parametrize("order", [tuple, lambda settings: tuple(reversed(settings))])
def test_the_nearest_setting_is_found_in_either_order(bpp: float, expected: float, order: Callable[..., tuple]) -> None:
    codec = Darkener(settings=order((1.0, 2.0, 3.0, 4.0, 8.0)))
    assert nearest_setting(codec, np.full((6, 10, 3), 90, np.uint8), bpp) == expected


def test_kept_decodes_are_those_nearest_in_rate_and_are_not_made_twice(images: list, tmp_path: Path) -> None:
    codec = Darkener()
    row = {"codec": "darkener", "psnr_db": 48.0, "size_bytes": 9}
    rows = [
        {**row, "image": image, "setting": k, "bpp": bpp} for image in "ab" for k, bpp in ((1.0, 0.1), (2.0, 0.4), (3.0, 30.0))
    ]
    rows.append({"codec": "darkener", "image": "a", "setting": 9.0, "bpp": None, "error": "failed"})
    sizes = {name: {"width": 10, "height": 6} for name in "ab"}
    document = {"images": sizes, "rows": rows, "image_by_image": {"values": {"JPEG": {"a": 5.0, "b": -3.0}}}}
    assert [entry["setting"] for entry in nearest_rows(rows) if entry["image"] == "a"] == [1.0, 2.0]
    assert pick_images(document) == ["b", "a"]
    folder = tmp_path / "kept"
    keep_decodes(document, images, [codec], folder)
    index = json.loads((folder / "index.json").read_text())
    assert set(index["images"]) == {"a", "b"} and len(index["decodes"]) == 4 and codec.encoded == 4
    assert np.asarray(Image.open(folder / index["decodes"][0]["file"]))[0, 0].tolist() == [99, 89, 79]
    keep_decodes(document, images, [codec], folder)
    assert codec.encoded == 4 and json.loads((folder / "index.json").read_text()) == index
