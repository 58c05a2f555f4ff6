"""Which step each frame gets: a fixed quality, or one that meets a bit rate."""

import math
from dataclasses import dataclass

from flowcodec.runtime.step import STEP_COUNT, STEPS_PER_OCTAVE

INTRA_OCTAVES = 0.75
"""An I-frame before P-frames has a step finer by this many octaves: all frames up to the next one lean on it."""
_START_BPP = 0.15
"""Bits per pixel of the first guess, at ``_START_INDEX``."""
_START_INDEX = 832
_WINDOW_S = 1.0
_HASTE = 3
"""What was spent too much is saved so many times over within the window: the end may be nearer than one knows."""
_EXPONENT = 1.1
"""About log2(bits) lost for each octave of the step."""
_MOST_CHANGE = STEPS_PER_OCTAVE // 3
_MEMORY, _MEMORY_DOWN = 0.5, 0.65
"""Share of what was known that stays when a frame takes more bits than expected, and when it takes fewer: frames differ by
factors, and after a cheap one a finer step would be paid by the next dear one."""


@dataclass
class FixedStep:
    """The same step for all P-frames, or for all frames of a film of I-frames."""

    index: int
    all_intra: bool = False

    def choose(self, intra: bool) -> int:
        return _clamp(self.index - _finer(intra and not self.all_intra))

    def spent(self, size_bytes: int, intra: bool) -> None:
        pass

    def charge(self, bits: int) -> None:
        pass


class BitRate:
    """Steps such that the film takes ``bits_per_s``: what has been spent too much so far is saved over the next second or so.

    Model: log2(bits of a frame) = a - 1.1 * log2(step), ``a`` learned for I- and P-frames apart. Of a film whose length is known,
    what is left is spread over what is left.
    """

    def __init__(
        self,
        bits_per_s: float,
        frames_per_s: float,
        pixels: int,
        frames: int | None,
        overhead_bits: float,
        all_intra: bool = False,
    ) -> None:
        self._all_intra = all_intra
        self._per_frame = bits_per_s / frames_per_s
        self._window = max(round(_WINDOW_S * frames_per_s), 8)
        self._frames = frames
        self._done = 0
        self._owed = -overhead_bits
        """Bits that the frames so far were allowed and did not take."""
        start = math.log2(_START_BPP * pixels)
        self._level = {True: start + 1.5, False: start - 1.0}
        """log2(bits) at ``_START_INDEX``."""
        self._index = _START_INDEX
        self._seen = {True: 0, False: 0}

    def choose(self, intra: bool) -> int:
        left = self._window if self._frames is None else max(min(self._window, self._frames - self._done), 1)
        budget = (_HASTE if left == self._window else 1) * self._owed + left * self._per_frame
        # The window's bits at an index: the rest of the window are P-frames, but for the I-frame that may be due now.
        intras = left if self._all_intra else int(intra)
        index = self._index
        for candidate in range(STEP_COUNT):
            bits = (left - intras) * self._bits(False, candidate) + intras * self._bits(True, candidate - self._finer(True))
            if bits <= budget:
                index = candidate
                break
        else:
            index = STEP_COUNT - 1
        if self._seen[self._all_intra] and intra == self._all_intra:
            index = min(max(index, self._index - _MOST_CHANGE), self._index + _MOST_CHANGE)
        self._index = index
        self._used = _clamp(index - self._finer(intra))
        return self._used

    def _finer(self, intra: bool) -> int:
        return _finer(intra and not self._all_intra)

    def _bits(self, intra: bool, index: int) -> float:
        return 2 ** (self._level[intra] - _EXPONENT * (index - _START_INDEX) / STEPS_PER_OCTAVE)

    def spent(self, size_bytes: int, intra: bool) -> None:
        bits = 8 * size_bytes
        self._owed += self._per_frame - bits
        self._done += 1
        level = math.log2(max(bits, 1)) + _EXPONENT * (self._used - _START_INDEX) / STEPS_PER_OCTAVE
        known = _MEMORY if level > self._level[intra] else _MEMORY_DOWN
        share = known if self._seen[intra] else 0.0
        self._level[intra] = share * self._level[intra] + (1 - share) * level
        self._seen[intra] += 1

    def charge(self, bits: int) -> None:
        """Something else was written."""
        self._owed -= bits


Control = FixedStep | BitRate


def _finer(before_p_frames: bool) -> int:
    return round(INTRA_OCTAVES * STEPS_PER_OCTAVE) if before_p_frames else 0


def _clamp(index: int) -> int:
    return min(max(index, 0), STEP_COUNT - 1)
