"""A second decoder, written from ``docs/format.md`` alone, to test that document; section numbers are its own."""

import bisect
import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from .independent_frame import LATENT, LOSSLESS, Array, Coder, Header, read_boxes, read_header, require, with_alpha
from .independent_gaussian import read_gaussian
from .independent_lossless import decode_lossless
from .independent_trellis import read_trellis


# --- 5.1, 5.2: integers
def scaled(values: Array, factor: Array | int, bits: int) -> Array:
    return (values * factor + (1 << bits - 1)) >> bits


def clip(values: Array, limit: int) -> Array:
    return np.clip(values, -limit, limit)


def step_of(index: int) -> int:
    """The largest D with D^128 <= 2^(2304 + index), which is floor(2^(18 + index/128))."""
    return bisect.bisect_right(range(1 << 30), 1 << 2304 + index, key=lambda step: step**128) - 1


def two_ranges(values: Array) -> Array:
    return np.concatenate([clip(values, 1023), clip(scaled(values, 1, 4), 1023)])


def contrast_planes(planes: Array, step: int, shift: int = 20) -> Array:
    """Three for each plane, extended to even sizes."""
    blur = np.pad(planes, [(0, 0), (2, 2), (2, 2)], mode="edge")
    for axis in (1, 2, 1, 2, 1, 2, 1, 2):  # 1 4 6 4 1 is 1 1 four times
        blur = blur.take(range(1, blur.shape[axis]), axis) + blur.take(range(blur.shape[axis] - 1), axis)
    contrast = planes - (blur >> 8)
    return to_even(np.concatenate([two_ranges(scaled(contrast, (1 << 40) // step, shift)), clip(scaled(contrast, 1, 6), 1023)]))


def condition(header: Header, level: int, shape: tuple[int, ...]) -> Array:
    values = np.array([header.step // 4 - 192, 32 * (min(level, 8) - 3)])
    return np.broadcast_to(values[:, None, None], (2, *shape[-2:]))


def to_even(values: Array) -> Array:
    return np.pad(values, [(0, 0), (0, values.shape[1] % 2), (0, values.shape[2] % 2)])


# --- 5.3, 5.6: networks and the model file
def convolve(values: Array, weight: Array, bias: Array, pads: list[int]) -> Array:
    values = np.pad(values, [(0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])])
    rows, columns = (values.shape[axis] - weight.shape[axis] + 1 for axis in (2, 3))
    out = np.zeros((len(values), len(weight), rows, columns), np.int64) + bias[:, None, None]
    for i, j in np.ndindex(weight.shape[2:]):
        tap = values[:, :, i : i + rows, j : j + columns]
        out += (weight[:, :, i, j] @ tap.reshape(*tap.shape[:2], -1)).reshape(out.shape)
    return out


def depth_to_space(values: Array, b: int) -> Array:
    n, _, rows, columns = values.shape
    return values.reshape(n, -1, b, b, rows, columns).transpose(0, 1, 4, 2, 5, 3).reshape(n, -1, rows * b, columns * b)


OPERATORS: dict[str, Callable[..., Array]] = {
    "Conv": lambda a, x, weight, bias: convolve(x, weight.astype(int), bias.astype(int), a["pads"]),
    "Mul": lambda a, x, factor: x >> (1 - np.frexp(factor)[1]),  # by 2^-n, and a Floor follows
    "Floor": lambda a, x: x,
    "Identity": lambda a, x: x,
    "Clip": lambda a, x, low, high: np.clip(x, int(low), int(high)),
    "Add": lambda a, x, y: x + y,
    "Concat": lambda a, *x: np.concatenate(x, a["axis"]),
    "DepthToSpace": lambda a, x: depth_to_space(x, a["blocksize"]),
}


class Model:
    """The arrays and the networks of a model file (5.6)."""

    def __init__(self, path: str | Path, constants: Path) -> None:
        """``constants``: the folder of what comes with the decoder."""
        self.constants = constants
        digest = hashlib.sha256()
        self.arrays: dict[str, Array] = {}
        self.graphs: dict[str, Any] = {}
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                member = archive.read(name)
                digest.update(name.encode() + b"\0" + len(member).to_bytes(8, "little") + member)
                if name.endswith(".npy"):
                    self.arrays[name[:-4]] = np.load(io.BytesIO(member)).astype(np.int64)
                elif name.endswith(".onnx"):
                    self.graphs[name[:-5]] = onnx.load_from_string(member).graph
        self.hash = digest.digest()[:8]
        parts = np.split(16 * self.arrays["tables.frequencies"], self.arrays["tables.starts"][1:-1])
        self.tables = [[0, *np.cumsum(part).tolist()] for part in parts]

    def run(self, name: str, *inputs: Array) -> list[Array]:
        """Inputs are (channels, rows, columns); outputs have an axis of length 1 in front."""
        graph = self.graphs[name]
        known = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        known |= {node.name: values[None] for node, values in zip(graph.input, inputs, strict=True)}
        for node in graph.node:
            settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            known[node.output[0]] = OPERATORS[node.op_type](settings, *(known[name] for name in node.input))
        return [known[node.name] for node in graph.output]


# --- 6.2: channels
def read_residuals(coder: Coder, header: Header, stage: int, scales: Array) -> Array:
    kind, dither = int(stage % 16 >= 12), header.mode & 3 == 1
    channels = {name[9:]: a[kind] for name, a in coder.model.arrays.items() if name.startswith("channels.")}
    residuals = [np.zeros(0, np.int64)]
    for number, first in enumerate(range(0, len(scales), 1 << 18)):
        s = scales[first : first + (1 << 18)]
        if header.mode & 3 == 3:
            residuals.append(np.array(read_gaussian(coder, header.seed, (number, stage), s.tolist()), np.int64))
            continue
        if header.mode & 3 == 2:
            residuals.append(read_trellis(coder, kind, s, channels["centroids"], coder.model.constants / "trellis.npz"))
            continue
        amplitude, tables, u = np.zeros_like(s), 128 * kind + s, np.zeros_like(s)
        if dither:
            key, counter = np.array([header.seed, 0], np.uint64), np.array([0, 0, number, stage], np.uint64)
            raw = np.random.Philox(key=key, counter=counter).random_raw(-(-len(s) // 16)).astype("<u8").view(np.uint8)
            u = np.stack([raw & 15, raw >> 4], 1).ravel()[: len(s)].astype(np.int64) - 8
            amplitude = channels["dither_amplitude"][s]
            tables = np.where(amplitude, channels["dither_tables"][s, u + 8], tables)
        k = coder.chunk(tables)
        plain = channels["centroids"][s, np.minimum(np.abs(k), 8)] + 64 * np.maximum(np.abs(k) - 8, 0)
        y = 16 * k - ((u * amplitude) >> 4)
        dithered = 4 * np.abs(y) - channels["dither_shrink"][s, np.minimum(np.abs(y), 128)]
        residuals.append(np.where(amplitude, np.sign(y) * dithered, np.sign(k) * plain))
    return np.concatenate(residuals)


# --- 4, 5.3, 5.4: levels
def band_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Sizes of the nine bands of a level whose synthesis is height x width (4.1)."""
    return [(-(-height // 2), width // 2), (height // 2, -(-width // 2)), (height // 2, width // 2)] * 3


def read_level(coder: Coder, header: Header, level: int, ll: Array, carried: Array, size: tuple[int, int]) -> tuple[Array, Array]:
    """The details of a level as q on the even grid, and what is carried to the next level."""
    model, group = coder.model, min(level, 3) - 1
    seen = contrast_planes(ll, step_of(header.step))
    trunk = model.run(f"trunk_{group}", seen, to_even(carried), condition(header, level, seen.shape))[0][0]
    details, valid = np.zeros((2, 9, *seen.shape[1:]), np.int64)
    for band, (rows, columns) in enumerate(band_sizes(*size)):
        valid[band, :rows, :columns] = 1
    copies = np.zeros((0, *(n // 2 for n in seen.shape[1:])), np.int64)
    for stage in range(16 if header.mode & 4 else 12):
        row, column = ((0, 0), (1, 1), (0, 1), (1, 0))[stage // 3 if stage < 12 else stage - 12]
        bands = slice(stage % 3, stage % 3 + 1) if stage < 12 else slice(3, 9)
        phase = (bands, slice(row, None, 2), slice(column, None, 2))
        known = [copies] if stage else []
        location, scale = (out[0] for out in model.run(f"stage{stage}_{group}", trunk[:, row::2, column::2], *known))
        scale = np.clip(scale + header.shifts.get(16 * level + stage, 0), 0, 127)
        inside = valid[phase] == 1
        coded = inside & (model.arrays["channels.free"][int(stage >= 12)][scale] == 0)
        q = np.where(inside, location, 0)
        q[coded] += read_residuals(coder, header, 16 * level + stage, scale[coded])
        details[phase] = clip(q, (1 << 29) - 1)
        copies = np.concatenate([copies, two_ranges(details[phase])])
    if level > 1:
        carried = model.run(f"carry_{group}", trunk, two_ranges(details))[0][0][:, : size[0], : size[1]]
    return details, carried


def merge(low: Array, high: Array, axis: int) -> Array:
    if not high.shape[axis]:
        return low
    low, high = low.swapaxes(axis, -1), high.swapaxes(axis, -1)
    evens, odds = np.arange(low.shape[-1]), np.arange(high.shape[-1])
    e, o = scaled(low, 3594, 12), scaled(high, 4616, 12)
    before, after = np.clip(evens - 1, 0, len(odds) - 1), np.clip(evens, 0, len(odds) - 1)
    for update, predict in ((1817, 3616), (-217, -6496)):
        e = e - scaled(o[..., before] + o[..., after], update, 12)
        o = o - scaled(e[..., odds] + e[..., np.minimum(odds + 1, len(evens) - 1)], predict, 12)
    out = np.empty((*low.shape[:-1], len(evens) + len(odds)), np.int64)
    out[..., ::2], out[..., 1::2] = e, o
    return out.swapaxes(axis, -1)


def synthesize(model: Model, header: Header, level: int, ll: Array, q: Array, size: tuple[int, int]) -> Array:
    """Section 5.4: the planes of the next level."""
    step, group = step_of(header.step), min(level, 3) - 1
    d = scaled(q, scaled(model.arrays["step_multipliers"][header.step, group], step, 12)[:, None, None], 20)
    sees = condition(header, level, q.shape)
    if f"predict_{group}" in model.graphs:
        prediction = scaled(model.run(f"predict_{group}", contrast_planes(ll, step), sees)[0][0], step, 24)
        for band, (rows, columns) in enumerate(band_sizes(*size)):
            d[band, :rows, :columns] += prediction[band, :rows, :columns]
    if f"update_{group}" in model.graphs:
        update = scaled(model.run(f"update_{group}", two_ranges(scaled(d, (1 << 40) // step, 20)), sees)[0][0], step, 24)
        ll = ll - update[:, : ll.shape[1], : ll.shape[2]]
    limit = (1 << (17 if level == 1 else 36)) - 1
    ll, d = clip(ll, limit), clip(d, limit)
    if not header.mode & 4:
        ll[1:], d[3:] = 0, 0
    hl, lh, hh = (d[band::3, :rows, :columns] for band, (rows, columns) in enumerate(band_sizes(*size)[:3]))
    return merge(merge(ll, lh, 1), merge(hl, hh, 1), 2)


# --- 5.5: pixels
def to_pixels(header: Header, planes: Array) -> Array:
    weights = np.array([[9459, 11585, -6689], [9459, 0, 13378], [9459, -11585, -6689]])
    x, y, z = header.turn
    size = 128**2 + x * x + y * y + z * z
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turned = (2 * 128**2 - size) * np.eye(3, dtype=int) + 2 * np.outer(header.turn, header.turn) - 256 * cross
    weights = (2 * weights @ turned.T + size) // (2 * size)
    count = 3 if header.mode & 4 else 1
    rgb = np.tensordot(weights[:count, :count], clip(planes[:count], 1 << 15), 1)
    pixels = np.clip(scaled(np.stack(rgb, -1), 1, 20), 0, 255).astype(np.uint8)
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


# --- 3.4.1, 11.1: margins
def with_margins(pixels: Array, header: Header, reduced: int = 0) -> Array:
    for where, lines, colour in reversed(header.margins):
        shape = list(pixels.shape)
        shape[where // 2] = lines >> reduced
        strip = np.broadcast_to(np.frombuffer(colour, np.uint8) if pixels.ndim == 3 else np.uint8(colour[0]), shape)
        pixels = np.concatenate([pixels, strip] if where % 2 else [strip, pixels], where // 2)
    return pixels


# --- 4.3, 6.4, 11.1: a file
def decode(data: bytes, model_path: str | Path, pixel_model_path: Path, reduced: int = 0) -> Array:
    """uint8 (height, width) for grey, else (height, width, channels); alpha is the last channel. ``reduced``: K of section 11."""
    boxes = read_boxes(data, front=reduced > 0)
    header = read_header(boxes[0][1])
    if header.mode & 8:
        values = decode_lossless(boxes, header, pixel_model_path)
        return with_alpha(values[..., 0] if values.shape[-1] == 1 else values, boxes, header)
    model = Model(model_path, pixel_model_path.parent)
    require(all(kind not in LOSSLESS for kind, _ in boxes), "pixels in a lossy file")
    require(header.model == model.hash, "coded with another model")
    height, width = (
        side - sum(lines for where, lines, _ in header.margins if where // 2 == axis)
        for axis, side in enumerate((header.height, header.width))
    )
    levels, step = (max(height, width) - 1).bit_length(), step_of(header.step)
    sizes = [(-(-height >> level), -(-width >> level)) for level in range(levels)]
    coders = [Coder(payload, model) for kind, payload in boxes if kind == LATENT]
    require(len(coders) == max(1, min(levels, 4)) or reduced, "wrong number of latent boxes")
    planes, carried = np.zeros((3, 1, 1), np.int64), np.zeros((16, 1, 1), np.int64)
    coarsest = coders[0].numbers(3 if header.mode & 4 else 1)
    planes[: len(coarsest), 0, 0] = [-(v + 1) // 2 if v % 2 else v // 2 for v in coarsest]
    planes = scaled(64 * clip(planes, 1 << 26), step, 20)
    for level in range(levels, reduced, -1):
        coder, size = coders[max(min(levels, 4) - level, 0)], sizes[level - 1]
        q, carried = read_level(coder, header, level, planes, carried, size)
        planes = synthesize(model, header, level, planes, q, size)
    if reduced:
        factor = 1 << 30
        for side in (height, width):
            for _ in range(min(reduced, (side - 1).bit_length())):
                factor = (factor * 46744 + (1 << 15)) >> 16
        return with_margins(to_pixels(header, scaled(clip(planes, 1 << 32), factor, 30)), header, reduced)
    require(not any(coder.state or coder.words for coder in coders), "a coder is not empty")
    if "restoration" in model.graphs:
        seen = contrast_planes(planes, step, 17)[:6]
        seen = np.concatenate([seen[c : c + 1, i::2, j::2] for c in range(6) for i in (0, 1) for j in (0, 1)])
        correction = model.run("restoration", seen, condition(header, 0, seen.shape))[0][0]
        planes = planes + scaled(correction, step, 24)[:, :height, :width]
    return with_alpha(with_margins(to_pixels(header, planes), header), boxes, header)
