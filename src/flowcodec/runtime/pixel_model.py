"""The distribution of a pixel in lossless coding: a small integer network for each plane, then a mixture of three logistics.

The network turns the features of ``wavefront.py`` into location and log2 scale of the logistic distributions and their shares.
Its sums stay below 2^24 and so are exact in float32, in any order; the logistic function is a table of integers. Tables and
weights are package data, fitted by ``scripts/fit_lossless.py``.
"""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from flowcodec.runtime.header import MODEL_ID_BYTES
from flowcodec.runtime.integer import FRACTION_BITS
from flowcodec.runtime.wavefront import FEATURE_BITS, FEATURE_MAX, PIXEL_BITS, VALUE_MAX, limited

DATA = Path(__file__).with_name("pixel_model.npz")
PLANE_ORDER = (1, 0, 2)
"""Green first, then red, then blue; grey is coded as green is."""
LAYERS = 3
COMPONENTS = 3
OUTPUTS = 3 * COMPONENTS - 1
"""Location and log2 scale of each logistic, and behind those of the second and the third the logit of its share."""
LOCATIONS, SCALES, LOGITS = [0, 2, 5], [1, 3, 6], [4, 7]
REACH = 32
"""Symbols -REACH ... REACH have a probability; those at the ends are followed by what is beyond."""
MASS_BITS = 24
SHARE_BITS = 8
LEAST_SHARE = 0.02
"""Of the second logistic beside the first, and of the third beside both."""
SCALE_OFFSET = 4
"""log2 of the smallest scale, negated: 1/16 of a grey level."""

_SCALE_STEP_BITS = 4
_SCALE_COUNT = 10 * (1 << _SCALE_STEP_BITS) + 1
_SHARE_STEP_BITS, _SHARE_LIMIT = 4, 32
_TABLE_BITS, _TABLE_SPAN = 7, 16
"""The logistic function is tabulated in 1/128 of a scale, up to 16 scales from its centre."""
_INVERSE_BITS = 20
_FINE_BITS = 2
"""A bin is at most 1/2^2 of the mean scale where low bits are cut off."""
_EPOCH = (1980, 1, 1, 0, 0, 0)


def companding_table() -> np.ndarray:
    """int16 (1024,): round(128 log2(1 + v/4)) for a feature v >= 0, in quarters of a grey level."""
    values = np.arange(FEATURE_MAX + 1)
    return np.minimum(np.rint(128 * np.log2(1 + values / (1 << FEATURE_BITS))), FEATURE_MAX).astype(np.int16)


def distribution_tables() -> dict[str, np.ndarray]:
    """The tables that are the same whatever was learned."""
    places = np.arange(-_TABLE_SPAN << _TABLE_BITS, (_TABLE_SPAN << _TABLE_BITS) + 1) / (1 << _TABLE_BITS)
    logits = np.arange(-_SHARE_LIMIT, _SHARE_LIMIT + 1) * ((1 << _SHARE_STEP_BITS) / (1 << FRACTION_BITS))
    shares = LEAST_SHARE + (1 - 2 * LEAST_SHARE) / (1 + np.exp(-logits))
    scales = 2.0 ** (np.arange(_SCALE_COUNT) / (1 << _SCALE_STEP_BITS) - SCALE_OFFSET)
    return {
        "companding": companding_table(),
        "logistic": np.rint((1 << MASS_BITS) / (1 + np.exp(-places))).astype(np.int32),
        "shares": np.rint(shares * (1 << SHARE_BITS)).astype(np.int16),
        "inverse_scales": np.rint((1 << _INVERSE_BITS) / scales).astype(np.int32),
    }


def network_inputs(features: np.ndarray, companding: np.ndarray) -> np.ndarray:
    """int32 (F, n) -> (2F, n): the features and their companded copies."""
    return np.concatenate([features, np.sign(features) * companding[np.abs(features)]])


@dataclass(frozen=True)
class Mixture:
    """The distributions of n pixels; ``frequencies`` are computed when they are needed, since they take much memory.

    Symbol k stands for the value ``centre + k * step``, all in 1/256 of a grey level of 8 bits.
    """

    locations: np.ndarray
    """int32 (3, n)"""
    scales: np.ndarray
    """uint8 (3, n), indices"""
    shares: np.ndarray
    """int16 (2, n), in 1/256: of the second beside the first, of the third beside both"""
    unit: int
    """Distance of the values that a pixel can have: 256 for 8 bits, 1 for 16."""
    step: int
    """Distance of the values that are told apart, ``unit * (2N + 1)``, N the error allowed."""
    model: "PixelModel"

    def _mean(self, values: np.ndarray) -> np.ndarray:
        """int32 (3, n) -> (n,)"""
        mean = values[0] + (((values[1] - values[0]) * self.shares[0]) >> SHARE_BITS)
        return mean + (((values[2] - mean) * self.shares[1]) >> SHARE_BITS)

    @cached_property
    def centres(self) -> np.ndarray:
        """int32 (n,): the values that symbol 0 stands for, multiples of the unit."""
        nearest = self._mean(self.locations) + (self.unit >> 1)
        return limited(nearest - nearest % self.unit, 0, VALUE_MAX + 1 - self.unit)

    @cached_property
    def low_bits(self) -> np.ndarray:
        """int32 (n,): bits of a symbol that are coded raw."""
        octaves = (self._mean(self.scales.astype(np.int32)) >> _SCALE_STEP_BITS) - SCALE_OFFSET
        return np.maximum(octaves + PIXEL_BITS - (self.step.bit_length() - 1) - _FINE_BITS + 1, 0)

    def frequencies(self) -> np.ndarray:
        """int64 (n, 2 REACH + 1): positive, with sum 2^24."""
        symbols = np.arange(1 - REACH, REACH + 1)
        edges = (symbols << self.low_bits[:, None]) * (2 * self.step) - self.step
        edges += 2 * self.centres[:, None]
        limit = _TABLE_SPAN << _TABLE_BITS
        below: np.ndarray | None = None
        for number, (location, scale) in enumerate(zip(self.locations, self.scales, strict=True)):
            inverse = self.model.inverse_scales[scale].astype(np.int64)[:, None]
            places = ((edges - 2 * location[:, None]) * inverse) >> (_INVERSE_BITS + PIXEL_BITS + 1 - _TABLE_BITS)
            mass = self.model.logistic[limited(places, -limit, limit) + limit].astype(np.int64)
            below = mass if below is None else below + (((mass - below) * self.shares[number - 1][:, None]) >> SHARE_BITS)
        assert below is not None
        count = 2 * REACH + 1
        cumulative = np.empty((len(below), count + 1), np.int64)
        cumulative[:, 0], cumulative[:, -1] = 0, 1 << MASS_BITS
        # Every symbol keeps one unit, whatever the mixture says.
        cumulative[:, 1:-1] = ((below * ((1 << MASS_BITS) - count)) >> MASS_BITS) + np.arange(1, count)
        return np.diff(cumulative, axis=1)


class PixelModel:
    """Networks and tables of the lossless mode. ``id`` is the start of the SHA-256 of the file's members."""

    def __init__(self, members: Mapping[str, bytes]) -> None:
        digest = hashlib.sha256()
        for name in sorted(members):
            digest.update(name.encode() + b"\0" + len(members[name]).to_bytes(8, "little") + members[name])
        self.id = digest.digest()[:MODEL_ID_BYTES]
        arrays = {
            name.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
            for name, data in members.items()
        }
        self.companding = arrays["companding"]
        self.logistic, self.inverse_scales = arrays["logistic"], arrays["inverse_scales"]
        self._shares = arrays["shares"]
        self.starts = [arrays[f"start{plane}"] for plane in range(len(PLANE_ORDER))]
        self.whitenings = [arrays[f"whitening{plane}"] for plane in range(len(PLANE_ORDER))]
        self._layers = [
            [
                (
                    arrays[f"weights{plane}_{layer}"].astype(np.float32),
                    arrays[f"biases{plane}_{layer}"].astype(np.float32)[:, None],
                    np.ldexp(np.float32(1), -arrays[f"shifts{plane}_{layer}"].astype(np.int32))[:, None],
                )
                for layer in range(LAYERS)
            ]
            for plane in range(len(PLANE_ORDER))
        ]

    def mixture(self, plane: int, features: np.ndarray, prediction: np.ndarray, unit: int, step: int) -> Mixture:
        """The distributions of pixels with the given features (F, n) and predictions (n,)."""
        values = network_inputs(features, self.companding).astype(np.float32)
        for number, (weights, biases, factors) in enumerate(self._layers[plane]):
            values = np.floor((weights @ values + biases) * factors)
            if number < LAYERS - 1:
                values = limited(values, 0, FEATURE_MAX)
        outputs = values.astype(np.int32)
        scale_shift = FRACTION_BITS - _SCALE_STEP_BITS
        scales = (outputs[SCALES] + (SCALE_OFFSET << FRACTION_BITS) + (1 << (scale_shift - 1))) >> scale_shift
        share_index = (outputs[LOGITS] + (1 << (_SHARE_STEP_BITS - 1))) >> _SHARE_STEP_BITS
        locations = prediction + (outputs[LOCATIONS] << (PIXEL_BITS - FRACTION_BITS))
        return Mixture(
            locations=limited(locations, -VALUE_MAX, 2 * VALUE_MAX),
            scales=limited(scales, 0, _SCALE_COUNT - 1).astype(np.uint8),
            shares=self._shares[limited(share_index, -_SHARE_LIMIT, _SHARE_LIMIT) + _SHARE_LIMIT],
            unit=unit,
            step=step,
            model=self,
        )


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """The same bytes for the same arrays."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(arrays):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(arrays[name]), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, buffer.getvalue())


@lru_cache(maxsize=1)
def pixel_model() -> PixelModel:
    """The one that comes with the package."""
    with zipfile.ZipFile(DATA) as archive:
        return PixelModel({info.filename: archive.read(info) for info in archive.infolist()})
