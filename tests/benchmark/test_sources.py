"""Readers of data sets, on small sets made here in the published layouts."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flowcodec.benchmark.datasets import find_images
from flowcodec.benchmark.sources import spread
from flowcodec.errors import InputError


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """uint8 (7, 32, 32, 3)"""
    return np.random.default_rng(4).integers(0, 256, (7, 32, 32, 3), np.uint8)


def planes(pictures: np.ndarray) -> np.ndarray:
    """(N, 3072): red, green, blue, as CIFAR-10 stores them."""
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)).reshape(len(pictures), -1)


def write_python_batch(path: Path, pictures: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        pickle.dump({b"batch_label": b"testing", b"labels": [1] * len(pictures), b"data": planes(pictures)}, stream, protocol=2)


def write_binary_batch(path: Path, pictures: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.arange(len(pictures), dtype=np.uint8)[:, None]
    path.write_bytes(np.concatenate([labels, planes(pictures)], axis=1).tobytes())


def test_both_cifar_layouts_hold_the_same_pictures(pictures: np.ndarray, tmp_path: Path) -> None:
    write_python_batch(tmp_path / "py/cifar-10-batches-py/test_batch", pictures)
    write_binary_batch(tmp_path / "bin/cifar-10-batches-bin/test_batch.bin", pictures)
    write_binary_batch(tmp_path / "bin/cifar-10-batches-bin/data_batch_1.bin", pictures[:2])
    for path in (tmp_path / "py", tmp_path / "bin", tmp_path / "py/cifar-10-batches-py/test_batch"):
        found = find_images([path])
        assert [image.name for image in found] == [f"test_batch-{k:05d}" for k in range(7)]
        np.testing.assert_array_equal([image.pixels() for image in found], pictures)
    train = find_images([tmp_path / "bin/cifar-10-batches-bin/data_batch_1.bin"])
    assert [image.name for image in train] == ["data_batch_1-00000", "data_batch_1-00001"]
    assert [image.name for image in find_images([tmp_path / "py"], limit=3)] == [f"test_batch-{k:05d}" for k in (0, 2, 4)]


def test_damaged_and_hostile_batches_are_refused(pictures: np.ndarray, tmp_path: Path) -> None:
    class Call:
        def __reduce__(self) -> tuple:
            return (print, ("a pickle ran code",))

    write_binary_batch(tmp_path / "short/test_batch.bin", pictures)
    (tmp_path / "short/test_batch.bin").write_bytes((tmp_path / "short/test_batch.bin").read_bytes()[:-1])
    (tmp_path / "call").mkdir()
    (tmp_path / "call/test_batch").write_bytes(pickle.dumps(Call()))
    write_python_batch(tmp_path / "cut/test_batch", pictures)
    (tmp_path / "cut/test_batch").write_bytes((tmp_path / "cut/test_batch").read_bytes()[:-40])
    (tmp_path / "other").mkdir()
    (tmp_path / "other/test_batch").write_bytes(pickle.dumps({b"data": [1, 2]}))
    expected = {
        "short": "records of 3073 bytes",
        "call": "names builtins.print",
        "cut": "cannot be read",
        "other": "expected a CIFAR-10",
    }
    for name, message in expected.items():
        with pytest.raises(InputError, match=message):
            find_images([tmp_path / name])


def test_imagenet_folders(tmp_path: Path) -> None:
    for number, folder in enumerate(("n01440764", "n01443537", "n01484850")):
        (tmp_path / folder).mkdir()
        for k in range(2):
            Image.new("RGB", (8, 6), (40 * number, k, 0)).save(
                tmp_path / folder / f"{folder}_{k}.JPEG", quality=100, subsampling=0
            )
    Image.new("L", (8, 6), 77).save(tmp_path / "n01484850" / "n01484850_9.JPEG", quality=100)
    found = find_images([tmp_path])
    assert len(found) == 7 and found[0].name == "n01440764_0" and found[0].pixels().shape == (6, 8, 3)
    assert (found[-1].pixels() == 77).all(), "grey is R = G = B"
    assert [image.name for image in find_images([tmp_path], limit=3)] == ["n01440764_0", "n01443537_0", "n01484850_0"]


def test_films_are_sources_of_frames(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="the extra 'video' is not installed")
    with av.open(str(tmp_path / "film.mkv"), "w") as film:
        stream = film.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "bgr0"
        for k in range(5):
            film.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(np.full((16, 32, 3), 50 * k, np.uint8), format="rgb24").reformat(format="bgr0")
                )
            )
        film.mux(stream.encode())
    found = find_images([tmp_path / "film.mkv"])
    assert [image.name for image in found] == [f"film-{k:04d}" for k in range(5)]
    assert [int(image.pixels().mean()) for image in found] == [0, 50, 100, 150, 200] and found[0].pixels().shape == (16, 32, 3)
    assert [image.name for image in find_images([tmp_path], limit=2)] == ["film-0000", "film-0002"], "a folder of films"
    (tmp_path / "bad.mkv").write_bytes(b"no film")
    with pytest.raises(InputError, match="cannot be read as a film"):
        find_images([tmp_path / "bad.mkv"])


@pytest.mark.parametrize(
    ("kind", "hint"),
    [("cifar10", "cs.toronto.edu"), ("imagenet", "one folder for each class"), ("video", "FFmpeg"), ("folder", "kodim01.png")],
)
def test_a_missing_data_set_says_where_to_get_it(kind: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=hint):
        find_images([tmp_path / "absent"], kind)
    if kind != "folder":
        with pytest.raises(InputError, match=f"no {kind} data set here; .*{hint}"):
            find_images([tmp_path], kind)


def test_spread_is_even_and_ordered() -> None:
    assert spread(range(10), 4) == [0, 2, 5, 7] and spread(range(3), 9) == [0, 1, 2] and spread(range(3), None) == [0, 1, 2]
    with pytest.raises(InputError, match="at least 1"):
        find_images([], limit=0)
