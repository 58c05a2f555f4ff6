"""Films on the command line."""

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from coding import film_with_sound
from typer.testing import CliRunner

from flowcodec.cli import app
from flowcodec.video.decoder import Film
from flowcodec.video.encoder import FilmEncoder

runner = CliRunner()


def run(*arguments: object) -> str:
    result = runner.invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def fails(*arguments: object) -> str:
    result = runner.invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1, result.output
    return result.stderr


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as film:
        return [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """film.mp4, eight frames with sound, and film.flow made of it."""
    folder = tmp_path_factory.mktemp("films")
    film_with_sound(folder / "film.mp4")
    facts = json.loads(
        run("encode", folder / "film.mp4", folder / "film.flow", "-q", "30", "--gop", "3", "--threads", "1", "--json")
    )
    assert facts["frames"] == 8 and facts["size_bytes"] == (folder / "film.flow").stat().st_size and facts["seconds"] == 1
    return folder


def test_there_and_back(folder: Path, tmp_path: Path) -> None:
    run("decode", folder / "film.flow", tmp_path / "film.mkv", "--threads", "1")
    with av.open(str(tmp_path / "film.mkv")) as film:
        assert [stream.type for stream in film.streams] == ["video", "audio"]
    shown = [frame.pixels for frame in Film(folder / "film.flow", threads=1)]
    assert all(np.array_equal(a, b) for a, b in zip(frames_of(tmp_path / "film.mkv"), shown, strict=True))


def test_threads_change_nothing(folder: Path, tmp_path: Path) -> None:
    for threads in (1, 3):
        run("encode", folder / "film.mp4", tmp_path / f"{threads}.flow", "-q", "30", "--gop", "3", "--threads", threads)
        run("decode", tmp_path / f"{threads}.flow", tmp_path / f"{threads}.mkv", "--threads", threads)
    assert (tmp_path / "1.flow").read_bytes() == (tmp_path / "3.flow").read_bytes() == (folder / "film.flow").read_bytes()
    assert (tmp_path / "1.mkv").read_bytes() == (tmp_path / "3.mkv").read_bytes()


def test_parts_of_a_film(folder: Path, tmp_path: Path) -> None:
    run("decode", folder / "film.flow", tmp_path / "a.mkv", "--frames", "3:5", "--no-audio")
    run("decode", folder / "film.flow", tmp_path / "b.mkv", "--start", "0:00.6")
    shown = [frame.pixels for frame in Film(folder / "film.flow", threads=1)]
    assert [np.array_equal(a, b) for a, b in zip(frames_of(tmp_path / "a.mkv"), shown[3:5], strict=True)] == [True, True]
    assert len(frames_of(tmp_path / "b.mkv")) == 4  # from frame 4 on, which is seen at 0.6 s
    with av.open(str(tmp_path / "a.mkv")) as film:
        assert len(film.streams) == 1
    run("encode", folder / "film.mp4", tmp_path / "part.flow", "--frames", "2:4", "--intra", "-q", "20")
    assert [frame.time for frame in Film(tmp_path / "part.flow")] == [0, Fraction(1, 8)]


def test_info(folder: Path) -> None:
    facts = json.loads(run("info", folder / "film.flow", "--json"))
    assert (facts["width"], facts["height"], facts["frames"], facts["fps"], facts["audio_streams"]) == (32, 24, 8, 8, 1)
    assert facts["groups"] == len(Film(folder / "film.flow").groups) >= 3


def test_folders_of_films_and_pictures(folder: Path, photograph: np.ndarray, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(photograph[:16, :16]).save(tmp_path / "picture.png")
    (tmp_path / "film.mp4").write_bytes((folder / "film.mp4").read_bytes())
    run("encode", tmp_path, tmp_path / "out", "-q", "10", "--frames", "0:2")
    run("decode", tmp_path / "out", tmp_path / "back")
    assert sorted(file.name for file in (tmp_path / "back").iterdir()) == ["film.mkv", "picture.png"]


def test_a_cut_film_needs_partial(folder: Path, tmp_path: Path) -> None:
    data = (folder / "film.flow").read_bytes()
    (tmp_path / "cut.flow").write_bytes(data[: len(data) // 2])
    assert "cut short" in fails("decode", tmp_path / "cut.flow", tmp_path / "film.mkv")
    assert not (tmp_path / "film.mkv").exists()
    run("decode", tmp_path / "cut.flow", tmp_path / "film.mkv", "--partial")
    assert 0 < len(frames_of(tmp_path / "film.mkv")) < 8
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cut.flow", "film.mkv"]


@pytest.mark.parametrize(
    "options", [["--lossless"], ["--psnr", "40"], ["--channel", "dither"], ["--verify"], ["--frames", "20:30"]]
)
def test_what_a_film_cannot_have(options: list[str], folder: Path, tmp_path: Path) -> None:
    fails("encode", folder / "film.mp4", tmp_path / "film.flow", *options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options", [["--frames", "3"], ["--frames", "4:2"], ["--start", "x"], ["--start", "1", "--frames", "0:1"]]
)
def test_wrong_options_are_usage_errors(options: list[str], folder: Path, tmp_path: Path) -> None:
    for command, source in (("encode", "film.mp4"), ("decode", "film.flow")):
        result = runner.invoke(app, [command, str(folder / source), str(tmp_path / "film.mkv"), *options])
        assert result.exit_code == 2 and not list(tmp_path.iterdir())


def test_interrupts_leave_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    frame = FilmEncoder.frame

    def interrupted(self: FilmEncoder, item: object) -> object:
        calls.append(item)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return frame(self, item)  # type: ignore[arg-type]

    monkeypatch.setattr(FilmEncoder, "frame", interrupted)
    assert runner.invoke(app, ["encode", str(folder / "film.mp4"), str(tmp_path / "film.flow")]).exit_code != 0
    assert len(calls) == 3 and not list(tmp_path.iterdir())


def test_names_are_checked_before_anything_is_decoded(folder: Path, tmp_path: Path) -> None:
    assert "expected a name ending in" in fails("decode", folder / "film.flow", tmp_path / "film.txt")
    fails("decode", folder / "film.flow", tmp_path / "film.mkv", "--levels", "1")
    assert not list(tmp_path.iterdir())
