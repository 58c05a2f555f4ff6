"""The header of a file: what a decoder must know before the first latent. ``docs/format.md`` 3.4 specifies every byte."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flowcodec.errors import FormatError, InputError, LimitError, UnsupportedVersion
from flowcodec.runtime.color import NO_TURN, TURN_UNIT, Turn
from flowcodec.runtime.context import LUMA, STAGE_NUMBERS, STAGES
from flowcodec.runtime.fields import UINT32_MAX, Cursor, varint
from flowcodec.runtime.flow import level_count
from flowcodec.runtime.margins import SIDES, Strip, inside_size
from flowcodec.runtime.step import STEP_COUNT

MAX_SIDE = 1 << 24
MAX_PIXELS = 1 << 28
MODEL_ID_BYTES = 8
MAX_ERROR = {8: 127, 16: 32767}
"""The largest error of a component that a near-lossless file may allow, by the bits of a component."""
CHANNEL_IDS = {"round": 0, "dither": 1, "trellis": 2, "gaussian": 3}
"""The noise channels and their ids in a file."""
CHANNELS = tuple(CHANNEL_IDS)
SEEDED = ("dither", "gaussian")
"""Channels with shared randomness, whose error does not depend on the picture."""
ScaleShift = tuple[int, int]
"""The number of a stage, and what is added to its scale indices, -127 ... 127 but not 0."""

_CHANNEL_MASK, _COLOUR_BIT, _LOSSLESS_BIT, _DEEP_BIT = 0b11, 1 << 2, 1 << 3, 1 << 4
_MARGINS_BIT, _SHIFTS_BIT, _MORE_BIT = 1 << 5, 1 << 6, 1 << 7
_TURN_BIT = 1 << 0
"""Of the second byte of the mode, which is there with _MORE_BIT."""
_MOST_STRIPS = 255
_SHIFT_CENTRE = 128


@dataclass(frozen=True)
class Header:
    """What a decoder must know before the first latent.

    Raises InputError for a value that the format cannot express, LimitError for a picture that is too large.
    """

    width: int  # pixels, 1 ... MAX_SIDE, width * height <= MAX_PIXELS
    height: int  # pixels
    channels: int  # 1 grey, 3 colour
    step_index: int  # 0 ... STEP_COUNT - 1, see runtime.step
    channel: str  # one of CHANNELS
    seed: int  # of the shared dither, 0 ... 2^32 - 1
    model_id: bytes  # the first MODEL_ID_BYTES bytes of the model's SHA-256
    lossless: bool = False  # lossless or near-lossless: step_index is then the largest error of a component
    depth: int = 8  # bits of a component; 16 in lossless mode alone
    margins: tuple[Strip, ...] = ()  # strips around what is coded, outermost first; in lossy mode alone
    scale_shifts: tuple[ScaleShift, ...] = ()  # what is added to the scale indices of stages; in lossy mode alone
    turn: Turn = NO_TURN  # of the colour axes, see runtime.color; in lossy pictures of three channels alone

    @property
    def coded_size(self) -> tuple[int, int]:
        """(height, width) of the picture inside the margins."""
        return inside_size(self.height, self.width, self.margins)

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 1:
            raise InputError(f"size {self.width}x{self.height}: both sides must be at least 1")
        if max(self.width, self.height) > MAX_SIDE or self.width * self.height > MAX_PIXELS:
            raise LimitError(f"size {self.width}x{self.height}: at most {MAX_SIDE} a side and {MAX_PIXELS} pixels are allowed")
        if self.channels not in (1, 3):
            raise InputError(f"channels: expected 1 or 3, found {self.channels}")
        if self.depth not in (8, 16) or (self.depth == 16 and not self.lossless):
            raise InputError(f"depth: expected 8 bits, or in lossless mode 16, found {self.depth}")
        if not self.lossless and not 0 <= self.step_index < STEP_COUNT:
            raise InputError(f"step index: expected 0 to {STEP_COUNT - 1}, found {self.step_index}")
        if self.lossless and not (
            0 <= self.step_index <= MAX_ERROR[self.depth] and self.channel == CHANNELS[0] and not self.seed
        ):
            most = MAX_ERROR[self.depth]
            raise InputError(f"lossless mode: expected an error of at most {most}, channel {CHANNELS[0]} and no seed")
        if self.channel not in CHANNELS:
            raise InputError(f"channel: expected {' or '.join(CHANNELS)}, found {self.channel!r}")
        if not 0 <= self.seed <= UINT32_MAX:
            raise InputError(f"seed: expected 0 to {UINT32_MAX}, found {self.seed}")
        if len(self.model_id) != MODEL_ID_BYTES:
            raise InputError(f"model id: expected {MODEL_ID_BYTES} bytes, found {len(self.model_id)}")
        if self.lossless and (self.margins or self.scale_shifts or self.turn != NO_TURN):
            raise InputError("lossless mode: expected neither margins nor shifts of scales nor turned axes")
        if self.turn != NO_TURN and self.channels == 1:
            raise InputError("turned axes: expected three channels, found 1")
        if len(self.turn) != len(NO_TURN) or max(map(abs, self.turn)) >= TURN_UNIT:
            raise InputError(f"turned axes: expected three numbers below {TURN_UNIT} in size, found {self.turn}")
        self._check_margins()
        self._check_scale_shifts()

    def _check_margins(self) -> None:
        if len(self.margins) > _MOST_STRIPS:
            raise InputError(f"margins: expected at most {_MOST_STRIPS} strips, found {len(self.margins)}")
        for strip in self.margins:
            if not (0 <= strip.side < len(SIDES) and strip.lines >= 1 and len(strip.colour) == self.channels):
                raise InputError(f"margins: expected strips of 1 line and more, of {self.channels} components, found {strip}")
        if min(self.coded_size) < 1:
            size = f"{self.width}x{self.height}"
            raise InputError(f"margins: expected strips that leave some of a picture of {size}, found {self.coded_size[::-1]}")

    def _check_scale_shifts(self) -> None:
        stages = [stage for stage, _ in self.scale_shifts]
        if stages != sorted(set(stages)):
            raise InputError(f"shifts of scales: expected rising numbers of stages, found {stages}")
        there = [stage.number for stage in STAGES if stage.kind == LUMA or self.channels == 3]
        for number, shift in self.scale_shifts:
            level, stage = divmod(number, STAGE_NUMBERS)
            known = 1 <= level <= level_count(*self.coded_size) and stage in there
            if not known or not 0 < abs(shift) < _SHIFT_CENTRE:
                raise InputError(f"shifts of scales: expected stages that the picture has, found {shift} of stage {number}")


def header_payload(header: Header) -> bytes:
    """The bytes that ``parse_header`` makes the same header of."""
    mode = CHANNEL_IDS[header.channel] | (_COLOUR_BIT if header.channels == 3 else 0)
    mode |= (_LOSSLESS_BIT if header.lossless else 0) | (_DEEP_BIT if header.depth == 16 else 0)
    mode |= (_MARGINS_BIT if header.margins else 0) | (_SHIFTS_BIT if header.scale_shifts else 0)
    mode |= _MORE_BIT if header.turn != NO_TURN else 0
    size = varint(header.width) + varint(header.height)
    fixed = size + bytes([mode]) + header.step_index.to_bytes(2, "little") + varint(header.seed) + header.model_id
    return fixed + _margins_payload(header.margins) + _shifts_payload(header.scale_shifts) + _more_payload(header.turn)


def _margins_payload(margins: Sequence[Strip]) -> bytes:
    """Number u8; of each strip a varint of lines, whether its colour is that of the strip before, and side; then its colour."""
    payload = bytes([len(margins)]) if margins else b""
    colour: tuple[int, ...] = ()
    for strip in margins:
        same = strip.colour == colour
        payload += varint(strip.lines << 3 | same << 2 | strip.side) + (b"" if same else bytes(strip.colour))
        colour = strip.colour
    return payload


def _parse_margins(cursor: Cursor, channels: int) -> Iterator[Strip]:
    colour: tuple[int, ...] = ()
    count = cursor.uint(1)
    if not count:
        raise FormatError("header: expected strips of margins, found none")
    for _ in range(count):
        value = cursor.varint()
        given = colour if value & 0b100 else tuple(cursor.take(channels))
        if bool(value & 0b100) != (given == colour) or not given:
            raise FormatError(f"header: expected a colour for each strip that differs from the one before, found {given}")
        colour = given
        yield Strip(value & 0b11, value >> 3, colour)


def _shifts_payload(shifts: Sequence[ScaleShift]) -> bytes:
    """Number varint; of each the stage's number less the one before (at first 15) varint, and 128 plus the shift u8."""
    payload = varint(len(shifts)) if shifts else b""
    before = STAGE_NUMBERS - 1
    for stage, shift in shifts:
        payload += varint(stage - before) + bytes([_SHIFT_CENTRE + shift])
        before = stage
    return payload


def _parse_shifts(cursor: Cursor) -> Iterator[ScaleShift]:
    stage = STAGE_NUMBERS - 1
    count = cursor.varint()
    if not count:
        raise FormatError("header: expected shifts of scales, found none")
    for _ in range(count):
        stage += cursor.varint()
        yield stage, cursor.uint(1) - _SHIFT_CENTRE


def _more_payload(turn: Turn) -> bytes:
    """The second byte of the mode, then what it announces."""
    return b"" if turn == NO_TURN else bytes([_TURN_BIT]) + turn_bytes(turn)


def _parse_more(cursor: Cursor) -> Turn:
    more = cursor.uint(1)
    if more & ~_TURN_BIT:
        raise UnsupportedVersion(f"header: second mode {more:#04x} is not known to this version; update flowcodec")
    if not more:
        raise FormatError("header: expected something in the second mode, found nothing")
    return parse_turn(cursor)


def turn_bytes(turn: Turn) -> bytes:
    """128 plus each number u8."""
    return bytes(TURN_UNIT + value for value in turn)


def parse_turn(cursor: Cursor) -> Turn:
    """Raises FormatError where nothing is turned, or by what no turn has."""
    first, second, third = (cursor.uint(1) - TURN_UNIT for _ in NO_TURN)
    if (first, second, third) == NO_TURN or min(first, second, third) == -TURN_UNIT:
        raise FormatError(f"{cursor.name}: expected turned axes, found {first, second, third}")
    return first, second, third


def parse_header(payload: memoryview) -> Header:
    """Raises FormatError (TruncatedFile, UnsupportedVersion) or LimitError."""
    cursor = Cursor(payload, "header")
    width, height, mode, step_index = cursor.varint(), cursor.varint(), cursor.uint(1), cursor.uint(2)
    seed, model_id = cursor.varint(), bytes(cursor.take(MODEL_ID_BYTES))
    channels, lossless = 3 if mode & _COLOUR_BIT else 1, bool(mode & _LOSSLESS_BIT)
    margins = tuple(_parse_margins(cursor, channels)) if mode & _MARGINS_BIT else ()
    shifts = tuple(_parse_shifts(cursor)) if mode & _SHIFTS_BIT else ()
    turn = _parse_more(cursor) if mode & _MORE_BIT else NO_TURN
    if cursor.remaining:
        raise FormatError(f"header: expected {cursor.position} bytes, found {len(payload)}")
    try:
        depth = 16 if mode & _DEEP_BIT else 8
        channel = next(name for name, number in CHANNEL_IDS.items() if number == mode & _CHANNEL_MASK)
        return Header(width, height, channels, step_index, channel, seed, model_id, lossless, depth, margins, shifts, turn)
    except InputError as error:
        raise FormatError(f"header: {error}") from error
