"""Which layers a transmission has: their modes, powers and files, for digital, hybrid and layered transmission.

Everything here is decided by measured block errors of random bits (digital.py), by the size of the picture's own files, and for
fading by the rate curve of training photographs (rate_curve.json). No test picture decides anything.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from flowcodec.errors import InputError
from flowcodec.radio.digital import MODES, Mode, best_mode, segment, threshold_db
from flowcodec.radio.ladder import SAVED, Ladder
from flowcodec.radio.link import noise_power
from flowcodec.radio.transmission import POWER_UNIT, Layer, Transmission, data_uses, transmit
from flowcodec.runtime.step import STEP_COUNT

DEFAULT_SHARE = 0.05
BASE_MARGIN_DB = 6.1
"""The base layer works so much below the design CSNR."""
BASE_PSNR_DB = 24.1
BASE_MOST = 0.5
"""Of the bytes that the main layer would have alone: a base layer takes no more."""
BROADCAST_LOWEST_DB = -1.1
"""CSNR from which the coarse picture of the analog mode is decoded: what the most robust plain mode of the table needs."""
BROADCAST_DIGITAL = 0.75
"""Its share of the power. Of four held-out training photographs designed for 10 dB, 0.65 to 0.85 differ by less than 0.2 dB."""
RATE_CURVE_FILE = Path(__file__).with_name("rate_curve.json")
"""Mean PSNR by rate of training photographs; benchmarks/radio_rate_curve.py writes it."""
LOST_DB = 15.0
"""About the PSNR of a picture of which the mean colour is left."""
_OUTAGES = np.geomspace(0.01, 0.6, 22)
_ANALOG_SHARES = (0.0, 0.02, 0.05, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3)
_MOST_EFFICIENT, _EVERY, _ROOM = 4.5, 4, 1.1
LEAST_BPP = 0.03
"""Of a layer for fading."""


def digital(ladder: Ladder, uses: int, mode: Mode) -> Transmission:
    """One layer with all the power. Raises InputError where the uses are too few."""
    layers = data_uses(uses)
    data = ladder.of_size(segment(layers, mode).size_bytes)
    return transmit(ladder.image, layers, [Layer(MODES.index(mode), POWER_UNIT, len(data))], [(data, ladder.pixels(data))])


def hybrid(ladder: Ladder, uses: int, design_db: float, share: float = DEFAULT_SHARE) -> Transmission:
    """Base layer, main layer, and the main file's quantisation errors on top. Raises InputError where the uses are too few.

    Base: a file of BASE_PSNR_DB in the most robust mode that holds it, with just the power p that the mode needs BASE_MARGIN_DB
    below the design, p / (1 - p + N) = its threshold. Main: the file that the best mode holds at the design CSNR, the analog
    layer counted as noise.
    """
    layers = data_uses(uses)
    analog = round(share * POWER_UNIT)
    alone = segment(layers, best_mode(snr_db(POWER_UNIT - analog, analog, design_db)))
    base = ladder.of_psnr(BASE_PSNR_DB)
    if len(base) > BASE_MOST * alone.size_bytes:
        base = ladder.of_size(int(BASE_MOST * alone.size_bytes))
    # Not the slowest that holds it: repetitions make some modes worse than faster ones.
    base_mode = min((mode for mode in MODES if _holds(layers, mode) >= len(base)), key=threshold_db)
    needed = 10 ** (threshold_db(base_mode) / 10)
    base_power = math.ceil(POWER_UNIT * needed * (1 + noise_power(design_db - BASE_MARGIN_DB)) / (1 + needed))
    main_power = POWER_UNIT - analog - base_power
    if main_power <= 0:
        raise InputError(f"expected a higher design CSNR for {uses} uses: base and analog layer take all the power")
    mode = best_mode(snr_db(main_power, analog, design_db))
    finer = ladder.above(base)
    main = finer.of_size(segment(layers, mode).size_bytes)
    described = [
        Layer(MODES.index(base_mode), base_power, len(base)),
        Layer(MODES.index(mode), main_power, len(main)),
    ]
    files = [(base, ladder.pixels(base)), (main, finer.pixels(main))]
    return transmit(ladder.image, layers, described, files, analog, design_db)


def broadcast(ladder: Ladder, uses: int, design_db: float) -> Transmission:
    """Analog mode: one robust file, and its quantisation errors analog. Raises InputError where the uses are too few.

    The file is decoded from BROADCAST_LOWEST_DB on, whatever the design CSNR, which shapes the analog layer alone.
    """
    layers = data_uses(uses)
    power = round(BROADCAST_DIGITAL * POWER_UNIT)
    analog = POWER_UNIT - power
    mode = best_mode(snr_db(power, analog, BROADCAST_LOWEST_DB))
    data = ladder.of_size(segment(layers, mode).size_bytes)
    layer = Layer(MODES.index(mode), power, len(data))
    return transmit(ladder.image, layers, [layer], [(data, ladder.pixels(data))], analog, design_db)


def layered(ladder: Ladder, uses: int, mean_db: float) -> Transmission:
    """Layers for slow Rayleigh fading of which the sender knows the mean CSNR only; see ``fading_layers``."""
    layers = data_uses(uses)
    pixels = ladder.image.shape[0] * ladder.image.shape[1]
    # A base layer holds at least the smallest file; in a small picture that is many bits a pixel.
    least = max(LEAST_BPP, _ROOM * 8 * len(ladder.file(STEP_COUNT - 1)) / pixels)
    design = fading_layers(round(layers / pixels, 3), mean_db, least_bpp=least)
    analog = round(POWER_UNIT * design.analog)
    files: list[tuple[bytes, np.ndarray]] = []
    for mode in design.modes:
        ladder = ladder.above(files[-1][0]) if files else ladder
        data = ladder.of_size(segment(layers, mode).size_bytes)
        files.append((data, ladder.pixels(data)))
    powers = [round(POWER_UNIT * power) for power in design.powers[1:]]
    powers = [POWER_UNIT - analog - sum(powers), *powers]
    described = [
        Layer(MODES.index(mode), power, len(data)) for mode, power, (data, _) in zip(design.modes, powers, files, strict=True)
    ]
    return transmit(ladder.image, layers, described, files, analog, mean_db)


@dataclass(frozen=True)
class FadingDesign:
    """Superposed layers, from the most robust to the main one, and the analog layer on top."""

    modes: tuple[Mode, ...]
    powers: tuple[float, ...]
    analog: float
    expected_db: float
    """Mean PSNR over the fades, by the rate curve of training photographs."""


@dataclass(frozen=True)
class _States:
    """Upper layers chosen so far, one entry a choice."""

    power: np.ndarray
    """Of all of them and the analog layer."""
    mean: np.ndarray
    """Their part of the mean PSNR."""
    mode: np.ndarray
    gain: np.ndarray
    """Of the lowest of them: its mode, and the |h|^2 from which it is decoded."""
    chosen: tuple[tuple[np.ndarray, np.ndarray], ...] = ()
    """(mode, power) of each, the topmost first."""

    def take(self, places: np.ndarray) -> "_States":
        chosen = tuple((mode[places], power[places]) for mode, power in self.chosen)
        return _States(self.power[places], self.mean[places], self.mode[places], self.gain[places], chosen)


@lru_cache(maxsize=16)
def fading_layers(
    uses_per_pixel: float, mean_db: float, count: int = 2, analog: bool = True, least_bpp: float = LEAST_BPP
) -> FadingDesign:
    """The ``count`` superposed layers with the highest mean PSNR over |h|^2 ~ Exp(1), h unknown to the sender.

    Layer l is decoded where |h|^2 >= g_l, with p_l g_l / (p_above g_l + N) its mode's threshold; a picture is that of the last
    layer decoded, whose file has efficiency times ``uses_per_pixel`` bits per pixel, and the analog layer refines the main one.
    Search: every fourth mode, shares of the analog layer and outage probabilities of all layers but the first on grids; the
    first takes what power is left. Broadcast approach: Shamai & Steiner 2003.
    """
    designs = [_search(uses_per_pixel, mean_db, count, share, least_bpp) for share in (_ANALOG_SHARES if analog else (0.0,))]
    return max(designs, key=lambda design: design.expected_db)


def _search(uses_per_pixel: float, mean_db: float, count: int, share: float, least_bpp: float) -> FadingDesign:
    noise = noise_power(mean_db)
    modes = [mode for mode in MODES if mode.efficiency <= _MOST_EFFICIENT and mode.efficiency * uses_per_pixel > least_bpp]
    modes = modes[::_EVERY]
    needed = np.array([10 ** (threshold_db(mode) / 10) for mode in modes])
    efficiencies = np.array([mode.efficiency for mode in modes])
    psnr = rate_curve(uses_per_pixel * efficiencies)
    gains = -np.log1p(-_OUTAGES)
    refined = _refinement(share / noise)
    empty = np.zeros(1)
    states = _States(empty + share, empty, np.full(1, len(modes)), np.full(1, np.inf))
    for number in range(count - 1):
        grid = np.meshgrid(range(len(states.power)), range(len(modes)), range(len(gains)), indexing="ij")
        before, mode, gained = (values.reshape(-1) for values in grid)
        own = needed[mode] * (states.power[before] + noise / gains[gained])
        allowed = (mode < states.mode[before]) & (gains[gained] < states.gain[before]) & (states.power[before] + own < 1)
        before, mode, gain, own = before[allowed], mode[allowed], gains[gained[allowed]], own[allowed]
        part = psnr[mode] * (np.exp(-gain) - np.exp(-states.gain[before])) + (refined(gain) if number == 0 else 0)
        above = states.take(before)
        chosen = (*above.chosen, (mode, own))
        states = _States(above.power + own, above.mean + part, mode, gain, chosen)
        states = states.take(_undominated(states))
    best, first, place = -np.inf, 0, 0
    for index in range(len(modes)):
        spare = (1 - states.power) / needed[index] - states.power
        gain = np.where(spare > 0, noise / np.maximum(spare, 1e-12), np.inf)
        value = states.mean + psnr[index] * (np.exp(-gain) - np.exp(-states.gain)) + LOST_DB * -np.expm1(-gain)
        if count == 1:
            value += refined(gain)
        else:
            # The lowest of the upper layers is smaller by what its receiver knows from the first.
            rates = uses_per_pixel * (efficiencies[states.mode] + SAVED * efficiencies[index])
            value += (rate_curve(rates) - psnr[states.mode]) * np.exp(-states.gain)
        value = np.where((gain < states.gain) & (index < states.mode), value, -np.inf)
        if value.max() > best:
            best, first, place = float(value.max()), index, int(np.argmax(value))
    upper = [(modes[int(mode[place])], float(power[place])) for mode, power in reversed(states.chosen)]
    powers = [power for _, power in upper]
    return FadingDesign((modes[first], *(mode for mode, _ in upper)), (1 - share - sum(powers), *powers), share, best)


def _refinement(csnr: float) -> Callable[[np.ndarray], np.ndarray]:
    """g -> integral from g of G(csnr x) e^-x dx, G(y) = -10 log10(1 - f + f / (1 + y)): what the analog layer adds to the mean.

    f: the share of the squared error in the coefficients that are sent, of training photographs.
    """
    share = _curve_file()["share"]
    edges = np.geomspace(1e-3, 20, 400)
    middles = np.sqrt(edges[1:] * edges[:-1])
    parts = -10 * np.log10(1 - share + share / (1 + csnr * middles)) * (np.exp(-edges[:-1]) - np.exp(-edges[1:]))
    tails = np.append(np.cumsum(parts[::-1])[::-1], 0)
    return lambda gain: np.interp(gain, edges, tails)


def best_fading_mode(uses_per_pixel: float, mean_db: float) -> Mode:
    """The single mode with the highest mean PSNR over slow Rayleigh fading, by the rate curve of training photographs."""
    return fading_layers(uses_per_pixel, mean_db, 1, analog=False).modes[0]


@cache
def _curve_file() -> dict[str, Any]:
    return json.loads(RATE_CURVE_FILE.read_text())


def rate_curve(bpp: np.ndarray) -> np.ndarray:
    """Mean PSNR (dB) of training photographs at rates in bits per pixel, linear in log(bpp), extended beyond the ends."""
    curve = _curve_file()
    rates, values = np.log2(curve["bpp"]), np.array(curve["psnr_db"])
    wanted = np.log2(bpp)
    found = np.interp(wanted, rates, values)
    for end, inner in ((0, 1), (-1, -2)):
        slope = (values[inner] - values[end]) / (rates[inner] - rates[end])
        outside = wanted < rates[end] if end == 0 else wanted > rates[end]
        found = np.where(outside, values[end] + slope * (wanted - rates[end]), found)
    return found


def _undominated(states: _States) -> np.ndarray:
    """Of the states with one mode and gain only those that no other beats in both power and mean, powers 0.01 apart."""
    keep = []
    last: tuple[float, float] | None = None
    best, least = -np.inf, 0.0
    for place in np.lexsort((states.power, states.gain, states.mode)):
        key = (float(states.mode[place]), float(states.gain[place]))
        if key != last:
            last, best, least = key, -np.inf, 0.0
        if states.mean[place] > best and states.power[place] > least:
            keep.append(place)
            best, least = states.mean[place], states.power[place] + 0.01
    return np.array(keep, int)


def _holds(uses: int, mode: Mode) -> int:
    try:
        return segment(uses, mode).size_bytes
    except InputError:
        return 0


def snr_db(power: int, above: int, csnr_db: float) -> float:
    """SNR of a layer of ``power`` with ``above`` above it, both in 1/4096."""
    return 10 * math.log10(power / POWER_UNIT / (above / POWER_UNIT + noise_power(csnr_db)))
