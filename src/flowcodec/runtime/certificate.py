"""The certificate of a file: its size against what the model's tables say its symbols weigh.

With I = sum of -log2 of the probabilities, in the coder's integer tables, of all symbols of a file, over B latent boxes:

    bytes of the latent payloads <= (1 + 2^-8) I / 8 + 8 B

Proof, for the coder of ``coder.py`` (state s below 2^64, words of 32 bits, a probability p / 2^24). Coding a symbol takes s to
2^24 floor(s / p) + begin + s mod p <= (2^24 / p) (s + (1 - p / 2^24) p), since begin <= 2^24 - p. A word leaves only from
s >= 2^40 p, which leaves s >= 2^8 p; without one, s >= 2^32 >= 2^8 p once the state has reached 2^32. So log2 s, words included,
grows by at most -log2(p / 2^24) + log2(1 + 2^-8 (1 - p / 2^24)), and the second term is at most 2^-8 times the first. Before it
reaches 2^32 nothing is written; it reaches it from below 2^32, and at the end two words take at most 32 bits more than log2 s:
64 bits a box in all. What is stored is ceil(I / 8), which every decoder can recompute (``bounds/file.py``).
"""

import math
from dataclasses import dataclass
from fractions import Fraction

from flowcodec.runtime.container import BoxKind, File
from flowcodec.runtime.fields import parse_varint, varint

_CODER_LOSS = Fraction(257, 256)
_BOX_BYTES = 8


@dataclass(frozen=True)
class Certificate:
    """What a file's certificate says; sizes in bytes."""

    ideal_bytes: int
    """ceil of the information of the symbols under the tables, as stored."""
    bytes: int
    """The bound on the size of the whole file: coder and container included."""
    size_bytes: int
    """The size of the file."""

    @property
    def holds(self) -> bool:
        return self.size_bytes <= self.bytes


def certificate_payload(ideal_bits: float) -> bytes:
    """The payload of a CERTIFICATE box."""
    return varint(math.ceil(ideal_bits / 8))


def read_certificate(file: File, size_bytes: int) -> Certificate | None:
    """The certificate of a file of ``size_bytes``, None where it has none. Raises FormatError for one that is not understood."""
    payload = file.first(BoxKind.CERTIFICATE)
    if payload is None:
        return None
    ideal_bytes = parse_varint(payload, "certificate")
    frame = size_bytes - sum(len(latent) for latent in file.latents)
    bound = math.ceil(_CODER_LOSS * ideal_bytes) + _BOX_BYTES * len(file.latents) + frame
    return Certificate(ideal_bytes, bound, size_bytes)
