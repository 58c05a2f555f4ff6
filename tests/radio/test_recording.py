"""Recordings: what an independent script does to the samples is undone, and what is no frame is said to be none."""

from pathlib import Path

import numpy as np
import pytest

for package in ("scipy", "torch", "sionna", "ldpc", "sigmf"):
    pytest.importorskip(package, reason=f"recordings need {package}: pip install 'flowcodec[radio]'")

from impair import impair

from flowcodec.errors import InputError
from flowcodec.radio import recording, waveform
from flowcodec.runtime.quality import psnr_db

SIDE = 64


@pytest.fixture(scope="module")
def image(photograph: np.ndarray) -> np.ndarray:
    return photograph[200 : 200 + SIDE, 300 : 300 + SIDE]


@pytest.fixture(scope="module")
def samples(image: np.ndarray) -> np.ndarray:
    """Digital, 1/3 complex use per colour sample."""
    return recording.send(image, 3 * SIDE * SIDE // 3, 8.0, "digital")


@pytest.mark.parametrize("seed", range(4))
def test_impaired_recordings_decode(image: np.ndarray, samples: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    offset, snr_db = rng.uniform(-0.005, 0.005), rng.uniform(10, 20)
    receipt = recording.picture_of(impair(samples, rng, snr_db, offset))
    assert receipt.reception.layer == "main"
    assert psnr_db(image, receipt.reception.pixels) > 26
    assert receipt.csnr_db == pytest.approx(snr_db, abs=1)
    assert receipt.offset == pytest.approx(offset, abs=1e-4)


def test_the_file_is_sigmf(tmp_path: Path, samples: np.ndarray) -> None:
    from sigmf import sigmffile

    name = tmp_path / "picture.sigmf"
    recording.write(name, samples, "test")
    assert np.array_equal(recording.read(name), samples)
    loaded = sigmffile.fromfile(str(tmp_path / "picture.sigmf-meta"))
    loaded.validate()
    assert loaded.get_global_field("core:datatype") == "cf32_le"
    assert (tmp_path / "picture.sigmf-data").stat().st_size == 8 * len(samples)


def test_noise_alone_is_no_frame() -> None:
    rng = np.random.default_rng(5)
    noise = rng.standard_normal(40_000) + 1j * rng.standard_normal(40_000)
    with pytest.raises(InputError, match="no frame found"):
        recording.picture_of(noise.astype(np.complex64))


def test_silence_is_no_frame() -> None:
    with pytest.raises(InputError, match="no frame found"):
        recording.picture_of(np.zeros(20_000, np.complex64))


@pytest.mark.parametrize(("part", "message"), [(0.5, "cut off"), (0.08, "cut off"), (0.01, "expected a recording of at least")])
def test_a_recording_that_is_cut_off_says_so(samples: np.ndarray, part: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        recording.picture_of(samples[: int(part * len(samples))])


def test_files_that_are_no_recording_are_refused(tmp_path: Path, samples: np.ndarray) -> None:
    with pytest.raises(InputError, match="no such file"):
        recording.read(tmp_path / "missing.sigmf")
    recording.write(tmp_path / "a.sigmf", samples, "test")
    (tmp_path / "a.sigmf-meta").write_text("{")
    with pytest.raises(InputError, match="not a readable SigMF recording"):
        recording.read(tmp_path / "a.sigmf")
    with pytest.raises(InputError, match="finite"):
        recording.picture_of(np.full(20_000, np.nan, np.complex64))


def test_the_pulse_has_unit_energy_and_no_interference_after_the_matched_filter() -> None:
    taps = waveform.root_raised_cosine()
    both = np.convolve(taps, taps)
    centre = len(both) // 2
    assert both[centre] == pytest.approx(1)
    others = both[centre % waveform.OVERSAMPLING :: waveform.OVERSAMPLING].copy()
    others[np.argmax(others)] = 0
    assert np.abs(others).max() < 2e-3
