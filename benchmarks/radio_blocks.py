"""Block error rates of the modes over AWGN, measured with random bits: src/flowcodec/radio/blocks.json.

    python benchmarks/radio_blocks.py [--blocks 12] [--fresh]

About three minutes of one core; goes on with what the file holds. No picture is involved, so modes chosen by this table are
chosen without test data.
"""

import argparse
import json
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.stats import norm

from flowcodec.benchmark.environment import environment
from flowcodec.progress import over
from flowcodec.radio import digital
from flowcodec.radio.digital import BLOCK_FILE, MEASURED_MODES, Mode, capacity_db
from flowcodec.radio.link import awgn
from flowcodec.radio.transmission import HEADER_MODE, header_segment

_PROBE_BLOCKS = 3
_STEP_DB, _DEVIATION_DB = 0.2, 0.15
# Decibels from capacity to where a search may begin, for the first mode of 2, 4, 6 and 8 bits a use; then before the waterfall
# that the distance of the last mode from capacity lets expect.
_START_DB = {2: 0.2, 4: 1.1, 6: 1.3, 8: 1.8}
_BEFORE_DB = 0.3


def errors(mode: Mode, snr_db: float, blocks: int, rng: np.random.Generator) -> int:
    """Blocks of NOMINAL_BITS that fail of ``blocks``; of a header, which is one block, headers."""
    if mode == HEADER_MODE:
        return sum(_errors(header_segment(), snr_db, rng) for _ in range(blocks))
    return _errors(digital.segment(blocks * digital.NOMINAL_BITS // mode.bits, mode), snr_db, rng)


def _errors(plan: digital.Segment, snr_db: float, rng: np.random.Generator) -> int:
    received = awgn(digital.send(rng.bytes(plan.size_bytes), plan), snr_db, rng)
    return int((~digital.receive(received, plan).right).sum())


def measure(mode: Mode, blocks: int, start_db: float, rng: np.random.Generator) -> dict[str, Any]:
    """Finds the waterfall upwards from ``start_db`` with few blocks, then measures points until none of ``blocks`` fails."""
    points: list[tuple[float, int, int]] = []
    snr, count = start_db, _PROBE_BLOCKS
    while True:
        failed = errors(mode, snr, count, rng)
        points.append((snr, count, failed))
        if failed == 0 and count == blocks:
            break
        if failed < count:
            count = blocks
        if failed:
            snr += _STEP_DB
    mean, deviation = fit(points)
    rows = [{"snr_db": round(snr, 3), "blocks": count, "errors": failed} for snr, count, failed in points]
    return {"mean_db": mean, "deviation_db": deviation, "points": rows}


def fit(points: list[tuple[float, int, int]]) -> tuple[float, float]:
    """(mean, deviation) of Q((SNR - mean) / deviation) by maximum likelihood, with a weak prior on the deviation.

    A waterfall of so few points says little of its width; measured with many, widths at this block length are 0.1 to 0.25 dB.
    """
    snr, count, failed = (np.array(column, float) for column in zip(*points, strict=True))

    def loss(parameters: np.ndarray) -> float:
        mean, log_deviation = parameters
        z = (snr - mean) / np.exp(log_deviation)
        prior = 0.5 * ((log_deviation - np.log(_DEVIATION_DB)) / 0.3) ** 2
        return prior - float(np.sum(failed * norm.logsf(z) + (count - failed) * norm.logcdf(z)))

    best = minimize(loss, np.array([snr[-1] - 0.3, np.log(_DEVIATION_DB)]), method="Nelder-Mead")
    return round(float(best.x[0]), 3), round(float(np.exp(best.x[1])), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    known: dict[str, Any] = {}
    if BLOCK_FILE.exists() and not options.fresh:
        known = json.loads(BLOCK_FILE.read_text())["modes"]
    names = {mode: mode.name for mode in MEASURED_MODES} | {HEADER_MODE: digital.HEADER_NAME}
    kept = {name: known[name] for name in names.values() if name in known}
    with over(list(names), "measuring blocks") as (counted, say):
        before: Mode | None = None
        for number, mode in enumerate(counted):
            name, last, before = names[mode], before, mode
            if name in kept:
                continue
            gap = _START_DB[mode.bits]
            if last and last.bits == mode.bits:
                gap = kept[last.name]["mean_db"] - capacity_db(last.efficiency) - _BEFORE_DB
            kept[name] = measure(mode, options.blocks, capacity_db(mode.efficiency) + gap, np.random.default_rng([12, number]))
            say(f"{name}: mean {kept[name]['mean_db']} dB, deviation {kept[name]['deviation_db']} dB")
            document = {
                "what": "errors of blocks of about 7200 coded bits, 5G LDPC, serial sum-product (40 iterations), Gray QAM, AWGN",
                "command": "python benchmarks/radio_blocks.py",
                "environment": environment(),
                "modes": {name: kept[name] for name in names.values() if name in kept},
            }
            BLOCK_FILE.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
