"""The digital layer: bytes -> CRC, 5G LDPC, Gray QAM -> symbols, and back.

A segment of ``uses`` complex uses is cut into equal blocks of about NOMINAL_BITS coded bits; a block is one LDPC codeword whose
information ends in a CRC. Uses that do not make up a whole symbol of every block carry zeros and still count.

Code: 3GPP TS 38.212, sec. 5.3.2 (LDPC), 5.4.2 (rate matching), 5.1 (CRC24A), by the package sionna.
"""

import json
import math
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from scipy.special import ndtr, ndtri

from flowcodec.errors import InputError
from flowcodec.radio.link import Received
from flowcodec.radio.modulation import NAMES, llrs, modulate

CRC, CRC_BITS = "CRC24A", 24
NOMINAL_BITS = 7200
"""Coded bits of a block: 5G's largest code takes 8448 information bits; shorter blocks lose less than 0.1 dB."""
LARGEST_INFORMATION = 8448
ITERATIONS = 40
BLOCK_FILE = Path(__file__).with_name("blocks.json")
"""Measured block errors of the modes; benchmarks/radio_blocks.py writes it."""
HEADER_NAME = "header"
_SCRAMBLE_SEED = 0x5CA1AB1E
_LLR_MAX = 25.0


@dataclass(frozen=True)
class Mode:
    """A modulation with a code rate; every symbol is sent ``repeats`` times, for rates below those of the code."""

    bits: int
    """Coded bits per complex use, before repetition."""
    rate: float
    repeats: int = 1

    @property
    def name(self) -> str:
        return f"{NAMES[self.bits]} {self.rate:.3f}" + (f" x{self.repeats}" if self.repeats > 1 else "")

    @property
    def efficiency(self) -> float:
        """Information bits per complex use."""
        return self.bits * self.rate / self.repeats


MEASURED_EFFICIENCIES = {
    2: (0.4, 0.5, 0.7, 0.9, 1.1, 1.25),
    4: (1.4, 1.6, 1.8, 2.0, 2.2, 2.4, 2.6, 2.8, 3.0),
    6: (3.25, 3.5, 3.75, 4.0, 4.25, 4.5, 4.75),
    8: (5.0, 5.4),
}
"""By bits a use: where block errors are measured. A denser constellation takes over where its BICM limit is the lower one."""
_STEP = 0.02
"""Of the efficiencies of MODES; about 0.06 dB."""
_LEAST, _STEP_RATIO = 0.02, 1.03


def _mode(bits: int, efficiency: float, repeats: int = 1) -> Mode:
    return Mode(bits, round(efficiency * repeats / bits, 4), repeats)


def _modes() -> tuple[Mode, ...]:
    single = []
    for bits, values in MEASURED_EFFICIENCIES.items():
        count = round((values[-1] - values[0]) / _STEP)
        single += [_mode(bits, values[0] + _STEP * number) for number in range(count + 1)]
    lowest = MEASURED_EFFICIENCIES[2][0]
    low = [lowest / _STEP_RATIO**number for number in range(1, int(math.log(lowest / _LEAST, _STEP_RATIO)))]
    # The code goes down to rate 1/5; below, as few repetitions as will do.
    return (*(_mode(2, value, math.ceil(lowest / value)) for value in reversed(low)), *single)


MEASURED_MODES = tuple(_mode(bits, value) for bits, values in MEASURED_EFFICIENCIES.items() for value in values)
MODES = _modes()
"""All modes, by rising efficiency; a header names a mode by its place here."""


@dataclass(frozen=True)
class Segment:
    """How ``uses`` complex uses are divided at a mode."""

    uses: int
    mode: Mode
    blocks: int
    block_uses: int
    """Uses of a block, without its repetitions."""
    information: int
    """Bits of a block before coding, CRC included."""

    @property
    def size_bytes(self) -> int:
        """Bytes that the segment carries."""
        return self.blocks * (self.information - CRC_BITS) // 8


def segment(uses: int, mode: Mode, nominal: int = NOMINAL_BITS) -> Segment:
    """Raises InputError where not even one block fits."""
    single = uses // mode.repeats
    blocks = max(round(single * mode.bits / nominal), math.ceil(single * mode.bits * mode.rate / LARGEST_INFORMATION), 1)
    block_uses = single // blocks
    information = math.floor(block_uses * mode.bits * mode.rate)
    if information < CRC_BITS + 8:
        raise InputError(f"{mode.name}: expected more than {round((CRC_BITS + 8) / mode.efficiency)} channel uses, found {uses}")
    return Segment(uses, mode, blocks, block_uses, information)


def uses_for(size_bytes: int, mode: Mode) -> int:
    """The fewest uses whose segment carries ``size_bytes``."""
    uses = math.ceil(8 * size_bytes / mode.efficiency)
    while (found := _capacity(uses, mode)) < size_bytes:
        uses += max(math.ceil(8 * (size_bytes - found) / mode.efficiency), 1)
    return uses


def _capacity(uses: int, mode: Mode) -> int:
    try:
        return segment(uses, mode).size_bytes
    except InputError:
        return -CRC_BITS


class _Code:
    """One LDPC code with its CRC: sionna encodes and matches rates, the belief propagation is that of the package ldpc.

    Serial sum-product in C++ takes less than half the time of sionna's decoder on a CPU, with which the tests compare it.
    """

    def __init__(self, information: int, coded: int, bits: int) -> None:
        import torch
        from ldpc import BpDecoder
        from scipy.sparse import csr_matrix
        from sionna.phy.fec.crc import CRCDecoder, CRCEncoder
        from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder

        self._torch = torch
        self.crc = CRCEncoder(CRC)
        self.check = CRCDecoder(self.crc)
        self.encoder = LDPC5GEncoder(information, coded, num_bits_per_symbol=bits)
        # Its parity-check matrix leaves out the rows and columns of what is never sent.
        parity_checks = csr_matrix(LDPC5GDecoder(self.encoder).pcm).astype(np.uint8)
        self._columns = parity_checks.shape[1]
        self._decoder = BpDecoder(
            parity_checks,
            error_rate=0.1,
            max_iter=ITERATIONS,
            bp_method="product_sum",
            schedule="serial",
            input_vector_type="received_vector",
        )

    def encode(self, payload: np.ndarray) -> np.ndarray:
        """bool (blocks, information - 24) -> uint8 (blocks, coded)."""
        bits = self._torch.from_numpy(payload.astype(np.float32))
        return self.encoder(self.crc(bits)).numpy().astype(np.uint8)

    def decode(self, ratios: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """LLRs (blocks, coded) -> (payload bits (blocks, information - 24), CRC right (blocks,))."""
        words = self.recover_rate(ratios)
        found = np.empty((len(words), self.encoder.k), np.float32)
        for block, word in enumerate(words):
            # The decoder takes hard decisions and the probability that each is wrong.
            self._decoder.update_channel_probs(np.clip(1 / (1 + np.exp(np.abs(word))), 1e-12, 0.4999999))
            found[block] = self._decoder.decode((word > 0).astype(np.uint8))[: self.encoder.k]
        bits, right = self.check(self._torch.from_numpy(found))
        return bits.numpy() > 0.5, right[:, 0].numpy()

    def recover_rate(self, ratios: np.ndarray) -> np.ndarray:
        """LLRs (blocks, coded) -> of all columns of the parity-check matrix: punctured ones 0, fillers known to be 0."""
        encoder = self.encoder
        ordered = np.clip(ratios, -_LLR_MAX, _LLR_MAX)[:, encoder.out_int_inv.numpy()]
        words = np.zeros((len(ratios), self._columns))
        head, filled = 2 * encoder.z, encoder.k + encoder.k_filler
        words[:, head : encoder.k] = ordered[:, : encoder.k - head]
        words[:, encoder.k : filled] = -_LLR_MAX
        words[:, filled : filled + encoder.n - encoder.k + head] = ordered[:, encoder.k - head :]
        return words


@lru_cache(maxsize=16)
def _code(information: int, coded: int, bits: int) -> _Code:
    try:
        return _Code(information, coded, bits)
    except ModuleNotFoundError as error:
        raise InputError(f"the digital layer needs {error.name}: pip install 'flowcodec[radio]', see docs/radio.md") from error


@lru_cache(maxsize=16)
def _shuffle(count: int) -> np.ndarray:
    """A fixed permutation of a segment's symbols, so that bursts and fades fall on all blocks alike."""
    return np.random.Generator(np.random.Philox(key=count)).permutation(count)


@lru_cache(maxsize=16)
def _scrambler(count: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=_SCRAMBLE_SEED)).integers(0, 2, count).astype(bool)


def send(payload: bytes, plan: Segment) -> np.ndarray:
    """Bytes, zero-padded -> complex (uses,) of unit mean power. Raises InputError if they are too many."""
    if len(payload) > plan.size_bytes:
        raise InputError(f"expected at most {plan.size_bytes} bytes in {plan.uses} channel uses, found {len(payload)}")
    size = plan.information - CRC_BITS
    bits = np.zeros(plan.blocks * size, bool)
    bits[: 8 * len(payload)] = np.unpackbits(np.frombuffer(payload, np.uint8))
    bits ^= _scrambler(len(bits))
    coded = _code(plan.information, plan.block_uses * plan.mode.bits, plan.mode.bits).encode(bits.reshape(plan.blocks, size))
    symbols = np.zeros(plan.uses, complex)
    symbols[_places(plan)] = modulate(coded, plan.mode.bits)
    return symbols


def _places(plan: Segment) -> np.ndarray:
    """(repeats, symbols of all blocks): where in the segment each symbol is sent."""
    count = plan.blocks * plan.block_uses
    return _shuffle(plan.uses)[: plan.mode.repeats * count].reshape(plan.mode.repeats, count)


@dataclass(frozen=True)
class Decoded:
    """A received segment: all its bytes (padding included), which blocks passed their CRC, and the payload bits of each."""

    data: bytes
    right: np.ndarray

    @property
    def whole(self) -> bool:
        return bool(self.right.all())


def positions(plan: Segment) -> np.ndarray:
    """Where the coded symbols of a segment without repetitions lie, in the order of its coded bits."""
    return _places(plan)[0]


def receive(received: Received, plan: Segment, layer: float = 0.0) -> Decoded:
    """``layer``: power of an analog layer on the symbols, which the LLRs count as noise."""
    # Noise differs from use to use, so the LLRs of a symbol's repetitions add up.
    parts = [llrs(received.samples[row], received.gains[row], received.noise, plan.mode.bits, layer) for row in _places(plan)]
    ratios = np.sum(parts, axis=0)
    return decode(ratios, plan)


def decode(ratios: np.ndarray, plan: Segment) -> Decoded:
    """From LLRs of all coded bits, those of the symbols at ``positions``."""
    coded = plan.block_uses * plan.mode.bits
    bits, right = _code(plan.information, coded, plan.mode.bits).decode(ratios.reshape(plan.blocks, coded))
    bits = bits.reshape(-1) ^ _scrambler(bits.size)
    return Decoded(np.packbits(bits[: 8 * plan.size_bytes]).tobytes(), right)


# --- measured block error rates --------------------------------------------------------------------------------------------


@cache
def _fits() -> dict[str, tuple[float, float]]:
    """(mean, deviation) in dB of each measured mode's block error rate, Q((SNR - mean) / deviation)."""
    document = json.loads(BLOCK_FILE.read_text())
    return {name: (entry["mean_db"], entry["deviation_db"]) for name, entry in document["modes"].items()}


def capacity_db(efficiency: float) -> float:
    """SNR at which the capacity of AWGN is ``efficiency`` bits per complex use."""
    return 10 * math.log10(2**efficiency - 1)


@cache
def _fit(mode: Mode) -> tuple[float, float]:
    """Between the measured rates of a constellation, the distance from capacity and the deviation are linear in the rate.

    Repetitions add up their SNR, exactly so in Gaussian noise.
    """
    efficiency = mode.efficiency * mode.repeats
    known = MEASURED_EFFICIENCIES[mode.bits]
    fits = [_fits()[_mode(mode.bits, value).name] for value in known]
    distances = [mean - capacity_db(value) for value, (mean, _) in zip(known, fits, strict=True)]
    mean = capacity_db(efficiency) + float(np.interp(efficiency, known, distances))
    deviation = float(np.interp(efficiency, known, [deviation for _, deviation in fits]))
    return mean - 10 * math.log10(mode.repeats), deviation


def block_error_rate(mode: Mode, snr_db: float) -> float:
    """Of a block of NOMINAL_BITS over AWGN: Q((SNR - mean) / deviation), fitted to measured blocks."""
    mean, deviation = _fit(mode)
    return float(ndtr((mean - snr_db) / deviation))


def segment_error_rate(plan: Segment, snr_db: float) -> float:
    """1 - (1 - BLER)^blocks: the segment is lost if one of its blocks is."""
    return -math.expm1(plan.blocks * math.log1p(-min(block_error_rate(plan.mode, snr_db), 1 - 1e-12)))


def header_error_rate(snr_db: float) -> float:
    """Of a frame's header (transmission.HEADER_MODE), which is measured like the modes."""
    mean, deviation = _fits()[HEADER_NAME]
    return float(ndtr((mean - snr_db) / deviation))


def threshold_db(mode: Mode, error_rate: float = 1e-4) -> float:
    """SNR from which the block error rate is at most ``error_rate``."""
    mean, deviation = _fit(mode)
    return mean - deviation * float(ndtri(error_rate))


def best_mode(snr_db: float, error_rate: float = 1e-4) -> Mode:
    """The most efficient mode with at most that block error rate: chosen by measured blocks of random bits, by no picture.

    The most robust mode where none is good enough.
    """
    fitting = [mode for mode in MODES if threshold_db(mode, error_rate) <= snr_db]
    return max(fitting, key=lambda mode: mode.efficiency, default=MODES[0])
