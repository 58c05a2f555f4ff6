"""Block error rates of the modes over AWGN, measured with random bits: src/flowcodec/radio/blocks.json.

    python benchmarks/radio_blocks.py [--blocks 30] [--fresh]

About three minutes of one core; goes on with what the file holds. No picture is involved, so modes chosen by this table are chosen
without test data.
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
from flowcodec.radio.digital import BLOCK_FILE, MODES, Mode
from flowcodec.radio.link import awgn

_PROBE_BLOCKS, _PROBE_STEP_DB = 4, 0.3
_STEP_DB = 0.2


def errors(mode: Mode, snr_db: float, blocks: int, rng: np.random.Generator) -> int:
    """Blocks of NOMINAL_BITS that fail of ``blocks``."""
    plan = digital.segment(blocks * digital.NOMINAL_BITS // mode.bits, mode)
    received = awgn(digital.send(rng.bytes(plan.size_bytes), plan), snr_db, rng)
    return int((~digital.receive(received, plan).right).sum())


def measure(mode: Mode, blocks: int, start_db: float, rng: np.random.Generator) -> dict[str, Any]:
    """Finds the waterfall upwards from ``start_db`` in coarse steps, then measures its points."""
    points: list[tuple[float, int, int]] = []
    snr = start_db
    while True:
        failed = errors(mode, snr, _PROBE_BLOCKS, rng)
        points.append((snr, _PROBE_BLOCKS, failed))
        if failed < _PROBE_BLOCKS:
            break
        snr += _PROBE_STEP_DB
    while True:
        failed = errors(mode, snr, blocks, rng)
        points.append((snr, blocks, failed))
        if failed == 0:
            break
        snr += _STEP_DB
    mean, deviation = fit(points)
    rows = [{"snr_db": round(snr, 3), "blocks": count, "errors": failed} for snr, count, failed in points]
    return {"mean_db": mean, "deviation_db": deviation, "points": rows}


def fit(points: list[tuple[float, int, int]]) -> tuple[float, float]:
    """(mean, deviation) of Q((SNR - mean) / deviation) by maximum likelihood."""
    snr, count, failed = (np.array(column, float) for column in zip(*points, strict=True))

    def loss(parameters: np.ndarray) -> float:
        mean, log_deviation = parameters
        z = (snr - mean) / np.exp(np.clip(log_deviation, np.log(0.05), np.log(0.6)))
        return -float(np.sum(failed * norm.logsf(z) + (count - failed) * norm.logcdf(z)))

    best = minimize(loss, np.array([snr[-1] - 0.3, np.log(0.15)]), method="Nelder-Mead")
    return round(float(best.x[0]), 3), round(float(np.exp(np.clip(best.x[1], np.log(0.05), np.log(0.6)))), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=30)
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    known: dict[str, Any] = {}
    if BLOCK_FILE.exists() and not options.fresh:
        known = json.loads(BLOCK_FILE.read_text())["modes"]
    kept = {mode.name: known[mode.name] for mode in MODES if mode.name in known}
    with over(MODES, "measuring blocks") as (counted, say):
        for number, mode in enumerate(counted):
            if mode.name in kept:
                continue
            # Capacity at that efficiency is a lower limit; practical codes start about half a decibel above it.
            start = 10 * np.log10(2**mode.efficiency - 1) + 0.4
            kept[mode.name] = measure(mode, options.blocks, float(start), np.random.default_rng([12, number]))
            say(f"{mode.name}: mean {kept[mode.name]['mean_db']} dB, deviation {kept[mode.name]['deviation_db']} dB")
            document = {
                "what": "errors of blocks of about 7200 coded bits, 5G LDPC (serial sum-product, at most 40 iterations), Gray QAM, AWGN",
                "command": "python benchmarks/radio_blocks.py",
                "environment": environment(),
                "modes": {mode.name: kept[mode.name] for mode in MODES if mode.name in kept},
            }
            BLOCK_FILE.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
