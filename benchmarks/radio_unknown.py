"""Channel-noise flows of unknown links: certified rates, and the LDPC code with their LLRs; results/radio/unknown.json.

    python benchmarks/radio_unknown.py [--pairs 100000] [--uses 60000] [--blocks 40]

About 8 minutes of one core. Each flow is fitted to pairs of sent and received symbols; everything is then measured on the true
link, with fresh noise. No picture is involved.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq, minimize
from scipy.stats import norm

from flowcodec.benchmark.environment import environment
from flowcodec.progress import over
from flowcodec.radio import digital, noise_flow
from flowcodec.radio.certified_rate import GaussianModel, certify
from flowcodec.radio.digital import Mode
from flowcodec.radio.distortion import UNKNOWN_LINKS, DistortedLink
from flowcodec.radio.modulation import points, ratios_of
from flowcodec.radio.noise_flow import NoiseFlow
from flowcodec.radio.shaping import shape_constellation

ROOT = Path(__file__).parents[1]
OUT = ROOT / "results" / "radio" / "unknown.json"
MODE = Mode(4, 0.5)
CSNR_DB = (6.0, 10.0, 14.0)
TRAINED_DB = np.arange(0.0, 18.5, 0.5)
JITTER = 0.15
CODED_LINKS = ("impulsive", "all-three")
STEP_DB, BLER = 0.2, 0.1
PILOTS = 20_000
SHAPED_LINK, SHAPED_DB = "amplifier", 14.0


def pairs(link: DistortedLink, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(sent, received, CSNR): points of the constellation, half of them moved a little, for what lies between."""
    sent = points(MODE.bits)[rng.integers(0, 1 << MODE.bits, count)]
    moved = JITTER * (rng.standard_normal(count) + 1j * rng.standard_normal(count))
    sent = np.where(rng.random(count) < 0.5, sent + moved, sent)
    csnr_db = rng.choice(TRAINED_DB, count)
    received = np.empty(count, complex)
    for value in TRAINED_DB:
        at = csnr_db == value
        received[at] = link.transmit(sent[at], value, rng)
    return sent, received, csnr_db


class Receivers:
    """ln p(y | s) by the true law, the flow, and a Gaussian fitted to pilots of the same CSNR."""

    def __init__(self, link: DistortedLink, flow: NoiseFlow) -> None:
        self.link, self.flow, self.constellation = link, flow, points(MODE.bits)

    def log_density(self, kind: str, samples: np.ndarray, csnr_db: float) -> np.ndarray:
        if kind == "true":
            return self.link.log_density(samples, self.constellation, csnr_db)
        if kind == "flow":
            return noise_flow.log_densities(self.flow, samples, self.constellation, csnr_db)
        rng = np.random.default_rng([3, round(100 * csnr_db) + 10_000])
        pilots = self.constellation[rng.integers(0, len(self.constellation), PILOTS)]
        return GaussianModel.fit(pilots, self.link.transmit(pilots, csnr_db, rng)).log_density(samples, self.constellation)


def rates(receivers: Receivers, csnr_db: float, uses: int, rng: np.random.Generator) -> dict[str, Any]:
    """Certified rate of flow and Gaussian at one CSNR, and the true one."""
    sent = rng.integers(0, 1 << MODE.bits, uses)
    received = receivers.link.transmit(receivers.constellation[sent], csnr_db, rng)
    row: dict[str, Any] = {"csnr_db": csnr_db, "true_bits": receivers.link.information(receivers.constellation, csnr_db)}
    for kind in ("flow", "gaussian", "true"):
        found = certify(receivers.log_density(kind, received, csnr_db), sent)
        row[f"{kind}_certificate"] = vars(found)
    return row


def block_errors(receivers: Receivers, kind: str, csnr_db: float, blocks: int) -> int:
    """Blocks of ``blocks`` that fail; symbols and noise of a CSNR are the same for every kind."""
    rng = np.random.default_rng([5, round(100 * csnr_db) + 10_000])
    plan = digital.segment(blocks * digital.NOMINAL_BITS // MODE.bits, MODE)
    symbols = digital.send(rng.bytes(plan.size_bytes), plan)
    received = receivers.link.transmit(symbols, csnr_db, rng)[digital.positions(plan)]
    ratios = ratios_of(receivers.log_density(kind, received, csnr_db)).reshape(-1)
    return int((~digital.decode(ratios, plan).right).sum())


def start_db(receivers: Receivers, kind: str) -> float:
    """The CSNR from which the kind of receiver has the rate of the mode, by 4000 uses."""

    def excess(csnr_db: float) -> float:
        rng = np.random.default_rng(4)
        sent = rng.integers(0, 1 << MODE.bits, 4000)
        received = receivers.link.transmit(receivers.constellation[sent], csnr_db, rng)
        return certify(receivers.log_density(kind, received, csnr_db), sent).mean - MODE.efficiency

    return round(float(brentq(excess, -8, 16, xtol=0.05)) / STEP_DB) * STEP_DB


def threshold(receivers: Receivers, kind: str, blocks: int) -> dict[str, Any]:
    """CSNR at which a tenth of the blocks fail: a fitted Q((CSNR - mean) / deviation), measured upwards until none fails."""
    rows: list[tuple[float, int]] = []
    csnr_db = start_db(receivers, "true" if kind == "flow" else kind)
    while not rows or rows[-1][1]:
        rows.append((round(csnr_db, 2), block_errors(receivers, kind, csnr_db, blocks)))
        # Where all fail, a coarser step is enough to find the waterfall.
        csnr_db += 2 * STEP_DB if rows[-1][1] == blocks else STEP_DB
    snr, failed = (np.array(column, float) for column in zip(*rows, strict=True))

    def loss(parameters: np.ndarray) -> float:
        z = (snr - parameters[0]) / np.exp(parameters[1])
        prior = 0.5 * ((parameters[1] - np.log(0.15)) / 0.3) ** 2
        return prior - float(np.sum(failed * norm.logsf(z) + (blocks - failed) * norm.logcdf(z)))

    mean, log_deviation = minimize(loss, np.array([snr[-1] - 0.3, np.log(0.15)]), method="Nelder-Mead").x
    return {
        "csnr_db": round(float(mean + np.exp(log_deviation) * norm.isf(BLER)), 3),
        "points": [{"csnr_db": value, "blocks": blocks, "errors": int(errors)} for value, errors in rows],
    }


def shaping(receivers: Receivers, uses: int, rng: np.random.Generator) -> dict[str, Any]:
    """Certified rate with the constellation trained through the flow, against 16-QAM, on the true link."""
    shaped = shape_constellation(receivers.flow, SHAPED_DB, MODE.bits)
    sent = rng.integers(0, len(shaped), uses)
    row: dict[str, Any] = {"link": receivers.link.name, "csnr_db": SHAPED_DB}
    for name, constellation in (("qam", receivers.constellation), ("shaped", shaped)):
        received = receivers.link.transmit(constellation[sent], SHAPED_DB, rng)
        density = noise_flow.log_densities(receivers.flow, received, constellation, SHAPED_DB)
        row[name] = vars(certify(density, sent)) | {"power": float(np.mean(np.abs(constellation) ** 2))}
    row["points"] = [[round(float(point.real), 4), round(float(point.imag), 4)] for point in shaped]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--uses", type=int, default=60_000)
    parser.add_argument("--blocks", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.process_time()
    document: dict[str, Any] = {
        "what": "channel-noise flows of unknown links, everything measured on the true link (simulated)",
        "command": "python benchmarks/radio_unknown.py",
        "settings": vars(options) | {"mode": MODE.name, "bler": BLER, "pilots_of_gaussian": PILOTS},
        "environment": environment(),
        "links": {},
    }
    with over(list(UNKNOWN_LINKS.values()), "unknown links") as (counted, say):
        for number, link in enumerate(counted):
            rng = np.random.default_rng([12, number])
            receivers = Receivers(link, noise_flow.fit(*pairs(link, options.pairs, rng)))
            entry: dict[str, Any] = {"rates": [rates(receivers, csnr_db, options.uses, rng) for csnr_db in CSNR_DB]}
            if link.name in CODED_LINKS:
                entry["thresholds"] = {kind: threshold(receivers, kind, options.blocks) for kind in ("true", "flow", "gaussian")}
            if link.name == SHAPED_LINK:
                entry["shaping"] = shaping(receivers, options.uses, rng)
            document["links"][link.name] = entry
            document["core_seconds"] = round(time.process_time() - begin)
            OUT.write_text(json.dumps(document, indent=1) + "\n")
            say(f"{link.name}: {[round(row['flow_certificate']['mean'] / row['true_bits'], 4) for row in entry['rates']]}")


if __name__ == "__main__":
    main()
