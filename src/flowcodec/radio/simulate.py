"""Curves of picture quality over CSNR, simulated: systems, draws of the link, means and standard errors.

The mode of every system is chosen by measured block error rates of random bits (digital.best_mode), never by a test picture:
``fixed`` keeps the mode of the design CSNR, ``envelope`` takes the mode of each CSNR as if the sender knew it.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any, Protocol

import numpy as np

from flowcodec.errors import InputError
from flowcodec.radio import layering
from flowcodec.radio.analog import AnalogSystem, transmit
from flowcodec.radio.digital import MODES, Mode, best_mode
from flowcodec.radio.layering import DEFAULT_SHARE
from flowcodec.radio.link import Link, find_link
from flowcodec.radio.softcast import DctSystem
from flowcodec.radio.systems import BroadcastSystem, DigitalSystem, LayeredSystem, Quality, RateTable, Rival, Sender, Source
from flowcodec.radio.transmission import (
    DENOISER,
    HEADER_USES,
    LINEAR,
    PILOT_SPACING,
    PREAMBLE_USES,
    check_receiver,
    data_uses,
    uses_of,
)
from flowcodec.runtime.bundle import load_model

EXPERIMENTS = ("digital", "hybrid", "layered", "analog")
_PEAK = 255.0
DRAWN = "psnr_db_drawn"
"""Of a row under fading: the PSNR of every draw."""
_OTHER_RATES = (0.6, 0.75, 0.9, 1.1, 1.25, 1.5)
_TABLE_LINKS = ("awgn", "rayleigh-slow")


@dataclass(frozen=True)
class Experiment:
    """Raises InputError."""

    mode: str = "hybrid"
    """``digital``: ours and the rivals, fixed and envelope. ``hybrid``: beside our fixed digital one. ``layered``: for
    rayleigh-slow, beside the best single modes; each CSNR is then a mean over fades that the sender knows. ``analog``:
    fixed, and designed for each CSNR, beside the same with a map of spectra alone and linear coding of DCT coefficients."""
    cbr: float = 1 / 12
    """Complex uses per colour sample."""
    design_db: float = 10.0
    csnr_db: tuple[float, ...] = (1, 4, 7, 10, 13, 16, 19)
    link: str = "awgn"
    draws: int = 10
    share: float = DEFAULT_SHARE
    seed: int = 0
    receiver: str = DENOISER
    """Of the analog mode, one of transmission.RECEIVERS."""
    coded: bool = False
    """Every block is really coded and decoded; otherwise its fate is drawn from the table (awgn and rayleigh-slow only)."""
    similarity: bool = True
    """Whether MS-SSIM is measured."""

    def __post_init__(self) -> None:
        find_link(self.link)
        if self.mode not in EXPERIMENTS:
            raise InputError(f"mode: expected one of {', '.join(EXPERIMENTS)}, found {self.mode!r}")
        if self.mode == "layered" and self.link != "rayleigh-slow":
            raise InputError(f"mode layered: expected the link rayleigh-slow, for which its layers are chosen, found {self.link}")
        if not 0 < self.cbr <= 2:
            raise InputError(f"cbr: expected more than 0 and at most 2, found {self.cbr}")
        if not 0 < self.share < 0.6:
            raise InputError(f"share: expected more than 0 and less than 0.6, found {self.share}")
        check_receiver(self.receiver)
        if self.draws < 1:
            raise InputError(f"draws: expected at least 1, found {self.draws}")
        if not self.coded and self.link not in _TABLE_LINKS:
            raise InputError(
                f"link {self.link}: block error rates are tabulated for {' and '.join(_TABLE_LINKS)} only; add --coded"
            )


class System(Protocol):
    def draw(self, link: Link | None, csnr_db: float, rng: np.random.Generator) -> Quality: ...

    def facts(self) -> dict[str, Any]: ...


Codec = Rival | RateTable | None
Progress = Callable[[int, int], None]
Build = Callable[[Source, int], System]
Choice = Callable[[float, int, int], tuple[str, Build]]
"""(CSNR in dB, uses, pixels) -> the name of the system to build, and how to build it from a picture and its uses."""


def simulate(
    images: Mapping[str, np.ndarray],
    experiments: Sequence[Experiment],
    codecs: Sequence[Codec] = (None,),
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """For each experiment its rows per image, system and CSNR, and their means over the images.

    ``images``: uint8 (H, W, 3) by name; the experiments share the files of an image. ``codecs``: of the digital systems, ours
    first (None, or a table of its rates); the others take part in digital experiments only.
    """
    plans = [_plan(experiment, codecs) for experiment in experiments]
    rows: list[list[dict[str, Any]]] = [[] for _ in experiments]
    total = len(images) * sum(len(plan) * len(experiment.csnr_db) for plan, experiment in zip(plans, experiments, strict=True))
    for name, image in images.items():
        source = Source(name, image)
        for experiment, plan, found in zip(experiments, plans, rows, strict=True):
            source.similarity = experiment.similarity
            for row in _of_image(source, experiment, plan):
                found.append(row)
                if progress:
                    progress(sum(map(len, rows)), total)
    return [
        {
            "format": 1,
            "simulated": True,
            "model": load_model().id.hex(),
            "experiment": asdict(experiment),
            "definitions": definitions(experiment.cbr),
            "images": {name: {"height": image.shape[0], "width": image.shape[1]} for name, image in images.items()},
            "curves": curves(found),
            "rows": found,
        }
        for experiment, found in zip(experiments, rows, strict=True)
    ]


def _of_image(source: Source, experiment: Experiment, plan: Mapping[str, Choice]) -> Iterator[dict[str, Any]]:
    height, width = source.image.shape[:2]
    uses = uses_of(height, width, experiment.cbr)
    for label, choose in plan.items():
        built: dict[str, System] = {}
        for position, csnr_db in enumerate(experiment.csnr_db):
            key, build = choose(csnr_db, uses, height * width)
            if key not in built:
                built[key] = build(source, uses)
            # All systems see the same fades; each image has its own, whichever others are simulated with it.
            seed = [experiment.seed, zlib.crc32(source.name.encode()), position]
            fades = np.random.default_rng(seed).exponential(size=experiment.draws)
            rng = np.random.default_rng([*seed, *label.encode()])
            measured = _measure(built[key], experiment, csnr_db, fades, rng)
            yield {"image": source.name, "system": label, "csnr_db": csnr_db, "uses": uses} | measured


def definitions(cbr: float) -> dict[str, Any]:
    """What the numbers mean, for the record."""
    return {
        "cbr_complex": cbr,
        "cbr_real": 2 * cbr,
        "uses_per_pixel_complex": 3 * cbr,
        "csnr": "P / N0 per complex use, mean over fades",
        "power": "unit mean power over the symbols of each image",
        "counted_in_uses": {"preamble": PREAMBLE_USES, "header": HEADER_USES, "one pilot after": PILOT_SPACING},
        "csi": "receiver knows h and the law of the noise, sender neither",
    }


def _plan(experiment: Experiment, codecs: Sequence[Codec]) -> dict[str, Choice]:
    """The systems by label."""
    design, share, ours = experiment.design_db, experiment.share, codecs[0]

    def digital(codec: Codec, mode_at: Callable[[float, float], Mode]) -> Choice:
        """``mode_at``: (CSNR in dB, layer uses per pixel) -> mode."""

        def choose(csnr_db: float, uses: int, pixels: int) -> tuple[str, Build]:
            mode = mode_at(csnr_db, round(data_uses(uses) / pixels, 3))
            return mode.name, lambda source, uses: DigitalSystem(source, uses, mode, codec)

        return choose

    def hybrid(csnr_db: float, uses: int, pixels: int) -> tuple[str, Build]:
        many = experiment.link == "rayleigh-slow"
        return "hybrid", lambda source, uses: LayeredSystem(source, layering.hybrid(source.ladder, uses, design, share), many)

    def layered(csnr_db: float, uses: int, pixels: int) -> tuple[str, Build]:
        return f"{csnr_db:g}", lambda source, uses: LayeredSystem(source, layering.layered(source.ladder, uses, csnr_db), True)

    if experiment.mode == "analog":
        return _analog(design, experiment.receiver, matched=set(experiment.csnr_db) != {design})
    if experiment.mode == "hybrid":
        return {
            "hybrid": hybrid,
            "FlowCodec, fixed": digital(ours, lambda *_: best_mode(design)),
        }
    if experiment.mode == "layered":
        plan: dict[str, Choice] = {"layered": layered}
        # The mode that training photographs choose, and others beside it to show that it is no straw man.
        for label, factor in (("single mode", 1.0), *((f"single mode, rate x{factor:g}", factor) for factor in _OTHER_RATES)):
            plan[f"FlowCodec, {label}"] = digital(ours, _faster(factor))
        return plan
    plan = {}
    for codec in codecs:
        name = codec.name if codec else "FlowCodec"
        plan[f"{name}, fixed"] = digital(codec, lambda *_: best_mode(design))
        plan[f"{name}, envelope"] = digital(codec, lambda csnr_db, _: best_mode(csnr_db))
    return plan


def _analog(design: float, receiver: str, matched: bool) -> dict[str, Choice]:
    """``matched``: with the systems designed for the CSNR they are measured at."""
    sender = Sender()

    def system(at_db: float, receiver: str) -> tuple[str, Build]:
        def build(source: Source, uses: int) -> System:
            return BroadcastSystem(source, sender(source, uses, at_db), receiver)

        return f"{at_db:g}", build

    def alone(source: Source, uses: int) -> System:
        return AnalogSystem(source, transmit(source.image, uses, design))

    plan: dict[str, Choice] = {"analog": lambda *_: system(design, receiver)}
    if receiver != LINEAR:
        plan["analog, linear receiver"] = lambda *_: system(design, LINEAR)
    if matched:
        plan["analog, matched"] = lambda csnr_db, *_: system(csnr_db, receiver)
    plan["analog, map of spectra alone"] = lambda *_: ("map", alone)
    plan["linear DCT"] = lambda *_: ("dct", lambda source, uses: DctSystem(source, uses, design))
    plan["linear DCT, 64 chunks"] = lambda *_: ("softcast", lambda source, uses: DctSystem(source, uses, design, (8,)))
    return plan


def _faster(factor: float) -> Callable[[float, float], Mode]:
    """The mode ``factor`` times as efficient as the best single one for fading."""

    def mode(csnr_db: float, uses_per_pixel: float) -> Mode:
        wanted = factor * layering.best_fading_mode(uses_per_pixel, csnr_db).efficiency
        return min(MODES, key=lambda mode: abs(mode.efficiency - wanted))

    return mode


def _measure(
    system: System, experiment: Experiment, csnr_db: float, fades: np.ndarray, rng: np.random.Generator
) -> dict[str, Any]:
    """``fades``: |h|^2 of the draws, for rayleigh-slow by the table."""
    drawn = []
    for fade in fades:
        if experiment.coded:
            drawn.append(system.draw(find_link(experiment.link), csnr_db, rng))
        else:
            # One fade for all uses, known to the receiver, is AWGN at another CSNR.
            loss_db = 10 * math.log10(fade) if experiment.link == "rayleigh-slow" else 0.0
            drawn.append(system.draw(None, csnr_db + loss_db, rng))
    values = [quality.psnr_db for quality in drawn]
    similarities = [quality.ms_ssim for quality in drawn if quality.ms_ssim is not None]
    row: dict[str, Any] = {
        "psnr_db": fmean(values),
        "psnr_db_standard_error": stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None,
        "mean_mse": fmean(_PEAK**2 / 10 ** (value / 10) for value in values),
        "ms_ssim": fmean(similarities) if similarities else None,
        "draws": len(values),
        "layers": {layer: sum(quality.layer == layer for quality in drawn) for layer in sorted({q.layer for q in drawn})},
    }
    if experiment.link.startswith("rayleigh"):
        row[DRAWN] = [round(value, 2) for value in values]
    return row | system.facts()


def curves(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over images: of the dB, and the dB of the mean MSE; under fading also the quantiles over images and draws."""
    found = []
    for system in dict.fromkeys(row["system"] for row in rows):
        mine = [row for row in rows if row["system"] == system]
        points = []
        for csnr_db in dict.fromkeys(row["csnr_db"] for row in mine):
            at = [row for row in mine if row["csnr_db"] == csnr_db]
            errors = [row["psnr_db_standard_error"] for row in at]
            similarities = [row["ms_ssim"] for row in at if row["ms_ssim"] is not None]
            point = {
                "csnr_db": csnr_db,
                "psnr_db": fmean(row["psnr_db"] for row in at),
                "psnr_of_mean_mse_db": 10 * math.log10(_PEAK**2 / fmean(row["mean_mse"] for row in at)),
                # Of the draws; the images are a fixed set, not a sample.
                "standard_error_db": None if None in errors else math.sqrt(sum(error**2 for error in errors)) / len(errors),
                "ms_ssim": fmean(similarities) if similarities else None,
                "lowest_psnr_db": min(row["psnr_db"] for row in at),
            }
            if all(DRAWN in row for row in at):
                drawn = np.array([row[DRAWN] for row in at])
                pooled = drawn.reshape(-1)
                # By draw, for images may have the same fades.
                if drawn.shape[1] > 1:
                    point["standard_error_db"] = float(np.std(drawn.mean(axis=0), ddof=1) / math.sqrt(drawn.shape[1]))
                point["quantiles_db"] = [round(float(value), 3) for value in np.percentile(pooled, range(101))]
            points.append(point)
        found.append({"system": system, "points": points})
    return found
