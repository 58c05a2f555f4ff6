"""Measures every link of docs/bounds.md and writes results/bounds.json, the figure and the tables of that page.

    python benchmarks/bounds.py TRAIN KODAK [--weights FILE] [--only SECTION ...] [--share 1.0] [--out results/bounds.json]

TRAIN is a folder of training photographs, whose held-out part certifies; KODAK that of the test pictures, only measured.
Sections: confidence, divergence, sources, channel, certificates, rates; those after ``--only`` are measured and replace what the
result file holds of them. Each is minutes of an idle core; ``--share 0.2`` does a fifth of the seeds, crops and files.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowcodec.benchmark.environment import environment
from flowcodec.bounds import confidence, sources
from flowcodec.bounds import divergence as divergences
from flowcodec.bounds.critic import train_critic
from flowcodec.bounds.file import check_certificate
from flowcodec.bounds.model import ReportSettings, report, split
from flowcodec.bounds.rate import model_rates
from flowcodec.model.checkpoint import load_model
from flowcodec.runtime import simulation
from flowcodec.runtime.coder import SymbolEncoder
from flowcodec.runtime.decode import decode_picture
from flowcodec.runtime.encode import EncodeSettings, encode_picture
from flowcodec.runtime.image import Picture, read_picture
from flowcodec.runtime.quality import psnr_db
from flowcodec.runtime.step import step_index
from flowcodec.training.config import DataConfig

ROOT = Path(__file__).parents[1]
STEPS = (6.0, 12.0, 24.0, 48.0)
SIDE = 64
DELTA = 0.05


def measure_confidence(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Coverage and slack over the sample mean of the upper bounds, for costs in [0, 3] bpp with sd 0.6."""
    rows = []
    for n, repeats in ((24, 1000), (100, 500), (1000, 100)):
        repeats = max(int(repeats * options.share), 20)
        rng, excess, misses = (
            np.random.default_rng(n),
            dict.fromkeys(confidence.METHODS, 0.0),
            dict.fromkeys(confidence.METHODS, 0),
        )
        for _ in range(repeats):
            values = 3 * rng.beta(2.625, 2.625, n)
            for method in confidence.METHODS:
                bound = confidence.upper_bound(values, confidence.Range(0.0, 3.0), DELTA, method)
                excess[method] += (bound - values.mean()) / repeats
                misses[method] += bound < 1.5
        rows += [
            {"n": n, "method": m, "repeats": repeats, "coverage": 1 - misses[m] / repeats, "slack_bpp": excess[m]} for m in excess
        ]
    return rows


def measure_divergence(options: argparse.Namespace) -> dict[str, Any]:
    """Share of a known KL that the certified KL bound recovers: a prior that ignores mean, variance and correlation."""
    d, mean, variance, rho = 4, 0.3, 1.21, 0.7
    covariance = variance * rho ** np.abs(np.subtract.outer(np.arange(d), np.arange(d)))
    kl = 0.5 * (np.trace(covariance) + d * mean**2 - d - np.linalg.slogdet(covariance)[1])
    factor = np.linalg.cholesky(covariance)
    shares = []
    for seed in range(max(int(100 * options.share), 5)):
        rng = np.random.default_rng(1000 + seed)
        draws = [rng.normal(size=(n, d)) @ factor.T + mean for n in (20_000, 10_000)]
        critic = train_critic(draws[0], rng.normal(size=(20_000, d)), steps=250, seed=seed)
        bound = divergences.certify(divergences.KL, critic, list(draws[1][:, None]), rng.normal(size=(300_000, d)), DELTA)
        shares.append(float(bound.kl / kl))
    above = sum(share > 1 for share in shares)
    below = sum(share < 0.8 for share in shares)
    low, middle, high = np.percentile(shares, [0, 50, 100])
    return {
        "kl_nats": float(kl),
        "seeds": len(shares),
        "above": above,
        "below_80_percent": below,
        "min": low,
        "median": middle,
        "max": high,
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


def measure_channel(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Bits a block of the ``gaussian`` channel against KL + log2(KL + 2) + 2; moments of y - z; Kolmogorov-Smirnov by sqrt n."""
    rows = []
    for scale in (8, 14, 22, 30, 38, 46, 52):
        n, rng = max(int(6000 * options.share), 600), np.random.default_rng(scale)
        z, scales = rng.normal(0, 64 * 2.0 ** (scale / 8 - 2.75), n), np.full(n, scale, np.uint8)
        channel = simulation.GaussianSimulation(seed=scale)
        numbers, tables = channel.quantise(z, 0, scales, (0, 1)), channel.table_ids(0, scales, (0, 1))
        encoder = SymbolEncoder(simulation.index_tables())
        encoder.push(numbers, tables)
        kl = float(simulation.divergence_bits(z, scale).sum() / len(numbers))
        errors = (channel.received(numbers, scales, (0, 1)) - z) / 64 * math.sqrt(12)
        spread = np.sort(errors + rng.uniform(-0.5, 0.5, n) * math.sqrt(12) / 64)
        cumulative = torch.special.ndtr(torch.from_numpy(spread)).numpy()
        distance = np.abs(cumulative - (np.arange(n) + 0.5) / n).max() * math.sqrt(n)
        rows.append(
            {
                "scale_steps": 2.0 ** (scale / 8 - 2.75),
                "blocks": len(numbers),
                "kl_bits": kl,
                "bits": 8 * len(encoder.finish()) / len(numbers),
            }
            | {"bound_bits": kl + math.log2(kl + 2) + 2, "mean_error": float(errors.mean()), "variance": float(errors.var())}
            | {"ks_sqrt_n": float(distance), "inexact": channel.inexact}
        )
    return rows


def measure_certificates(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Violations and the largest slack, in bytes and beyond 1 % + 128 bytes, of crops and of whole test pictures."""
    _, held_out = split([options.train], [], DataConfig().validation_every, 1)
    crops = held_out.crops(max(int(250 * options.share), 10), SIDE, np.random.default_rng(0))
    kodak = [read_picture(path).pixels for path in sorted(options.kodak.glob("*.png"))][: max(int(24 * options.share), 1)]
    rows = []
    for name, pictures in (("crops", [crop.transpose(1, 2, 0) for crop in crops]), ("kodak", kodak)):
        for channel in ("round", "dither"):
            for quality in (20, 40, 60, 85):
                slacks, files, violations, beyond = [], 0, 0, 0
                for pixels in pictures:
                    data = encode_picture(
                        Picture(np.ascontiguousarray(pixels)),
                        EncodeSettings(quality=quality, channel=channel, certificate=True, model=options.model, threads=1),
                    )
                    found = check_certificate(data, threads=1)
                    files, violations = files + 1, violations + (not found.holds)
                    slacks.append(found.bytes - len(data))
                    beyond += slacks[-1] > 0.01 * len(data) + 128
                rows.append(
                    {"pictures": name, "channel": channel, "quality": quality, "files": files, "violations": violations}
                    | {"slack_bytes_max": max(slacks), "beyond_the_bar": beyond}
                )
    return rows


def measure_rates(options: argparse.Namespace) -> dict[str, Any]:
    """The figure's data: crops of the test pictures through every channel, and the certified report on held-out crops."""
    model, _ = load_model(options.weights)
    count = max(int(24 * options.share), 4)
    crops = []
    for path in sorted(options.kodak.glob("*.png"))[:count]:
        pixels = read_picture(path).pixels
        top, left = (extent // 2 - SIDE // 2 for extent in pixels.shape[:2])
        crops.append(np.ascontiguousarray(pixels[top : top + SIDE, left : left + SIDE]))
    files: list[dict[str, Any]] = []
    for step in STEPS:
        passed = model_rates(model, np.stack([crop.transpose(2, 0, 1) for crop in crops]), step_index(step), 0)
        files.append({"step": step, "name": "kl", "bpp": float(passed.kl_bpp.mean()), "psnr_db": float(passed.psnr_db.mean())})
        for channel in ("round", "dither", "gaussian"):
            sizes, qualities = [], []
            for crop in crops:
                data = encode_picture(Picture(crop), EncodeSettings(step=step, channel=channel, model=options.model, threads=1))
                sizes.append(8 * len(data) / SIDE**2)
                qualities.append(psnr_db(crop, decode_picture(data, 1).pixels))
            files.append({"step": step, "name": channel, "bpp": float(np.mean(sizes)), "psnr_db": float(np.mean(qualities))})
    critic_images, certification = split([options.train], [], DataConfig().validation_every, max(int(60 * options.share), 8))
    crops_drawn = max(int(600 * options.share), 60)
    settings = ReportSettings(STEPS, crops=crops_drawn, critic_crops=crops_drawn, side=SIDE, delta=DELTA)
    members = [divergences.KL, divergences.renyi(0.9), divergences.HELLINGER, divergences.JENSEN_SHANNON]
    rows = list(report(model, critic_images, certification, settings, members))
    return {"crops": len(crops), "files": files, "certified_crops": crops_drawn, "certified": rows}


SECTIONS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "confidence": measure_confidence,
    "divergence": measure_divergence,
    "sources": measure_sources,
    "channel": measure_channel,
    "certificates": measure_certificates,
    "rates": measure_rates,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("kodak", type=Path)
    parser.add_argument("--weights", type=Path, default=ROOT / "weights" / "default.safetensors")
    parser.add_argument("--model", default="default", help="the model file of the same weights")
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bounds.json")
    options = parser.parse_args()
    document = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name in options.only:
        document[name] = {"share": options.share, "measured": SECTIONS[name](options), "environment": environment()}
        options.out.write_text(json.dumps(document, indent=1) + "\n")
        print(f"{name}: in {options.out}", flush=True)


if __name__ == "__main__":
    main()
