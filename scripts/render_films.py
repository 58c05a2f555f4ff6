"""Draws docs/figures/films.png and fills the tables of docs/video.md from the files under results/ that there are.

    python scripts/render_films.py [--results results] [--document docs/video.md] [--figure docs/figures/films.png]

A table replaces what stands between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``; NAME is films, film_clips, film_settings,
film_speed, film_memory, film_exactness or film_bitrate.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from flowcodec.benchmark.film_codecs import ANCHOR, OURS
from flowcodec.benchmark.film_summary import curve
from flowcodec.report.markdown import markdown_table, replace_block

ROOT = Path(__file__).parents[1]
_OVER_FRAMES = (OURS, f"{OURS} all-intra", ANCHOR, "x265 medium B-frames")
_MISSING = "Not measured yet."


def bd_table(document: Mapping[str, Any], title: str, first: str, quality: str = "psnr_yuv_db") -> str:
    """A line for each codec, the mean and a column for each film."""
    values = document["summary"][title][quality]
    films = [film for film in document["films"] if any(film in row for row in values.values())]
    rows = []
    for codec, row in sorted(values.items(), key=lambda item: item[1]["mean"]):
        name = f"**{codec}**" if codec == OURS else codec
        rows.append([name, *(f"{row[film]:+.1f} %" if film in row else "–" for film in ["mean", *films])])  # noqa: RUF001
    return markdown_table([first, "mean", *films], rows)


def films_tables(document: Mapping[str, Any]) -> str:
    parts = [
        f"BD-rate against {ANCHOR} at equal PSNR of YUV; negative is fewer bits:",
        bd_table(document, f"bd_rate_percent_against_{ANCHOR}", "codec"),
        f"{OURS} against each, the same; a dash where the curves have less than a decibel in common:",
        bd_table(document, f"bd_rate_percent_of_{OURS}_against", f"{OURS} against"),
    ]
    return "\n\n".join(parts)


def clips_table(document: Mapping[str, Any]) -> str:
    rows = [
        [name, f"{film['width']}x{film['height']}", str(film["frames"]), f"{film['fps']:.2f}", f"{film['camera_px']:.2f}"]
        for name, film in document["films"].items()
    ]
    return markdown_table(["clip", "size", "frames measured", "fps", "camera, pixels a frame"], rows)


def settings_table(document: Mapping[str, Any]) -> str:
    rows = []
    for name, codec in document["codecs"].items():
        description, speed = codec["description"], document["summary"]["speed"].get(name, {})
        options = ", ".join(f"{key}={value}" for key, value in description["options"].items())
        settings = sorted({row["setting"] for row in document["rows"] if row["codec"] == name})
        points = f"{description['setting']} {', '.join(f'{value:g}' for value in settings)}"
        seconds = [f"{speed[f'{side}_cpu_s_per_megapixel']:.3g}" if speed else "–" for side in ("encode", "decode")]  # noqa: RUF001
        rows.append([name, description["version"], options, points, *seconds])
    return markdown_table(["codec", "version", "options", "points", "encode, CPU s/Mpx", "decode, CPU s/Mpx"], rows)


def speed_table(document: Mapping[str, Any]) -> str:
    rows = []
    for row in document["rows"]:
        cells = [str(row["threads"])]
        for side in ("encode", "decode"):
            cells += [f"{row[side]['fps']:.2f}" if "fps" in row[side] else "–", _cpu(row[side])]  # noqa: RUF001
        rows.append(cells)
    header = ["threads", "encode fps", "CPU s a frame", "decode fps", "CPU s a frame"]
    return f"{markdown_table(header, rows)}\n\n{_about(document)}; {document['environment']['machine']['cpu']}."


def _cpu(measured: Mapping[str, float]) -> str:
    return f"{measured['cpu_s_per_frame']:.3f}" if "cpu_s_per_frame" in measured else "–"  # noqa: RUF001


def memory_table(document: Mapping[str, Any]) -> str:
    rows = []
    for row in document["rows"]:
        seek = row["seek"]
        found = f"{seek['frames_decoded']} for frame {seek['frame']}, groups of {seek['longest_group']}"
        peaks = [f"{row[f'{side}_{what}_mib']:.0f}" for side in ("encode", "decode") for what in ("peak", "largest")]
        rows.append([str(row["frames"]), str(row["threads"]), *peaks, found])
    grown = ", ".join(f"{name} {value:+.1f} %" for name, value in document["growth_percent"].items())
    sides = ["encode, MiB", "largest process", "decode, MiB", "largest process"]
    table = markdown_table(["frames", "threads", *sides, "frames decoded for a seek"], rows)
    what = "anonymous pages of all processes together, resident set of the largest"
    return f"{table}\n\nPeaks: {what}; {_about(document)}. From the shortest to the longest: {grown}."


def exactness_table(document: Mapping[str, Any]) -> str:
    rows = [[name, f"`{value[:16]}`"] for name, value in document["sha256"].items()]
    kinds = ", ".join(f"{count} {name}" for name, count in document["frame_kinds"].items() if count)
    verdict = "All equal." if document["equal"] else "**They differ.**"
    text = f"{verdict} {_about(document)}: {kinds}."
    return f"{markdown_table(['of all frames', 'SHA-256 begins'], rows)}\n\n{text}"


def bitrate_table(document: Mapping[str, Any]) -> str:
    rows = []
    for film in dict.fromkeys(row["film"] for row in document["rows"]):
        for asked in dict.fromkeys(row["asked_kbps"] for row in document["rows"]):
            found = {row["length_known"]: row for row in document["rows"] if (row["film"], row["asked_kbps"]) == (film, asked)}
            rows.append([film, f"{asked:g}", *(f"{found[known]['error_percent']:+.1f} %" for known in (True, False))])
    table = markdown_table(["clip", "kbit/s asked for", "length known", "length unknown"], rows)
    return f"{table}\n\nError of the whole file's bit rate; {_about(document)}."


def _about(document: Mapping[str, Any]) -> str:
    """Data and settings in words."""
    names = {"film": "{}", "size": "{} pixels", "frames": "{} frames", "gop": "groups of at most {}", "quality": "quality {:g}"}
    return ", ".join(text.format(document[key]) for key, text in names.items() if key in document)


TABLES: Sequence[tuple[str, str, Callable[[Mapping[str, Any]], str]]] = (
    ("films", "films", films_tables),
    ("film_clips", "films", clips_table),
    ("film_settings", "films", settings_table),
    ("film_speed", "film_speed", speed_table),
    ("film_memory", "film_memory", memory_table),
    ("film_exactness", "film_exactness", exactness_table),
    ("film_bitrate", "film_bitrate", bitrate_table),
)


def middle_row(rows: Iterable[Mapping[str, Any]], codec: str, film: str) -> Mapping[str, Any] | None:
    """The row of a codec's middle setting."""
    found = sorted((row for row in rows if row["codec"] == codec and row["film"] == film), key=lambda row: row["kbps"])
    return found[len(found) // 2] if found else None


def draw(document: Mapping[str, Any], path: Path) -> None:
    """For each film its curves, and beside them PSNR over the frames."""
    films, rows = list(document["films"]), [row for row in document["rows"] if "error" not in row]
    figure, axes = pyplot.subplots(len(films), 2, figsize=(11, 3.2 * len(films)), squeeze=False, dpi=90)
    colors = {codec: "black" if codec == OURS else f"C{number}" for number, codec in enumerate(document["codecs"])}
    for film, (curves, frames) in zip(films, axes, strict=True):
        for codec in document["codecs"]:
            points = curve(rows, codec, film)
            if points is not None:
                width = 2.4 if codec.startswith(OURS) else 1.2
                curves.semilogx(points.bpp, points.psnr_db, marker=".", linewidth=width, color=colors[codec], label=codec)
        for codec in _OVER_FRAMES:
            row = middle_row(rows, codec, film)
            if row is not None:
                label = f"{codec}, {row['kbps']:.0f} kbit/s"
                frames.plot(row["frames_psnr_yuv_db"], color=colors[codec], label=label)
        curves.set(title=film, xlabel="kbit/s", ylabel="PSNR YUV 6:1:1, dB")
        frames.set(title=f"{film}: over the frames", xlabel="frame", ylabel="PSNR YUV, dB")
        for axis in (curves, frames):
            axis.grid(alpha=0.3)
            if axis.get_legend_handles_labels()[0]:
                axis.legend(fontsize=6)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
    pyplot.close(figure)


def fill(text: str, results: Path) -> str:
    for name, file, table in TABLES:
        path = results / f"{file}.json"
        text = replace_block(text, name, table(json.loads(path.read_text())) if path.exists() else _MISSING)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "video.md")
    parser.add_argument("--figure", type=Path, default=ROOT / "docs" / "figures" / "films.png")
    arguments = parser.parse_args()
    arguments.document.write_text(fill(arguments.document.read_text(), arguments.results))
    films = arguments.results / "films.json"
    if films.exists():
        draw(json.loads(films.read_text()), arguments.figure)


if __name__ == "__main__":
    main()
