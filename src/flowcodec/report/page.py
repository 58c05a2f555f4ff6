"""Writes the page: the template with tables made here, and data that its script draws. One file, nothing loaded from
elsewhere.
"""

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from flowcodec.report import tables
from flowcodec.report.data import dataset_data, generations_data, rounded
from flowcodec.report.films import films_data, films_section
from flowcodec.report.pictures import load_pictures
from flowcodec.report.read import Dataset, Results, datasets, read_all


def write_page(results: Sequence[Path], out: Path, decodes: Sequence[Path]) -> int:
    """Reads everything, then writes ``out``; returns its size in bytes. Raises InputError."""
    found = read_all(results)
    text = make_page(found, datasets(found), load_pictures(decodes))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    return out.stat().st_size


def make_page(found: Sequence[Results], groups: Sequence[Dataset], pictures: dict) -> str:
    """The HTML. ``pictures`` as ``load_pictures`` returns them."""
    generations = [generations_data(entry) for entry in found if entry.kind == "generations"]
    films = [rounded(films_data(entry)) for entry in _of(found, "films")]
    data: dict[str, Any] = {"datasets": [dataset_data(group) for group in groups], "pictures": pictures, "films": films}
    data["generations"] = generations
    here = files("flowcodec.report")
    parts = {
        "STYLE": here.joinpath("page.css").read_text("utf-8"),
        "SCRIPT": here.joinpath("charts.js").read_text("utf-8") + here.joinpath("page.js").read_text("utf-8"),
        # "</" would end the script element that holds the data.
        "DATA": json.dumps(data, separators=(",", ":"), allow_nan=False).replace("</", "<\\/"),
        "DATASETS": "".join(_dataset_section(number, group) for number, group in enumerate(groups)),
        "PICTURES": _picture_section(pictures),
        "FILMS": "".join(_films_section(number, entry) for number, entry in enumerate(_of(found, "films"))),
        "GENERATIONS": "".join(_generations_section(number, entry) for number, entry in enumerate(_of(found, "generations"))),
        "STUDIES": _study_sections(found),
        "COST": _titled("cost", "Cost of FlowCodec", tables.cost_table(found)),
        "SOURCES": _titled("sources", "Sources", f"<p>{_ORIGIN}</p>" + tables.source_table(found)),
    }
    page = here.joinpath("page.html").read_text("utf-8")
    for name, text in parts.items():
        page = page.replace(f"@{name}@", text, 1)
    return page


_ORIGIN = (
    "Every number on this page is in one of these files: point at it and its place is shown, as file#/path. "
    "Rates are those of whole files that were really decoded. Published curves are marked and dashed; others measured them."
)


def _of(found: Sequence[Results], kind: str) -> list[Results]:
    return [entry for entry in found if entry.kind == kind]


def _titled(name: str, title: str, body: str) -> str:
    return f'<section id="{name}"><h2>{escape(title)}</h2>{body}</section>' if body else ""


def _counted(name: str, count: int, what: str) -> str:
    return f"{name}, {count} {what}" + ("s" if count > 1 else "")


def _dataset_section(number: int, group: Dataset) -> str:
    name = _counted(group.name, len(group.images), "image")
    body = (
        f'<div class="chart" data-chart="curves" data-dataset="{number}"></div>'
        f"<h3>BD-rate</h3>{tables.bd_table(group)}"
        f'<h3>Speed against BD-rate</h3><div class="chart" data-chart="speed" data-dataset="{number}"></div>'
        f"<h3>Image by image against each rival</h3>{tables.image_table(group)}"
        f'<h3>One image</h3><div class="chart" data-chart="image" data-dataset="{number}"></div>'
        f"<h3>Failed</h3>{tables.failure_table(group)}"
        f"<details><summary>Versions, options and speed of the codecs</summary>{tables.codec_table(group)}</details>"
    )
    return _titled(f"dataset-{number}", name, body)


def _picture_section(pictures: dict) -> str:
    if not pictures["images"]:
        return ""
    note = (
        "<p>Of each image the part where the codecs differ most, found automatically, one pixel shown as two by two. "
        "Rates are of the whole image. Drag the line.</p>"
    )
    if pictures["left_out"]:
        note += f"<p>{pictures['left_out']} decodes are left out to keep the page small.</p>"
    return _titled("pictures", "Side by side", note + '<div id="slider"></div>')


def _films_section(number: int, results: Results) -> str:
    name = _counted("Films", len(results.content["films"]), "clip")
    return _titled(f"films-{number}", name, films_section(number, results))


def _generations_section(number: int, results: Results) -> str:
    body = (
        "<p>Encoded and decoded again and again at the same setting; PSNR against the original, mean over "
        f"{len(results.content['images'])} images. First files are as near as may be to {results.content['bpp']:g} bpp.</p>"
        f'<div class="chart" data-chart="generations" data-dataset="{number}"></div>'
    )
    return _titled(f"generations-{number}", "Generations", body + tables.generations_table(results))


def _study_sections(found: Sequence[Results]) -> str:
    text = "".join(_titled("ablation", "Ablation", tables.ablation_table(entry)) for entry in _of(found, "ablation"))
    for number, entry in enumerate(_of(found, "study")):
        text += _titled(f"study-{number}", entry.content["title"], tables.study_table(entry))
    return text
