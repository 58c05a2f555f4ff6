"""The section of the page about films: BD-rates per clip, curves, PSNR over the frames, versions and speed of the codecs."""

from collections.abc import Mapping
from html import escape
from typing import Any

from flowcodec.report.read import Results, place
from flowcodec.report.tables import cell, table

METRICS = {"psnr_yuv_db": "PSNR, YUV 4:2:0 6:1:1 (dB)", "psnr_rgb_db": "PSNR, RGB (dB)", "ms_ssim_y": "MS-SSIM, luma"}
_AGAINST_ANCHOR, _OURS = "bd_rate_percent_against_", "bd_rate_percent_of_"
_SPEEDS = {
    "encode_cpu_s_per_megapixel": ("encode, CPU per Mpx", ".3g", " s"),
    "decode_cpu_s_per_megapixel": ("decode, CPU per Mpx", ".3g", " s"),
    "encode_fps": ("encode", ".1f", " fps"),
    "decode_fps": ("decode", ".1f", " fps"),
}


def films_data(results: Results) -> dict[str, Any]:
    """What the script draws: one entry per codec and film, columns over its settings from the lowest rate up."""
    groups: dict[tuple[str, str], list[tuple[int, Mapping[str, Any]]]] = {}
    for position, row in enumerate(results.content["rows"]):
        if "error" not in row:
            groups.setdefault((row["codec"], row["film"]), []).append((position, row))
    curves = []
    for (codec, film), entries in groups.items():
        entries.sort(key=lambda entry: entry[1]["kbps"])
        columns = {key: [row.get(key) for _, row in entries] for key in ("setting", "kbps", *METRICS)}
        frames = [row["frames_psnr_yuv_db"] for _, row in entries]
        curves.append({"codec": codec, "film": film, "row": [k for k, _ in entries], **columns, "frames": frames})
    return {"file": results.name, "films": list(results.content["films"]), "metrics": METRICS, "curves": curves}


def films_section(number: int, results: Results) -> str:
    """HTML of a file of results, without its heading."""
    charts = "".join(
        f'<h3>{title}</h3><div class="chart" data-chart="{chart}" data-dataset="{number}"></div>'
        for title, chart in (("Rate and quality of a film", "film"), ("Over the frames", "frames"))
    )
    return (
        f"{clips_table(results)}{bd_tables(results)}{charts}{failures(results)}"
        f"<details><summary>Versions, options and speed of the codecs</summary>{codecs_table(results)}</details>"
    )


def clips_table(results: Results) -> str:
    rows = []
    for name, film in results.content["films"].items():
        at = place(results.name, "films", name)
        size = f"{cell(film['width'], 'd', f'{at}/width')}x{cell(film['height'], 'd', f'{at}/height')}"
        camera = cell(film["camera_px"], ".1f", f"{at}/camera_px", " px")
        rows.append(
            [escape(name), size, cell(film["frames"], "d", f"{at}/frames"), cell(film["fps"], ".4g", f"{at}/fps"), camera]
        )
    return table(["film", "size", "frames", "fps", "camera, a frame"], rows, "clips")


def bd_tables(results: Results) -> str:
    """Against the anchor and of ours against each, in PSNR of YUV."""
    text = ""
    for title, tables in results.content["summary"].items():
        if not title.startswith((_AGAINST_ANCHOR, _OURS)):
            continue
        values = tables["psnr_yuv_db"]
        films = [film for film in results.content["films"] if any(film in row for row in values.values())]
        rows = []
        for codec, row in sorted(values.items(), key=lambda item: item[1]["mean"]):
            at = place(results.name, "summary", title, "psnr_yuv_db", codec)
            cells = [cell(row.get(film), "+.1f", at + place("", film)[1:], " %") for film in [*films, "mean"]]
            rows.append([escape(codec), *cells])
        heading = f"Against {title.removeprefix(_AGAINST_ANCHOR)}"
        if title.startswith(_OURS):
            heading = f"{title.removeprefix(_OURS).removesuffix('_against')} against each"
        text += f"<h3>{escape(heading)}, BD-rate at equal PSNR of YUV</h3>{table(['codec', *films, 'mean'], rows, title)}"
    return text + "<p>Negative is fewer bits. A dash: the curves have less than a decibel in common.</p>"


def codecs_table(results: Results) -> str:
    speeds = results.content["summary"]["speed"]
    shown = {key: value for key, value in _SPEEDS.items() if any(key in speed for speed in speeds.values())}
    rows = []
    for name, codec in results.content["codecs"].items():
        description, machine = codec["description"], codec["environment"]["machine"]
        options = ", ".join(f"{key}={value}" for key, value in description["options"].items())
        at = place(results.name, "summary", "speed", name)
        cells = [cell(speeds.get(name, {}).get(key), form, f"{at}/{key}", unit) for key, (_, form, unit) in shown.items()]
        rows.append([escape(name), escape(description["version"]), escape(options), escape(description["setting"]), *cells])
        rows[-1].append(escape(f"{machine['cpu']}, one thread"))
    header = ["codec", "version", "options", "moved along the curve", *(title for title, _, _ in shown.values()), "measured on"]
    return table(header, rows, "film codecs")


def failures(results: Results) -> str:
    rows = [
        [escape(row["codec"]), escape(row["film"]), f"{row['setting']:g}", f'<span class="failed">{escape(row["error"])}</span>']
        for row in results.content["rows"]
        if "error" in row
    ]
    return f"<h3>Failed</h3>{table(['codec', 'film', 'setting', 'what happened'], rows, 'film failures')}" if rows else ""
