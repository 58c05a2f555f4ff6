"""Pictures as SigMF recordings: send and receive.

A recording is two files, NAME.sigmf-meta (JSON) and NAME.sigmf-data (complex float32 samples, little-endian). The reader of a
recording knows the waveform and nothing else: sizes and modes are in the frame's header.
Reference: The Signal Metadata Format Specification, 1.2.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flowcodec.errors import InputError
from flowcodec.radio import layering, transmission, waveform
from flowcodec.radio.digital import best_mode
from flowcodec.radio.ladder import Ladder
from flowcodec.radio.layering import DEFAULT_SHARE
from flowcodec.radio.transmission import HEADER_USES, Reception, Transmission

SAMPLE_RATE_HZ = 1_000_000
SILENCE = 200
"""Samples of silence before and after the frame."""
_DATATYPE = "cf32_le"
_LEVEL = 0.25
"""Root mean square of the samples, which leaves room for peaks of 12 dB below full scale."""


@dataclass(frozen=True)
class Receipt:
    """A received picture, and what the receiver found out."""

    reception: Reception
    csnr_db: float
    offset: float
    """Carrier offset in symbol rates."""


def samples_of(sent: Transmission) -> np.ndarray:
    """complex64 samples of a transmission, with silence around."""
    frame = waveform.modulate(sent.symbols)
    frame *= _LEVEL * np.sqrt(waveform.OVERSAMPLING)
    return np.pad(frame, SILENCE).astype(np.complex64)


def picture_of(samples: np.ndarray) -> Receipt:
    """The picture in samples. Raises InputError where no frame is found, its header is damaged, or it is cut off."""
    if not np.isfinite(samples).all():
        raise InputError("expected finite samples, found NaN or infinity")
    found = waveform.find(samples)
    header = transmission.receive_header(waveform.received(found, HEADER_USES))
    if header is None:
        raise InputError(f"a frame begins in the recording, at {found.csnr_db:.1f} dB, but its header cannot be decoded")
    frame = waveform.received(found, HEADER_USES + header.uses)
    return Receipt(transmission.receive(frame, header), found.csnr_db, found.offset)


def send(image: np.ndarray, uses: int, design_db: float, mode: str = "hybrid", share: float = DEFAULT_SHARE) -> np.ndarray:
    """uint8 (H, W, C) -> complex64 samples; ``mode``: digital, hybrid (with its analog ``share``), analog. Raises InputError."""
    ladder = Ladder(image)
    if mode == "digital":
        return samples_of(layering.digital(ladder, uses, best_mode(design_db)))
    if mode == "analog":
        return samples_of(layering.broadcast(ladder, uses, design_db))
    return samples_of(layering.hybrid(ladder, uses, design_db, share))


def paths(name: Path) -> tuple[Path, Path]:
    """(meta, data) of a recording called NAME, NAME.sigmf, NAME.sigmf-meta or NAME.sigmf-data."""
    stem = name.with_suffix("") if name.suffix in (".sigmf", ".sigmf-meta", ".sigmf-data") else name
    return stem.with_name(stem.name + ".sigmf-meta"), stem.with_name(stem.name + ".sigmf-data")


def write(name: Path, samples: np.ndarray, description: str) -> None:
    """Raises InputError if the folder cannot be written to."""
    import sigmf
    from sigmf import SigMFFile

    meta, data = paths(name)
    try:
        samples.astype("<c8").tofile(data)
        recording = SigMFFile(
            data_file=str(data),
            global_info={
                sigmf.DATATYPE_KEY: _DATATYPE,
                sigmf.SAMPLE_RATE_KEY: SAMPLE_RATE_HZ,
                sigmf.DESCRIPTION_KEY: description,
                sigmf.RECORDER_KEY: "flowcodec radio send",
            },
        )
        recording.add_capture(0, metadata={sigmf.FREQUENCY_KEY: 0.0})
        recording.tofile(str(meta), overwrite=True)
    except OSError as error:
        raise InputError(f"{name}: cannot be written ({error.strerror or error})") from error


def read(name: Path) -> np.ndarray:
    """complex64 samples. Raises InputError where there is no recording of complex float32 samples."""
    import sigmf
    from sigmf import sigmffile
    from sigmf.error import SigMFError

    meta, data = paths(name)
    for path in (meta, data):
        if not path.is_file():
            raise InputError(f"{path}: no such file; a recording is a .sigmf-meta and a .sigmf-data file")
    try:
        recording = sigmffile.fromfile(str(meta))
        datatype = recording.get_global_field(sigmf.DATATYPE_KEY)
        if datatype != _DATATYPE:
            raise InputError(f"{meta}: expected samples of type {_DATATYPE}, found {datatype}")
        return np.asarray(recording.read_samples(), np.complex64)
    except (SigMFError, ValueError, KeyError, OSError) as error:
        raise InputError(f"{meta}: not a readable SigMF recording ({error})") from error
