"""Symbols <-> bytes for the neural rivals: constriction's range coder with probabilities as the networks give them, in floats.

Encoder and decoder compute the same floats on one machine with one set of libraries only. That is enough to measure real bytes
and real decodes; it is no file format.
"""

import math

import constriction
import numpy as np
import torch
from torch import Tensor

from flowcodec.errors import FormatError, InputError

_Categorical = constriction.stream.model.Categorical(perfect=False)
_CHUNK = 4096
"""Rows of a table of probabilities that are handed to the coder at once."""


class SymbolWriter:
    """First in, first out. All symbols are int arrays (n,)."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def categorical(self, symbols: np.ndarray, probabilities: np.ndarray) -> None:
        """``symbols`` in 0 ... K - 1 under ``probabilities`` (n, K). Raises InputError for a symbol outside."""
        if len(symbols) and not 0 <= symbols.min() <= symbols.max() < probabilities.shape[1]:
            raise InputError(f"expected symbols in 0 ... {probabilities.shape[1] - 1}, found {symbols.min()} ... {symbols.max()}")
        for start in range(0, len(symbols), _CHUNK):
            part = slice(start, start + _CHUNK)
            self._coder.encode(_int32(symbols[part]), _Categorical, _float32(probabilities[part]))

    def gaussian(self, symbols: np.ndarray, scale: np.ndarray, reach: int) -> None:
        """Integers in -reach ... reach under N(0, scale^2), scales (n,)."""
        family = constriction.stream.model.QuantizedGaussian(-reach, reach)
        self._coder.encode(_int32(symbols), family, np.zeros(len(symbols)), scale.astype(np.float64))

    def to_bytes(self) -> bytes:
        return self._coder.get_compressed().astype("<u4").tobytes()


class SymbolReader:
    """Reads what ``SymbolWriter`` wrote, call by call. Raises FormatError for bytes that are no whole words."""

    def __init__(self, data: bytes) -> None:
        if len(data) % 4:
            raise FormatError(f"expected words of 4 bytes, found {len(data)} bytes")
        self._coder = constriction.stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))

    def categorical(self, probabilities: np.ndarray) -> np.ndarray:
        parts = [
            self._coder.decode(_Categorical, _float32(probabilities[start : start + _CHUNK]))
            for start in range(0, len(probabilities), _CHUNK)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, np.int32)

    def gaussian(self, scale: np.ndarray, reach: int) -> np.ndarray:
        family = constriction.stream.model.QuantizedGaussian(-reach, reach)
        return self._coder.decode(family, np.zeros(len(scale)), scale.astype(np.float64))


class LogisticMixture(torch.nn.Module):
    """P(k) = sum_j w_j (S((k + 1/2 - m_j) / s_j) - S((k - 1/2 - m_j) / s_j)), S the logistic function; one for each channel.

    A learned density for what nothing is known about: of a hyper-latent, of the coarsest latent of a flow.
    """

    def __init__(self, channels: int, components: int = 3, spread: float = 2.0) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(channels, components))
        self.location = torch.nn.Parameter(torch.linspace(-spread, spread, components).repeat(channels, 1))
        self.log_scale = torch.nn.Parameter(torch.full((channels, components), math.log(spread)))

    def bits(self, values: Tensor) -> Tensor:
        """-log2 P of (N, C, H, W), element by element; values need not be integers."""
        x = values.movedim(1, -1)[..., None]
        mass = logistic_mass(x, self.location, self.log_scale)
        return -torch.log2((self.logits.softmax(-1) * mass).sum(-1).clamp(min=2.0**-24)).movedim(-1, 1)

    def table(self, low: int, high: int) -> np.ndarray:
        """(C, high - low + 1) probabilities of the integers low ... high."""
        with torch.no_grad():
            values = torch.arange(low, high + 1).float()[None, :, None]
            mass = logistic_mass(values, self.location[:, None], self.log_scale[:, None])
            return normalised((self.logits.softmax(-1)[:, None] * mass).sum(-1).numpy())


def logistic_mass(values: Tensor, location: Tensor, log_scale: Tensor) -> Tensor:
    """Mass of the unit cell about ``values`` under a logistic density."""
    centred, inverse = values - location, torch.exp(-log_scale)
    # The far tails are the same on both sides; on the negative one the difference of two sigmoids loses no digits.
    centred = -centred.abs()
    return torch.sigmoid((centred + 0.5) * inverse) - torch.sigmoid((centred - 0.5) * inverse)


def normalised(mass: np.ndarray) -> np.ndarray:
    """Rows that sum to one, nothing in them impossible."""
    floor = mass + 1e-7 / mass.shape[-1]
    return floor / floor.sum(axis=-1, keepdims=True)


def _int32(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.int32)


def _float32(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.float32)
