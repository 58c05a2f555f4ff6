"""Error feedback: what is coded later in a level makes up for the errors of what was coded before it.

The 9/7 wavelet is biorthogonal: with S the synthesis, an error e of the coefficients already coded leaves S e in the planes, part
of which the others can take away, since S^T S is not quite the identity. Their targets are moved by the rows of S^T S e that are
theirs, which is the least-squares answer as far as S^T S is the identity among themselves. Only the encoder does so.

Reference: Mallat, A Wavelet Tour of Signal Processing, 2009, sec. 5.1.2 (the frame operator S^T S) and 7.4 (biorthogonal bases).
"""

import numpy as np

from flowcodec.runtime.context import LUMA, LUMA_BANDS, Stage, phase_of
from flowcodec.runtime.flow import Strip, correlate_level, strips
from flowcodec.runtime.tiles import in_parallel

_HALO = 8
"""Rows of a band beyond which an error has no effect: the synthesis and its adjoint, of 9 taps each, reach 4 rows."""


def _correlate(low: np.ndarray, detail: np.ndarray, height: int, width: int, threads: int) -> np.ndarray:
    """High bands (3, h, w) of S^T S (low, detail) of one plane, in strips of rows; the even offset keeps their phase."""
    count = len(low)
    result = np.empty(detail.shape, np.float32)

    def correlate(strip: Strip) -> None:
        lines = (height if strip.last == count else 2 * strip.last) - 2 * strip.first
        seen = low[strip.first : strip.last].astype(np.float32), detail[:, strip.first : strip.last].astype(np.float32)
        part = correlate_level(*seen, lines, width)
        result[:, strip.top : strip.bottom] = part[:, strip.top - strip.first : strip.bottom - strip.first]

    in_parallel(threads, correlate, strips(count, low.shape[1], _HALO))
    return result


class LevelFeedback:
    """The errors of one level so far, all in pixel units; planes do not mix.

    ``low_error`` (3, h, w): the true planes less the decoded ones; the level's synthesis gives planes of size (height, width).
    """

    def __init__(self, low_error: np.ndarray, height: int, width: int, threads: int = 1) -> None:
        self._size, self._threads = (height, width), threads
        # Errors of errors do not matter, the memory of a large image does.
        self._low = low_error.astype(np.float16)
        self._detail = np.zeros((LUMA_BANDS * len(low_error), *low_error.shape[1:]), np.float16)
        self._moves = np.empty(0, np.float32)

    def moves(self, stage: Stage) -> np.ndarray:
        """(bands, h', w') at the sites of a stage: what to add to its coefficients before they are quantised.

        The stages of a phase share what is found at the first of them.
        """
        first = 0 if stage.kind == LUMA else LUMA_BANDS
        if stage.bands.start == first:
            planes = range(1) if stage.kind == LUMA else range(1, len(self._low))
            found = []
            for plane in planes:
                bands = slice(LUMA_BANDS * plane, LUMA_BANDS * (plane + 1))
                moves = _correlate(self._low[plane], self._detail[bands], *self._size, self._threads)
                found.append(phase_of(moves, stage.phase).copy())
            self._moves = np.concatenate(found)
        return self._moves[stage.bands.start - first : stage.bands.stop - first]

    def record(self, stage: Stage, errors: np.ndarray) -> None:
        """The errors (bands, h', w') that a stage has left: true less decoded coefficients."""
        phase_of(self._detail[stage.bands], stage.phase)[:] = errors
