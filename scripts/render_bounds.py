"""Draws docs/figures/bounds.png and bounds_pictures.png and fills the tables of docs/bounds.md from results/bounds.json.

    python scripts/render_bounds.py [--results results/bounds.json] [--page docs/bounds.md] [--figures docs/figures]

A table replaces what stands between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``; a section that the file lacks says so.
"""

import argparse
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from flowcodec.errors import InputError

ROOT = Path(__file__).parents[1]
NOT_MEASURED = "*Not measured yet.*"
SHOWN_MEMBERS = {"jensen-shannon": "2 JS", "hellinger": "H²", "kl": "KL", "renyi-0.9": "Rényi 0.9", "pearson": "χ²"}
FILES = {"trellis": "trellis, files", "round": "round, files", "dither": "dither, files", "gaussian": "gaussian, files"}


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [headings, ["---"] * len(headings), *[[str(cell) for cell in row] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def certificates(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = []
    for r in rows:
        first, last = r["qualities"][0], r["qualities"][-1]
        every = r["qualities"] == list(range(first, last + 1))
        qualities = f"all of {first} to {last}" if every else ", ".join(map(str, r["qualities"]))
        slack = [
            f"{r['slack_bytes_mean']:.0f}, {r['slack_bytes_max']}",
            f"{r['slack_share_of_largest']:.2%}",
            r["beyond_the_bar"],
        ]
        cells.append([r["pictures"], r["channel"], qualities, r["files"], r["recomputed"], r["violations"], *slack])
    headings = ["pictures", "channel", "qualities", "files", "recomputed by decoding", "violations"]
    return table([*headings, "slack, bytes: mean, largest", "of the largest file", "slack over 1 % + 128 bytes"], cells)


def certified(measured: Mapping[str, Any]) -> str:
    rows = measured["certified"]
    names = list(rows[0]["certified_bpp"])
    cells = [
        [f"{r['step']:.1f}", f"{r['psnr_db']:.2f}", f"{r['kl_bpp']:.3f}", f"{r['upper_bpp']['betting']:.3f}"]
        + [f"{r['certified_bpp'][name]:.3f} ({sum(r['correction_bpp'][name].values()):.3f})" for name in names]
        for r in rows
    ]
    headings = ["step", "PSNR dB", "KL, mean (estimate)", "R* at most", *(f"I at most, by {name} (taken off)" for name in names)]
    return f"{measured['certified_crops']} crops; bits per pixel.\n\n" + table(headings, cells)


def divergence(m: Mapping[str, Any]) -> str:
    cells = []
    for r in m["members"]:
        own = ["∞", "", r["above"]] if r["truth"] is None else [f"{r['truth']:.3f}", f"{r['median_share']:.1%}", r["above"]]
        if "kl_above" in r:
            shares = ", ".join(f"{r[f'kl_{name}_share']:.1%}" for name in ("least", "median", "largest"))
            cells.append([r["member"], *own, shares, r["kl_below_80_percent"], r["kl_above"]])
        else:
            cells.append([r["member"], *own, "refused: bounds KL from above only", "", ""])
    what = f"KL = {m['kl_nats']:.3f} nats, {m['seeds']} seeds, confidence {1 - m['delta']:.0%}.\n\n"
    headings = ["member", "true D, nats", "median share of D", "above D", "share of KL: least, median, largest"]
    return what + table([*headings, "below 80 % of KL", "above KL"], cells)


def confidence(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [[r["costs"], r["n"], r["method"], r["repeats"], f"{r['coverage']:.3f}", f"{r['slack_bpp']:.3f}"] for r in rows]
    return table(["costs, bpp", "n", "method", "repeats", "coverage", "slack, bpp"], cells)


def paired(m: Mapping[str, Any]) -> str:
    cells = []
    for r in m["rows"]:
        found = [r["mean_bpp"], r["sd_bpp"], r["upper_bpp"]["betting"]]
        found += [r["upper_bpp"][name] - r["mean_bpp"] for name in ("betting", "bernstein", "hoeffding")]
        cells.append([r["name"], r["n"], f"{r['low']:.2f} … {r['high']:.2f}", *(f"{value:.4f}" for value in found)])
    text = (
        f"Step {m['step']:g}, cap {m['cap_bpp']:g} bpp, {m['side']}×{m['side']} crops of held-out pictures; bits per pixel.\n\n"  # noqa: RUF001
    )
    headings = ["difference", "n", "range", "mean", "sd", "mean at most (betting)"]
    return text + table([*headings, "slack: betting", "Bernstein", "Hoeffding"], cells)


def simulation(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [
        [
            *(r["blocks"], f"{r['kl_bits']:.2f}", f"{r['log2_index']:.2f}", f"{r['bits']:.2f}", f"{r['zipf_bits']:.2f}"),
            *(f"{r['goal_bits']:.2f}", f"{r['bound_bits']:.2f}", f"{r['ks_sqrt_n']:.2f}", f"{r['mean_z']:+.1f}"),
            *(f"{r['variance']:.3f}", f"{r['variance_z']:+.1f}", r["inexact"]),
        ]
        for r in rows
    ]
    headings = ["blocks", "KL a block", "E log2 K", "bits, as in files", "bits, Zipf code", "KL + log2(KL + 3.4) + 1"]
    headings += ["**bound** KL + log2(KL + 2) + 2", "KS √n", "mean, z", "variance", "variance, z", "inexact"]
    return table(headings, cells)


def sources(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [
        [
            *(r["source"], f"{r['distortion']:.3f}", f"{r['lower_bits']:.4f}", f"{r['rate_bits']:.4f}"),
            *((f"{r['upper_bits']:.4f}", f"{r['upper_excess']:.2%}") if "upper_bits" in r else ("", "")),
            f"{r['held']} of {r['seeds']}",
        ]
        for r in rows
    ]
    headings = ["source", "distortion", "lower", "R(D), bits", "upper", "worst excess of upper", "lower ≤ R ≤ upper"]
    return table(headings, cells)


def pairs(m: Mapping[str, Any]) -> str:
    keys = ("shannon_bits", "lower_bits", "upper_bits")
    cells = [[f"{r['distortion']:.2f}", *(f"{r[key]:.4f}" for key in keys)] for r in m["points"]]
    text = f"Green values of {m['pictures']} test pictures; entropy {m['entropy_bits']:.3f} bits a sample.\n\n"
    return text + table(["squared error", "Shannon, lower", "dual, lower", "upper"], cells)


def distances(m: Mapping[str, Any]) -> str:
    cells = []
    for r in m["distances"]:
        rates = [3 * r["bits"], r["bits"], r["shannon_bits"], r["bits"] - r["shannon_bits"]]
        quality = [f"{r['mse']:.2f}", f"{10 * math.log10(255**2 / r['mse']):.2f}"]
        cells.append([r["channel"], f"{r['step']:g}", *quality, *(f"{rate:.3f}" for rate in rates)])
    headings = ["channel", "step", "squared error", "PSNR dB", "bpp", "bits a sample", "Shannon, estimated", "distance"]
    return f"{m['pictures']} middles of test pictures, {m['side']}×{m['side']}.\n\n" + table(headings, cells)  # noqa: RUF001


def bounds_of(divergences: Mapping[str, Mapping[str, float]]) -> list[str]:
    """'certified (mean)' of every member shown."""
    return [f"{divergences[name]['at_least']:.3f} ({divergences[name]['mean']:.3f})" for name in SHOWN_MEMBERS]


def realism(m: Mapping[str, Any]) -> str:
    cells = []
    for r in m["realism"]:
        setting = ["", ""] if r["step"] is None else [f"{r['step']:g}", f"{r['psnr_db']:.2f}"]
        cells.append([r["channel"], *setting, *bounds_of(r["divergences"])])
    return table(["channel", "step", "PSNR dB", *(f"{label} ≥ (mean)" for label in SHOWN_MEMBERS.values())], cells)


def latents(m: Mapping[str, Any]) -> str:
    cells = [
        [f"{r['step']:g}", r["level"], f"{r['noise_sd']:.3f}", f"{r['kl_at_most']:.3g}", *bounds_of(r["divergences"])]
        for r in m["rows"]
    ]
    text = f"{m['crops']} crops; noise sd in grey levels, the data's own {m['data_sd']:.3f}.\n\n"
    labels = [f"{label} ≥ (mean)" for label in SHOWN_MEMBERS.values()]
    return text + table(["step", "level", "noise sd", "KL ≤", *labels], cells)


def draw_crops(axes: Any, measured: Mapping[str, Any]) -> None:
    """Crops of the test pictures through every channel, and the certified bounds on held-out crops."""
    for name, label in ({"kl": "KL (no file)"} | FILES).items():
        rows = [row for row in measured["files"] if row["name"] == name]
        style: dict[str, Any] = {"linestyle": "--", "color": "black"} if name == "kl" else {"marker": "o", "markersize": 3}
        axes.plot([r["bpp"] for r in rows], [r["psnr_db"] for r in rows], label=label, **style)
    shannon = [(row["bpp"], row["psnr_db"]) for row in measured["shannon_estimate"] if row["bpp"] > 0]
    axes.plot(*zip(*shannon, strict=True), ":", color="grey", label="Shannon's lower bound, estimated")
    rows = measured["certified"]
    psnr = [row["psnr_db"] for row in rows]
    axes.plot([row["upper_bpp"]["betting"] for row in rows], psnr, "^", label="R* at most (95 %), held-out crops")
    axes.plot([row["certified_bpp"]["kl"] for row in rows], psnr, "v", label="I at most (95 %), held-out crops")
    axes.set(xlabel="bits per pixel", ylabel="PSNR, dB", title=f"{measured['crops']} Kodak crops, 64x64")


def draw_field(axes: Any, measured: Mapping[str, Any]) -> None:
    """A Gaussian field whose R(D) is known: sandwich, KL, certificate and coded sizes."""
    curve, points = measured["curve"], measured["points"]

    def decibels(distortions: Sequence[float]) -> list[float]:
        return [-10 * math.log10(d) for d in distortions]

    axes.plot([r["rate_bits"] for r in curve], decibels([r["distortion"] for r in curve]), color="grey", label="R(D), exact")
    axes.plot(
        [r["lower_bits"] for r in curve], decibels([r["distortion"] for r in curve]), ":", color="grey", label="lower bound"
    )
    upper = [r["upper_bits"] for r in curve]
    axes.plot(upper, decibels([r["upper_distortion"] for r in curve]), "+", color="grey", label="upper bound")
    reached = decibels([r["kl_distortion"] for r in points])
    axes.plot([r["kl_bits"] for r in points], reached, "--", color="black", label="KL (no file)")
    axes.plot([r["certified_bits"] for r in points], reached, "^", label="R* at most (95 %)")
    for name, label in FILES.items():
        found = [(r[name]["bits"], -10 * math.log10(r[name]["distortion"])) for r in points]
        axes.plot(*zip(*found, strict=True), "o-", markersize=3, label=label.replace("files", "coded"))
    title = f"AR(1) field {measured['side']}x{measured['side']}, correlation {measured['rho']:g}"
    axes.set(xlabel="bits a sample", ylabel="signal to distortion, dB", title=title)


def draw_distances(axes: Any, measured: Mapping[str, Any]) -> None:
    for channel in ("trellis", "round", "dither"):
        rows = [r for r in measured["distances"] if r["channel"] == channel]
        found = [(3 * r["bits"], r["bits"] - r["shannon_bits"]) for r in rows]
        axes.plot(*zip(*found, strict=True), "o-", markersize=3, label=f"{channel}, files")
    axes.axhline(0.2546, color="grey", linestyle=":", label="ideal scalar quantiser at high rate")
    axes.set(xlabel="bits per pixel", ylabel="bits a sample", xscale="log", title="files above Shannon's bound, estimated")


def draw_realism(axes: Any, measured: Mapping[str, Any]) -> None:
    names = sorted({r["channel"] for r in measured["realism"] if r["step"] is not None})
    for name in names:
        rows = [r for r in measured["realism"] if r["channel"] == name]
        bounds = [r["divergences"]["jensen-shannon"]["at_least"] for r in rows]
        axes.plot([r["psnr_db"] for r in rows], bounds, "o-", markersize=3, label=name)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set(xlabel="PSNR, dB", ylabel="2 JS of 4x4 patches, at least, nats", title="decoded against original pictures")


def draw_latents(axes: Any, measured: Mapping[str, Any]) -> None:
    for level in sorted({r["level"] for r in measured["rows"]}):
        rows = [r for r in measured["rows"] if r["level"] == level]
        bounds = [r["divergences"]["jensen-shannon"]["at_least"] for r in rows]
        axes.plot([r["noise_sd"] for r in rows], bounds, "o-", markersize=3, label=f"level {level}")
    axes.axhline(0, color="grey", linewidth=0.8)
    title = "latents against noisy latents"
    axes.set(xlabel="noise sd, grey levels", ylabel="2 JS of blocks, at least, nats", xscale="log", title=title)


def draw(document: Mapping[str, Any], panels: Sequence[tuple[str, Callable[[Any, Any], None]]], path: Path) -> None:
    """A panel for each of the sections that the file has."""
    chosen = [(name, panel) for name, panel in panels if name in document]
    if not chosen:
        return
    figure, grid = plt.subplots(1, len(chosen), figsize=(5.5 * len(chosen), 4.8), dpi=130, squeeze=False)
    for axes, (name, panel) in zip(grid[0], chosen, strict=True):
        panel(axes, document[name]["measured"])
        axes.legend(fontsize=7)
        axes.grid(alpha=0.3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


TABLES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "certificates": ("certificates", certificates),
    "kodak": ("kodak", certificates),
    "certified": ("rates", certified),
    "divergence": ("divergence", divergence),
    "confidence": ("confidence", confidence),
    "paired": ("paired", paired),
    "simulation": ("simulation", simulation),
    "sources": ("sources", sources),
    "pairs": ("pairs", pairs),
    "distances": ("pictures", distances),
    "realism": ("pictures", realism),
    "latents": ("latents", latents),
}
"""Marks on the page -> section of the results, and what renders it."""


def rendered(document: Mapping[str, Any], section: str, render: Callable[[Any], str]) -> str:
    if section not in document:
        return NOT_MEASURED
    found = document[section]
    made = [f"model {found['model'][:8]}"] if "model" in found else []
    made += [f"{found['share']:g} of the crops and seeds"] if found["share"] != 1 else []
    return render(found["measured"]) + (f"\n\n*Measured with {', '.join(made)}.*" if made else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "bounds.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "bounds.md")
    parser.add_argument("--figures", type=Path, default=ROOT / "docs" / "figures")
    options = parser.parse_args()
    document, page = json.loads(options.results.read_text()), options.page.read_text()
    for name, (section, render) in TABLES.items():
        marks = re.search(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", page, re.DOTALL)
        if marks is None:
            raise InputError(f"{options.page}: expected the marks of {name}")
        page = page[: marks.end(1)] + rendered(document, section, render) + "\n" + page[marks.start(2) :]
    options.page.write_text(page)
    draw(document, [("rates", draw_crops), ("field", draw_field)], options.figures / "bounds.png")
    pictures = [("pictures", draw_distances), ("pictures", draw_realism), ("latents", draw_latents)]
    draw(document, pictures, options.figures / "bounds_pictures.png")


if __name__ == "__main__":
    main()
