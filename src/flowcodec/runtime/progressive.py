"""Pictures from the front of a file: of reduced size, or of full size from as many boxes as there are.

The planes of level K, which the walk passes on its way, are a picture of 1/2^K the size once the gain of the low band is taken
off. A *partial* picture is of full size; the levels that are missing are what the prior expects them to be: no symbols are read,
and each coefficient is its location. Both are integer arithmetic with one right answer, as everything else in a decoder.
"""

from collections.abc import Sequence

import numpy as np

from flowcodec.errors import InputError
from flowcodec.runtime import container
from flowcodec.runtime.bundle import Model
from flowcodec.runtime.channel import Channel, make_channel
from flowcodec.runtime.color import NO_TURN, Turn, ycc_to_rgb
from flowcodec.runtime.decode import decode_picture, make_runner, model_of, with_companions
from flowcodec.runtime.flow import level_count, level_shapes
from flowcodec.runtime.header import Header
from flowcodec.runtime.image import Picture
from flowcodec.runtime.latent import LatentDecoder, box_ends
from flowcodec.runtime.margins import paint
from flowcodec.runtime.prior import Site, Walk
from flowcodec.runtime.restore import restore

_UNIT_BITS = 30
_GAIN_BITS = 16
_INVERSE_GAIN = 46744
"""2^16 over the gain of a constant signal in the low band of one split, 1.40202 (not sqrt 2: it is the synthesis vectors that
have unit norm). It is what the integer synthesis makes of a constant low band alone, the mean of even and odd samples."""
_PLANE_LIMIT = 1 << 32


def latent_boxes_needed(height: int, width: int, levels: int) -> int:
    """LATENT boxes that hold everything above the planes of level ``levels``."""
    ends = box_ends(level_count(height, width))
    return next((count for count, end in enumerate(ends, start=1) if end <= levels + 1), len(ends))


def inverse_gain(splits: int) -> int:
    """2^30 over the gain of the low band after that many splits: R(0) = 2^30, R(n) = (R(n - 1) * 46744 + 2^15) >> 16."""
    factor = 1 << _UNIT_BITS
    for _ in range(splits):
        factor = (factor * _INVERSE_GAIN + (1 << (_GAIN_BITS - 1))) >> _GAIN_BITS
    return factor


def split_count(height: int, width: int, levels: int) -> int:
    """How often a side was split on the way to a level: a side of 1 passes through unchanged."""
    shapes = level_shapes(height, width)[:levels]
    return sum(side > 1 for shape in shapes for side in shape)


def reduced_pixels(planes: np.ndarray, height: int, width: int, levels: int, turn: Turn = NO_TURN) -> np.ndarray:
    """Planes (C, h, w) of level ``levels`` of a picture of the given size and turn -> uint8 (h, w, C)."""
    factor = inverse_gain(split_count(height, width, levels))
    scaled = np.clip(planes, -_PLANE_LIMIT, _PLANE_LIMIT).astype(np.int64) * factor
    return ycc_to_rgb((scaled + (1 << (_UNIT_BITS - 1))) >> _UNIT_BITS, turn=turn)


class PrefixDecoder(LatentDecoder):
    """Exchange of a decoder that has only the first boxes: the coefficients of the others are their locations."""

    def __init__(self, model: Model, channel: Channel, boxes: Sequence[bytes], header: Header) -> None:
        count = level_count(*header.coded_size)
        ends = box_ends(count)
        given = len(boxes)
        boxes = [*boxes, *[b""] * (len(ends) - given)]
        super().__init__(model, channel, boxes, header.channels, count, scale_shifts=header.scale_shifts)
        self._last_level = ends[min(given, len(ends)) - 1]

    def coefficients(self, site: Site, locations: np.ndarray, scales: np.ndarray, valid: np.ndarray) -> np.ndarray:
        if site.level >= self._last_level:
            return super().coefficients(site, locations, scales, valid)
        return np.where(valid, locations, 0).astype(np.int32)


def decode_prefix(
    data: bytes, threads: int | None = None, *, levels: int = 0, partial: bool = False, model: Model | None = None
) -> Picture:
    """The picture at 1/2^levels the size, each side rounded up, from the boxes that it takes; what is behind them is not read.

    With ``partial`` boxes may be missing or damaged at the end: what they would have added is predicted. At full size alpha and
    metadata are kept as far as their boxes are whole; a reduced picture has neither. Raises FormatError (TruncatedFile where a
    box is missing that it takes), InputError for levels that the picture does not have, LimitError, MissingModel, WrongModel.
    """

    def needed(header: Header) -> int:
        if header.lossless and levels:
            raise InputError("levels: a lossless or near-lossless file has no smaller pictures; decode it whole")
        height, width = header.coded_size
        most = level_count(height, width)
        if not 0 <= levels <= most:
            size = f"{width}x{height}"
            raise InputError(f"levels: expected 0 to {most} for a picture of {size}, found {levels}; give a smaller number")
        return latent_boxes_needed(height, width, levels)

    file, broken = container.read_prefix(data, needed if levels else None)
    header = file.header
    if header.lossless:
        if broken is not None:
            raise type(broken)(f"{broken}; a lossless or near-lossless file cannot be decoded in part") from broken
        return decode_picture(data, threads)
    enough = needed(header)
    if broken is not None and (not file.latents or not partial):
        whole = f"{len(file.latents)} of the {enough} latent boxes it takes are whole"
        raise type(broken)(f"{broken}; {whole}, ask for a smaller picture or a partial one") from broken
    model = model_of(header, model)
    channel = make_channel(header.channel, model.channels, header.seed)
    boxes = file.latents if levels == 0 else file.latents[:enough]
    exchange = PrefixDecoder(model, channel, boxes, header)
    runner = make_runner(model, threads)
    size = header.coded_size
    planes = Walk(model, runner, *size, header.channels, header.step_index).run(exchange, last_level=levels)
    if levels:
        reduced = reduced_pixels(planes[: header.channels], *size, levels, header.turn)
        return Picture(paint(reduced, header.margins, levels))
    restored = restore(model, runner, planes, header.step_index)
    pixels = ycc_to_rgb(restored[: header.channels], runner.threads, header.turn)
    return with_companions(paint(pixels, header.margins), file)
