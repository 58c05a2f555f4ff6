"""A few bits in a few uses, for pictures whose metadata is a dozen bits: first-order Reed-Muller words, decoded by correlation.

RM(1, m): m + 1 bits in 2^m real dimensions, all words at distance 2^(m-1) or more. Reference: MacWilliams & Sloane, The Theory of
Error-Correcting Codes, 1977, ch. 14.
"""

import numpy as np
from scipy.linalg import hadamard

from flowcodec.errors import InputError
from flowcodec.radio.linear import to_complex, to_real


def uses_for(bits: int) -> int:
    """Complex uses of a word of ``bits``."""
    return 1 << (bits - 2)


def send(value: int, bits: int) -> np.ndarray:
    """complex (2^(bits-2),) of unit power. Raises InputError."""
    if bits < 2 or not 0 <= value < 1 << bits:
        raise InputError(f"expected a number of {bits} >= 2 bits, found {value}")
    rows = hadamard(1 << (bits - 1)).astype(np.float64)
    row, negative = divmod(value, 2)
    return to_complex(rows[row] * (-1.0 if negative else 1.0))


def receive(samples: np.ndarray, gains: np.ndarray, bits: int) -> int:
    """The word most like y = h s + v, by maximum likelihood."""
    rows = hadamard(1 << (bits - 1)).astype(np.float64)
    found = rows @ to_real(samples * np.conj(gains))
    row = int(np.argmax(np.abs(found)))
    return 2 * row + int(found[row] < 0)
