"""Measures what docs/bounds.md says of a model and its files.

    python benchmarks/bounds_model.py TRAIN KODAK [--weights FILE --model FILE] [--only SECTION ...] [--share 1.0] [--out FILE]

TRAIN is a folder of training photographs: its held-out part certifies, the others are the critics'. KODAK that of the test
pictures, only measured. Sections: rates, paired, pictures, certificates, latents, field, kodak; those after ``--only`` are
measured and replace what the result file holds of them. All take about 12 minutes of an idle core; ``--share 0.5`` does half of
the crops.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowcodec.benchmark.document import store_section
from flowcodec.benchmark.environment import environment
from flowcodec.bounds import divergence as divergences
from flowcodec.bounds import entropy, latents
from flowcodec.bounds.comparison import Pairs, compare, patch_pairs
from flowcodec.bounds.confidence import METHODS, Range, upper_bound
from flowcodec.bounds.file import check_certificate
from flowcodec.bounds.model import ImageSet, ReportSettings, report, split
from flowcodec.bounds.rate import floored_bpp, model_rates
from flowcodec.bounds.sources import Fit, GaussianSource
from flowcodec.bounds.sources import lower_bound as source_lower
from flowcodec.bounds.sources import upper_bound as source_upper
from flowcodec.model.channel import NOISE_VARIANCE, GaussianNoise
from flowcodec.model.checkpoint import load_model
from flowcodec.model.codec import FlowCodecModel
from flowcodec.runtime import container
from flowcodec.runtime.bundle import Model
from flowcodec.runtime.bundle import load_model as load_bundle
from flowcodec.runtime.certificate import read_certificate
from flowcodec.runtime.channel import SCALE_BITS, SCALE_LOG2_FIRST, make_channel
from flowcodec.runtime.coder import SymbolEncoder
from flowcodec.runtime.decode import decode_picture
from flowcodec.runtime.encode import EncodeSettings, encode_picture
from flowcodec.runtime.image import Picture, read_picture
from flowcodec.runtime.step import log2_step, step_index
from flowcodec.training.config import DataConfig

ROOT = Path(__file__).parents[1]
DELTA = 0.05
SIDE = 64
STEPS = (8.0, 20.0, 50.0)
CHANNELS = ("trellis", "round", "dither", "gaussian")
"""The default one first."""
QUALITIES = range(101)
KODAK_EACH = 5
"""Files of each whole test picture, together of every quality."""
PAIRED_STEP, PAIRED_CAP_BPP = 128.0, 0.75
PICTURE_SIDE, PICTURE_STEPS = 128, (1.0, 4.0, 16.0, 32.0, 64.0)
REALISM_STEPS = (4.0, 32.0)
NOISE_STEPS = (0.25, 1.0, 4.0, 16.0)
WINDOW = 32
FIELD_SIDE, FIELD_RHO = 8, 0.9
MEMBERS = [divergences.KL, divergences.JENSEN_SHANNON, divergences.HELLINGER, divergences.PEARSON, divergences.renyi(0.9)]


@dataclass(frozen=True)
class Inputs:
    """What the sections measure, read when first asked for."""

    train: Path
    kodak: Path
    weights: Path
    model: str
    share: float

    @cached_property
    def network(self) -> FlowCodecModel:
        return load_model(self.weights)[0]

    @cached_property
    def bundle(self) -> Model:
        return load_bundle(self.model)

    @cached_property
    def sets(self) -> tuple[ImageSet, ImageSet]:
        """(the critics' pictures, the held-out ones)"""
        return split([self.train], [], DataConfig().validation_every, 60)

    def kodak_crops(self, side: int, every: int = 1) -> np.ndarray:
        """uint8 (n, 3, side, side): the middle of every picture."""
        return middles([read_picture(path).pixels for path in sorted(self.kodak.glob("*.png"))[::every]], side)

    def count(self, whole: int, least: int = 8) -> int:
        return max(int(whole * self.share), least)

    def encode(self, pixels: np.ndarray, **settings: Any) -> bytes:
        """uint8 (3, H, W) -> a file"""
        picture = Picture(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        return encode_picture(picture, EncodeSettings(model=self.model, threads=1, **settings))

    def through(self, pictures: np.ndarray, channel: str, step: float) -> tuple[np.ndarray, np.ndarray]:
        """(bits a pixel (n,), decoded pictures uint8 (n, 3, S, S)) of files."""
        files = [self.encode(picture, step=step, channel=channel) for picture in pictures]
        decoded = [decode_picture(data, 1, model=self.bundle).pixels.transpose(2, 0, 1) for data in files]
        return np.array([8 * len(data) / pictures[0, 0].size for data in files]), np.stack(decoded)


def middles(pictures: Sequence[np.ndarray], side: int) -> np.ndarray:
    """(H, W, 3) each -> (n, 3, side, side)"""
    cut = []
    for pixels in pictures:
        top, left = (extent // 2 - side // 2 for extent in pixels.shape[:2])
        cut.append(pixels[top : top + side, left : left + side].transpose(2, 0, 1))
    return np.stack(cut)


def measure_certificates(inputs: Inputs) -> list[dict[str, Any]]:
    """Of crops, one quality each."""
    count = inputs.count(1001, 44)
    crops = inputs.sets[1].crops(count, SIDE, np.random.default_rng(0))
    return [
        certificates_of(inputs, "crops", name, [(crop, qualities[i % len(qualities)]) for i, crop in enumerate(crops[:most])])
        for name, most, qualities in (
            ("trellis", count, QUALITIES),
            ("round", count // 3, QUALITIES),
            ("dither", count // 9, QUALITIES[::10]),
            ("gaussian", max(count // 70, 7), QUALITIES[:70:10]),  # its search takes long at high rates
        )
    ]


def measure_kodak(inputs: Inputs) -> list[dict[str, Any]]:
    """Of the whole test pictures, a few qualities of each, all of them together."""
    each = inputs.count(KODAK_EACH, 1)
    files = []
    for number, path in enumerate(sorted(inputs.kodak.glob("*.png"))):
        pixels = read_picture(path).pixels.transpose(2, 0, 1)
        # 37 has no divisor in common with 101, so that every quality has its turn, and each picture has low and high ones.
        files += [(pixels, 37 * (number * each + k) % len(QUALITIES)) for k in range(each)]
    return [certificates_of(inputs, "Kodak", CHANNELS[0], files)]


def certificates_of(inputs: Inputs, name: str, channel: str, files: Sequence[tuple[np.ndarray, int]]) -> dict[str, Any]:
    """Violations and slack, in bytes and beyond 1 % + 128 bytes; every ninth file is decoded to recompute its certificate."""
    slacks, sizes, checked, violations = [], [], 0, 0
    for number, (pixels, quality) in enumerate(files):
        data = inputs.encode(pixels, quality=quality, channel=channel, certificate=True)
        certificate = read_certificate(container.read(data), len(data))
        assert certificate is not None
        if number % 9 == 0:
            check_certificate(data, threads=1, model=inputs.bundle)  # raises for a certificate that is not this file's
            checked += 1
        violations += not certificate.holds
        slacks.append(certificate.bytes - len(data))
        sizes.append(len(data))
    slack, size = np.array(slacks), np.array(sizes)
    return (
        {"pictures": name, "channel": channel, "qualities": sorted({q for _, q in files}), "files": len(files)}
        | {"recomputed": checked, "violations": violations, "beyond_the_bar": int((slack > 0.01 * size + 128).sum())}
        | {"slack_bytes_mean": float(slack.mean()), "slack_bytes_max": int(slack.max())}
        | {"slack_share_of_largest": float(slack[size.argmax()] / size.max())}
    )


def measure_rates(inputs: Inputs) -> dict[str, Any]:
    """The figure's data: crops of the test pictures through every channel, and the certified report on held-out crops."""
    crops = inputs.kodak_crops(SIDE, every=4)
    files: list[dict[str, Any]] = []
    for step in STEPS:
        passed = model_rates(inputs.network, crops, step_index(step), 0)
        files.append({"step": step, "name": "kl", "bpp": float(passed.kl_bpp.mean()), "psnr_db": float(passed.psnr_db.mean())})
        for channel in CHANNELS:
            bpp, decoded = inputs.through(crops, channel, step)
            mse = ((decoded.astype(float) - crops) ** 2).mean((1, 2, 3))
            quality = float((10 * np.log10(255**2 / mse)).mean())
            files.append({"step": step, "name": channel, "bpp": float(bpp.mean()), "psnr_db": quality})
    entropies = cross_entropies(inputs.network, crops)
    qualities = [row["psnr_db"] for row in files]
    shannon = [
        {"psnr_db": db, "bpp": 3 * shannon_bits(entropies, 255**2 / 10 ** (db / 10))}
        for db in np.linspace(min(qualities), max(qualities), 15).tolist()
    ]
    drawn = inputs.count(300, 60)
    settings = ReportSettings(STEPS, crops=drawn, critic_crops=drawn // 3, side=SIDE, delta=DELTA)
    members = [member for member in MEMBERS if member.kl_of]
    rows = list(report(inputs.network, *inputs.sets, settings, members))
    return {"crops": len(crops), "files": files, "shannon_estimate": shannon, "certified_crops": drawn, "certified": rows}


def cross_entropies(network: FlowCodecModel, pictures: np.ndarray) -> list[dict[str, float]]:
    """-log2 p(x + n) a sample for several noises n, each with the better one of two steps' densities."""
    rng, rows = np.random.default_rng(0), []
    for step in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0):
        variance = step**2 * NOISE_VARIANCE
        noisy = pictures + rng.normal(0, math.sqrt(variance), pictures.shape)
        found = {s: float(entropy.cross_entropy_bits(network, noisy, step_index(s)).mean()) for s in (step, step / 2)}
        rows.append({"noise_variance": variance, "bits": min(found.values()), "density_step": min(found, key=lambda s: found[s])})
    return rows


def shannon_bits(entropies: Sequence[dict[str, float]], distortion: float) -> float:
    """The largest of the estimates, bits a sample."""
    return max(entropy.shannon_estimate(row["bits"], row["noise_variance"], distortion) for row in entropies)


def measure_field(inputs: Inputs) -> dict[str, Any]:
    """An AR(1) field in its principal axes through every channel of the runtime: bits and squared error a sample, variance 1."""
    source = GaussianSource.ar1_field(FIELD_SIDE, FIELD_RHO)
    deviations, fields = np.sqrt(source.variances), inputs.count(200, 40)
    z = np.random.default_rng(0).normal(size=(fields, len(deviations))) * deviations
    fit = Fit.of(source.sample(100_000, np.random.default_rng(1)))
    rows = []
    for step in (0.15, 0.3, 0.6, 1.2):
        ratios = deviations / step  # standard deviations in steps
        kl = 0.5 * np.log2(1 + ratios**2 / NOISE_VARIANCE)
        error = step**2 * ratios**2 / (1 + ratios**2 / NOISE_VARIANCE)
        row: dict[str, Any] = {"step": step, "kl_bits": float(kl.mean()), "kl_distortion": float(error.mean())}
        # Log-ratios of q and p at samples, for a certificate on fresh fields.
        total = ratios**2 + NOISE_VARIANCE
        rng = np.random.default_rng(2)
        y = rng.normal(size=(2000, len(ratios))) * np.sqrt(total)
        cost = 0.5 * (np.log2(total / NOISE_VARIANCE) + (y**2 / total - 1) / math.log(2))
        limits = Range(-0.5 / math.log(2), 24.0, "rate of a field")
        row["certified_bits"] = upper_bound(cost.mean(1).clip(max=limits.high), limits, DELTA)
        scales = np.rint((np.log2(ratios) - SCALE_LOG2_FIRST) * (1 << SCALE_BITS)).clip(0, 127).astype(np.uint8)
        flat_scales, values = np.tile(scales, fields), (z / step * 64).reshape(-1)
        for name in CHANNELS:
            channel = make_channel(name, inputs.bundle.channels, seed=3)
            coded = ~inputs.bundle.channels.free[0][flat_scales]
            symbols = channel.quantise(values[coded], 0, flat_scales[coded], (0, 1))
            encoder = SymbolEncoder(channel.symbol_tables(inputs.bundle.tables))
            channel.write(encoder.push, symbols, 0, flat_scales[coded], (0, 1))
            received = np.zeros(len(values))
            received[coded] = channel.reconstruct(symbols, 0, flat_scales[coded], (0, 1))
            row[name] = {
                "bits": 8 * len(encoder.finish()) / len(values),
                "distortion": float(((received - values) ** 2).mean() * (step / 64) ** 2),
            }
        rows.append(row)
    curve = [
        {"distortion": d, "rate_bits": source.rate(d), "lower_bits": source_lower(fit, source, d)}
        | dict(zip(("upper_bits", "upper_distortion"), source_upper(fit, source, d), strict=True))
        for d in np.geomspace(0.002, 0.3, 15).tolist()
    ]
    return {"side": FIELD_SIDE, "rho": FIELD_RHO, "fields": fields, "points": rows, "curve": curve}


def measure_paired(inputs: Inputs) -> dict[str, Any]:
    """Upper bounds on the means of two differences a held-out crop: file - KL and trellis - round, of files under a cap.

    Files are in [0, cap] by the encoder, the KL by ``floored_bpp``, which only makes file - KL larger.
    """
    crops = inputs.sets[1].crops(inputs.count(330, 60), SIDE, np.random.default_rng(5))
    default, rounded = (paired_files(inputs, crops, channel) for channel in ("trellis", "round"))
    sampled = model_rates(inputs.network, crops, step_index(PAIRED_STEP), 6, sampled=True).kl_bpp
    return paired_bounds(default, rounded, sampled)


def paired_files(inputs: Inputs, crops: np.ndarray, channel: str) -> np.ndarray:
    """Bits a pixel (n,) under the cap."""
    files = [inputs.encode(crop, step=PAIRED_STEP, channel=channel, cap_bpp=PAIRED_CAP_BPP) for crop in crops]
    return np.array([8 * len(data) / SIDE**2 for data in files])


def paired_bounds(default: np.ndarray, rounded: np.ndarray, sampled: np.ndarray) -> dict[str, Any]:
    """(n,) each, bits a pixel; ``sampled`` are log-ratios of the noise channel."""
    cap = PAIRED_CAP_BPP
    kl, least, most = floored_bpp(sampled, cap, SIDE**2)
    differences = {
        "file (trellis) - KL": (default - kl, Range(-most, cap - least, "file - KL")),
        "trellis - round": (default - rounded, Range(-cap, cap, "difference of two files")),
        "file (trellis)": (default, Range(0.0, cap, "file")),
    }
    rows = []
    for name, (values, limits) in differences.items():
        bounds = {method: upper_bound(values, limits, DELTA, method) for method in METHODS}
        rows.append(
            {"name": name, "n": len(values), "low": limits.low, "high": limits.high, "mean_bpp": float(values.mean())}
            | {"sd_bpp": float(values.std(ddof=1)), "upper_bpp": bounds}
        )
    return {"step": PAIRED_STEP, "cap_bpp": cap, "side": SIDE, "at_the_cap": int((kl >= most).sum()), "rows": rows}


@torch.no_grad()
def noisy_pictures(network: FlowCodecModel, pictures: np.ndarray, step: float, seed: int) -> np.ndarray:
    """What decoding exact Gaussian noise gives: the law of the ``gaussian`` channel without its search."""
    channel = GaussianNoise(torch.Generator().manual_seed(seed))
    found = network(torch.from_numpy(pictures).float(), torch.full((len(pictures),), step_index(step)), channel)
    return found.reconstruction.clamp(0, 255).round().byte().numpy()


def measure_pictures(inputs: Inputs) -> dict[str, Any]:
    """Middles of the test pictures: distance of files from the estimate of Shannon's bound, and realism of what is decoded."""
    fresh, seen_set = inputs.kodak_crops(PICTURE_SIDE, every=2), inputs.sets[0]
    seen = middles(seen_set.pictures[:: max(len(seen_set.pictures) // 12, 1)], PICTURE_SIDE)
    fresh_hashes = frozenset(divergences.content_hash(picture) for picture in fresh)
    entropies = cross_entropies(inputs.network, fresh)
    decoded: dict[tuple[str, float], np.ndarray] = {}
    distances = []
    for channel, steps in (("trellis", PICTURE_STEPS), ("round", REALISM_STEPS), ("dither", REALISM_STEPS)):
        for step in steps:
            bpp, decoded[channel, step] = inputs.through(fresh, channel, step)
            mse = float(np.mean((decoded[channel, step].astype(float) - fresh) ** 2))
            distances.append(
                {"channel": channel, "step": step, "bits": float(bpp.mean()) / 3, "mse": mse}
                | {"shannon_bits": shannon_bits(entropies, mse)}
            )
    count, rng = inputs.count(1000, 100), np.random.default_rng(7)

    def pairs(first: np.ndarray, second: np.ndarray, images: frozenset[str], windows: int) -> Pairs:
        return patch_pairs(first, second, windows, WINDOW, images, rng)

    def realism(channel: str, step: float | None, critics: np.ndarray, counterparts: np.ndarray) -> dict[str, Any]:
        found = compare(
            pairs(seen, critics, seen_set.hashes, 500), pairs(fresh, counterparts, fresh_hashes, count), MEMBERS, DELTA
        )
        numbers = {name: {"at_least": bound.value, "mean": bound.mean} for name, bound in found.items()}
        error = float(np.mean((counterparts.astype(float) - fresh) ** 2))
        return {"channel": channel, "step": step, "psnr_db": 10 * math.log10(255**2 / max(error, 1e-9)), "divergences": numbers}

    rows = []
    for step in REALISM_STEPS:
        for channel in ("trellis", "round", "dither"):
            rows.append(realism(channel, step, inputs.through(seen, channel, step)[1], decoded[channel, step]))
        noisy = [noisy_pictures(inputs.network, pictures, step, 8 + i) for i, pictures in enumerate((seen, fresh))]
        rows.append(realism("gaussian noise", step, noisy[0], noisy[1]))
    # Pictures against the same pictures in another order: windows of one law, though the pairs are not each other's.
    order = [np.random.default_rng(9 + i).permutation(len(side)) for i, side in enumerate((seen, fresh))]
    rows.append(realism("control: other pictures", None, seen[order[0]], fresh[order[1]]))
    return {"pictures": len(fresh), "side": PICTURE_SIDE, "windows": count, "window": WINDOW} | {
        "cross_entropies": entropies,
        "distances": distances,
        "realism": rows,
    }


def measure_latents(inputs: Inputs) -> dict[str, Any]:
    """Divergence of the data's latents from their noisy versions, by noise and level, beside the bound that vanishes."""
    count, (critics, held_out) = inputs.count(600, 60), inputs.sets
    rng = np.random.default_rng(10)
    seen, fresh = critics.crops(count, SIDE, rng), held_out.crops(count, SIDE, rng)
    rows = []
    for step in NOISE_STEPS:
        index = step_index(step)
        p = latents.latent_pairs(inputs.network, seen, index, critics.hashes, 11)
        q = latents.latent_pairs(inputs.network, fresh, index, held_out.hashes, 12)
        for level in (1, 2, 3):
            found = compare(p[level], q[level], MEMBERS, DELTA)
            noise = latents.noise_variances(inputs.network, index, level)
            rows.append(
                {"step": 2 ** log2_step(index), "level": level, "noise_sd": float(np.sqrt(noise.mean()))}
                | {"kl_at_most": latents.upper_bound(noise)}
                | {"divergences": {name: {"at_least": bound.value, "mean": bound.mean} for name, bound in found.items()}}
            )
    return {"crops": count, "data_sd": math.sqrt(latents.DATA_VARIANCE), "rows": rows}


SECTIONS: dict[str, Callable[[Inputs], Any]] = {
    "rates": measure_rates,
    "paired": measure_paired,
    "pictures": measure_pictures,
    "certificates": measure_certificates,
    "latents": measure_latents,
    "field": measure_field,
    "kodak": measure_kodak,
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
    inputs = Inputs(options.train, options.kodak, options.weights, options.model, options.share)
    for name in options.only:
        section = {"share": options.share, "model": inputs.bundle.id.hex(), "measured": SECTIONS[name](inputs)}
        store_section(options.out, name, section | {"environment": environment()})
        print(f"{name}: in {options.out}", flush=True)


if __name__ == "__main__":
    main()
