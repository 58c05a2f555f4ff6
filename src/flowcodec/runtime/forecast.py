"""Size and PSNR that a step will give, from the wavelet coefficients alone: where rate control starts, before any network runs.

With c the coefficients of the plain wavelet, bits are about sum log2(1 + 2 c^2 / Delta^2) and the squared error is about
sum min(c^2, Delta^2 / 7.5): the rate and distortion of reverse water-filling, with constants fitted by hand on nine training
photographs. A guess to start from: usable at middle steps, well off at the finest and the coarsest, where the measurements have
to correct it.
"""

import math

import numpy as np

from flowcodec.runtime.color import rgb_to_ycc
from flowcodec.runtime.flow import plain_details
from flowcodec.runtime.step import STEP_COUNT, log2_step

_RATE_GAIN, _WATER = 2.0, 7.5
_BINS_PER_OCTAVE = 8
_LOG2_LOW, _LOG2_HIGH = -20, 40
_PEAK = 255.0


def objective(energies: np.ndarray, squared_step: float) -> np.ndarray:
    """J = D + (ln 2 / 6) Delta^2 R of coefficients of such energies: squared error, and bits at the price of high-rate theory."""
    bits = np.log2(1 + energies * (_RATE_GAIN / squared_step))
    return np.minimum(energies, squared_step / _WATER) + math.log(2) / 6 * squared_step * bits


class Forecast:
    """The energies of a picture's coefficients as a histogram, and what follows for every step of the grid."""

    def __init__(self, pixels: np.ndarray) -> None:
        """uint8 (H, W, C)."""
        self.samples = pixels.size
        count = (_LOG2_HIGH - _LOG2_LOW) * _BINS_PER_OCTAVE
        self._counts = np.zeros(count)
        for detail in plain_details(rgb_to_ycc(pixels)):
            log2_energy = np.log2(np.maximum(detail.reshape(-1) ** 2, np.float32(2.0**_LOG2_LOW)))
            bins = ((log2_energy - _LOG2_LOW) * _BINS_PER_OCTAVE).astype(np.int64)
            self._counts += np.bincount(bins, minlength=count)[:count]
        self._energies = 2.0 ** (_LOG2_LOW + (np.arange(count) + 0.5) / _BINS_PER_OCTAVE)
        self._squared_steps = 4.0 ** log2_step(np.arange(STEP_COUNT))[:, None]

    def log2_size(self, fixed_bytes: int) -> np.ndarray:
        """(STEP_COUNT,) log2 of the bytes of the file, of which ``fixed_bytes`` do not depend on the step; falling."""
        bits = np.log2(1 + _RATE_GAIN * self._energies / self._squared_steps) @ self._counts
        return np.log2(bits / 8 + fixed_bytes)

    def psnr_db(self) -> np.ndarray:
        """(STEP_COUNT,) PSNR of the picture, dB; falling."""
        squared_error = np.minimum(self._energies, self._squared_steps / _WATER) @ self._counts
        return 10 * np.log10(_PEAK**2 * self.samples / np.maximum(squared_error, 1e-9))

    def objective(self, step_index: int) -> float:
        """The sum of ``objective`` over all coefficients at one step."""
        return float(objective(self._energies, self._squared_steps[step_index, 0]) @ self._counts)
