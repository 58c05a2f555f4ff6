"""From results to what the page's script draws. Every value is taken from a file, none is computed here; each carries its
place.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from flowcodec.report.read import Dataset, Results, place

METRICS = {
    "psnr_db": "PSNR, RGB (dB)",
    "psnr_y_db": "PSNR, luma (dB)",
    "ms_ssim": "MS-SSIM",
    "ssimulacra2": "SSIMULACRA 2",
    "st_lpips": "ST-LPIPS (lower is better)",
    "gradient_similarity": "gradient similarity",
    "edge_psnr_db": "PSNR of edges (dB)",
    "detail_kept_1": "detail kept, finest scale",
    "detail_kept_2": "detail kept, second scale",
    "detail_energy_1": "detail energy, finest scale",
    "detail_energy_2": "detail energy, second scale",
}
_ROW_METRICS = ("psnr_db", "psnr_y_db", "ms_ssim", "ssimulacra2", "st_lpips", "gradient_similarity", "edge_psnr_db")
_DIGITS = 6


def dataset_data(dataset: Dataset) -> dict[str, Any]:
    """Curves, speeds and rows of one data set; ``at`` is file and JSON pointer."""
    curves: list[dict[str, Any]] = []
    for part in dataset.parts:
        for position, curve in enumerate(part.content["curves"]):
            if curve["kind"] == "published" and any(known["name"] == curve["name"] for known in curves):
                continue
            curves.append({**_curve(curve), "at": place(part.name, "curves", position)})
    return {
        "name": dataset.name,
        "images": list(dataset.images),
        "metrics": {key: label for key, label in METRICS.items() if any(key in curve for curve in curves)},
        "curves": curves,
        "rows": [row for part in dataset.parts for row in _rows(part)],
        "speed": _speeds(dataset),
    }


def generations_data(results: Results) -> dict[str, Any]:
    content = results.content
    codecs = {name: {**rounded(means), "at": place(results.name, "means", name)} for name, means in content["means"].items()}
    return {
        "name": results.name,
        "count": content["count"],
        "images": len(content["images"]),
        "codecs": codecs,
    }


def _curve(curve: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: curve[key] for key in ("bpp", "settings", *METRICS) if key in curve and _any_value(curve[key])}
    bands = {key: band for key, band in (curve.get("bands") or {}).items() if band}
    return {"name": curve["name"], "kind": curve["kind"], **rounded(kept), "bands": rounded(bands)}


def _rows(part: Results) -> list[dict[str, Any]]:
    """One entry per codec and image: columns instead of rows, which is a third of the size."""
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for position, row in enumerate(part.content["rows"]):
        new = {"codec": row["codec"], "image": row["image"], "file": part.name, "row": [], "setting": [], "bpp": []}
        group = groups.setdefault((row["codec"], row["image"]), new)
        if row.get("error") is not None:
            group.setdefault("errors", []).append({"setting": row["setting"], "error": row["error"], "row": position})
            continue
        group["row"].append(position)
        for column in ("setting", "bpp"):
            group[column].append(rounded(row[column]))
        for column in _ROW_METRICS:
            if column in row:
                values = group.setdefault(column, [])
                values += [None] * (len(group["row"]) - 1 - len(values))
                values.append(rounded(row[column]))
    for group in groups.values():
        for column in _ROW_METRICS:
            if column in group:
                group[column] += [None] * (len(group["row"]) - len(group[column]))
    return list(groups.values())


def _speeds(dataset: Dataset) -> list[dict[str, Any]]:
    """Codecs that have both a speed and a BD-rate over the widest window."""
    found = []
    for part in dataset.parts:
        rates = part.content["bd_rate_percent"]["values"]
        for codec, speed in part.content.get("speed", {}).items():
            bd_rate = rates.get(codec, {}).get("all")
            if bd_rate is not None:
                at = place(part.name, "speed", codec)
                found.append({"codec": codec, "bd_rate": rounded(bd_rate), **rounded(speed), "at": at})
    return found


def _any_value(values: Sequence[Any]) -> bool:
    return any(value is not None for value in values)


def rounded(value: Any) -> Any:
    """Six digits: the page draws them; whoever needs all reads the file."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, Mapping):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(entry) for entry in value]
    return value
