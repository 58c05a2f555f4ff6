"""Linear coding of DCT coefficients, a baseline: whole-picture DCT, chunks of known variance, Lee-Petersen, linear MMSE.

The chunks are C x C rectangles of the spectrum of each plane (Y, C1, C2); their variances are told digitally in half octaves,
deflated, in the same robust mode as the analog mode's map. SoftCast has C = 8; here each picture takes the C that promises the
least distortion with its side information counted, which makes the baseline stronger.
Reference: Jakubczak & Katabi, A cross-layer design for scalable mobile video, 2011, sec. 4.
"""

import math
import zlib
from typing import Any

import numpy as np
from scipy.fft import dctn, idctn

from flowcodec.errors import InputError
from flowcodec.radio import digital, linear
from flowcodec.radio.analog import MAP_MODE
from flowcodec.radio.digital import Segment, segment
from flowcodec.radio.link import Link, awgn, noise_power
from flowcodec.radio.systems import Quality, Source
from flowcodec.radio.transmission import data_uses
from flowcodec.runtime.color import RGB_TO_YCC

CHUNKS = (8, 16, 32)
"""The C to choose from, by expected distortion; SoftCast itself has 8."""
_STEPS_PER_OCTAVE = 2


class DctSystem:
    """One picture designed for one CSNR; the mean colour is told by the header, as in the analog mode. Raises InputError."""

    def __init__(self, source: Source, uses: int, design_db: float, chunks: tuple[int, ...] = CHUNKS) -> None:
        image = source.image
        if image.shape[2] != 3:
            raise InputError(f"{source.name}: the linear baseline takes colour pictures, found a grey one")
        self.source, self.design_db = source, design_db
        self.height, self.width = image.shape[:2]
        self.colour = np.rint(image.reshape(-1, 3).mean(axis=0))
        planes = np.einsum("ij,hwj->ihw", RGB_TO_YCC, image - self.colour)
        spectrum = dctn(planes, axes=(1, 2), norm="ortho")
        plans = [self._plan(spectrum, count, uses) for count in chunks]
        best = min((plan for plan in plans if plan), key=lambda plan: plan[3], default=None)
        if best is None:
            raise InputError(f"expected more channel uses, found {uses}, which the variances fill")
        self.metadata, self.plan, self.allocation, _ = best
        numbers, self.scale = linear.send(spectrum.reshape(-1), self.allocation)
        symbols = np.concatenate([digital.send(self.metadata, self.plan), linear.to_complex(numbers)])
        self.symbols = symbols / math.sqrt(np.mean(np.abs(symbols) ** 2))

    def draw(self, link: Link | None, csnr_db: float, rng: np.random.Generator) -> Quality:
        """``link`` None: AWGN."""
        received = (link or awgn)(self.symbols, csnr_db, rng)
        decoded = digital.receive(received.part(slice(0, self.plan.uses)), self.plan)
        if not decoded.whole:
            return self.source.concealed
        rest = received.part(slice(self.plan.uses, None))
        strength = np.abs(rest.gains) ** 2
        mean = float(np.mean(strength / (strength + rest.noise_power)))
        if mean == 0:
            return self.source.concealed
        samples = linear.to_real(rest.samples * np.conj(rest.gains) / (strength + rest.noise_power)) / mean
        spectrum = np.zeros(3 * self.height * self.width)
        spectrum[self.allocation.chosen] = linear.receive(samples, self.allocation, self.scale, (1 - mean) / mean)
        planes = idctn(spectrum.reshape(3, self.height, self.width), axes=(1, 2), norm="ortho")
        pixels = np.einsum("ji,jhw->hwi", RGB_TO_YCC, planes) + self.colour
        return self.source.quality(np.clip(np.rint(pixels), 0, 255).astype(np.uint8), "analog")

    def facts(self) -> dict[str, Any]:
        return {
            "map_bytes": len(self.metadata),
            "map_uses": self.plan.uses,
            "power": float(np.mean(np.abs(self.symbols) ** 2)),
            "peak_to_average_db": 10 * math.log10(float(np.max(np.abs(self.symbols) ** 2))),
        }

    def _plan(self, spectrum: np.ndarray, count: int, uses: int) -> tuple[bytes, Segment, linear.Allocation, float] | None:
        """(side information, its segment, allocation, expected squared error) with ``count`` chunks a side; None: no room."""
        chunks = self._chunks(count).reshape(-1)
        sizes = np.bincount(chunks, minlength=3 * count**2)
        energies = np.bincount(chunks, spectrum.reshape(-1) ** 2, minlength=3 * count**2)
        octaves = _STEPS_PER_OCTAVE * np.log2(np.maximum(energies / np.maximum(sizes, 1), 1e-3))
        classes = np.clip(np.rint(octaves), -10, 60).astype(np.int8)
        # Differences along a row deflate better than the values.
        rows = classes.reshape(3, count, count)
        metadata = zlib.compress(np.diff(rows, axis=2, prepend=np.int8(0)).tobytes(), 9)
        plan = segment(digital.uses_for(len(metadata), MAP_MODE), MAP_MODE)
        analog = data_uses(uses) - plan.uses
        if analog <= 0:
            return None
        noise = noise_power(self.design_db)
        levels = linear.LEVELS_PER_OCTAVE // _STEPS_PER_OCTAVE * classes.astype(np.int64)[chunks]
        allocation = linear.allocate(levels, 2 * analog, noise)
        kept = allocation.variances * noise / (allocation.gains**2 * allocation.variances + noise)
        expected = float(np.sum(spectrum**2) - np.sum(spectrum.reshape(-1)[allocation.chosen] ** 2) + kept.sum())
        return metadata, plan, allocation, expected

    def _chunks(self, count: int) -> np.ndarray:
        """int (3, H, W): the chunk of every coefficient."""
        rows, columns = np.arange(self.height) * count // self.height, np.arange(self.width) * count // self.width
        return (np.arange(3)[:, None, None] * count + rows[:, None]) * count + columns
