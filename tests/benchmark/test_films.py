"""The benchmark of films: reading, measuring, going on, BD-rates; with stand-ins for codecs."""

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

av = pytest.importorskip("av")

from flowcodec.benchmark.film_codecs import ANCHOR, RIVALS
from flowcodec.benchmark.film_run import run_films
from flowcodec.benchmark.films import Clip, about, films_in, measure, read_clip, youtube_8m
from flowcodec.errors import InputError
from flowcodec.video.yuv import Matrix, rgb_to_yuv, yuv_to_rgb


def write(path: Path, count: int = 4, pix_fmt: str = "yuv420p") -> None:
    rng = np.random.default_rng(0)
    still = np.kron(rng.integers(0, 256, (4, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, pix_fmt
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(np.roll(still, 2 * number, 1), format="rgb24").reformat(format=pix_fmt)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


@pytest.fixture
def film(tmp_path: Path) -> Path:
    write(tmp_path / "film.mkv")
    return tmp_path / "film.mkv"


@dataclass
class Coarse:
    """Rounds the planes to multiples of the setting; the bytes shrink as it grows."""

    name: str
    weight: int
    settings: tuple[float, ...] = (2, 4, 8, 16)
    calls: int = 0

    def describe(self) -> dict[str, Any]:
        return {"version": "1", "options": {}, "setting": "unit"}

    def encode(self, clip: Clip, setting: float) -> bytes:
        self.calls += 1
        self.unit = int(setting)
        return bytes(int(self.weight * 1600 / setting))

    def decode(self, data: bytes, clip: Clip) -> Any:
        planes = [tuple(plane // self.unit * self.unit for plane in frame) for frame in clip.planes]
        return planes, [yuv_to_rgb(frame, clip.matrix) for frame in planes]


def test_a_clip_is_the_planes_of_the_file(film: Path) -> None:
    clip = read_clip(film, 3)
    assert len(clip.planes) == 3 and clip.size == (32, 48) and clip.rate == 25
    assert [plane.shape for plane in clip.planes[0]] == [(32, 48), (16, 24), (16, 24)]
    write(film.with_name("deep.mkv"), pix_fmt="yuv420p10le")
    with pytest.raises(InputError, match="8-bit 4:2:0"):
        read_clip(film.with_name("deep.mkv"))


def test_measures(film: Path) -> None:
    clip = read_clip(film)
    same = measure(clip, clip.planes, clip.rgb)
    assert same["psnr_yuv_db"] == same["psnr_rgb_db"] == 100 and same["ms_ssim_y"] is None
    wrong = [(y ^ 1, u ^ 2, v ^ 4) for y, u, v in clip.planes]
    values = measure(clip, wrong, clip.rgb)
    expected = [10 * np.log10(255**2 / error**2) for error in (1, 2, 4)]
    assert np.allclose([values[f"psnr_{name}_db"] for name in "yuv"], expected)
    assert np.isclose(values["psnr_yuv_db"], np.dot(expected, [6, 1, 1]) / 8)
    with pytest.raises(InputError):
        measure(clip, wrong[1:], clip.rgb)


def test_a_run_goes_on_and_has_bd_rates(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "films.json"
    anchor, ours = Coarse(ANCHOR, 2), Coarse("FlowCodec", 1)
    run_films([film], [anchor], out)
    document = run_films([film], [anchor, ours], out, busy=True)
    assert (anchor.calls, ours.calls) == (4, 4)
    found = document["summary"]["bd_rate_percent_of_FlowCodec_against"]["psnr_yuv_db"][ANCHOR]
    assert found == {"film": -50.0, "mean": -50.0}
    rows = [row for row in document["rows"] if row["codec"] == "FlowCodec"]
    assert "encode_fps" not in rows[0] and rows[0]["megapixels"] == 4 * 32 * 48 / 1e6
    assert np.isclose(rows[0]["kbps"], 8 * rows[0]["size_bytes"] / 1000 / (4 / 25))
    assert len(rows[0]["frames_psnr_yuv_db"]) == 4


def test_other_frames_and_other_codecs_are_measured_again(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "films.json"
    anchor, ours = Coarse(ANCHOR, 2), Coarse("FlowCodec", 1)
    run_films([film], [anchor, ours], out)
    document = run_films([film], [anchor], out, limit=2)
    assert {(row["codec"], row["frames"]) for row in document["rows"]} == {(ANCHOR, 2)} and anchor.calls == 8
    run_films([film], [anchor], out, limit=2, resume=False)
    assert anchor.calls == 12
    other = Coarse(ANCHOR, 2)
    other.describe = lambda: {"version": "2", "options": {}, "setting": "unit"}  # type: ignore[method-assign]
    run_films([film], [other], out, limit=2)
    assert other.calls == 4


def test_a_codec_that_fails_is_a_row_and_tried_again(film: Path, tmp_path: Path) -> None:
    broken = Coarse("FlowCodec", 1)
    broken.decode = lambda data, clip: (clip.planes[1:], clip.rgb[1:])  # type: ignore[method-assign]
    rows = run_films([film], [Coarse(ANCHOR, 2), broken], tmp_path / "films.json")["rows"]
    assert sum("expected 4 frames, decoded 3" in row.get("error", "") for row in rows) == 4
    document = run_films([film], [Coarse("FlowCodec", 1)], tmp_path / "films.json")
    assert not any("error" in row for row in document["rows"]) and len(document["rows"]) == 8


def test_what_cannot_go_on_is_refused(film: Path, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"kind": "study", "rows": []}')
    (tmp_path / "broken.json").write_text("{")
    for name in ("other.json", "broken.json"):
        with pytest.raises(InputError):
            run_films([film], [Coarse(ANCHOR, 2)], tmp_path / name)
    with pytest.raises(InputError, match="same name"):
        run_films([film, film], [Coarse(ANCHOR, 2)], tmp_path / "films.json")


def test_what_a_clip_is(film: Path) -> None:
    facts = about(read_clip(film))
    assert (facts["width"], facts["height"], facts["frames"]) == (48, 32, 4) and 1 < facts["camera_px"] < 3
    assert facts["sha256"] != about(read_clip(film, 3))["sha256"]


def test_the_command(film: Path, tmp_path: Path) -> None:
    from flowcodec.cli import app

    options = ["--limit", "2", "--quick", "--codec", ANCHOR, "--codec", "FlowCodec", "--busy"]
    result = CliRunner().invoke(app, ["benchmark", str(film), "--out", str(tmp_path / "out.json"), *options])
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "out.json").read_text())
    assert len(document["rows"]) == 4 and {row["frames"] for row in document["rows"]} == {2}
    assert CliRunner().invoke(app, ["report", str(tmp_path / "out.json"), "-o", str(tmp_path / "page.html")]).exit_code == 0
    for arguments in (["--metric", "psnr"], ["--codec", "JPEG"]):
        result = CliRunner().invoke(app, ["benchmark", str(film), "--out", str(tmp_path / "no.json"), *arguments])
        assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1
    (tmp_path / "empty").mkdir()
    result = CliRunner().invoke(app, ["benchmark", str(tmp_path / "empty"), "--dataset", "youtube-8m"])
    assert result.exit_code == 1 and "FOLDER/nXSc.mp4" in result.stderr


@pytest.mark.parametrize(
    "codec", [codec for codec in RIVALS if "AVIF" in codec.name or "x264" in codec.name], ids=lambda codec: codec.name
)
def test_rivals_code_every_frame(codec: Any, film: Path) -> None:
    clip = read_clip(film)
    fine, coarse = codec.settings[0], codec.settings[-1]
    if "AVIF" in codec.name:
        fine, coarse = coarse, fine
    sizes, quality = [], []
    for setting in (fine, coarse):
        data = codec.encode(clip, setting)
        planes, rgb = codec.decode(data, clip)
        sizes.append(len(data))
        quality.append(measure(clip, planes, rgb)["psnr_yuv_db"])
    assert sizes[0] > sizes[1] and quality[0] > quality[1] > 20
    assert (
        all(np.array_equal(a, b) for a, b in zip(rgb_to_yuv(rgb[0], clip.matrix), planes[0], strict=True))
        or "AVIF" not in codec.name
    )


@pytest.mark.parametrize("codec", ["x264 medium B-frames", "x265 medium all-intra", "SVT-AV1 preset 8"])
def test_streams_of_rivals_are_whole_and_bare(codec: str, tmp_path: Path) -> None:
    """No kilobytes of containers and comments, which would count against them on short clips."""
    rng = np.random.default_rng(1)
    planes = tuple(
        (np.kron(rng.integers(0, 256, (8, 8)), np.ones((8, 8))).astype(np.uint8), *(np.full((32, 32), 128, np.uint8),) * 2)
        for _ in range(3)
    )
    clip = Clip("clip", Fraction(25), planes, Matrix(1, False, 64))
    rival = next(entry for entry in RIVALS if entry.name == codec)
    data = rival.encode(clip, rival.settings[-1])
    decoded, _ = rival.decode(data, clip)
    assert len(decoded) == 3 and measure(clip, decoded, clip.rgb)["psnr_y_db"] > 20
    assert b"x264 - core" not in data and b"x265 (build" not in data and len(data) < 1500


def test_too_small_for_a_rival(film: Path) -> None:
    """SVT-AV1 would crash."""
    with pytest.raises(InputError, match="64 pixels"):
        next(codec for codec in RIVALS if "SVT" in codec.name).encode(read_clip(film), 40)


def test_folders_of_films(film: Path) -> None:
    assert films_in(film.parent) == [film] and films_in(film) == [film]
    with pytest.raises(InputError, match="no films"):
        films_in(film.with_name("nothing"))


def test_youtube_8m_by_id(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"FOLDER/nXSc\.mp4"):
        youtube_8m(tmp_path)
    for name in ("nXSc.mp4", "aB/aBcd.webm", "dQw4w9WgXcQ.mkv", "holiday in rome.mp4", "abcd.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.stem for path in youtube_8m(tmp_path)] == ["aBcd", "dQw4w9WgXcQ", "nXSc"]
    assert len(youtube_8m(tmp_path, 2)) == 2
