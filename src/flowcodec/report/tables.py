"""The tables of the page, as HTML. A cell's title says from which file and place its number is."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from flowcodec.report.read import Dataset, Results, place

DASH = "\N{EN DASH}"
EXTREMES = 3
"""Best and worst images shown against each rival."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]], name: str) -> str:
    """Cells are HTML already; the first of a row is its heading."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in header)
    lines = []
    for first, *others in rows:
        lines.append(f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>')
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="wide"><table data-table="{escape(name)}">{body}</table></div>'


def cell(value: float | None, form: str, at: str, unit: str = "", note: str = "") -> str:
    """A number with its place as title, a dash where there is none."""
    if value is None:
        return DASH
    return f'<span title="{escape(at)}">{format(value, form)}{unit}</span>{note}'


def bd_table(dataset: Dataset) -> str:
    """BD-rate of every curve against the anchor, with intervals, best first; published curves once, marked."""
    first = dataset.parts[0].content["bd_rate_percent"]
    if not any(part.content["bd_rate_percent"]["values"] for part in dataset.parts):
        return "<p>There are no published curves of these images; see image by image below.</p>"
    windows = first["windows_db"]
    header = ["codec", *(f"BD-rate, {low:g}{DASH}{high:g} dB" for low, high in windows.values())]
    entries: dict[str, tuple[float, list[str]]] = {}
    for part in dataset.parts:
        rates = part.content["bd_rate_percent"]
        intervals = rates.get("intervals", {}).get("values", {})
        for curve in part.content["curves"]:
            name, values = curve["name"], rates["values"].get(curve["name"], {})
            if name in entries:
                continue
            cells = [_codec(curve)]
            for key in windows:
                at = place(part.name, "bd_rate_percent", "values", name, key)
                cells.append(cell(values.get(key), "+.1f", at, " %", _interval(intervals.get(name, {}).get(key))))
            order = next((value for value in values.values() if value is not None), float("inf"))
            entries[name] = order, cells
    rows = [cells for _, cells in sorted(entries.values(), key=lambda entry: entry[0])]
    note = (
        f"<p>Against {escape(first['anchor'])}, a published curve; negative is fewer bits at the same PSNR. Points of a curve "
        "are mean rate and mean PSNR over the images. A dash: the curve does not reach both ends of the window. Brackets: 95 % "
        "bootstrap interval over the images, the anchor held fixed.</p>"
    )
    return table(header, rows, "bd") + note


def image_table(dataset: Dataset) -> str:
    """Image by image, ours against each measured rival: mean with interval, best and worst images."""
    rows = []
    for part in dataset.parts:
        by_image = part.content["image_by_image"]
        for rival, summary in by_image["bd_rate_percent_against"].items():
            if rival == by_image["codec"]:
                continue
            at = place(part.name, "image_by_image", "bd_rate_percent_against", rival, "mean")
            ranked = sorted(by_image.get("values", {}).get(rival, {}).items(), key=lambda item: item[1])
            values_at = place(part.name, "image_by_image", "values", rival)
            interval = _interval(summary.get("mean_interval"))
            rows.append(
                [
                    escape(rival),
                    cell(summary["mean"], "+.1f", at, " %", interval),
                    _images(ranked[:EXTREMES], values_at),
                    _images(ranked[::-1][:EXTREMES], values_at),
                    str(summary["images"]),
                ]
            )
    if not rows:
        return "<p>No image has a curve of ours and of a rival.</p>"
    return table(["against", "bits, mean over images", "best images", "worst images", "images"], rows, "images")


def failure_table(dataset: Dataset) -> str:
    rows = [
        [
            escape(row["codec"]),
            escape(row["image"]),
            f"{row['setting']:g}",
            _failed(row["error"]),
        ]
        for part in dataset.parts
        for row in part.content.get("failures", [])
    ]
    if not rows:
        return "<p>None: every codec coded every image at every setting.</p>"
    return table(["codec", "image", "setting", "what happened"], rows, "failures")


def codec_table(dataset: Dataset) -> str:
    """What each codec was: version, options, commit; its speed."""
    rows = []
    for part in dataset.parts:
        for name, codec in part.content["codecs"].items():
            speed, at = part.content.get("speed", {}).get(name, {}), place(part.name, "speed", name)
            options = ", ".join(f"{key}={value}" for key, value in codec["options"].items())
            environment = codec["environment"]
            rows.append(
                [
                    escape(name),
                    escape(codec["version"]),
                    escape(options),
                    escape(f"{codec['setting']}"),
                    cell(speed.get("encode_cpu_s_per_megapixel"), ".3g", f"{at}/encode_cpu_s_per_megapixel", " s"),
                    cell(speed.get("decode_cpu_s_per_megapixel"), ".3g", f"{at}/decode_cpu_s_per_megapixel", " s"),
                    escape(f"{environment['machine']['cpu']}; commit {(environment['commit'] or 'unknown')[:10]}"),
                ]
            )
    header = ["codec", "version", "options", "moved along the curve", "encode, CPU per Mpx", "decode, CPU per Mpx", "measured on"]
    return table(header, rows, "codecs")


def ablation_table(results: Results) -> str:
    rows = [
        [
            escape(row["arm"]),
            *(
                cell(
                    row.get(f"bd_rate_percent{part}"),
                    "+.2f",
                    place(results.name, "rows", position, f"bd_rate_percent{part}"),
                    " %",
                )
                for part in ("", "_low", "_high")
            ),
        ]
        for position, row in enumerate(results.content["rows"])
    ]
    text = results.content.get("data", "")
    return table(["arm", "BD-rate", "lower half", "upper half"], rows, "ablation") + f"<p>{escape(text)}.</p>"


def study_table(results: Results) -> str:
    """Columns as the file names them: {"title", "description", "columns", "rows"}."""
    content = results.content
    rows = []
    for position, row in enumerate(content["rows"]):
        cells = []
        for column in content["columns"]:
            value, at = row.get(column), place(results.name, "rows", position, column)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            cells.append(cell(value, ".4g", at) if is_number else DASH if value is None else escape(str(value)))
        rows.append(cells)
    return table(content["columns"], rows, f"study {results.name}") + f"<p>{escape(content['description'])}</p>"


def cost_table(found: Sequence[Results]) -> str:
    """Times, multiply-accumulates and memory of ours, from the files of the speed and memory benchmarks."""
    rows = []
    for results in found:
        content, name = results.content, results.name
        if results.kind == "speed":
            size = (
                f"{content['image']['width']}x{content['image']['height']}, {content['settings']['threads']} threads, warm median"
            )
            for side in ("encode", "decode"):
                rows.append([f"{side}, {escape(size)}", cell(content[side]["median_s"], ".3f", f"{name}#/{side}/median_s", " s")])
            value = content["decoder_kmac_per_pixel"]
            rows.append(["decoder, multiply-accumulates", cell(value, ".1f", f"{name}#/decoder_kmac_per_pixel", " k per pixel")])
        elif results.kind == "memory":
            for photograph, facts in content["photographs"].items():
                megapixels = facts["width"] * facts["height"] / 1e6
                for side in ("encode", "decode"):
                    at = place(name, "photographs", photograph, side, "peak_mib")
                    rows.append(
                        [f"peak memory, {side}, {megapixels:.0f} megapixels", cell(facts[side]["peak_mib"], ".0f", at, " MiB")]
                    )
    return table(["FlowCodec", "measured"], rows, "cost") if rows else ""


def generations_table(results: Results) -> str:
    content = results.content
    rows = []
    for name, means in content["means"].items():
        at = place(results.name, "means", name)
        rows.append(
            [
                escape(name),
                cell(means["psnr_db"][0], ".2f", f"{at}/psnr_db/0", " dB"),
                cell(means["lost_after_first_db"], ".3f", f"{at}/lost_after_first_db", " dB"),
                cell(means["relative_size"][-1], ".4f", f"{at}/relative_size/{len(means['relative_size']) - 1}"),
            ]
        )
    for row in content["rows"]:
        if "error" in row:
            rows.append([escape(row["codec"]), escape(row["image"]), _failed(row["error"]), DASH])
    return table(["codec", "PSNR, first", f"lost after {content['count']}", "size, last / first"], rows, "generations")


def source_table(found: Sequence[Results]) -> str:
    rows = [[escape(results.name), results.kind, f"<code>{results.sha256[:16]}</code>"] for results in found]
    return table(["file", "kind", "SHA-256 begins"], rows, "sources")


def _images(values: Iterable[tuple[str, float]], at: str) -> str:
    return ", ".join(f"{escape(name)} {cell(value, '+.1f', at + place('', name)[1:], ' %')}" for name, value in values)


def _failed(error: str) -> str:
    return f'<span class="failed">failed</span> {escape(error)}'


def _codec(curve: Mapping[str, Any]) -> str:
    if curve["kind"] == "published":
        return f'{escape(curve["name"])} <span class="published" title="{escape(curve["source"])}">published</span>'
    return escape(curve["name"])


def _interval(values: Sequence[float] | None) -> str:
    return f' <small class="interval">[{values[0]:+.1f}, {values[1]:+.1f}]</small>' if values else ""
