"""A frame of symbols as baseband samples, and the receiver that finds it again in a recording.

    preamble (known, QPSK), then data with a pilot after every PILOT_SPACING uses; root-raised-cosine pulses, OVERSAMPLING samples
    a symbol

The receiver correlates the matched filter's output with the preamble at each of a few carrier offsets, refines start (to 1/32
sample) and offset on the best, and takes phase, gain and noise power from preamble and pilots.
Reference: Proakis & Salehi, Digital Communications, 5th ed., sec. 5.1 to 5.3 (synchronisation), 9.2 (root-raised cosine).
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.signal import fftconvolve

from flowcodec.errors import InputError
from flowcodec.radio.link import Received
from flowcodec.radio.transmission import PILOT_SPACING, PREAMBLE_USES

OVERSAMPLING = 4
ROLL_OFF = 0.25
SPAN = 12
"""Length of the pulse in symbols on either side."""
OFFSET_LIMIT = 0.005
"""Carrier offset that is found, in symbol rates."""
_DETECTION = 0.25
"""Squared correlation with the preamble, over the power there, that makes a frame: noise alone stays below 0.1."""
_SILENCE = 1e-6
"""Power below this share of the strongest in the recording is no frame."""
_SEED = 0xBEAC
_PHASE_WINDOW = 9


def root_raised_cosine() -> np.ndarray:
    """Unit-energy taps, 2 SPAN OVERSAMPLING + 1 of them."""
    t = np.arange(-SPAN * OVERSAMPLING, SPAN * OVERSAMPLING + 1) / OVERSAMPLING
    b = ROLL_OFF
    with np.errstate(divide="ignore", invalid="ignore"):
        taps = (np.sin(np.pi * t * (1 - b)) + 4 * b * t * np.cos(np.pi * t * (1 + b))) / (np.pi * t * (1 - (4 * b * t) ** 2))
    taps[t == 0] = 1 - b + 4 * b / np.pi
    edge = np.isclose(np.abs(t), 1 / (4 * b))
    taps[edge] = b / np.sqrt(2) * ((1 + 2 / np.pi) * np.sin(np.pi / (4 * b)) + (1 - 2 / np.pi) * np.cos(np.pi / (4 * b)))
    return taps / np.sqrt(np.sum(taps**2))


def known_symbols(count: int) -> np.ndarray:
    """QPSK of unit power: the preamble and the pilots begin with the same ones."""
    quadrants = np.random.Generator(np.random.Philox(key=_SEED)).integers(0, 4, count)
    return np.exp(1j * np.pi * (quadrants / 2 + 0.25))


def preamble() -> np.ndarray:
    return known_symbols(PREAMBLE_USES)


def _pilot_places(data: int) -> tuple[np.ndarray, np.ndarray]:
    """(places of the pilots, places of the data) after the preamble, for ``data`` data symbols."""
    pilots = math.ceil(data / PILOT_SPACING)
    places = np.minimum(np.arange(1, pilots + 1) * (PILOT_SPACING + 1) - 1, data + pilots - 1)
    return places, np.setdiff1d(np.arange(data + pilots), places)


def modulate(symbols: np.ndarray) -> np.ndarray:
    """Data symbols (k,) -> complex samples of the frame; unit power a symbol is unit energy a symbol period."""
    pilots, places = _pilot_places(len(symbols))
    stream = np.empty(len(pilots) + len(places), complex)
    stream[pilots], stream[places] = known_symbols(len(pilots)), symbols
    stream = np.concatenate([preamble(), stream])
    impulses = np.zeros(len(stream) * OVERSAMPLING, complex)
    impulses[::OVERSAMPLING] = stream
    return fftconvolve(impulses, root_raised_cosine())


@dataclass(frozen=True)
class Found:
    """A frame in a recording: symbol-rate samples from the first data symbol on, free of carrier offset, phase and gain."""

    stream: np.ndarray
    offset: float
    """Carrier offset, cycles a symbol."""
    gain: complex
    noise: float
    """Noise power over the power of a symbol, estimated from the preamble."""

    @property
    def csnr_db(self) -> float:
        return -10 * math.log10(self.noise)


def find(samples: np.ndarray) -> Found:
    """The first frame of a recording. Raises InputError where there is none."""
    shortest = PREAMBLE_USES * OVERSAMPLING + 2 * SPAN * OVERSAMPLING
    if len(samples) < shortest:
        raise InputError(f"expected a recording of at least {shortest} samples, the preamble of a frame, found {len(samples)}")
    filtered = fftconvolve(samples, root_raised_cosine(), mode="same")
    start, offset = _search(filtered)
    # Within a symbol the offset turns the phase too little to spoil the matched filter (0.5 % is 2 degrees).
    turn = np.exp(-2j * np.pi * offset * np.arange(len(filtered)) / OVERSAMPLING)
    filtered = filtered * turn
    symbols = _sample(filtered, _fine_start(filtered, start))
    head = symbols[:PREAMBLE_USES] * np.conj(preamble())
    rest = _slope(head)
    symbols = symbols * np.exp(-2j * np.pi * rest * np.arange(len(symbols)))
    head = symbols[:PREAMBLE_USES] * np.conj(preamble())
    gain = complex(head.mean())
    noise = max(float(np.mean(np.abs(head - gain) ** 2)) * PREAMBLE_USES / (PREAMBLE_USES - 1) / abs(gain) ** 2, 1e-9)
    return Found(symbols[PREAMBLE_USES:] / gain, offset + rest, gain, noise)


def received(found: Found, count: int) -> Received:
    """The first ``count`` data symbols of a frame, phase and gain tracked by the pilots. Raises InputError if it is cut off."""
    pilots, places = _pilot_places(count)
    if len(found.stream) <= max(pilots[-1], places[-1]):
        raise InputError(
            f"expected {count + len(pilots)} symbols after the preamble, found {len(found.stream)}: the recording is cut off"
        )
    measured = found.stream[pilots] * np.conj(known_symbols(len(pilots)))
    smoothed = _smooth(measured)
    at = np.concatenate([[-1], pilots])
    values = np.concatenate([[1.0 + 0j], smoothed])
    gains = np.interp(places, at, values.real) + 1j * np.interp(places, at, values.imag)
    return Received(found.stream[places], gains, ((1.0, found.noise),))


def _search(filtered: np.ndarray) -> tuple[int, float]:
    """(sample of the first preamble symbol, carrier offset in cycles a symbol) by correlation, one offset after another."""
    reference = np.zeros((PREAMBLE_USES - 1) * OVERSAMPLING + 1, complex)
    reference[::OVERSAMPLING] = preamble()
    comb = np.abs(reference) > 0
    energy = fftconvolve(np.abs(filtered) ** 2, comb[::-1].astype(float), mode="valid")
    # In silence both correlations are rounding errors, whose ratio means nothing.
    energy = np.maximum(energy, max(_SILENCE * float(energy.max()), 1e-300))
    positions = np.arange(len(reference)) / OVERSAMPLING
    best = (0.0, 0, 0.0)
    # The correlation falls to 0.9 a quarter of 1 / PREAMBLE_USES away from the offset.
    step = 0.5 / PREAMBLE_USES
    count = math.ceil(1.1 * OFFSET_LIMIT / step)
    for offset in np.arange(-count, count + 1) * step:
        turned = reference * np.exp(2j * np.pi * offset * positions)
        score = np.abs(fftconvolve(filtered, np.conj(turned[::-1]), mode="valid")) ** 2 / energy / PREAMBLE_USES
        place = int(np.argmax(score))
        if score[place] > best[0]:
            best = (float(score[place]), place, float(offset))
    score, place, offset = best
    if score < _DETECTION:
        raise InputError(f"no frame found: the best correlation with the preamble is {score:.2f}, {_DETECTION} is needed")
    return place, offset


def _fine_start(filtered: np.ndarray, start: int) -> float:
    """Start to a fraction of a sample: the place where the preamble correlates most, to 1/32 sample."""
    known = np.conj(preamble())
    head = slice(0, PREAMBLE_USES)
    tries = start + np.arange(-32, 33) / 32
    power = [np.abs(np.sum(_sample(filtered, place, PREAMBLE_USES)[head] * known)) for place in tries]
    return float(tries[int(np.argmax(power))])


def _sample(filtered: np.ndarray, start: float, count: int | None = None) -> np.ndarray:
    """Symbol-rate samples from ``start`` on, between samples by a windowed-sinc interpolation."""
    whole = math.floor(start)
    fraction = start - whole
    if count is None:
        count = (len(filtered) - 1 - whole) // OVERSAMPLING + 1
    reach = 16
    taps = np.arange(-reach, reach + 1)
    weights = np.sinc(taps - fraction) * np.hamming(2 * reach + 1)
    weights /= weights.sum()
    padded = np.pad(filtered, reach + OVERSAMPLING)
    begin = whole + OVERSAMPLING
    places = begin + np.arange(count) * OVERSAMPLING
    places = places[places + 2 * reach < len(padded)]
    return sum(weight * padded[places + index] for index, weight in enumerate(weights))


def _slope(head: np.ndarray) -> float:
    """Remaining offset in cycles a symbol: the frequency of a tone in noise, by maximum likelihood on a zero-padded DFT."""
    size = 1 << 14
    spectrum = np.abs(np.fft.fft(head, size))
    place = int(np.argmax(spectrum))
    return (place if place < size // 2 else place - size) / size


def _smooth(measured: np.ndarray) -> np.ndarray:
    """Moving mean of the pilots after their common slow turn is taken off, which a mean would shrink."""
    turn = np.unwrap(np.angle(measured))
    tone = np.polyfit(np.arange(len(turn)), turn, 1)[0] if len(turn) > 1 else 0.0
    steady = measured * np.exp(-1j * tone * np.arange(len(measured)))
    window = min(_PHASE_WINDOW, len(measured)) // 2 * 2 + 1
    padded = np.pad(steady, window // 2, mode="edge")
    mean = np.convolve(padded, np.ones(window) / window, mode="valid")[: len(measured)]
    return mean * np.exp(1j * tone * np.arange(len(measured)))
