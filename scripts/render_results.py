"""Draws docs/figures/kodak_rd.png and fills the tables of README.md and docs/ from the files under results/.

    python scripts/render_results.py [--readme README.md] [--results results] [--figure docs/figures/kodak_rd.png]

A table replaces what stands between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``; NAME is kodak, speed, lossless,
ablation, effort or published.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from flowcodec.benchmark.bdrate import Curve
from flowcodec.benchmark.summary import OURS
from flowcodec.errors import InputError
from flowcodec.report.markdown import markdown_table, replace_block

ROOT = Path(__file__).parents[1]
TABLE_RATES = (0.25, 0.5, 1.0, 2.0)
SHOWN_BPP, SHOWN_DB = (0.1, 4.0), (23.0, 47.0)


def draw(document: Mapping[str, Any], path: Path) -> None:
    """PSNR over rate: ours thick, measured rivals solid, published curves dashed."""
    figure, axes = plt.subplots(figsize=(7.2, 5.0), dpi=150)
    for curve in document["curves"]:
        ours, published = curve["name"] == OURS, curve["kind"] == "published"
        label = f"{curve['name']}, published" if published else curve["name"]
        style: dict[str, Any] = {"linewidth": 2.6, "color": "black", "zorder": 3} if ours else {"linewidth": 1.4}
        style |= {"linestyle": "--"} if published else {"marker": "o", "markersize": 3}
        axes.plot(curve["bpp"], curve["psnr_db"], label=label, **style)
    axes.set(xscale="log", xlim=SHOWN_BPP, ylim=SHOWN_DB, xlabel="bits per pixel (whole files)", ylabel="PSNR (dB, RGB)")
    axes.xaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.5, 1, 2, 4]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_title(f"Kodak, mean of {len(document['images'])} images", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def kodak_table(document: Mapping[str, Any]) -> str:
    """BD-rates and PSNR at a few rates, best codec first, and the checks in words."""
    bd_rates = document["bd_rate_percent"]
    rates = bd_rates["values"]
    windows = {name: f"{low:g}–{high:g} dB" for name, (low, high) in bd_rates["windows_db"].items()}  # noqa: RUF001
    header = ["codec", *(f"BD-rate, {text}" for text in windows.values()), *(f"dB at {rate:g} bpp" for rate in TABLE_RATES)]
    found = sorted(document["curves"], key=lambda curve: _first(rates.get(curve["name"], {}).values()))
    rows = []
    for curve in found:
        name = curve["name"] + (" (published)" if curve["kind"] == "published" else "")
        cells = [f"**{name}**" if curve["name"] == OURS else name]
        cells += [_cell(rates.get(curve["name"], {}).get(window), "+.1f", " %") for window in windows]
        cells += [_cell(psnr, ".2f") for psnr in _psnr_at(curve)]
        rows.append(cells)
    note = f"BD-rate against {bd_rates['anchor']}: negative is fewer bits."
    return "\n".join([markdown_table(header, rows), "", note, *_in_words(document)])


def _in_words(document: Mapping[str, Any]) -> Iterable[str]:
    check = document["checks"]["above_rivals"]
    low, high = check["bpp"]
    for rival, margin in check["rivals"].items():
        if margin["passed"] is not None:
            place = "above" if margin["least_margin_db"] > 0 else "not always above"
            least = f"{margin['least_margin_db']:+.2f} dB at {margin['at_bpp']:.2f} bpp"
            mean = f"{margin['mean_margin_db']:+.2f} dB"
            yield f"{OURS} is {place} {rival} from {low:g} to {high:g} bpp (least {least}, mean {mean})."
    every = document["checks"].get("every_image", {})
    if every.get("passed") is not None:
        least = every["least"]
        found = f"{least['margin_db']:+.2f} dB on {least['image']} at {least['at_bpp']:.2f} bpp"
        count = (
            f"on {len(every['below'])} of {every['images']} images" if every["below"] else f"on none of {every['images']} images"
        )
        yield f"{OURS} is worse than {every['rival']} at equal rate {count} (least {found})."
    for rival, values in document["image_by_image"]["bd_rate_percent_against"].items():
        if rival != OURS:
            span = f"{values['best']:+.1f} to {values['worst']:+.1f} %"
            yield f"Image by image against {rival}: {values['mean']:+.1f} % bits on average ({span})."


def speed_table(speed: Mapping[str, Any], memory: Mapping[str, Any] | None) -> str:
    """Times of one image and of start-up, cost of decoding, memory for large photographs; with machine and settings."""
    image, settings, machine = speed["image"], speed["settings"], speed["environment"]["machine"]
    refined = speed.get("encode_refined")
    rows = [
        ["encode", f"{speed['encode']['median_s']:.2f} s"],
        *([[f"encode, `--effort {refined['effort']}`", f"{refined['median_s']:.0f} s"]] if refined else []),
        ["decode", f"{speed['decode']['median_s']:.2f} s"],
        ["decoder, multiply-accumulates", f"{speed['decoder_kmac_per_pixel']:.1f} k per pixel"],
        ["`flowcodec --help`, whole process", f"{speed['start_up']['help']['median_s']:.2f} s"],
        ["`flowcodec info`, whole process", f"{speed['start_up']['info']['median_s']:.2f} s"],
    ]
    for photograph in (memory or {"photographs": {}})["photographs"].values():
        megapixels = photograph["width"] * photograph["height"] / 1e6
        peaks = f"{photograph['encode']['peak_mib']:.0f} / {photograph['decode']['peak_mib']:.0f} MiB"
        rows.append([f"peak memory, encode / decode, {megapixels:.0f} megapixels", peaks])
    note = (
        f"{image['width']}×{image['height']}, quality {settings['quality']:g}, {settings['threads']} threads, warm medians of "  # noqa: RUF001
        f"{settings['repeats']}; {machine['cpu']}, {machine['cores']} cores; model {speed['model']}."
    )
    return "\n".join([markdown_table(["what", "measured"], rows), "", note])


def ablation_table(document: Mapping[str, Any]) -> str:
    """BD-rate of each arm against the default, over the whole range and its two halves."""
    rows = [
        [
            row["arm"],
            *(_cell(row[f"bd_rate_percent{part}"], "+.2f", " %") for part in ("", "_low", "_high")),
            _cell(row.get("kmac_per_pixel"), ".1f"),
        ]
        for row in document["rows"]
    ]
    window = document["rows"][0]["window_db"]
    note = f"{document['data']}; {window[0]:.1f}–{window[1]:.1f} dB; model {document['model']}."  # noqa: RUF001
    return "\n".join([markdown_table(["arm", "BD-rate", "lower half", "upper half", "kMAC a pixel"], rows), "", note])


def effort_table(document: Mapping[str, Any]) -> str:
    """What each effort above the default saves and costs."""
    rows = [
        [
            f"`--effort {row['effort']}`",
            f"{row['bd_rate_percent']:+.1f} %",
            f"{min(row['bd_rate_percent_by_crop']):+.1f} to {max(row['bd_rate_percent_by_crop']):+.1f} %",
            f"{row['cpu_s_per_megapixel']:.0f} s",
        ]
        for row in document["rows"][1:]
    ]
    steps = ", ".join(f"{step:g}" for step in document["steps"])
    table = markdown_table(["", "BD-rate against the default", "crop by crop", "CPU time per megapixel"], rows)
    return f"{table}\n\n{document['data']}; steps {steps}; one thread of a busy machine; model {document['model']}."


def study_table(document: Mapping[str, Any]) -> str:
    """The rows of a study, columns as its file names them; signed numbers with one digit."""
    columns = document["columns"]
    rows = [[_text(row[column]) for column in columns] for row in document["rows"]]
    return "\n".join([markdown_table(columns, rows), "", document["description"]])


def lossless_table(document: Mapping[str, Any]) -> str:
    """Bits per subpixel of each codec, and what was measured."""
    rows = [[name, f"{bits:.3f}"] for name, bits in document["bits_per_subpixel"].items()]
    machine = document["environment"]["machine"]
    checked = f"{document['checked_exact']} of them decoded and compared"
    facts = f"{document['data']}; {checked}; {machine['cpu']}, {machine['cores']} cores."
    return markdown_table(["lossless", "bits per subpixel"], rows) + f"\n\n{facts}"


def _psnr_at(curve: Mapping[str, Any]) -> Iterable[float | None]:
    for rate in TABLE_RATES:
        try:
            yield float(Curve.from_points(curve["name"], curve["bpp"], curve["psnr_db"]).psnr_at(np.array(rate)))
        except InputError:
            yield None


def _first(values: Iterable[float | None]) -> float:
    return next((value for value in values if value is not None), float("inf"))


def _cell(value: float | None, form: str, unit: str = "") -> str:
    return "–" if value is None else format(value, form) + unit  # noqa: RUF001


def _text(value: Any) -> str:
    return _cell(value, "+.1f") if value is None or isinstance(value, float) else str(value)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--figure", type=Path, default=ROOT / "docs/figures/kodak_rd.png")
    arguments = parser.parse_args()
    found = {path.stem: json.loads(path.read_text()) for path in arguments.results.glob("*.json")}
    try:
        if "kodak" not in found:
            raise InputError(f"{arguments.results}: no kodak.json; run `flowcodec benchmark` first")
        text = arguments.readme.read_text()
        draw(found["kodak"], arguments.figure)
        text = replace_block(text, "kodak", kodak_table(found["kodak"]))
        if "ablation" in found:
            page = ROOT / "docs/ablations.md"
            page.write_text(replace_block(page.read_text(), "ablation", ablation_table(found["ablation"])))
        if "effort" in found:
            page = ROOT / "docs/ablations.md"
            page.write_text(replace_block(page.read_text(), "effort", effort_table(found["effort"])))
        if "published" in found:
            page = ROOT / "docs/evidence.md"
            page.write_text(replace_block(page.read_text(), "published", study_table(found["published"])))
        if "speed" in found:
            text = replace_block(text, "speed", speed_table(found["speed"], found.get("memory")))
        if "lossless" in found:
            text = replace_block(text, "lossless", lossless_table(found["lossless"]))
    except (OSError, InputError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    arguments.readme.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
