"""The two sides of the walk: the encoder quantises a latent and keeps its symbols, the decoder reads them back.

Boxes: the first holds the coarsest sample and all levels down to level 4 (or to the coarsest, in a smaller image), then each
finer level has its own, so that a prefix of a file is a smaller picture. A frame of a video is one box: given a coder, which may
hold other things already, both sides use it for the whole latent.
"""

from collections.abc import Sequence

import numpy as np

from flowcodec.errors import FormatError
from flowcodec.runtime.bundle import Model
from flowcodec.runtime.calibration import SAMPLE, scale_shift, shifted
from flowcodec.runtime.channel import Block, Channel, Rounding
from flowcodec.runtime.coder import SymbolDecoder, SymbolEncoder
from flowcodec.runtime.context import pad_even, phase_of
from flowcodec.runtime.feedback import LevelFeedback
from flowcodec.runtime.header import ScaleShift
from flowcodec.runtime.integer import FRACTION_BITS
from flowcodec.runtime.prior import PLANES, Site, band_steps
from flowcodec.runtime.region import Region, economise
from flowcodec.runtime.step import STEP_BITS

FIRST_BOX_LEVEL = 4
CHUNK = 1 << 18
"""Coefficients coded at a time, which bounds the memory of large images."""
_VALUE_LIMIT = (1 << 29) - 1
"""Largest |value| in 1/64 step: its product with any step fits 64 bits."""


def box_ends(level_count: int) -> list[int]:
    """Levels after which a box ends, in coding order; 0 stands for the coarsest sample alone."""
    return list(range(min(level_count, FIRST_BOX_LEVEL), 0, -1)) or [0]


class _Latent:
    """What both sides share: which coefficients are coded, in what order, and how symbols become values."""

    def __init__(self, model: Model, channel: Channel, channels: int, level_count: int, one_box: bool) -> None:
        self.model, self.channel, self.channels = model, channel, channels
        self._ends = box_ends(level_count)[-1:] if one_box else box_ends(level_count)
        self._tables = channel.symbol_tables(model.tables)
        self._coded = ~model.channels.free

    def _exchange(
        self, site: Site, locations: np.ndarray, scales: np.ndarray, valid: np.ndarray, target: np.ndarray | None
    ) -> np.ndarray:
        values, here = locations.astype(np.int32), self._coded[site.stage.kind].take(scales)
        # Coefficients that do not exist are those of the last row and column.
        if not (valid[:, -1].all() and valid[..., -1].all()):
            values *= valid
            here &= valid
        coded = here.reshape(-1).nonzero()[0]
        flat, flat_scales = values.reshape(-1), scales.reshape(-1)
        for number, begin in enumerate(range(0, len(coded), CHUNK)):
            chosen = coded[begin : begin + CHUNK]
            block = (number, site.number)
            chunk_scales, base = flat_scales[chosen], flat[chosen].astype(np.int64)
            if target is None:
                symbols = self.channel.read(self._read, site.stage.kind, chunk_scales, block)
            else:
                symbols = self._quantise(target.reshape(-1)[chosen] - base, site, chosen, chunk_scales, block)
                self.channel.write(self._write, symbols, site.stage.kind, chunk_scales, block)
            base += self.channel.reconstruct(symbols, site.stage.kind, chunk_scales, block)
            np.minimum(base, _VALUE_LIMIT, out=base)
            flat[chosen] = np.maximum(base, -_VALUE_LIMIT, out=base)
        return values

    def _read(self, tables: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _quantise(self, values: np.ndarray, site: Site, chosen: np.ndarray, scales: np.ndarray, block: Block) -> np.ndarray:
        raise NotImplementedError

    def _write(self, symbols: np.ndarray, tables: np.ndarray, piece: int | None = None) -> None:
        raise NotImplementedError


class LatentEncoder(_Latent):
    """Exchange of the encoder. ``latent``: [coarsest (3, 1, 1), details coarse to fine (9, h, w)] in float pixel units.

    With a ``region``, bits are dearer outside it. ``lows``: the true planes (C, h, w) that each of the details
    refines, for the feedback of errors. With ``calibrated`` scales are shifted where the prior is far off; the decoder must be
    told.
    """

    def __init__(
        self,
        model: Model,
        channel: Channel,
        latent: Sequence[np.ndarray],
        channels: int,
        step_index: int,
        region: Region | None = None,
        lows: Sequence[np.ndarray] = (),
        coder: SymbolEncoder | None = None,
        threads: int = 1,
        calibrated: bool = False,
    ) -> None:
        super().__init__(model, channel, channels, len(latent) - 1, coder is not None)
        self._lows, self._threads = list(lows), threads
        self._feedback: LevelFeedback | None = None
        self.latent, self.step_index, self.region = latent, step_index, region
        self._calibrated = calibrated
        self.scale_shifts: list[ScaleShift] = []
        """Those made so far."""
        self._coder = coder or SymbolEncoder(self._tables)
        self.boxes: list[bytes] = []
        self.ideal_bits = 0.0
        """Sum of -log2 of the probabilities of all symbols coded so far."""

    def coarsest(self, step: int, base: np.ndarray) -> np.ndarray:
        values = np.rint(self.latent[0].reshape(PLANES) / (step / (1 << STEP_BITS))).astype(np.int64)
        values[self.channels :] = 0
        self._coder.push_numbers((values - base)[: self.channels])
        self.level_done(0)
        return values

    def begin_feedback(self, level: int, ll: np.ndarray, finer: tuple[int, int]) -> None:
        """For ``Walk.run``: from now on the level's targets make up for the errors of what is coded before them."""
        error = self._lows.pop(0) - ll[: self.channels].astype(np.float32) / (1 << FRACTION_BITS)
        self._feedback = LevelFeedback(error, *finer, self._threads)

    def coefficients(self, site: Site, locations: np.ndarray, scales: np.ndarray, valid: np.ndarray) -> np.ndarray:
        fixed = np.array(band_steps(self.model, self.step_index, site.level)[site.stage.bands], np.float64)
        steps = (fixed / (1 << (STEP_BITS + FRACTION_BITS))).astype(np.float32)[:, None, None]
        sites = phase_of(self.latent[len(self.latent) - site.level][site.stage.bands], site.stage.phase)
        # On a grid of odd size the last sites of some phases do not exist; they are not coded.
        there = np.s_[:, : sites.shape[1], : sites.shape[2]]
        target = np.zeros(locations.shape, np.float32)
        moved = sites if self._feedback is None else sites + self._feedback.moves(site.stage)
        np.divide(moved, steps, out=target[there])
        values = self._exchange(site, locations, self._calibrate(site, locations, scales, valid, target), valid, target)
        if self._feedback is not None:
            self._feedback.record(site.stage, sites - values[there] * steps)
        return values

    def _calibrate(
        self, site: Site, locations: np.ndarray, scales: np.ndarray, valid: np.ndarray, target: np.ndarray
    ) -> np.ndarray:
        if not self._calibrated:
            return scales
        # An odd number, so that the sample is not one of columns.
        stride = locations.size // SAMPLE | 1
        some = np.s_[::stride]
        there = valid.reshape(-1)[some]
        values = (target.reshape(-1)[some] - locations.reshape(-1)[some])[there]
        shift = scale_shift(values, scales.reshape(-1)[some][there], site.stage.kind, self.model, stride)
        if shift:
            self.scale_shifts.append((site.number, shift))
        return shifted(scales, shift)

    def _quantise(self, values: np.ndarray, site: Site, chosen: np.ndarray, scales: np.ndarray, block: Block) -> np.ndarray:
        symbols = self.channel.quantise(values, site.stage.kind, scales, block)
        if self.region is None:
            return symbols
        assert isinstance(self.channel, Rounding)
        tables = self.channel.table_ids(site.stage.kind, scales, block)
        # All bands of a stage share the prices of its sites.
        prices = phase_of(pad_even(self.region.prices(site.level)[None]), site.stage.phase).reshape(-1)
        prices = prices[chosen % len(prices)]
        return economise(symbols, values, prices, self.channel, self.model.tables, site.stage.kind, scales, tables, block)

    def level_done(self, level: int) -> None:
        if level in self._ends:
            self.boxes.append(self._coder.finish())
            self.ideal_bits += self._coder.ideal_bits
            self._coder = SymbolEncoder(self._tables)

    def _write(self, symbols: np.ndarray, tables: np.ndarray, piece: int | None = None) -> None:
        self._coder.push(symbols, tables, piece)


class LatentDecoder(_Latent):
    """Exchange of the decoder. Raises FormatError where the boxes cannot be those of such an image."""

    def __init__(
        self,
        model: Model,
        channel: Channel,
        boxes: Sequence[bytes],
        channels: int,
        level_count: int,
        coder: SymbolDecoder | None = None,
        scale_shifts: Sequence[ScaleShift] = (),
    ) -> None:
        super().__init__(model, channel, channels, level_count, coder is not None)
        self._coders = [SymbolDecoder(self._tables, payload) for payload in boxes] if coder is None else [coder]
        if len(self._coders) != len(self._ends):
            raise FormatError(f"expected {len(self._ends)} latent boxes for an image of this size, found {len(boxes)}")
        self._shifts = dict(scale_shifts)
        self.ideal_bits = 0.0
        """Sum of -log2 of the probabilities of all symbols in the boxes read to their end."""

    def coarsest(self, step: int, base: np.ndarray) -> np.ndarray:
        values = np.zeros(PLANES, np.int64)
        values[: self.channels] = base[: self.channels] + self._coders[0].pop_numbers(self.channels)
        self.level_done(0)
        return values

    def coefficients(self, site: Site, locations: np.ndarray, scales: np.ndarray, valid: np.ndarray) -> np.ndarray:
        return self._exchange(site, locations, shifted(scales, self._shifts.get(site.number, 0)), valid, None)

    def level_done(self, level: int) -> None:
        if level in self._ends:
            self._coders[0].finish()
            self.ideal_bits += self._coders.pop(0).ideal_bits

    def _read(self, tables: np.ndarray) -> np.ndarray:
        return self._coders[0].pop(tables)
