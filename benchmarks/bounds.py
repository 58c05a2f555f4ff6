"""Measures what docs/bounds.md says of known sources, confidence and the ``gaussian`` channel: all that depends on no model.

    python benchmarks/bounds.py KODAK [--only SECTION ...] [--share 1.0] [--out results/bounds.json]

KODAK is the folder of the test pictures, of which one section takes the histogram. Sections: confidence, divergence, sources,
simulation, pairs; those after ``--only`` are measured and replace what the result file holds of them. All take about 15 minutes
of an idle core; ``--share 0.2`` does a fifth of the seeds and blocks. ``bounds_model.py`` measures a model,
``scripts/render_bounds.py`` draws both.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowcodec.benchmark.document import store_section
from flowcodec.benchmark.environment import environment
from flowcodec.bounds import confidence, pixel_pairs, sources
from flowcodec.bounds import divergence as divergences
from flowcodec.bounds.critic import train_critic
from flowcodec.runtime import simulation
from flowcodec.runtime.channel import SCALE_BITS, SCALE_LOG2_FIRST
from flowcodec.runtime.coder import SymbolEncoder
from flowcodec.runtime.image import read_picture

ROOT = Path(__file__).parents[1]
DELTA = 0.05
MISMATCH = {"dimensions": 4, "mean": 0.3, "variance": 1.21, "correlation": 0.7}
KL_BITS = (2, 4, 6, 8, 10, 12, 14, 16)


def even_costs(rng: np.random.Generator, n: int) -> np.ndarray:
    return 3 * rng.beta(2.625, 2.625, n)


def rare_costs(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.where(rng.random(n) < 0.02, 3.0, 0.05)


COSTS = {
    "mean 1.5, sd 0.6": (even_costs, 1.5),
    "0.05, once in 50 times 3": (rare_costs, 0.109),
}
"""Laws of costs in [0, 3] bpp, and their means."""


def measure_confidence(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Coverage and slack over the sample mean of the upper bounds."""
    rows = []
    for law, (draw, mean) in COSTS.items():
        for n in (24, 100, 1000):
            repeats, rng = max(int(2000 * options.share), 20), np.random.default_rng(n)
            excess, misses = dict.fromkeys(confidence.METHODS, 0.0), dict.fromkeys(confidence.METHODS, 0)
            for _ in range(repeats):
                values = draw(rng, n)
                for method in confidence.METHODS:
                    bound = confidence.upper_bound(values, confidence.Range(0.0, 3.0), DELTA, method)
                    excess[method] += (bound - values.mean()) / repeats
                    misses[method] += bound < mean
            rows += [
                {"costs": law, "n": n, "method": m, "repeats": repeats}
                | {"coverage": 1 - misses[m] / repeats, "slack_bpp": excess[m]}
                for m in excess
            ]
    return rows


def true_divergences(covariance: np.ndarray, mean: np.ndarray) -> dict[str, float]:
    """Of N(mean, covariance) from N(0, I), nats: closed forms, Jensen and Shannon's by simulation (0.2 %)."""
    d = len(mean)
    inverse, log_det = np.linalg.inv(covariance), np.linalg.slogdet(covariance)[1]
    found = {"kl": 0.5 * (np.trace(covariance) + mean @ mean - d - log_det)}

    def affinity(alpha: float) -> float:
        """int p^alpha q^(1 - alpha), infinite where the exponent is not negative."""
        precision = alpha * inverse + (1 - alpha) * np.eye(d)
        if np.linalg.eigvalsh(precision).min() <= 0:
            return math.inf
        pull = alpha * inverse @ mean
        exponent = pull @ np.linalg.solve(precision, pull) - alpha * mean @ inverse @ mean
        return math.exp(0.5 * (exponent - alpha * log_det - np.linalg.slogdet(precision)[1]))

    for alpha in (0.5, 0.9):
        found[f"renyi-{alpha:g}"] = (1 - affinity(alpha)) / (alpha * (1 - alpha))
    found["hellinger"] = 2 * (1 - affinity(0.5))
    found["pearson"] = affinity(2.0) - 1
    rng = np.random.default_rng(0)
    q = rng.normal(size=(1_000_000, d))
    p = q @ np.linalg.cholesky(covariance).T + mean

    def log_ratio(x: np.ndarray) -> np.ndarray:
        return 0.5 * ((x**2).sum(1) - np.einsum("ij,jk,ik->i", x - mean, inverse, x - mean) - log_det)

    twice_js = divergences.JENSEN_SHANNON
    found["jensen-shannon"] = float(twice_js.reward(log_ratio(p)).mean() - twice_js.penalty(log_ratio(q)).mean())
    return {name: float(value) for name, value in found.items()}


def measure_divergence(options: argparse.Namespace) -> dict[str, Any]:
    """What every member recovers of a known divergence: a prior that ignores mean, variance and correlation of q(z)."""
    d = int(MISMATCH["dimensions"])
    lags = np.abs(np.subtract.outer(np.arange(d), np.arange(d)))
    covariance, mean = MISMATCH["variance"] * MISMATCH["correlation"] ** lags, np.full(d, MISMATCH["mean"])
    truth, factor = true_divergences(covariance, mean), np.linalg.cholesky(covariance)
    values: dict[str, list[float]] = {name: [] for name in divergences.MEMBERS}
    kl: dict[str, list[float]] = {name: [] for name, member in divergences.MEMBERS.items() if member.kl_of}
    seeds = max(int(100 * options.share), 5)
    for seed in range(seeds):
        rng = np.random.default_rng(1000 + seed)
        seen, fresh = (rng.normal(size=(n, d)) @ factor.T + mean for n in (20_000, 10_000))
        critic = train_critic(seen, rng.normal(size=(20_000, d)), steps=200, width=32, seed=seed)
        prior = rng.normal(size=(200_000, d))
        for name, member in divergences.MEMBERS.items():
            # The others are shown beside it: a quarter of the draws will do.
            draws = prior if name == "kl" else prior[: len(prior) // 4]
            bound = divergences.certify(member, critic, list(fresh[:, None]), draws, DELTA)
            values[name].append(bound.value)
            if name in kl:
                kl[name].append(bound.kl)

    def row(name: str) -> dict[str, Any]:
        shares = np.array(values[name]) / truth[name]
        found = {"member": name, "truth": truth[name], "above": int((shares > 1).sum()), "median_share": float(np.median(shares))}
        if name in kl:
            of_kl = np.array(kl[name]) / truth["kl"]
            low, middle, high = np.percentile(of_kl, [0, 50, 100]).tolist()
            found |= {"kl_above": int((of_kl > 1).sum()), "kl_below_80_percent": int((of_kl < 0.8).sum())}
            found |= {"kl_least_share": low, "kl_median_share": middle, "kl_largest_share": high}
        return found

    return {
        "mismatch": MISMATCH,
        "kl_nats": truth["kl"],
        "seeds": seeds,
        "delta": DELTA,
        "members": [row(name) for name in values],
    }


def measure_sources(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Seeds in which lower <= R(D) <= upper, and how far the upper bound is off at worst."""
    rows: list[dict[str, Any]] = []
    seeds = max(int(100 * options.share), 10)
    for name, source in (("iid", sources.GaussianSource.iid(4)), ("AR(1) field", sources.GaussianSource.ar1_field(4, 0.9))):
        fits = [sources.Fit.of(source.sample(20_000, np.random.default_rng(seed))) for seed in range(seeds)]
        for distortion in (0.01, 0.03, 0.1, 0.3):
            held, worst, lowers, uppers = 0, 0.0, [], []
            for fit in fits:
                rate, found = sources.upper_bound(fit, source, distortion)
                lower = sources.lower_bound(fit, source, distortion)
                held += lower <= source.rate(distortion) and source.rate(found) <= rate
                worst = max(worst, rate / source.rate(found) - 1)
                lowers.append(lower)
                uppers.append(rate)
            rows.append(
                {"source": name, "distortion": distortion, "rate_bits": source.rate(distortion), "seeds": seeds, "held": held}
                | {"upper_excess": worst, "lower_bits": float(np.mean(lowers)), "upper_bits": float(np.mean(uppers))}
            )
    banana = sources.Banana()
    x, weights = banana.nodes(56)
    for slope in (0.5, 1.0, 2.0):  # at steeper ones the spacing of the nodes shows
        _, best = sources.blahut_arimoto(x, weights, x, slope, 150)
        shannon = banana.shannon_lower_bound(best.distortion)
        rows.append(
            {"source": "banana", "distortion": best.distortion, "rate_bits": best.rate_bits, "gap_bits": best.gap_bits}
            | {"lower_bits": shannon, "held": int(shannon <= best.rate_bits), "seeds": 1}
        )
    return rows


def measure_simulation(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Bits a block of the ``gaussian`` channel at 2 ... 16 bits of KL, and whether y - z is the noise that it should be.

    Blocks of two or three coefficients of equal scale, z from the law of that scale. ``zipf_bits`` are those of the code that the
    proof is about, with its parameter from the KL; ``bits`` those of the coder with the tables of the format.
    """
    rows = []
    for target in KL_BITS:
        size = 2 if target <= 10 else 3
        scale = round((0.5 * math.log2((4 ** (target / size) - 1) / 12) - SCALE_LOG2_FIRST) * (1 << SCALE_BITS))
        blocks = max(int({2: 2000, 4: 2000, 6: 1500, 8: 1000, 10: 600, 12: 400, 14: 200, 16: 100}[target] * options.share), 10)
        rng, scales = np.random.default_rng(target), np.full(size, scale)
        z = rng.normal(0, 64 * 2.0 ** (scale / (1 << SCALE_BITS) + SCALE_LOG2_FIRST), (blocks, size))
        channel = simulation.GaussianSimulation(seed=target)
        numbers = np.array([channel.choose(row, scales, index, (0, 0)) for index, row in enumerate(z)])
        received = np.stack([channel.candidate(int(k), scales, index, (0, 0)) for index, k in enumerate(numbers)])
        encoder = SymbolEncoder(simulation.index_tables())
        encoder.push(numbers, np.full(blocks, round(simulation.nominal_bits()[scale] * size / 16)))
        kl = float(simulation.divergence_bits(z.reshape(-1), scale).sum() / blocks)
        exponent = 1 + 1 / (kl + 1)
        zipf = exponent * np.log2(numbers + 1.0).mean() + math.log2(float(torch.special.zeta(torch.tensor(exponent).double(), 1)))
        errors = ((received - z) / 64 * math.sqrt(12)).reshape(-1)
        n = len(errors)
        # Samples lie on a grid of 1/64 step: spread over their cell they have a continuous law.
        spread = np.sort(errors + rng.uniform(-0.5, 0.5, n) * math.sqrt(12) / 64)
        cumulative = torch.special.ndtr(torch.from_numpy(spread)).numpy()
        rows.append(
            {"blocks": blocks, "size": size, "kl_bits": kl, "log2_index": float(np.log2(numbers + 1.0).mean())}
            | {"bits": 8 * len(encoder.finish()) / blocks, "zipf_bits": float(zipf)}
            | {"bound_bits": kl + math.log2(kl + 2) + 2, "goal_bits": kl + math.log2(kl + 3.4) + 1}
            | {"ks_sqrt_n": float(np.abs(cumulative - (np.arange(n) + 0.5) / n).max() * math.sqrt(n))}
            | {"mean_z": float(errors.mean() * math.sqrt(n)), "variance": float(errors.var())}
            | {"variance_z": float((errors.var() - 1) * math.sqrt(n / 2)), "inexact": channel.inexact}
        )
    return rows


def measure_pairs(options: argparse.Namespace) -> dict[str, Any]:
    """Certain bounds on R(D) of pairs of neighbouring green values of the test pictures, a bit and squared error a sample."""
    pictures = sorted(options.kodak.glob("*.png"))
    histogram = pixel_pairs.pair_histogram(read_picture(path).pixels[..., 1] for path in pictures)
    rows = []
    for slope in (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002):
        found = pixel_pairs.pair_bounds(histogram, slope)
        rows.append(
            {"distortion": found.distortion, "lower_bits": found.lower_bits, "upper_bits": found.upper_bits}
            | {"shannon_bits": pixel_pairs.shannon_bits(histogram, found.distortion)}
        )
    return {"pictures": len(pictures), "entropy_bits": pixel_pairs.entropy_bits(histogram), "points": rows}


SECTIONS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "confidence": measure_confidence,
    "divergence": measure_divergence,
    "sources": measure_sources,
    "simulation": measure_simulation,
    "pairs": measure_pairs,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kodak", type=Path)
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bounds.json")
    options = parser.parse_args()
    for name in options.only:
        measured = SECTIONS[name](options)
        store_section(options.out, name, {"share": options.share, "measured": measured, "environment": environment()})
        print(f"{name}: in {options.out}", flush=True)


if __name__ == "__main__":
    main()
