"""All files of one picture that a radio system may need, encoded once each, with their pictures."""

import math
from functools import cached_property

import numpy as np

from flowcodec.errors import InputError
from flowcodec.radio.cells import CHANNEL
from flowcodec.radio.conditional import Coarse, ConditionalEncoder, Given
from flowcodec.runtime import container
from flowcodec.runtime.bundle import load_model
from flowcodec.runtime.channel import make_channel
from flowcodec.runtime.color import ycc_to_rgb
from flowcodec.runtime.container import Box, BoxKind
from flowcodec.runtime.decode import make_runner
from flowcodec.runtime.encode import analyse
from flowcodec.runtime.forecast import Forecast
from flowcodec.runtime.header import Header
from flowcodec.runtime.latent import LatentEncoder
from flowcodec.runtime.prior import Walk
from flowcodec.runtime.quality import psnr_db
from flowcodec.runtime.rate import find_step
from flowcodec.runtime.restore import restore
from flowcodec.runtime.step import STEP_COUNT, STEPS_PER_OCTAVE

_SIZE_TOLERANCE = 0.01
_FRAME_BYTES = 80
SAVED = 0.8
"""Of the bytes of a given file, the share that a finer file is smaller by."""
_ALIKE_OCTAVES = 2.0
"""Files of sizes farther apart say nothing of each other's distance from the forecast."""
_PSNR_TOLERANCE_DB, _DB_PER_OCTAVE, _PSNR_TRIALS = 0.2, 3.0, 6


class Ladder:
    """Files of one picture by step index; a size or a PSNR is met with the help of all files made before.

    With ``given``, a file of the picture, they are for a receiver that has that one (conditional.py).
    """

    def __init__(self, image: np.ndarray, coarser: "Ladder | None" = None, given: bytes = b"") -> None:
        """``coarser``: the ladder of the file ``given``."""
        self.image, self.given, self._coarser = image, given, coarser
        self._coarse = Coarse(coarser.pixels(given), container.read(given).header.step_index) if coarser else None
        self._files: dict[int, bytes] = {}
        self._planes: dict[int, np.ndarray] = {}
        self._psnr: dict[int, float] = {}

    def file(self, index: int) -> bytes:
        if index not in self._files:
            model = load_model()
            runner = make_runner(model, 1)
            height, width, channels = self.image.shape
            header = Header(width, height, channels, index, CHANNEL, 0, model.id)
            lows: list[np.ndarray] = []
            latent = analyse(model, runner, self.image, index, lows)
            channel = make_channel(CHANNEL, model.channels, 0)
            exchange = LatentEncoder(model, channel, latent, channels, index, lows=lows)
            if self._coarse:
                exchange = ConditionalEncoder(model, channel, latent, channels, index, lows=lows)
                exchange.given = Given(model, self._coarse, index)
            walk = Walk(model, runner, height, width, channels, index)
            self._planes[index] = walk.run(exchange, level_begun=exchange.begin_feedback)
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
        tolerance = max(-math.log2(1 - _SIZE_TOLERANCE), math.log2(1 + 4 / size))
        found = find_step(lambda index: math.log2(len(self.file(index))), self._forecast(size), math.log2(size), tolerance)
        data = self.file(found.index)
        if len(data) > size:
            raise InputError(f"expected at least {len(data)} bytes, the smallest file of this picture, found {size}")
        return data

    def _forecast(self, size: int) -> np.ndarray:
        """(STEP_COUNT,) about the logarithm of the size by step: the codec's forecast, moved to the nearest file known."""
        if self._coarser is not None and not self._files:
            # The receiver has the given file: a finer one is smaller by a part of it.
            forecast = self._coarser._forecast(size)
            return np.log2(np.maximum(np.exp2(forecast) - SAVED * len(self.given), 1))
        forecast = self._coarser._forecast(size) if self._coarser else self._plain_forecast
        if not self._files:
            return forecast
        index = min(self._files, key=lambda known: abs(math.log2(len(self._files[known]) / size)))
        if abs(math.log2(len(self._files[index]) / size)) > _ALIKE_OCTAVES:
            return forecast
        return forecast + math.log2(len(self._files[index])) - forecast[index]

    @cached_property
    def _wavelet_forecast(self) -> Forecast:
        return Forecast(self.image)

    @cached_property
    def _plain_forecast(self) -> np.ndarray:
        return self._wavelet_forecast.log2_size(_FRAME_BYTES)

    def of_psnr(self, target_db: float) -> bytes:
        """A file of at least ``target_db`` and at most 0.2 dB more, where the steps up to the coarsest have one.

        The secant method on the two trials nearest to the target.
        """
        index = int(np.argmin(np.abs(self._wavelet_forecast.psnr_db() - target_db)))
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
