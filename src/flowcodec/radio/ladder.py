"""All files of one picture that a radio system may need, encoded once each."""

import bisect
import math

import numpy as np

from flowcodec.errors import InputError
from flowcodec.runtime.decode import decode_picture
from flowcodec.runtime.encode import EncodeSettings, encode_picture
from flowcodec.runtime.image import Picture
from flowcodec.runtime.quality import psnr_db
from flowcodec.runtime.step import STEP_COUNT, STEPS_PER_OCTAVE, log2_step, step_index

_SIZE_TOLERANCE = 0.01
_FIRST_STEP, _FIRST_COARSE_STEP = 24.0, 110.0
_OCTAVES = 1.0
"""First guess: the bits halve where the step doubles."""
_PSNR_TOLERANCE_DB, _DB_PER_OCTAVE, _PSNR_TRIALS = 0.5, 3.0, 5


class Ladder:
    """Files of one picture by step index; a size or a PSNR is met with the help of all files made before."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = image
        self._files: dict[int, bytes] = {}
        self._psnr: dict[int, float] = {}

    def file(self, index: int) -> bytes:
        if index not in self._files:
            settings = EncodeSettings(step=2.0 ** log2_step(index), threads=1)
            self._files[index] = encode_picture(Picture(self.image), settings)
        return self._files[index]

    def psnr_db(self, index: int) -> float:
        if index not in self._psnr:
            self._psnr[index] = psnr_db(self.image, decode_picture(self.file(index), 1).pixels)
        return self._psnr[index]

    def of_size(self, size: int) -> bytes:
        """The largest file of at most ``size`` bytes, to 1 % or the grid's step. Raises InputError where none is small enough."""
        index = step_index(_FIRST_STEP) if not self._files else self._guess(size)
        while True:
            found = len(self.file(index))
            if size * (1 - _SIZE_TOLERANCE) <= found <= size:
                return self.file(index)
            smaller = min((i for i, data in self._files.items() if len(data) <= size), default=None)
            larger = max((i for i, data in self._files.items() if len(data) > size), default=None)
            if larger == STEP_COUNT - 1:
                raise InputError(f"expected at least {found} bytes, the smallest file of this picture, found {size}")
            if smaller == 0 or (smaller is not None and larger is not None and smaller - larger <= 1):
                return self.file(smaller)
            index = self._guess(size)

    def of_psnr(self, target_db: float) -> bytes:
        """A file of at least ``target_db`` and at most half a decibel more, where the steps up to the coarsest have one."""
        index = step_index(_FIRST_COARSE_STEP)
        for _ in range(_PSNR_TRIALS):
            excess = self.psnr_db(index) - target_db
            if 0 <= excess <= _PSNR_TOLERANCE_DB or (excess > 0 and index == STEP_COUNT - 1):
                break
            jump = round((excess - _PSNR_TOLERANCE_DB / 2) / _DB_PER_OCTAVE * STEPS_PER_OCTAVE)
            index = min(max(index + jump, 0), STEP_COUNT - 1)
        enough = [index for index, value in self._psnr.items() if value >= target_db]
        return self.file(max(enough, default=min(self._psnr)))

    def _guess(self, size: int) -> int:
        """Index for a size by the logarithms of the files known, strictly between its neighbours."""
        aim = math.log2(size * (1 - _SIZE_TOLERANCE / 2))
        known = sorted((index, math.log2(len(data))) for index, data in self._files.items())
        place = bisect.bisect_left([-value for _, value in known], -math.log2(size))
        if 0 < place < len(known):
            (left, a), (right, b) = known[place - 1], known[place]
            return min(max(round(left + (right - left) * (a - aim) / (a - b)), left + 1), right - 1) if right - left > 1 else left
        index, value = known[0] if place == 0 else known[-1]
        jump = round((value - aim) / _OCTAVES * STEPS_PER_OCTAVE)
        return min(max(index + (jump or (1 if place else -1)), 0), STEP_COUNT - 1)
