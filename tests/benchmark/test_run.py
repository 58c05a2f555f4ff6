"""The benchmark's loop: rows, resumption, what invalidates them, and the summary."""

import json
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flowcodec.benchmark.classical import Jpeg, WebP
from flowcodec.benchmark.metrics import METRICS
from flowcodec.benchmark.run import run_benchmark
from flowcodec.benchmark.summary import ANCHOR, PUBLISHED, WINDOWS, mean_points, summarise
from flowcodec.errors import InputError

ANCHORS = Path(__file__).parents[2] / "results/anchors/kodak_anchors.json"


@dataclass
class Quantiser:
    """A codec that rounds pixels and spends as many bytes as it is told to."""

    name: str = "quantiser"
    settings: tuple[float, ...] = (4.0, 8.0)
    version: str = "1"
    encoded: int = 0

    def describe(self) -> dict[str, Any]:
        return {"version": self.version, "options": {"levels": (0, 1)}, "setting": "step"}

    def encode(self, pixels: np.ndarray, setting: float) -> bytes:
        self.encoded += 1
        rounded = np.clip(np.rint(pixels / setting) * setting, 0, 255).astype(np.uint8)
        return repr(pixels.shape).encode() + b"|" + rounded.tobytes() + bytes(int(400 / setting))

    def decode(self, data: bytes) -> np.ndarray:
        shape, values = data.split(b"|", 1)
        height, width, channels = (int(extent) for extent in shape.strip(b"()").split(b","))
        return np.frombuffer(values[: height * width * channels], np.uint8).reshape(height, width, channels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(3)
    for name, size in (("one", (20, 30)), ("two", (24, 16))):
        Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8)).save(folder / f"{name}.png")
    return folder


def test_rows_hold_what_was_measured(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "results" / "kodak.json"
    seen = []
    document = run_benchmark([folder], [Quantiser()], out, progress=lambda done, total: seen.append((done, total)))
    assert json.loads(out.read_text()) == json.loads(json.dumps(document)) and not list(out.parent.glob("*.partial"))
    assert seen == [(2, 4), (4, 4)]
    row = document["rows"][0]
    assert (row["codec"], row["image"], row["setting"]) == ("quantiser", "one", 4.0)
    assert row["size_bytes"] == len("(20, 30, 3)|") + 20 * 30 * 3 + 100 and row["bpp"] == 8 * row["size_bytes"] / 600
    assert 44 < row["psnr_db"] < 48 and row["ms_ssim"] is None and row["encode_s"] > 0
    assert document["codecs"]["quantiser"]["environment"]["workers"] == 1
    assert document["images"]["two"]["height"] == 24


def test_a_second_run_measures_only_what_is_missing(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "kodak.json"

    def encodings(codec: Quantiser, **options: Any) -> int:
        run_benchmark([folder], [codec], out, timing=False, **options)
        return codec.encoded

    assert encodings(Quantiser()) == 4
    first = out.read_text()
    assert encodings(Quantiser()) == 0 and out.read_text() == first
    assert encodings(Quantiser(settings=(4.0, 8.0, 16.0))) == 2
    assert encodings(Quantiser(name="another")) == 4
    assert {row["codec"] for row in json.loads(out.read_text())["rows"]} == {"quantiser", "another"}
    assert encodings(Quantiser(version="2")) == 4, "another version measures anew"
    assert encodings(Quantiser(version="2"), resume=False) == 4
    Image.new("RGB", (30, 20), "red").save(folder / "one.png")
    assert encodings(Quantiser(version="2")) == 2, "another image under the same name measures anew"


def test_a_run_that_was_cut_off_goes_on(folder: Path, tmp_path: Path) -> None:
    class Failing(Quantiser):
        def encode(self, pixels: np.ndarray, setting: float) -> bytes:
            if self.encoded == 3:
                raise KeyboardInterrupt
            return super().encode(pixels, setting)

    out = tmp_path / "kodak.json"
    with pytest.raises(KeyboardInterrupt):
        run_benchmark([folder], [Failing()], out, timing=False)
    codec = Quantiser()
    document = run_benchmark([folder], [codec], out, timing=False)
    assert codec.encoded == 2 and len(document["rows"]) == 4


def test_times_are_never_mixed_with_untimed_rows(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "kodak.json"
    run_benchmark([folder], [Quantiser()], out, timing=False)
    assert all(row["encode_s"] is None for row in json.loads(out.read_text())["rows"])
    timed = run_benchmark([folder], [Quantiser()], out)
    assert all(row["encode_s"] > 0 and row["decode_s"] > 0 for row in timed["rows"])
    document = json.loads(out.read_text())
    document["codecs"]["quantiser"]["environment"]["machine"]["cpu"] = "another"
    out.write_text(json.dumps(document))
    codec = Quantiser()
    run_benchmark([folder], [codec], out)
    assert codec.encoded == 4 + 2, "other machine: all rows, and a first call of each image that is not counted"


def test_several_workers_give_the_same_rows(folder: Path, tmp_path: Path) -> None:
    codecs = [Jpeg(), WebP()]
    one = run_benchmark([folder], codecs, tmp_path / "one.json", timing=False)
    two = run_benchmark([folder], codecs, tmp_path / "two.json", workers=2, timing=False)
    assert one["rows"] == two["rows"] and len(one["rows"]) == 2 * (len(Jpeg.settings) + len(WebP.settings))


def test_the_document_says_how_long_its_runs_took(folder: Path, tmp_path: Path) -> None:
    class Slow(Quantiser):
        def encode(self, pixels: np.ndarray, setting: float) -> bytes:
            sleep(0.05)
            return super().encode(pixels, setting)

    out = tmp_path / "kodak.json"
    start = perf_counter()
    (first,) = run_benchmark([folder], [Slow()], out, busy=True)["runs"]
    assert 0.3 <= first["seconds"] <= perf_counter() - start + 0.1, "four rows, and a first call of each shape"
    assert (first["rows"], first["of"], first["workers"], first["timed"]) == (4, 4, 1, False)
    assert first["codecs"] == ["quantiser"] and first["metrics"] == ["psnr", "ms-ssim"] and first["machine"]["cores"] >= 1

    assert run_benchmark([folder], [Slow()], out, busy=True)["runs"] == [first], "nothing was measured"
    more = run_benchmark([folder], [Slow(settings=(4.0, 8.0, 16.0))], out, busy=True)["runs"]
    assert [(run["rows"], run["of"]) for run in more] == [(4, 4), (2, 2)] and more[0] == first
    another = run_benchmark([folder], [Quantiser(name="another")], out, busy=True)["runs"]
    assert another[:2] == more and another[2]["codecs"] == ["another"]
    anew = run_benchmark([folder], [Quantiser()], out, busy=True, resume=False)["runs"]
    assert [(run["codecs"], run["rows"]) for run in anew] == [(["another"], 4), (["quantiser"], 4)]


def test_images_come_one_after_the_other_and_codecs_are_warmed_once(folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), "red").save(folder / "three.png")
    calls = []

    class Seen(Quantiser):
        def encode(self, pixels: np.ndarray, setting: float) -> bytes:
            calls.append((self.name, pixels.shape[0]))
            return super().encode(pixels, setting)

    codecs = [Seen("first", (4.0,)), Seen("last", (4.0,))]
    run_benchmark([folder], codecs, tmp_path / "kodak.json")
    warm, cold = [("last", 20), ("first", 20)], [("last", 24), ("last", 24), ("first", 24), ("first", 24)]
    assert calls == [("last", 20), *warm[:1], ("first", 20), *warm[1:], *warm, *cold]


def test_refusals(folder: Path, tmp_path: Path) -> None:
    class Cropping(Quantiser):
        def decode(self, data: bytes) -> np.ndarray:
            return super().decode(data)[1:]

    document = run_benchmark([folder], [Cropping()], tmp_path / "kodak.json", timing=False)
    assert "quantiser: expected uint8 (20, 30, 3), decoded uint8 (19, 30, 3)" in document["rows"][0]["error"]
    with pytest.raises(InputError, match="workers"):
        run_benchmark([folder], [Quantiser()], tmp_path / "kodak.json", workers=0)
    for text in ("{", '{"format": 99}'):
        (tmp_path / "old.json").write_text(text)
        with pytest.raises(InputError, match=r"old\.json"):
            run_benchmark([folder], [Quantiser()], tmp_path / "old.json")


def curve_rows(codec: str, bpp: np.ndarray, psnr_db: np.ndarray, spread: float = 0.0) -> list[dict[str, Any]]:
    """Rows of two images whose mean is the given curve."""
    return [
        {"codec": codec, "image": image, "setting": k, "bpp": rate * (1 + sign * spread), "psnr_db": quality, "ms_ssim": None}
        for k, (rate, quality) in enumerate(zip(bpp, psnr_db, strict=True))
        for image, sign in (("a", 1), ("b", -1))
    ]


def test_summary_of_known_curves() -> None:
    """Ours is made VTM at 1.1 times its rate; the rivals lie 2 dB lower and, in part, 1 dB higher."""
    anchors = json.loads(ANCHORS.read_text())
    vtm, quality = np.array(anchors[ANCHOR]["bpp"]), np.array(anchors[ANCHOR]["psnr_rgb"])
    rows = curve_rows("FlowCodec", 1.1 * vtm, quality, spread=0.3) + curve_rows("JPEG 2000", 1.1 * vtm, quality - 2)
    summary = summarise(rows, ["a", "b"], anchors)
    assert summary["bd_rate_percent"]["values"]["FlowCodec"] == pytest.approx(dict.fromkeys(WINDOWS, 10.0))
    assert summary["checks"]["bd_rate"]["passed"] and summary["checks"]["bd_rate"]["percent"] == pytest.approx(10)
    fine = summary["checks"]["bd_rate_from_1.5_bpp"]
    assert fine["percent"] == pytest.approx(10) and not fine["passed"]
    assert np.interp(1.5, vtm, quality) == pytest.approx(fine["window_db"][0], abs=0.1) and fine["window_db"][1] < quality[-1]
    above = summary["checks"]["above_rivals"]
    assert above["rivals"]["JPEG 2000"]["least_margin_db"] == pytest.approx(2) and above["rivals"]["JPEG 2000"]["passed"]
    assert above["rivals"]["WebP"] == {"passed": None, "reason": "no curve of WebP"} and above["passed"] is None
    assert [curve["name"] for curve in summary["curves"]] == ["FlowCodec", "JPEG 2000", *PUBLISHED]
    assert {curve["kind"] for curve in summary["curves"][2:]} == {"published"}
    by_image = summary["image_by_image"]["bd_rate_percent_against"]
    assert list(by_image) == ["JPEG 2000"] and by_image["JPEG 2000"]["images"] == 2
    assert by_image["JPEG 2000"]["best"] < by_image["JPEG 2000"]["mean"] < by_image["JPEG 2000"]["worst"] < 0

    crossing = curve_rows("WebP", 1.2 * vtm, quality + np.where(vtm > 1, 1.0, -1.0))
    above = summarise(rows + crossing, ["a", "b"], anchors)["checks"]["above_rivals"]
    assert above["rivals"]["WebP"]["passed"] is False and above["passed"] is False
    assert above["rivals"]["WebP"]["at_bpp"] > 1

    low = summarise(curve_rows("FlowCodec", 1.2 * vtm[quality < 40], quality[quality < 40]), ["a", "b"], anchors)
    assert low["bd_rate_percent"]["values"]["FlowCodec"]["all"] is None
    assert low["checks"]["bd_rate"]["passed"] is None and "does not cover" in low["checks"]["bd_rate"]["reason"]
    assert summarise(rows, ["a", "b"], None)["checks"]["bd_rate"]["passed"] is None


def test_every_image_counts_alone() -> None:
    """Mean curves hide an image on which ours is worse."""
    rates, quality = np.array([0.2, 0.5, 1.0, 2.0]), np.array([28.0, 32.0, 36.0, 40.0])
    rows = curve_rows("FlowCodec", rates, quality) + curve_rows("WebP", rates, quality - 2)
    check = summarise(rows, ["a", "b"], None)["checks"]["every_image"]
    assert check["passed"] and check["images"] == 2 and check["below"] == {}
    assert check["least"]["margin_db"] == pytest.approx(2)
    for row in rows:
        if row["codec"] == "WebP" and row["image"] == "b" and row["bpp"] == 1.0:
            row["psnr_db"] = 36.5
    check = summarise(rows, ["a", "b"], None)["checks"]["every_image"]
    assert check["passed"] is False and list(check["below"]) == ["b"] and check["least"] == {"image": "b", **check["below"]["b"]}
    assert -0.7 < check["below"]["b"]["margin_db"] <= -0.5 and 0.9 < check["below"]["b"]["at_bpp"] < 1.5
    unknown = summarise([row for row in rows if row["image"] == "a"], ["a", "b"], None)["checks"]["every_image"]
    assert unknown["passed"] is None and unknown["unknown"] == ["b"]


def test_a_point_needs_all_images() -> None:
    rows = curve_rows("c", np.array([1.0, 2.0]), np.array([30.0, 35.0]))[:-1]
    assert mean_points(rows, ["a", "b"], "c")["settings"] == [0]


def test_a_failure_is_a_row_that_is_listed_and_tried_again(folder: Path, tmp_path: Path) -> None:
    class Picky(Quantiser):
        def encode(self, pixels: np.ndarray, setting: float) -> bytes:
            if pixels.shape[0] == 24:
                raise OSError("too tall")
            return super().encode(pixels, setting)

    out = tmp_path / "kodak.json"
    document = run_benchmark([folder], [Picky()], out)
    assert [row.get("error") for row in document["rows"]] == [None, None, "OSError: too tall", "OSError: too tall"]
    assert [(entry["image"], entry["setting"]) for entry in document["failures"]] == [("two", 4.0), ("two", 8.0)]
    assert document["curves"] == [], "no mean over some of the images"
    again = Quantiser()
    whole = run_benchmark([folder], [again], out, timing=False)
    assert again.encoded == 2 and "failures" not in whole and len(whole["curves"][0]["bpp"]) == 2


def test_a_new_metric_is_added_to_rows_that_are_there(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "kodak.json"
    settings = tuple(float(k) for k in range(2, 9))
    run_benchmark([folder], [Quantiser(settings=settings)], out)
    codec = Quantiser(settings=settings)
    document = run_benchmark([folder], [codec], out, timing=False, metrics=[METRICS["detail"]])
    assert codec.encoded == 2 * 3, "settings 0, 3 and 6 of each image"
    first, second = document["rows"][:2]
    assert first["encode_s"] > 0, "an untimed run leaves times as they are"
    assert len(first["detail_kept"]) == 4 and "psnr_db" in first and "detail_kept" not in second
    curve = document["curves"][0]
    assert sum(value is not None for value in curve["detail_kept_1"]) == 3 and None not in curve["psnr_db"]
    unknown = [value is None for value in curve["detail_kept_1"]]
    assert [value is None for value in curve["bands"]["detail_kept_1"]["low"]] == unknown


def test_a_busy_machine_gives_cpu_seconds_alone(folder: Path, tmp_path: Path) -> None:
    document = run_benchmark([folder], [Quantiser()], tmp_path / "kodak.json", busy=True, repeats=3)
    assert all(row["encode_s"] is None and row["encode_cpu_s"] >= 0 for row in document["rows"])
    speed = document["speed"]["quantiser"]
    expected = np.median([row["encode_cpu_s"] / (600 if row["image"] == "one" else 384) * 1e6 for row in document["rows"]])
    assert speed["encode_cpu_s_per_megapixel"] == pytest.approx(expected) and speed["rows"] == 4


def test_everything_is_refused_before_the_first_codec_runs(folder: Path, tmp_path: Path) -> None:
    codec = Quantiser()
    (folder / "zzz.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"zzz\.png: cannot be read as an image"):
        run_benchmark([folder], [codec], tmp_path / "kodak.json")
    (folder / "zzz.png").unlink()
    run_benchmark([folder], [Quantiser()], tmp_path / "kodak.json", timing=False)
    Image.new("RGB", (8, 8)).save(tmp_path / "other.png")
    with pytest.raises(InputError, match=r"holds results of other images \(one, two"):
        run_benchmark([tmp_path / "other.png"], [codec], tmp_path / "kodak.json")
    assert codec.encoded == 0


def test_published_curves_stand_beside_all_of_kodak_only(tmp_path: Path) -> None:
    (tmp_path / "anchors").mkdir()
    (tmp_path / "anchors/kodak_anchors.json").write_text(ANCHORS.read_text())
    for number in range(1, 25):
        Image.new("RGB", (4, 4), (number, 9, 9)).save(tmp_path / f"kodim{number:02d}.png")
    part = run_benchmark([tmp_path], [Quantiser()], tmp_path / "part.json", limit=3, timing=False)
    assert {curve["kind"] for curve in part["curves"]} <= {"measured"}
    whole = run_benchmark([tmp_path], [Quantiser()], tmp_path / "whole.json", timing=False)
    assert [curve["name"] for curve in whole["curves"] if curve["kind"] == "published"] == list(PUBLISHED)
