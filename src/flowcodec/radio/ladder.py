"""All files of one picture that a radio system may need, encoded once each, with their pictures."""

import bisect
import math

import numpy as np

from flowcodec.errors import InputError
from flowcodec.radio.conditional import ConditionalEncoder, Given
from flowcodec.runtime import container
from flowcodec.runtime.bundle import load_model
from flowcodec.runtime.channel import make_channel
from flowcodec.runtime.color import ycc_to_rgb
from flowcodec.runtime.container import Box, BoxKind, Header
from flowcodec.runtime.decode import make_runner
from flowcodec.runtime.encode import analyse
from flowcodec.runtime.latent import LatentEncoder
from flowcodec.runtime.prior import Walk
from flowcodec.runtime.quality import psnr_db
from flowcodec.runtime.restore import restore
from flowcodec.runtime.step import STEP_COUNT, STEPS_PER_OCTAVE, step_index

_SIZE_TOLERANCE = 0.01
_FIRST_STEP, _FIRST_COARSE_STEP = 24.0, 150.0
_SAVED = 0.6
"""Of the bytes of a given file, the share that a finer file is smaller by; a first guess."""
_PSNR_TOLERANCE_DB, _DB_PER_OCTAVE, _PSNR_TRIALS = 0.2, 3.0, 6


class Ladder:
    """Files of one picture by step index; a size or a PSNR is met with the help of all files made before.

    With ``given``, a file of the picture, they are for a receiver that has that one (conditional.py).
    """

    def __init__(self, image: np.ndarray, coarser: "Ladder | None" = None, given: bytes = b"") -> None:
        """``coarser``: the ladder of the file ``given``."""
        self.image, self.given, self._coarser = image, given, coarser
        self._given_pixels = coarser.pixels(given) if coarser else None
        self._files: dict[int, bytes] = {}
        self._planes: dict[int, np.ndarray] = {}
        self._psnr: dict[int, float] = {}

    def file(self, index: int) -> bytes:
        if index not in self._files:
            model = load_model()
            runner = make_runner(model, 1)
            height, width, channels = self.image.shape
            header = Header(width, height, channels, index, "round", 0, model.id)
            latent = analyse(model, runner, self.image, index)
            channel = make_channel("round", model.channels, 0)
            exchange = LatentEncoder(model, channel, latent, channels, index)
            if self._given_pixels is not None:
                exchange = ConditionalEncoder(model, channel, latent, channels, index)
                exchange.given = Given(model, self._given_pixels, container.read(self.given).header.step_index, index)
            self._planes[index] = Walk(model, runner, height, width, channels, index).run(exchange)
            self._files[index] = container.write(header, [Box(BoxKind.LATENT, payload) for payload in exchange.boxes])
        return self._files[index]

    def above(self, data: bytes) -> "Ladder":
        """The ladder of finer files for a receiver that has ``data``, one of the files of this one."""
        return Ladder(self.image, self, data)

    def pixels(self, data: bytes) -> np.ndarray:
        """uint8 (H, W, C): the picture of one of the files, as decoding gives it."""
        index = container.read(data).header.step_index
        self.file(index)
        model = load_model()
        # The restoration works in place, and the planes are needed no more: only few files' pictures are asked for twice.
        planes = restore(model, make_runner(model, 1), self._planes[index].copy(), index)
        return ycc_to_rgb(planes[: self.image.shape[2]])

    def psnr_db(self, index: int) -> float:
        if index not in self._psnr:
            self._psnr[index] = psnr_db(self.image, self.pixels(self.file(index)))
        return self._psnr[index]

    def of_size(self, size: int) -> bytes:
        """The largest file of at most ``size`` bytes, to 1 % or the grid's step. Raises InputError where none is small enough."""
        index = self._guess(size) if self._files else self._first(size)
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
        """A file of at least ``target_db`` and at most 0.2 dB more, where the steps up to the coarsest have one.

        The secant method on the two trials nearest to the target.
        """
        index = step_index(_FIRST_COARSE_STEP)
        for _ in range(_PSNR_TRIALS):
            excess = self.psnr_db(index) - target_db
            if 0 <= excess <= _PSNR_TOLERANCE_DB or (excess > 0 and index == STEP_COUNT - 1):
                break
            near = sorted(self._psnr, key=lambda i: abs(self._psnr[i] - target_db))[:2]
            slope = _DB_PER_OCTAVE
            if len(near) == 2 and near[0] != near[1]:
                measured = (self._psnr[near[0]] - self._psnr[near[1]]) / (near[1] - near[0]) * STEPS_PER_OCTAVE
                slope = min(max(measured, 1.0), 8.0)
            jump = round((self._psnr[near[0]] - target_db - _PSNR_TOLERANCE_DB / 2) / slope * STEPS_PER_OCTAVE)
            index = min(max(near[0] + (jump or 1), 0), STEP_COUNT - 1)
        enough = [index for index, value in self._psnr.items() if value >= target_db]
        return self.file(max(enough, default=min(self._psnr)))

    def _first(self, size: int) -> int:
        if self._coarser is None:
            return step_index(_FIRST_STEP)
        return self._coarser._guess(round(size + _SAVED * len(self.given)))

    def _guess(self, size: int) -> int:
        """Index for a size by the logarithms of the files known, strictly between its neighbours."""
        aim = math.log2(size * (1 - _SIZE_TOLERANCE / 2))
        known = sorted((index, math.log2(len(data))) for index, data in self._files.items())
        if len(known) == 1:
            known.append((known[0][0] + STEPS_PER_OCTAVE, known[0][1] - 1))  # about the bits halve where the step doubles
        place = bisect.bisect_left([-value for _, value in known], -math.log2(size))
        if 0 < place < len(known):
            (left, a), (right, b) = known[place - 1], known[place]
            return min(max(round(left + (right - left) * (a - aim) / (a - b)), left + 1), right - 1) if right - left > 1 else left
        (index, value), (other, beyond) = known[:2] if place == 0 else known[:-3:-1]
        # As steep as between the last two, if that makes sense.
        fall = min(max((beyond - value) / (index - other) * STEPS_PER_OCTAVE, 0.5), 2.0)
        jump = round((value - aim) / fall * STEPS_PER_OCTAVE)
        return min(max(index + (jump or (1 if place else -1)), 0), STEP_COUNT - 1)
