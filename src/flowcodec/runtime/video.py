"""Frames of a film, one after the other: the state that encoder and decoder share, and what the payload of a frame says.

    payload = flags u8, [time difference zigzag], [step difference zigzag], [turn 3 u8], an ANS stream of vectors and latent

The reference of a frame is the one before it, as planes in 1/64 pixel unit, restored. Groups of pictures begin with an INTRA
frame, which needs none; others may follow, where a frame costs more with the prediction than without. The turn of the colour axes
is that of the last INTRA frame.
"""

from dataclasses import dataclass

import numpy as np

from flowcodec.errors import FormatError, UnsupportedVersion
from flowcodec.runtime.axes import find_turn
from flowcodec.runtime.bundle import Model
from flowcodec.runtime.coder import SymbolDecoder, SymbolEncoder
from flowcodec.runtime.color import NO_TURN, Turn, ycc_to_rgb
from flowcodec.runtime.decode import make_runner
from flowcodec.runtime.fields import Cursor
from flowcodec.runtime.film import FilmBox, FilmHeader, FilmPart, Group, parse_zigzag, zigzag
from flowcodec.runtime.frame import decode_frame, encode_frame, frame_tables
from flowcodec.runtime.header import parse_turn, turn_bytes
from flowcodec.runtime.motion import BLOCK_SIZES, PLANE_MAX, VectorModel, compensate, grid_shape
from flowcodec.runtime.prediction import Unpredicted
from flowcodec.runtime.step import STEP_COUNT

_TIME_BIT, _STEP_BIT, _LARGE_BLOCK_BIT, _UNPREDICTED_BIT, _TURN_BIT, _RESERVED = 1, 2, 4, 8, 16, 0xE0


@dataclass(frozen=True)
class FrameHead:
    """What the payload of a frame says before its ANS stream."""

    time: int = 0  # difference in ticks from the time at a constant rate
    step: int = 0  # difference from the step index of the group
    block: int = BLOCK_SIZES[0]
    some_unpredicted: bool = False
    turn: Turn = NO_TURN

    def to_bytes(self) -> bytes:
        flags = (_TIME_BIT if self.time else 0) | (_STEP_BIT if self.step else 0)
        flags |= _LARGE_BLOCK_BIT if self.block == BLOCK_SIZES[1] else 0
        flags |= _UNPREDICTED_BIT if self.some_unpredicted else 0
        flags |= _TURN_BIT if self.turn != NO_TURN else 0
        differences = (zigzag(self.time) if self.time else b"") + (zigzag(self.step) if self.step else b"")
        return bytes([flags]) + differences + (turn_bytes(self.turn) if self.turn != NO_TURN else b"")

    @classmethod
    def parse(cls, payload: bytes) -> tuple["FrameHead", bytes]:
        """(head, the stream behind it). Raises FormatError."""
        cursor = Cursor(payload, "frame")
        flags = cursor.uint(1)
        if flags & _RESERVED:
            raise UnsupportedVersion(f"frame: flags {flags:#04x} are not known to this version; update flowcodec")
        time = parse_zigzag(cursor) if flags & _TIME_BIT else 0
        step = parse_zigzag(cursor) if flags & _STEP_BIT else 0
        turn = parse_turn(cursor) if flags & _TURN_BIT else NO_TURN
        head = cls(time, step, BLOCK_SIZES[bool(flags & _LARGE_BLOCK_BIT)], bool(flags & _UNPREDICTED_BIT), turn)
        return head, bytes(cursor.take(cursor.remaining))


class _Sequence:
    """The two models, and the last frame as it was decoded."""

    def __init__(self, intra: Model, inter: Model, threads: int | None, optimise: bool = True) -> None:
        self._models = {True: inter, False: intra}
        self._runners = {key: make_runner(model, threads, optimise) for key, model in self._models.items()}
        self.vectors = VectorModel()
        self.reference: np.ndarray | None = None
        """int16 (3, H, W) in 1/64 pixel unit."""
        self.turn = NO_TURN
        """Of the axes of the reference."""

    def _unpredicted(self, blocks: np.ndarray | None, size: int) -> Unpredicted | None:
        return None if blocks is None else Unpredicted(self._models[False], self._runners[False], blocks, size)

    def _keep(self, planes: np.ndarray, turn: Turn) -> None:
        self.reference, self.turn = np.clip(planes, -PLANE_MAX, PLANE_MAX).astype(np.int16), turn

    def picture(self) -> np.ndarray:
        """uint8 (H, W, 3): the last frame as a decoder shows it."""
        assert self.reference is not None
        return ycc_to_rgb(self.reference.astype(np.int32), turn=self.turn)


@dataclass(frozen=True)
class CodedFrame:
    """A frame as it may be coded: its stream, and the state behind it."""

    kind: FilmBox
    stream: bytes
    planes: np.ndarray
    """int32 (3, H, W) in 1/64 pixel unit: the reconstruction."""
    turn: Turn
    """Of its axes."""
    vectors: VectorModel


class FrameEncoder(_Sequence):
    """Frames -> ANS streams. ``keep`` decides for one way to code a frame; ``reference`` is then what a decoder has."""

    def intra(self, pixels: np.ndarray, step_index: int) -> CodedFrame:
        """uint8 (H, W, 3) without looking back."""
        coder = SymbolEncoder(frame_tables(self._models[False]))
        turn = find_turn(pixels, step_index)
        frame = encode_frame(pixels, None, self._models[False], self._runners[False], step_index, coder=coder, turn=turn)
        return CodedFrame(FilmBox.INTRA, frame.payload, frame.planes, turn, VectorModel())

    def predict(self, vectors: np.ndarray, block: int, unpredicted: np.ndarray | None = None) -> np.ndarray:
        """int32 (3, H, W): the prediction that ``vectors`` (rows, columns, 2) make of the frame before."""
        assert self.reference is not None
        return compensate(self.reference, vectors, block, unpredicted)

    def inter(
        self,
        pixels: np.ndarray,
        vectors: np.ndarray,
        prediction: np.ndarray,
        step_index: int,
        unpredicted: np.ndarray | None = None,
        block: int = BLOCK_SIZES[1],
    ) -> CodedFrame:
        """The same with the prediction that the vectors make, except in ``unpredicted`` blocks, bool (rows, columns)."""
        coder = SymbolEncoder(frame_tables(self._models[True]))
        model = self.vectors.copy()
        model.encode(vectors, coder, unpredicted)
        alone = self._unpredicted(unpredicted, block)
        networks = self._models[True], self._runners[True]
        frame = encode_frame(pixels, prediction, *networks, step_index, coder=coder, unpredicted=alone, turn=self.turn)
        return CodedFrame(FilmBox.INTER, frame.payload, frame.planes, self.turn, model)

    def keep(self, frame: CodedFrame) -> None:
        self.vectors = frame.vectors
        self._keep(frame.planes, frame.turn)


class FrameDecoder(_Sequence):
    """Boxes -> frames. Raises FormatError for what cannot follow."""

    def __init__(self, header: FilmHeader, intra: Model, inter: Model, threads: int | None, optimise: bool = True) -> None:
        super().__init__(intra, inter, threads, optimise)
        self.header = header
        self._group: Group | None = None
        self.number = -1
        """Of the last frame, in the film."""
        self.time = 0
        """Of the last frame, in ticks."""

    def begin(self, group: Group) -> None:
        self._group, self.reference, self.number = group, None, group.first_frame - 1
        self.time = group.time

    def frame(self, part: FilmPart) -> None:
        """Decodes an INTRA, INTER or REPEAT box; ``reference``, ``number`` and ``time`` are then its own."""
        head, stream = FrameHead.parse(part.payload)
        if self._group is None or (part.kind != FilmBox.INTRA and self.reference is None):
            raise FormatError(f"box at {part.offset}: expected the first frame of a group to be INTRA; the file is damaged")
        step_index = self._group.step_index + head.step
        if not 0 <= step_index < STEP_COUNT:
            raise FormatError(f"box at {part.offset}: expected a step index of 0 to {STEP_COUNT - 1}, found {step_index}")
        if head.some_unpredicted and part.kind != FilmBox.INTER:
            raise FormatError(f"box at {part.offset}: expected unpredicted blocks in INTER frames only; the file is damaged")
        if head.turn != NO_TURN and part.kind != FilmBox.INTRA:
            raise FormatError(f"box at {part.offset}: expected turned axes in INTRA frames only; the file is damaged")
        size = self.header.height, self.header.width
        if part.kind == FilmBox.INTRA:
            self.vectors = VectorModel()
            coder = SymbolDecoder(frame_tables(self._models[False]), stream)
            planes = decode_frame(stream, size, None, self._models[False], self._runners[False], step_index, coder=coder)
            self._keep(planes, head.turn)
        elif part.kind == FilmBox.INTER:
            assert self.reference is not None
            coder = SymbolDecoder(frame_tables(self._models[True]), stream)
            vectors, blocks = self.vectors.decode(*grid_shape(*size, head.block), coder, head.some_unpredicted)
            prediction = compensate(self.reference, vectors, head.block, blocks)
            alone = self._unpredicted(blocks, head.block)
            planes = decode_frame(
                stream, size, prediction, self._models[True], self._runners[True], step_index, coder=coder, unpredicted=alone
            )
            self._keep(planes, self.turn)
        elif stream:
            raise FormatError(f"box at {part.offset}: expected a REPEAT box without a stream, found {len(stream)} bytes")
        self.number += 1
        if self.number > self._group.first_frame:
            self.time += self.header.ticks_before(self.number) - self.header.ticks_before(self.number - 1)
        self.time += head.time
