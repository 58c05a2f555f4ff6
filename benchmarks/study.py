"""Studies with small models: what beta, the bottleneck and the noise of training are worth, and how fast each learns.

    python benchmarks/study.py configs/studies/NAME.toml ... --data PHOTOGRAPHS [--out results] [--steps N]

Models are small, and of the two finest levels alone, which hold two thirds of a file's bits: the low band below is given, and the
flow is the wavelet that it starts as. Every arm is a model of the same size that sees the same crops in the same order, with
another price of a bit or another channel in training. All are tested by rounding (with the dead zone of the arm's beta) on
held-out 64x64 crops, bits estimated from the prior, no files. An arm that OUT/study_NAME.json already holds is not trained
again, and one that another study in OUT has trained in the same way is taken from there. The slope of an arm is the median of
-dD/dR between neighbouring steps Delta over (ln 2 / 6) Delta^2: theory says that it is the arm's beta. Where arms differ in beta
alone, the same is measured between neighbouring betas at equal Delta: there theory says their geometric mean.
"""

import argparse
import json
import math
import sys
import tempfile
import time
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowcodec.benchmark.bdrate import Curve, bd_rate, overlap
from flowcodec.benchmark.document import replace_file
from flowcodec.benchmark.environment import environment
from flowcodec.errors import InputError
from flowcodec.model.channel import NOISE_VARIANCE, Channel, GaussianNoise, Rounding
from flowcodec.model.codec import CodecResult, FlowCodecModel, ModelConfig
from flowcodec.model.density import ScaleMixture
from flowcodec.model.flow import detail_mask, steps_of
from flowcodec.model.objective import BIT_PRICE, psnr_db
from flowcodec.runtime.context import level_group
from flowcodec.runtime.flow import level_shapes
from flowcodec.runtime.step import step_index
from flowcodec.training.config import DataConfig, ObjectiveConfig
from flowcodec.training.data import CropSampler, PixelStore, validation_crops
from flowcodec.training.loop import draw_step_indices

RESULTS = Path(__file__).parents[1] / "results"
MODEL = ModelConfig(widths=(16, 24, 24), blocks=(1, 1, 1), coupling_width=8, restoration_width=8)
DATA = DataConfig(crop=64, batch=4, validation_crops=8, validation_crop=64)
LEVELS = 2
STEPS = ObjectiveConfig(step_range=(4.0, 128.0), step_core=(4.0, 128.0))
TEST_STEPS = (5.0, 10.0, 20.0, 40.0, 80.0)
FIXED_STEP = 20.0
"""At this Delta a price that is the same for all equals the theory's."""
LEARNING_RATE, WARMUP, FINAL_RATE = 3e-3, 20, 0.05
CHECKPOINTS = 5
TESTED = ("bpp", "psnr_db", "squared_error", "loss")


@dataclass(frozen=True)
class Arm:
    name: str
    beta: float = 1.0
    price: str = "theory"
    """theory: beta (ln 2 / 6) Delta^2 squared error per bit; fixed: the same with FIXED_STEP for Delta."""
    channel: str = "gaussian"
    """gaussian | uniform | round, in training only."""
    variance: float = 1.0
    """Of the Gaussian noise, in units of the quantiser's Delta^2 / 12."""

    def __post_init__(self) -> None:
        if self.price not in ("theory", "fixed") or self.channel not in ("gaussian", "uniform", "round") or self.beta < 0:
            raise InputError(f"arm {self.name!r}: price is theory or fixed; channel gaussian, uniform or round; beta at least 0")


class FinestLevels(FlowCodecModel):
    """The codec's LEVELS finest levels; the low band below them is known, exactly and for nothing, and couplings are zero."""

    def forward(
        self, image: Tensor, step_index: Tensor, channel: Channel, train_flow: bool = False, levels: int | None = LEVELS
    ) -> CodecResult:
        n, _, height, width = image.shape
        shapes, step = level_shapes(height, width), steps_of(step_index)
        ll, details = self.flow.color(image)[0], []
        count = levels or LEVELS
        for _ in range(count):
            (ll, detail), _ = self.flow.lifting(ll)
            details.append(detail)
        bits, latent_sse, carried = image.new_zeros(n), image.new_zeros(n), None
        for level in range(count, 0, -1):
            group, detail = level_group(level), details[level - 1]
            band_step = step * self.step_multipliers(step_index, group)
            mask = detail_mask(*shapes[level - 1])
            inputs = self.prior_inputs(ll, carried, step_index, level)
            result = self.priors[group](inputs, detail / band_step, mask, channel, self.density)
            reconstruction, carried = result.reconstruction * band_step, result.carried
            bits = bits + result.bits
            latent_sse = latent_sse + (reconstruction - detail).square().sum((1, 2, 3))
            ll = self.flow.lifting.inverse((ll, reconstruction), shapes[level - 1]).detach()
        decoded = self.flow.color.inverse(self.restore(ll, step_index))
        return CodecResult(bits, latent_sse, (decoded - image).square().sum((1, 2, 3)), decoded)


class UniformNoise:
    """z_hat = z + u, u uniform in a cell of one step; bits = -log2 of the density of z_hat, the uniform's entropy being 0."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def __call__(
        self, z: Tensor, location: Tensor, log2_scale: Tensor, density: ScaleMixture, kind: int
    ) -> tuple[Tensor, Tensor]:
        offset = z + torch.empty_like(z).uniform_(-0.5, 0.5, generator=self.generator) - location
        # What arrives at ``offset`` was sent from within half a step: density and conditional mean are those of that cell.
        mass, mean = density.cell(offset - 0.5, offset + 0.5, log2_scale, kind)
        return location + mean, -torch.log2(mass.clamp(min=2.0**-24))


def make_channel(arm: Arm, generator: torch.Generator) -> Channel:
    if arm.channel == "uniform":
        return UniformNoise(generator)
    return Rounding(arm.beta) if arm.channel == "round" else GaussianNoise(generator, arm.variance * NOISE_VARIANCE)


def price_of(arm: Arm, step: Tensor) -> Tensor:
    """Squared error that a bit may cost, at each image's Delta."""
    return arm.beta * BIT_PRICE * (step if arm.price == "theory" else torch.full_like(step, FIXED_STEP)).square()


def loss_of(arm: Arm, result: CodecResult, step: Tensor) -> Tensor:
    """mean over images of (SSE of latent and of image + price * bits) / Delta^2 / pixels"""
    pixels = result.reconstruction[0, 0].numel()
    distortion = result.latent_sse + result.image_sse
    return ((distortion + price_of(arm, step) * result.bits) / step.square() / pixels).mean()


@torch.no_grad()
def test(model: FlowCodecModel, beta: float, images: np.ndarray) -> dict[str, Any]:
    """Mean bits per pixel and PSNR at every test step, and the loss at theory's price, whatever price the arm paid."""
    batch = torch.from_numpy(np.ascontiguousarray(images)).float()
    pixels = batch[0, 0].numel()
    rates, qualities, errors, losses = [], [], [], []
    for step in TEST_STEPS:
        result = model(batch, torch.full((len(batch),), step_index(step)), Rounding(beta), False)
        rates.append(float(result.bits.mean()) / pixels)
        qualities.append(float(psnr_db(result.image_sse, pixels).mean()))
        errors.append(float(result.image_sse.mean()) / pixels)
        losses.append(errors[-1] / step**2 + BIT_PRICE * rates[-1])
    return {"bpp": rates, "psnr_db": qualities, "squared_error": errors, "loss": float(np.mean(losses))}


def learning_rate_factor(step: int, steps: int) -> float:
    """Warm-up, then a cosine down to FINAL_RATE."""
    return min(1.0, (step + 1) / WARMUP) * (FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * step / steps)))


def train(arm: Arm, seed: int, steps: int, sampler: CropSampler, images: np.ndarray) -> dict[str, Any]:
    """Trains an arm; its test at the end, and its test loss over steps and seconds on the way."""
    torch.manual_seed(seed)
    model = FinestLevels(MODEL)
    # Straight through, the bits have no gradient in z, so that steps of bands would shrink without end.
    model.log2_multipliers.requires_grad_(arm.channel != "round")
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, betas=(0.9, 0.99), fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps))
    seconds, way = 0.0, []
    for step in range(steps):
        start = time.process_time()
        random = np.random.default_rng([seed, step])
        crops = torch.from_numpy(sampler.batch(step, 0, DATA.batch)).float()
        indices = torch.from_numpy(draw_step_indices(STEPS, random, DATA.batch))
        channel = make_channel(arm, torch.Generator().manual_seed(int(random.integers(1 << 62))))
        loss = loss_of(arm, model(crops, indices, channel, False), steps_of(indices).view(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        seconds += time.process_time() - start
        if (step + 1) % max(steps // CHECKPOINTS, 1) == 0 or step + 1 == steps:
            way.append({"step": step + 1, "cpu_s": seconds, **test(model, arm.beta, images)})
    return {"arm": arm.name, "seed": seed, **{key: way[-1][key] for key in TESTED}, "cpu_s": seconds, "way": way}


def slope(row: dict[str, Any]) -> float | None:
    """Median of -dD/dR over the theory's price at the middle of neighbouring test steps; None for a rate that does not fall."""
    d, r = np.diff(row["squared_error"]), np.diff(row["bpp"])
    if (r >= 0).any():
        return None
    middle = np.sqrt(np.array(TEST_STEPS[:-1]) * TEST_STEPS[1:])
    return float(np.median(-d / r / (BIT_PRICE * middle**2)))


def slope_between(row: dict[str, Any], other: dict[str, Any]) -> float | None:
    """Median over the test steps of -dD/dR between two arms, over the theory's price; None where the rate does not change."""
    d, r = (np.subtract(other[key], row[key]) for key in ("squared_error", "bpp"))
    return float(np.median(-d / r / (BIT_PRICE * np.square(TEST_STEPS)))) if (r != 0).all() else None


def _along_beta(rows: list[dict[str, Any]], arm: Arm, following: Arm) -> dict[str, float | None]:
    """What the table says of an arm and the next one, which has another beta."""
    pairs = [(a, b) for a in rows for b in rows if (a["arm"], b["arm"]) == (arm.name, following.name) and a["seed"] == b["seed"]]
    slopes = [value for pair in pairs if (value := slope_between(*pair)) is not None]
    return {
        "-dD/dR to the next beta": float(np.mean(slopes)) if slopes and following != arm else None,
        "theory of that": math.sqrt(arm.beta * following.beta) if following != arm else None,
    }


def summarise(rows: list[dict[str, Any]], arms: list[Arm]) -> list[dict[str, Any]]:
    """One line per arm: means over seeds, BD-rate against the first arm with the same seed, and the way to its loss."""
    lines = []
    only_beta = len(arms) > 1 and len({replace(arm, name="", beta=0.0) for arm in arms}) == 1
    for arm, following in zip(arms, [*arms[1:], arms[-1]], strict=True):
        own = [row for row in rows if row["arm"] == arm.name]
        if not own:
            continue
        pairs = [(row, base) for row in own for base in rows if base["arm"] == arms[0].name and base["seed"] == row["seed"]]
        rates = [value for row, base in pairs if (value := _bd_rate(base, row)) is not None]
        target = max(base["loss"] for _, base in pairs) * 1.05 if pairs else float("inf")
        reached = [next((p for p in row["way"] if p["loss"] <= target), None) for row in own]
        slopes = [value for row in own if (value := slope(row)) is not None]
        lines.append(
            {
                "arm": arm.name,
                "beta": arm.beta,
                "seeds": len(own),
                f"bpp at step {TEST_STEPS[2]:g}": float(np.mean([row["bpp"][2] for row in own])),
                f"dB at step {TEST_STEPS[2]:g}": float(np.mean([row["psnr_db"][2] for row in own])),
                "loss": float(np.mean([row["loss"] for row in own])),
                "BD-rate %": float(np.mean(rates)) if rates else None,
                "BD-rate, seeds apart": float(np.ptp(rates)) if len(rates) > 1 else None,
                "-dD/dR over theory": float(np.mean(slopes)) if slopes else None,
                **(_along_beta(rows, arm, following) if only_beta else {}),
                "steps to 1.05 x first arm's loss": _mean_of(reached, "step"),
                "CPU s to it": _mean_of(reached, "cpu_s"),
            }
        )
    return lines


def _bd_rate(base: dict[str, Any], row: dict[str, Any]) -> float | None:
    try:
        anchor, test = (Curve.from_points(entry["arm"], entry["bpp"], entry["psnr_db"]) for entry in (base, row))
        return bd_rate(anchor, test, overlap(anchor, test))
    except InputError:
        return None


def _mean_of(points: list[dict[str, Any] | None], key: str) -> float | None:
    found = [point[key] for point in points if point is not None]
    return float(np.mean(found)) if len(found) == len(points) else None


def read_study(path: Path) -> tuple[dict[str, Any], list[Arm]]:
    """Raises InputError for a file that cannot be read, and names what it does not know."""
    try:
        study = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a study ({error})") from error
    known = {entry.name for entry in fields(Arm)}
    for arm in study.get("arms", []):
        if set(arm) - known or "name" not in arm:
            raise InputError(f"{path}: an arm has a name and any of {', '.join(sorted(known))}; found {', '.join(arm)}")
    if not study.get("arms") or not {"title", "steps", "seeds"} <= set(study):
        raise InputError(f"{path}: expected title, steps, seeds and [[arms]]")
    return study, [Arm(**arm) for arm in study["arms"]]


def run(
    study: dict[str, Any], arms: list[Arm], folders: list[Path], steps: int, out: Path, cache: Path | None = None
) -> dict[str, Any]:
    setup = json.loads(
        json.dumps({"steps": steps, "model": asdict(MODEL), "levels": LEVELS, "data": asdict(DATA), "test_steps": TEST_STEPS})
    )
    described = {arm.name: asdict(arm) for arm in arms}
    document: dict[str, Any] = {"kind": "study", "title": study["title"], "setup": setup, "arms": described, "runs": []}
    if out.exists():
        old = json.loads(out.read_text())
        if old.get("setup") == setup:
            document["runs"] = [row for row in old["runs"] if old["arms"].get(row["arm"]) == described.get(row["arm"])]
    others = [json.loads(path.read_text()) for path in sorted(out.parent.glob("study_*.json")) if path != out]
    with tempfile.TemporaryDirectory() as temporary:
        store = PixelStore.open(folders, (cache or Path(temporary)) / "pixels.npy")
        images = validation_crops(store, DATA)
        for seed in study["seeds"]:
            sampler = CropSampler(store, DATA, seed)
            for arm in arms:
                if any(row["arm"] == arm.name and row["seed"] == seed for row in document["runs"]):
                    continue
                known = _trained_elsewhere(others, setup, arm, seed)
                document["runs"].append(known or train(arm, seed, steps, sampler, images))
                _write(document, arms, out)
                print(f"seed {seed}, {arm.name}: loss {document['runs'][-1]['loss']:.4f}", flush=True)
    return _write(document, arms, out)


def _trained_elsewhere(studies: list[dict[str, Any]], setup: dict[str, Any], arm: Arm, seed: int) -> dict[str, Any] | None:
    """The run of an arm that differs in name alone, from a study of the same setup."""
    for study in (study for study in studies if study.get("setup") == setup):
        same = {name for name, values in study["arms"].items() if Arm(**{**values, "name": arm.name}) == arm}
        for row in study["runs"]:
            if row["arm"] in same and row["seed"] == seed:
                return row | {"arm": arm.name}
    return None


def _write(document: dict[str, Any], arms: list[Arm], out: Path) -> dict[str, Any]:
    rows = summarise(document["runs"], arms)
    text = (
        f"Small models of the {LEVELS} finest levels, {document['setup']['steps']} steps of {DATA.batch} crops of "
        f"{DATA.crop}x{DATA.crop}, tested by rounding on {DATA.validation_crops} held-out crops; bits are estimates from the "
        "prior. BD-rate against the first arm."
    )
    document |= {"description": text, "columns": list(rows[0]) if rows else [], "rows": rows, "environment": environment()}
    replace_file(out, json.dumps(document, indent=1) + "\n")
    return document


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seeds", type=int, nargs="+", help="only these, instead of all that a study asks for")
    parser.add_argument("--cache", type=Path, help="folder that keeps the decoded photographs for the next study")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        found = {path.stem: read_study(path) for path in arguments.studies}
        for name, (study, arms) in found.items():
            study |= {"seeds": arguments.seeds} if arguments.seeds else {}
            out = arguments.out / f"study_{name}.json"
            run(study, arms, arguments.data, arguments.steps or study["steps"], out, arguments.cache)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
