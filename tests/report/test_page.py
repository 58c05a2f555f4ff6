"""The page without a browser: what it refuses, what it holds, and that every number on it is in its file."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flowcodec.errors import InputError
from flowcodec.report.page import write_page
from flowcodec.report.pictures import CROP, find_crop, load_pictures
from flowcodec.report.read import datasets, read_all


class Page(HTMLParser):
    """Collects (title, text) of cells, tags that were not closed, addresses, and the data of the script."""

    VOID = frozenset({"meta", "link", "img", "input", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.titled: list[tuple[str, str]] = []
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.data = ""
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag not in self.VOID:
            self.open.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        tag, attributes = self.open[-1] if self.open else ("", {})
        if attributes.get("id") == "data":
            self.data += data
        elif tag not in ("script", "style"):
            self.texts.append(data)
            if "#/" in (attributes.get("title") or ""):
                self.titled.append((attributes["title"] or "", data))


@pytest.fixture(scope="module")
def page(results: dict[str, Path], kept: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    out = tmp_path_factory.mktemp("page") / "new" / "report.html"
    assert write_page(list(results.values()), out, [kept]) == out.stat().st_size
    return Page(out.read_text())


def look_up(place: str, results: dict[str, Path]) -> Any:
    """What a JSON pointer behind a file name points at."""
    name, _, path = place.partition("#/")
    found: Any = json.loads(results[Path(name).stem].read_text())
    for key in (part.replace("~1", "/").replace("~0", "~") for part in path.split("/")):
        found = found[int(key)] if isinstance(found, list) else found[key]
    return found


def test_every_number_of_the_tables_is_in_its_file(page: Page, results: dict[str, Path]) -> None:
    assert len(page.titled) > 40 and any("/image_by_image/values/AVIF/<~1script>" in place for place, _ in page.titled)
    for place, text in page.titled:
        shown = re.match(r"[-+]?[\d.]+(e[-+]?\d+)?", text)
        assert shown, (place, text)
        digits = len(shown[0].partition(".")[2])
        value = look_up(place, results)
        assert float(shown[0]) == pytest.approx(value, abs=0.51 * 10**-digits, rel=1e-3), place


def test_every_point_of_the_charts_is_in_its_file(page: Page, results: dict[str, Path]) -> None:
    data = json.loads(page.data)
    for curve in data["datasets"][0]["curves"]:
        for metric in ("bpp", "psnr_db", "ms_ssim", "detail_kept_1"):
            for position, value in enumerate(curve.get(metric, ())):
                expected = look_up(f"{curve['at']}/{metric}/{position}", results)
                assert value == (None if expected is None else pytest.approx(expected, rel=1e-5))
    groups = data["datasets"][0]["rows"]
    assert len(groups) == 9
    for group in groups:
        for position, row in enumerate(group["row"]):
            found = look_up(f"{group['file']}#/rows/{row}", results)
            assert found["image"] == group["image"] and group["psnr_db"][position] == pytest.approx(found["psnr_db"], rel=1e-5)
            score = found.get("ssimulacra2")
            assert group["ssimulacra2"][position] == (None if score is None else pytest.approx(score, rel=1e-5))


def test_every_point_of_the_films_is_in_its_file(page: Page, results: dict[str, Path]) -> None:
    films = json.loads(page.data)["films"][0]
    assert films["films"] == ["pan", "</script>"] and len(films["curves"]) == 6
    for curve in films["curves"]:
        for k, row in enumerate(curve["row"]):
            found = look_up(f"{films['file']}#/rows/{row}", results)
            assert (found["codec"], found["film"]) == (curve["codec"], curve["film"])
            assert curve["kbps"][k] == pytest.approx(found["kbps"], rel=1e-5)
            assert curve["psnr_yuv_db"][k] == found["psnr_yuv_db"] and curve["frames"][k] == found["frames_psnr_yuv_db"]


def test_it_loads_nothing_from_elsewhere(page: Page, results: dict[str, Path], kept: Path, tmp_path: Path) -> None:
    assert all(address.startswith("data:") for address in page.addresses)
    out = tmp_path / "report.html"
    write_page(list(results.values()), out, [kept])
    assert not re.search(r"(https?:)?//(?!www\.w3\.org/2000/svg)[a-z]+\.[a-z]", re.sub(r"base64,[^\"]+", "", out.read_text()))


def test_published_curves_are_marked_and_failures_shown(page: Page) -> None:
    text = " ".join(page.texts)
    published = [curve["name"] for curve in json.loads(page.data)["datasets"][0]["curves"] if curve["kind"] == "published"]
    assert len(published) == 4 and page.texts.count("published") == 4
    assert "ValueError: <b>no</b> such colour" in text and "OSError: gone" in text, "escaped, not dropped"
    assert text.count("failed") >= 2 and "</script>" in text


def test_other_kinds_of_results_have_their_tables(page: Page) -> None:
    text = " ".join(page.texts)
    for expected in ("Noise & rounding", "0.5123", "43.1 k per pixel", "900 MiB", "Ablation", "0.600 dB", "Sources"):
        assert expected in text, expected


def test_pictures_are_exact_crops_where_codecs_differ(kept: Path) -> None:
    found = load_pictures([kept])["images"]["castle"]
    left, top, width, height = found["crop"]
    assert (width, height) == (CROP, CROP) and left + width > 490 and top + height > 390
    entry = next(entry for entry in found["decodes"] if (entry["codec"], entry["setting"]) == ("AVIF", 2.0))
    shown = np.asarray(Image.open(BytesIO(base64.b64decode(entry["uri"].partition(",")[2]))).convert("RGB"))
    expected = np.asarray(Image.open(kept / "AVIF-2.png"))[top : top + height, left : left + width]
    np.testing.assert_array_equal(shown, expected)
    assert find_crop([np.zeros((20, 30, 3), np.uint8)] * 2) == (0, 0, 30, 20)


def test_pictures_beyond_the_limit_are_left_out_and_counted(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowcodec.report.pictures.MOST_BYTES", 500_000)
    found = load_pictures([kept])
    assert 0 < found["left_out"] == 4 - len(found["images"]["castle"]["decodes"])


def broken(make_document: Callable[..., dict[str, Any]]) -> Iterator[tuple[dict[str, str], str]]:
    whole = make_document({"FlowCodec": 1.0, "AVIF": 1.2}, ("castle", "lake"))
    part = make_document({"WebP": 1.0}, ("castle", "hill"))
    same = make_document({"AVIF": 1.0}, ("castle", "lake"))
    yield {"a": json.dumps(whole), "b": json.dumps(part)}, r"b\.json: has the image castle in common with a\.json"
    yield {"a": json.dumps(whole), "b": json.dumps(same)}, r"b\.json: AVIF is in a\.json too"
    yield {"a": "{"}, "expected JSON"
    yield {"a": '{"x": 1}'}, "expected results of"
    yield {"a": "[1]"}, "expected an object of results, found a list"
    yield {"a": json.dumps({**whole, "format": 2})}, "expected results of format 1, found 2"


def test_refusals(make_document: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    for number, (texts, message) in enumerate(broken(make_document)):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, text in texts.items():
            (folder / f"{name}.json").write_text(text)
        with pytest.raises(InputError, match=message):
            write_page(sorted(folder.iterdir()), tmp_path / "report.html", [])
    with pytest.raises(InputError, match="cannot be read"):
        write_page([tmp_path / "absent.json"], tmp_path / "report.html", [])
    with pytest.raises(InputError, match="benchmark --keep"):
        load_pictures([tmp_path])
    assert not (tmp_path / "report.html").exists()


def test_results_of_other_parts_are_listed(results: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "bounds.json").write_text('{"confidence": 1}')
    write_page([results["study"], tmp_path / "bounds.json"], tmp_path / "report.html", [])
    assert "other, not shown here" in Page((tmp_path / "report.html").read_text()).texts


def test_files_of_the_same_images_are_one_data_set(
    make_document: Callable[..., dict[str, Any]], results: dict[str, Path], tmp_path: Path
) -> None:
    other = make_document({"JPEG": 3.0})
    (tmp_path / "more.json").write_text(json.dumps(other))
    groups = datasets(read_all([results["kodak"], tmp_path / "more.json"]))
    assert len(groups) == 1 and [part.name for part in groups[0].parts] == ["kodak.json", "more.json"]
    write_page([results["kodak"], tmp_path / "more.json"], tmp_path / "report.html", [])
    curves = json.loads(Page((tmp_path / "report.html").read_text()).data)["datasets"][0]["curves"]
    assert [curve["name"] for curve in curves if curve["kind"] == "measured"] == ["FlowCodec", "AVIF", "WebP", "JPEG"]
    assert len([curve for curve in curves if curve["kind"] == "published"]) == 4
