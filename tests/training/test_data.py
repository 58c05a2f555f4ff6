"""Training data: decoded once, held-out images never drawn, and every batch a function of (seed, step, rank)."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flowcodec.errors import InputError
from flowcodec.training.config import DataConfig
from flowcodec.training.data import CropSampler, PixelStore, list_images, validation_crops

HELD_OUT, TRAINING = 255, 10


def open_store(folder: Path, tmp_path: Path) -> PixelStore:
    return PixelStore.open([folder], tmp_path / "pixels.npy")


def marked_store(sizes: list[tuple[int, int]], every: int, folders: int = 1) -> PixelStore:
    """Held-out images hold 255 everywhere, the others their index, below 255."""
    shapes, positions = np.array(sizes * folders), np.tile(np.arange(len(sizes)), folders)
    values = np.where(positions % every == 0, HELD_OUT, TRAINING + np.arange(len(positions)))
    return PixelStore(np.repeat(values, 3 * shapes.prod(axis=1)).astype(np.uint8), shapes, positions)


# --- store ----------------------------------------------------------------------------------------------------------------


def test_images_are_stored_as_they_are(image_folder: Path, tmp_path: Path) -> None:
    store = open_store(image_folder, tmp_path)
    assert len(store) == 9
    for index, path in enumerate(sorted(image_folder.iterdir())):
        assert np.array_equal(store.image(index), np.asarray(Image.open(path)))
    assert store.positions.tolist() == list(range(9))


def test_positions_start_anew_in_each_folder(image_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("05.png", "07.png"):
        shutil.copy(image_folder / name, other)
    assert [position for _, position in list_images([image_folder, other])] == [*range(9), 0, 1]


def test_the_cache_is_used_until_the_folder_changes(image_folder: Path, tmp_path: Path) -> None:
    folder, cache = tmp_path / "images", tmp_path / "cache" / "pixels.npy"
    shutil.copytree(image_folder, folder)
    decoded: list[int] = []

    def open_again() -> tuple[PixelStore, int]:
        decoded.clear()
        return PixelStore.open([folder], cache, lambda done, total: decoded.append(total)), len(decoded)

    first, count = open_again()
    assert count == 9
    second, count = open_again()
    assert count == 0
    assert all(np.array_equal(first.image(i), second.image(i)) for i in range(9))
    (folder / "03.png").unlink()
    third, count = open_again()
    assert count == 8 and len(third) == 8
    Image.fromarray(np.full((40, 50, 3), 7, np.uint8)).save(folder / "00.png")
    fourth, count = open_again()
    assert count == 8 and np.all(fourth.image(0) == 7)
    assert not list(cache.parent.glob("*.partial*"))


@pytest.mark.parametrize("damage", [b"", b"{", b"{}"], ids=["empty", "half", "no digest"])
def test_a_damaged_index_is_replaced(image_folder: Path, tmp_path: Path, damage: bytes) -> None:
    """As a run that was stopped while it wrote may leave it."""
    open_store(image_folder, tmp_path)
    (tmp_path / "pixels.json").write_bytes(damage)
    assert len(open_store(image_folder, tmp_path)) == 9


def test_modes_other_than_rgb_are_converted(tmp_path: Path) -> None:
    folder = tmp_path / "modes"
    folder.mkdir()
    for name, mode in (("a", "L"), ("b", "RGBA"), ("c", "P")):
        Image.new(mode, (5, 4), 0).save(folder / f"{name}.png")
    assert [open_store(folder, tmp_path).image(index).shape for index in range(3)] == [(4, 5, 3)] * 3


def test_bad_folders_are_refused_by_name(image_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing"):
        open_store(tmp_path / "missing", tmp_path)
    with pytest.raises(InputError, match=r"00\.png.*not a folder"):
        open_store(image_folder / "00.png", tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("no image")
    with pytest.raises(InputError, match=r"empty.*no images"):
        open_store(empty, tmp_path)
    (empty / "broken.png").write_bytes(b"not a PNG")
    with pytest.raises(InputError, match=r"broken\.png"):
        open_store(empty, tmp_path)
    assert not (tmp_path / "pixels.npy").exists()


def test_a_truncated_image_is_refused_by_name(image_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    data = (image_folder / "01.png").read_bytes()
    (folder / "half.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"half\.png"):
        open_store(folder, tmp_path)


# --- crops ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("every", "folders"), [(2, 1), (3, 1), (4, 2)])
def test_held_out_images_are_never_drawn_and_all_others_are(every: int, folders: int) -> None:
    store = marked_store([(20, 24)] * 9, every, folders)
    sampler = CropSampler(store, DataConfig(crop=8, validation_every=every), seed=3)
    drawn = np.concatenate([sampler.batch(step, 0, 16) for step in range(40)])
    seen = set(np.unique(drawn).tolist())
    assert HELD_OUT not in seen
    assert seen == {TRAINING + i for i, position in enumerate(store.positions) if position % every}


def test_validation_crops_come_from_the_held_out_part_alone() -> None:
    store = marked_store([(20, 24)] * 9, 4, folders=2)
    crops = validation_crops(store, DataConfig(validation_every=4, validation_crops=4, validation_crop=16))
    assert crops.shape == (4, 3, 16, 16) and np.all(crops == HELD_OUT)


def test_a_batch_is_a_function_of_seed_step_and_rank(image_folder: Path, tmp_path: Path) -> None:
    store, config = open_store(image_folder, tmp_path), DataConfig(crop=16, validation_every=4)
    keys = list(itertools.product((1, 2), (0, 1, 5), (0, 1)))
    batches = {(seed, step, rank): CropSampler(store, config, seed).batch(step, rank, 4) for seed, step, rank in keys}
    samplers = {seed: CropSampler(store, config, seed) for seed in (1, 2)}
    for seed, step, rank in reversed(keys):
        assert np.array_equal(samplers[seed].batch(step, rank, 4), batches[seed, step, rank])
    for a, b in itertools.combinations(keys, 2):
        assert not np.array_equal(batches[a], batches[b]), (a, b)


def test_crops_are_pieces_of_the_images_flipped_and_transposed(image_folder: Path, tmp_path: Path) -> None:
    """All four orientations that the sampler makes occur, and each crop is found in a training image."""
    store = open_store(image_folder, tmp_path)
    crops = CropSampler(store, DataConfig(crop=24, validation_every=4), seed=0).batch(0, 0, 24)
    assert crops.dtype == np.uint8 and crops.shape == (24, 3, 24, 24)
    pieces: set[bytes] = set()
    for index in (i for i in range(9) if i % 4):
        windows = np.lib.stride_tricks.sliding_window_view(store.image(index), (24, 24), (0, 1)).reshape(-1, 3, 24, 24)
        pieces.update(window.tobytes() for window in windows)
    found = set()
    for crop in crops:
        turned = {"plain": crop, "transposed": crop.transpose(0, 2, 1), "flipped": crop[:, :, ::-1]}
        turned["flipped, then transposed"] = crop.transpose(0, 2, 1)[:, :, ::-1]
        matches = [name for name, piece in turned.items() if np.ascontiguousarray(piece).tobytes() in pieces]
        assert len(matches) == 1
        found.add(matches[0])
    assert len(found) == 4


def test_images_are_drawn_by_their_pixels_and_small_ones_by_their_weight() -> None:
    """A pixel of an image of at most 256x256 counts ``small_source_weight`` times."""
    store = marked_store([(8, 8), (256, 256), (128, 256), (257, 256)], every=4)
    sampler = CropSampler(store, DataConfig(crop=8, validation_every=4, small_source_weight=4.0), seed=0)
    weights = np.array([0, 4 * 256 * 256, 4 * 128 * 256, 257 * 256])
    assert np.allclose(sampler.probabilities, weights / weights.sum())


def test_images_smaller_than_the_crop_are_left_out() -> None:
    store = marked_store([(40, 40), (15, 40), (40, 15), (16, 16)], every=4)
    sampler = CropSampler(store, DataConfig(crop=16, validation_every=4), seed=0)
    assert sampler.probabilities.tolist() == [0, 0, 0, 1]
    assert sampler.batch(0, 0, 4).shape == (4, 3, 16, 16)


def test_a_crop_beyond_all_images_names_the_key() -> None:
    store = marked_store([(20, 24)] * 5, every=4)
    with pytest.raises(InputError, match=r"data\.crop"):
        CropSampler(store, DataConfig(crop=21, validation_every=4), seed=0)
    with pytest.raises(InputError, match=r"data\.validation_crop"):
        validation_crops(store, DataConfig(validation_every=4, validation_crop=21))
