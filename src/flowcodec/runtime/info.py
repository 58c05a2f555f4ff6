"""What a file says about itself, without decoding it."""

import math
from typing import Any

from flowcodec.runtime import container
from flowcodec.runtime.certificate import read_certificate
from flowcodec.runtime.color import NO_TURN
from flowcodec.runtime.container import BoxKind
from flowcodec.runtime.header import Header
from flowcodec.runtime.margins import SIDES
from flowcodec.runtime.step import log2_step

_NAMES = {int(kind): kind.name.lower() for kind in BoxKind}


def describe(data: bytes, partial: bool = False) -> dict[str, Any]:
    """Header, boxes, sizes and the channel's numbers: sigma = Delta / sqrt 12, beta = 2 ln 2 sigma^2. Raises FormatError.

    A lossless or near-lossless file has ``lossless`` and ``max_error`` instead of the channel's numbers. With ``partial`` the
    boxes at the front that are whole, and under ``ends_early`` what is wrong behind them, if anything.
    """
    file, broken = container.read_prefix(data) if partial else (container.read(data), None)
    header = file.header
    certificate = read_certificate(file, len(data))
    return {
        "width": header.width,
        "height": header.height,
        "channels": header.channels,
        "bit_depth": header.depth,
        "alpha": file.first(BoxKind.ALPHA) is not None,
        "size_bytes": len(data),
        "bpp": 8 * len(data) / (header.width * header.height),
        **_noise(header),
        **({"margins": [f"{SIDES[strip.side]} {strip.lines}" for strip in header.margins]} if header.margins else {}),
        **({"turn": list(header.turn)} if header.turn != NO_TURN else {}),
        "model": header.model_id.hex(),
        "certificate": None
        if certificate is None
        else {"bytes": certificate.bytes, "ideal_bytes": certificate.ideal_bytes, "holds": certificate.holds},
        "boxes": [{"kind": _NAMES.get(box.kind, str(box.kind)), "size_bytes": len(box.payload)} for box in file.boxes],
        "metadata_bytes": {kind.name.lower(): len(file.first(kind) or b"") for kind in (BoxKind.ICC, BoxKind.EXIF, BoxKind.XMP)},
        **({"ends_early": None if broken is None else str(broken)} if partial else {}),
    }


def _noise(header: Header) -> dict[str, Any]:
    if header.lossless:
        return {"lossless": header.step_index == 0, "max_error": header.step_index}
    step = 2.0 ** log2_step(header.step_index)
    sigma = step / math.sqrt(12)
    return {
        "step": step,
        "sigma": sigma,
        "beta": 2 * math.log(2) * sigma**2,
        "channel": header.channel,
        "seed": header.seed,
    }
