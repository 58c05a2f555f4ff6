"""Curves of picture quality over CSNR, simulated: systems, draws of the link, means and standard errors.

The mode of every system is chosen by measured block error rates of random bits (digital.best_mode), never by a test picture:
``fixed`` keeps the mode of the design CSNR, ``envelope`` takes the mode of each CSNR as if the sender knew it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any, Protocol

import numpy as np

from flowcodec.errors import InputError
from flowcodec.radio.analog import RECEIVERS, AnalogSystem, Sender
from flowcodec.radio.digital import best_mode
from flowcodec.radio.link import Link, find_link
from flowcodec.radio.softcast import DctSystem
from flowcodec.radio.systems import DigitalSystem, HybridSystem, Quality, Rival, Source
from flowcodec.radio.transmission import DEFAULT_SHARE, HEADER_USES, PILOT_SPACING, PREAMBLE_USES, uses_of

MODES = ("digital", "hybrid", "analog")
_PEAK = 255.0
_TABLE_LINKS = ("awgn", "rayleigh-slow")


@dataclass(frozen=True)
class Experiment:
    """Raises InputError."""

    mode: str = "hybrid"
    """``digital``: ours and the rivals, fixed and envelope. ``hybrid``: the hybrid system beside our digital ones.
    ``analog``: the analog system, fixed and designed for each CSNR, beside linear coding of DCT coefficients."""
    cbr: float = 1 / 12
    """Complex uses per colour sample."""
    design_db: float = 10.0
    csnr_db: tuple[float, ...] = (1, 4, 7, 10, 13, 16, 19)
    link: str = "awgn"
    draws: int = 10
    share: float = DEFAULT_SHARE
    seed: int = 0
    receiver: str = "learned"
    """Of the analog mode: learned, prior or linear."""
    coded: bool = False
    """Every block is really coded and decoded; otherwise its fate is drawn from the table (awgn and rayleigh-slow only)."""

    def __post_init__(self) -> None:
        find_link(self.link)
        if self.mode not in MODES:
            raise InputError(f"mode: expected one of {', '.join(MODES)}, found {self.mode!r}")
        if not 0 < self.cbr <= 2:
            raise InputError(f"cbr: expected more than 0 and at most 2, found {self.cbr}")
        if not 0 < self.share < 0.6:
            raise InputError(f"share: expected more than 0 and less than 0.6, found {self.share}")
        if self.receiver not in RECEIVERS:
            raise InputError(f"receiver: expected one of {', '.join(RECEIVERS)}, found {self.receiver!r}")
        if self.draws < 1:
            raise InputError(f"draws: expected at least 1, found {self.draws}")
        if not self.coded and self.link not in _TABLE_LINKS:
            raise InputError(
                f"link {self.link}: block error rates are tabulated for {' and '.join(_TABLE_LINKS)} only; add --coded"
            )


class System(Protocol):
    def draw(self, link: Link | None, csnr_db: float, rng: np.random.Generator) -> Quality: ...

    def facts(self) -> dict[str, Any]: ...


Progress = Callable[[int, int], None]
Build = Callable[[Source, int], System]


def simulate(
    images: Mapping[str, np.ndarray], experiment: Experiment, rivals: Sequence[Rival] = (), progress: Progress | None = None
) -> dict[str, Any]:
    """Rows per image, system and CSNR, and their means over the images. ``images``: uint8 (H, W, 3) by name."""
    plan = _plan(experiment, rivals)
    rows: list[dict[str, Any]] = []
    total = len(images) * len(plan) * len(experiment.csnr_db)
    for number, (name, image) in enumerate(images.items()):
        source = Source(name, image)
        height, width = image.shape[:2]
        uses = uses_of(height, width, experiment.cbr)
        for label, builds in plan.items():
            built: dict[str, System] = {}
            for position, csnr_db in enumerate(experiment.csnr_db):
                key, build = builds(csnr_db)
                if key not in built:
                    built[key] = build(source, uses)
                rng = np.random.default_rng([experiment.seed, number, position, *label.encode()])
                rows.append(
                    {"image": name, "system": label, "csnr_db": csnr_db, "uses": uses}
                    | _measure(built[key], experiment, csnr_db, rng)
                )
                if progress:
                    progress(len(rows), total)
    return {
        "format": 1,
        "simulated": True,
        "experiment": asdict(experiment),
        "definitions": definitions(experiment.cbr),
        "images": {name: {"height": image.shape[0], "width": image.shape[1]} for name, image in images.items()},
        "curves": _curves(rows),
        "rows": rows,
    }


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


def _plan(experiment: Experiment, rivals: Sequence[Rival]) -> dict[str, Callable[[float], tuple[str, Build]]]:
    """Label -> function of the CSNR that gives (name of the built system, how to build it)."""
    design, share = experiment.design_db, experiment.share
    plan: dict[str, Callable[[float], tuple[str, Build]]] = {}

    def digital(rival: Rival | None, fixed: bool) -> Callable[[float], tuple[str, Build]]:
        def at(csnr_db: float) -> tuple[str, Build]:
            mode = best_mode(design if fixed else csnr_db)
            return mode.name, lambda source, uses: DigitalSystem(source, uses, mode, rival)

        return at

    if experiment.mode == "analog":
        sender, receiver = Sender(), experiment.receiver

        def analog(at_db: float) -> tuple[str, Build]:
            return f"{at_db}", lambda source, uses: AnalogSystem(source, sender(source, uses, at_db), receiver)

        plan["analog"] = lambda _: analog(design)
        if set(experiment.csnr_db) != {design}:
            plan["analog, matched"] = analog
        plan["linear DCT"] = lambda _: ("dct", lambda source, uses: DctSystem(source, uses, design))
        return plan
    if experiment.mode == "hybrid":
        plan["hybrid"] = lambda _: ("hybrid", lambda source, uses: HybridSystem(source, uses, design, share))
        plan["FlowCodec, fixed"] = digital(None, True)
        return plan
    for rival in (None, *rivals):
        name = rival.name if rival else "FlowCodec"
        plan[f"{name}, fixed"] = digital(rival, True)
        plan[f"{name}, envelope"] = digital(rival, False)
    return plan


def _measure(system: System, experiment: Experiment, csnr_db: float, rng: np.random.Generator) -> dict[str, Any]:
    drawn = []
    for _ in range(experiment.draws):
        if experiment.coded:
            drawn.append(system.draw(find_link(experiment.link), csnr_db, rng))
        else:
            # One fade for all uses, known to the receiver, is AWGN at another CSNR.
            fade = 10 * math.log10(rng.exponential()) if experiment.link == "rayleigh-slow" else 0.0
            drawn.append(system.draw(None, csnr_db + fade, rng))
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
        row["psnr_db_percentiles"] = {str(p): float(np.percentile(values, p)) for p in (5, 10, 25, 50, 75, 90)}
    return row | system.facts()


def _curves(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over images: of the dB, and the dB of the mean MSE."""
    curves = []
    for system in dict.fromkeys(row["system"] for row in rows):
        mine = [row for row in rows if row["system"] == system]
        points = []
        for csnr_db in dict.fromkeys(row["csnr_db"] for row in mine):
            at = [row for row in mine if row["csnr_db"] == csnr_db]
            errors = [row["psnr_db_standard_error"] for row in at]
            similarities = [row["ms_ssim"] for row in at if row["ms_ssim"] is not None]
            points.append(
                {
                    "csnr_db": csnr_db,
                    "psnr_db": fmean(row["psnr_db"] for row in at),
                    "psnr_of_mean_mse_db": 10 * math.log10(_PEAK**2 / fmean(row["mean_mse"] for row in at)),
                    # Of the draws; the images are a fixed set, not a sample.
                    "standard_error_db": None if None in errors else math.sqrt(sum(error**2 for error in errors)) / len(errors),
                    "ms_ssim": fmean(similarities) if similarities else None,
                    "lowest_psnr_db": min(row["psnr_db"] for row in at),
                }
            )
        curves.append({"system": system, "points": points})
    return curves
