"""A second decoder, written from ``docs/format.md`` alone and without the package: slow, plain, for the tests of the document.

``decode(data, model_path)`` gives the pixels of a ``.flow`` file. Section numbers in comments are those of the document.
"""

import bisect
import hashlib
import io
import math
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper
from PIL import Image

Array = np.ndarray
Plan = list[tuple[onnx.NodeProto, dict[str, object]]]


class Rejected(ValueError):
    """The file is not a valid one (section 9)."""


def require(condition: object, message: str) -> None:
    if not condition:
        raise Rejected(message)


# --- 2, 3: the frame ---------------------------------------------------------------------------------------------------

HEADER, LATENT, ALPHA, CERTIFICATE = 0, 1, 2, 131


class Header(NamedTuple):
    width: int
    height: int
    dither: bool
    color: bool
    step: int
    seed: int
    model: bytes


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Value and the offset behind it (section 2)."""
    value = 0
    for i in range(5):
        require(at + i < len(data), "truncated")
        byte = data[at + i]
        value |= (byte & 127) << 7 * i
        if byte < 128:
            require((byte or not i) and value < 1 << 32, "varint not in its shortest form, or too large")
            return value, at + i + 1
    raise Rejected("varint too long")


def read_boxes(data: bytes) -> list[tuple[int, bytes]]:
    """Sections 3.1 to 3.3."""
    require(data[:5] == b"\xf1FLW\x01", "not a file of version 1")
    require(len(data) > 5 and data[5] >= 2, "truncated, or too few boxes")
    boxes: list[tuple[int, bytes]] = []
    at, checksum = 6, zlib.crc32(data[:6])
    for _ in range(data[5]):
        size, start = read_varint(data, at + 1)
        end = start + size
        require(end + 4 <= len(data), "truncated")
        checksum = zlib.crc32(data[at:end], checksum)
        require(checksum == int.from_bytes(data[end : end + 4], "little"), "checksum differs")
        boxes.append((data[at], data[start:end]))
        at = end + 4
    require(at == len(data), "bytes after the last box")
    kinds = [kind for kind, _ in boxes]
    require(kinds[0] == HEADER and kinds == sorted(kinds), "boxes out of order")
    for kind in set(kinds):
        require(kind <= ALPHA or kind >= 128, "critical kind that is not known")
        require(kind == LATENT or kind > CERTIFICATE or kinds.count(kind) == 1, "box twice")
    return boxes


def read_header(data: bytes) -> Header:
    """Section 3.4."""
    width, at = read_varint(data, 0)
    height, at = read_varint(data, at)
    require(min(width, height) >= 1 and max(width, height) <= 1 << 24 and width * height <= 1 << 28, "size out of range")
    require(len(data) >= at + 3, "header too short")
    mode, step = data[at], int.from_bytes(data[at + 1 : at + 3], "little")
    require(mode & 3 <= 1 and mode < 8, "reserved bits in the mode")
    require(step <= 1408, "step index out of range")
    seed, at = read_varint(data, at + 3)
    require(len(data) == at + 8, "header too short or too long")
    return Header(width, height, bool(mode & 1), bool(mode & 4), step, seed, data[at:])


# --- 5.1, 5.2: integers ------------------------------------------------------------------------------------------------


def scaled(values: Array, factor: Array | int, bits: int) -> Array:
    """values · factor / 2^bits, rounded."""
    return (values * factor + (1 << bits - 1)) >> bits


def clip(values: Array, limit: int) -> Array:
    return np.clip(values, -limit, limit)


def base_step(index: int) -> int:
    """The greatest D with D^128 <= 2^(2304 + index): D = floor(2^(18 + index/128)) without a rounding."""
    step = 1 << 18 + index // 128
    for bit in reversed(range(18 + index // 128)):
        if (step | 1 << bit) ** 128 <= 1 << 2304 + index:
            step |= 1 << bit
    return step


def contrast(planes: Array) -> Array:
    blur = planes
    for axis in (1, 2):
        pad = np.pad(blur, [(2, 2) if a == axis else (0, 0) for a in range(3)], mode="edge")
        n = planes.shape[axis]
        blur = sum(weight * pad.take(range(i, i + n), axis) for i, weight in enumerate((1, 4, 6, 4, 1)))  # type: ignore[assignment]
    return planes - (blur >> 8)


def two_ranges(values: Array) -> Array:
    return np.concatenate([clip(values, 1023), clip(values >> 4, 1023)])


def to_even(values: Array) -> Array:
    return np.pad(values, [(0, 0), (0, values.shape[1] % 2), (0, values.shape[2] % 2)])


# --- 5.3: networks -----------------------------------------------------------------------------------------------------


def convolve(values: Array, weight: Array, bias: Array, stride: int, pads: list[int]) -> Array:
    values = np.pad(values, [(0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])])
    rows, columns = ((values.shape[2 + i] - weight.shape[2 + i]) // stride + 1 for i in (0, 1))
    out = np.zeros((len(values), len(weight), rows, columns), np.int64) + bias[:, None, None]
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            tap = values[:, :, i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (columns - 1) + 1 : stride]
            out += (weight[:, :, i, j] @ tap.reshape(*tap.shape[:2], -1)).reshape(out.shape)
    return out


class Model:
    """The arrays and the networks of a model file."""

    def __init__(self, path: str | Path):
        digest = hashlib.sha256()
        self.arrays: dict[str, Array] = {}
        self.graphs: dict[str, onnx.GraphProto] = {}
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                member = archive.read(name)
                digest.update(name.encode() + b"\0" + len(member).to_bytes(8, "little") + member)
                if name.endswith(".npy"):
                    self.arrays[name[:-4]] = np.load(io.BytesIO(member))
                elif name.endswith(".onnx"):
                    self.graphs[name[:-5]] = onnx.load_from_string(member).graph
        self.hash = digest.digest()
        frequencies, starts = self.arrays["tables.frequencies"].astype(np.int64) * 16, self.arrays["tables.starts"]
        self.tables = [[0, *np.cumsum(frequencies[a:b]).tolist()] for a, b in zip(starts, starts[1:], strict=False)]

    def run(self, name: str, *inputs: Array) -> list[Array]:
        """Evaluates the graph in integers; inputs are (channels, rows, columns), outputs have the axis of the packed phases too."""
        graph = self.graphs[name]
        known: dict[str, Array] = {}
        for tensor in graph.initializer:
            constant = numpy_helper.to_array(tensor)
            integer = constant.astype(np.int64)
            known[tensor.name] = integer if np.array_equal(integer, constant) else constant
        known |= {i.name: values[None] for i, values in zip(graph.input, inputs, strict=True)}
        for node in graph.node:
            args = [known[key] for key in node.input]
            settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            known[node.output[0]] = self.evaluate(node.op_type, args, settings)
        return [known[o.name] for o in graph.output]

    @staticmethod
    def evaluate(kind: str, args: list[Array], settings: dict) -> Array:
        if kind == "Conv":
            return convolve(*args, settings.get("strides", [1])[0], settings["pads"])  # type: ignore[call-arg]
        if kind == "Mul":  # by powers of two, always followed by a Floor: the floor shift
            exponent = np.frexp(args[1])[1].astype(np.int64) - 1
            return (args[0] << np.maximum(exponent, 0)) >> np.maximum(-exponent, 0)
        if kind in ("Floor", "Identity"):
            return args[0]
        if kind == "Clip":
            return np.clip(*args)
        if kind == "Add":
            return args[0] + args[1]
        if kind == "Concat":
            return np.concatenate(args, settings["axis"])
        if kind == "Slice":
            cut = [slice(None)] * 4
            for start, end, axis, step in zip(*(a.tolist() for a in args[1:]), strict=True):
                cut[axis] = slice(start, end, step)
            return args[0][tuple(cut)]
        if kind == "DepthToSpace":  # mode CRD
            n, depth, rows, columns = args[0].shape
            b = settings["blocksize"]
            blocks = args[0].reshape(n, depth // b**2, b, b, rows, columns)
            return blocks.transpose(0, 1, 4, 2, 5, 3).reshape(n, depth // b**2, rows * b, columns * b)
        raise NotImplementedError(kind)


# --- 6.1, 6.4, 6.5: the coder ------------------------------------------------------------------------------------------


class Coder:
    """The ANS stack: 64 bits of state, 32-bit words, 24 bits of precision."""

    def __init__(self, payload: bytes):
        require(len(payload) % 4 == 0, "latent box is not made of words")
        self.words = np.frombuffer(payload, "<u4").tolist()
        require(not self.words or self.words[-1], "last word is zero")
        self.state = 0
        self.allowed = 1.01 * 8 * len(payload) + 256
        for _ in self.words[-2:]:
            self.state = self.state << 32 | self.words.pop()

    def _take(self, start: int, width: int) -> None:
        self.state = (self.state >> 24) * width + (self.state & 0xFFFFFF) - start
        if self.state < 1 << 32 and self.words:
            self.state = self.state << 32 | self.words.pop()
        self.allowed -= 24 - math.log2(width)
        require(self.allowed >= 0, "more information than the payload holds")

    def symbol(self, table: list[int]) -> int:
        index = bisect.bisect_right(table, self.state & 0xFFFFFF) - 1
        self._take(table[index], table[index + 1] - table[index])
        return index

    def raw(self, count: int, bits: int) -> list[int]:
        """``count`` numbers of ``bits`` bits: 12 at a time, the low ones of all numbers first."""
        values = [0] * count
        for low in range(0, bits, 12):
            width = 24 - min(12, bits - low)
            for i in range(count):
                part = (self.state & 0xFFFFFF) >> width
                self._take(part << width, 1 << width)
                values[i] |= part << low
        return values

    def numbers(self, count: int) -> list[int]:
        """Section 6.4."""
        lengths = self.raw(count, 5)
        values = [0] * count
        for length in range(32):
            places = [i for i in range(count) if lengths[i] == length]
            for i, low in zip(places, self.raw(len(places), length), strict=True):
                values[i] = (1 << length | low) - 1
        return values

    def finish(self) -> None:
        require(not self.state and not self.words, "the coder is not empty")


def read_chunk(coder: Coder, model: Model, tables: Array) -> Array:
    """Section 6.3: the symbols k of coefficients with these tables."""
    low_bits = model.arrays["tables.low_bits"][tables]
    middle = np.array([len(model.tables[t]) // 2 - 1 for t in tables], np.int64)
    symbols = np.zeros(len(tables), np.int64)
    for place in np.argsort(tables, kind="stable"):
        symbols[place] = coder.symbol(model.tables[tables[place]]) - middle[place]
    low = np.zeros(len(tables), np.int64)
    for bits in sorted(set(low_bits[low_bits > 0].tolist())):
        places = np.flatnonzero(low_bits == bits)
        low[places] = coder.raw(len(places), bits)
    escaped = np.flatnonzero(np.abs(symbols) == middle)
    symbols[escaped] += np.sign(symbols[escaped]) * np.array(coder.numbers(len(escaped)), np.int64)
    return (symbols << low_bits) + low


# --- 6.2: channels -----------------------------------------------------------------------------------------------------


def read_residuals(coder: Coder, model: Model, header: Header, stage: int, scales: Array) -> Array:
    """The residuals r of all coded coefficients of a stage."""
    kind = int(stage % 4 >= 2)
    residuals = []
    for chunk, first in enumerate(range(0, len(scales), 1 << 18)):
        s = scales[first : first + (1 << 18)]
        tables = 128 * kind + s
        amplitude = np.zeros(len(s), np.int64)
        if header.dither:
            key, counter = np.array([header.seed, 0], np.uint64), np.array([0, 0, chunk, stage], np.uint64)
            raw = np.random.Philox(key=key, counter=counter).random_raw(-(-len(s) // 16)).astype("<u8").view(np.uint8)
            u = np.stack([raw & 15, raw >> 4], 1).ravel()[: len(s)].astype(np.int64) - 8
            amplitude = model.arrays["channels.dither_amplitude"][kind, s].astype(np.int64)
            tables = np.where(amplitude, model.arrays["channels.dither_tables"][kind, s, u + 8], tables)
        k = read_chunk(coder, model, tables)
        size = np.abs(k)
        r = model.arrays["channels.centroids"][kind, s, np.minimum(size, 8)] + 64 * np.maximum(size - 8, 0)
        r = np.sign(k) * r.astype(np.int64)
        if header.dither:
            y = 16 * k - ((u * amplitude) >> 4)
            shrink = model.arrays["channels.dither_shrink"][kind, s, np.minimum(np.abs(y), 128)]
            r = np.where(amplitude, np.sign(y) * (4 * np.abs(y) - shrink), r)
        residuals.append(r)
    return np.concatenate(residuals) if residuals else np.zeros(0, np.int64)


# --- 4, 5.4: levels ----------------------------------------------------------------------------------------------------


def read_level(coder: Coder, model: Model, header: Header, level: int, ll: Array, carried: Array, shape: tuple) -> tuple:
    """Decodes the details of a level; gives them as q on the even grid, and what is carried to the next level."""
    group = min(level, 3) - 1
    height, width = shape
    sizes = [(-(-height // 2), width // 2), (height // 2, -(-width // 2)), (height // 2, width // 2)]  # HL, LH, HH
    seen = to_even(contrast_planes(ll, base_step(header.step)))
    rows, columns = seen.shape[1:]
    trunk = model.run(f"trunk_{group}", seen, to_even(carried), condition(header, level, rows, columns))[0][0]
    details = np.zeros((9, rows, columns), np.int64)
    for stage in range(4 if header.color else 2):
        bands = range(3) if stage < 2 else range(3, 9)
        inputs = [[], [two_ranges(details[:3])], [two_ranges(details[:3])], [two_ranges(details)]][stage]
        location, scale = model.run(f"stage{stage}_{group}", trunk, *inputs)
        valid = np.zeros((9, rows, columns), bool)
        for band in bands:
            valid[band, : sizes[band % 3][0], : sizes[band % 3][1]] = True
        phases = [(slice(bands[0], bands[-1] + 1), slice(p, None, 2), slice((p + stage) % 2, None, 2)) for p in (0, 1)]
        packed = np.stack([valid[phase] for phase in phases])
        q = np.where(packed, location, 0)
        coded = packed & ~model.arrays["channels.free"][int(stage >= 2)][scale]
        q[coded] += read_residuals(coder, model, header, 4 * level + stage, scale[coded])
        for phase, values in zip(phases, clip(q, (1 << 29) - 1), strict=True):
            details[phase] = values
    if level > 1:
        carried = model.run(f"carry_{group}", trunk, two_ranges(details))[0][0][:, :height, :width]
    return details, carried


def contrast_planes(planes: Array, step: int) -> Array:
    difference = contrast(planes)
    return np.concatenate([two_ranges(scaled(difference, (1 << 40) // step, 20)), clip(difference >> 6, 1023)])


def condition(header: Header, level: int, rows: int, columns: int) -> Array:
    values = np.array([header.step // 4 - 192, 32 * (min(level, 8) - 3)])
    return np.broadcast_to(values[:, None, None], (2, rows, columns))


def merge(low: Array, high: Array, axis: int) -> Array:
    """One dimension of the synthesis (5.4)."""
    low, high = low.swapaxes(axis, -1), high.swapaxes(axis, -1)
    ne, no = low.shape[-1], high.shape[-1]
    if no == 0:
        return low.swapaxes(axis, -1)
    e, o = scaled(low, 3594, 12), scaled(high, 4616, 12)
    left, here = np.clip(np.arange(ne) - 1, 0, no - 1), np.clip(np.arange(ne), 0, no - 1)
    first, second = np.arange(no), np.clip(np.arange(no) + 1, 0, ne - 1)
    for even, odd in ((1817, 3616), (-217, -6496)):
        e = e - scaled(o[..., left] + o[..., here], even, 12)
        o = o - scaled(e[..., first] + e[..., second], odd, 12)
    out = np.zeros((*low.shape[:-1], ne + no), np.int64)
    out[..., ::2], out[..., 1::2] = e, o
    return out.swapaxes(axis, -1)


def synthesize(model: Model, header: Header, level: int, ll: Array, q: Array, shape: tuple) -> Array:
    step, group = base_step(header.step), min(level, 3) - 1
    multipliers = model.arrays["step_multipliers"][header.step, group].astype(np.int64)
    (height, width), (rows, columns) = shape, q.shape[1:]
    d = scaled(q, scaled(multipliers, step, 12)[:, None, None], 20)
    inside = np.zeros(q.shape, bool)
    for band in range(9 if header.color else 3):
        h, w = [(-(-height // 2), width // 2), (height // 2, -(-width // 2)), (height // 2, width // 2)][band % 3]
        inside[band, :h, :w] = True
    if f"predict_{group}" in model.graphs:
        seen = to_even(contrast_planes(ll, step))
        d += inside * scaled(model.run(f"predict_{group}", seen, condition(header, level, rows, columns))[0][0], step, 24)
    if f"update_{group}" in model.graphs:
        seen = two_ranges(scaled(d, (1 << 40) // step, 20))
        update = scaled(model.run(f"update_{group}", seen, condition(header, level, rows, columns))[0][0], step, 24)
        ll = ll - update[:, : ll.shape[1], : ll.shape[2]]
        ll[3 if header.color else 1 :] = 0
    limit = (1 << 17 if level == 1 else 1 << 36) - 1
    ll, d = clip(ll, limit), clip(d, limit)
    hl, lh, hh = d[0::3, : ll.shape[1], : width // 2], d[1::3, : height // 2, : ll.shape[2]], d[2::3, : height // 2, : width // 2]
    return merge(merge(ll, lh, 1), merge(hl, hh, 1), 2)


# --- 5.5, 7: pixels ----------------------------------------------------------------------------------------------------


def restore(model: Model, header: Header, planes: Array) -> Array:
    step = base_step(header.step)
    if "restoration" not in model.graphs:
        return planes
    values = to_even(two_ranges(scaled(contrast(planes), (1 << 40) // step, 20)))
    rows, columns = values.shape[1] // 2, values.shape[2] // 2
    values = values.reshape(6, rows, 2, columns, 2).transpose(0, 2, 4, 1, 3).reshape(24, rows, columns)
    correction = model.run("restoration", values, condition(header, 0, rows, columns))[0][0]
    return planes + scaled(correction, step, 24)[:, : header.height, : header.width]


def to_pixels(header: Header, planes: Array) -> Array:
    y, c1, c2 = clip(planes, 1 << 15)
    a, b, c = 9459, 11585, 6689
    channels = [a * y + b * c1 - c * c2, a * y + 2 * c * c2, a * y - b * c1 - c * c2] if header.color else [a * y]
    return np.clip(scaled(np.stack(channels, -1), 1, 20), 0, 255).astype(np.uint8)


def read_alpha(header: Header, payload: bytes) -> Array:
    require(payload, "alpha box is empty")
    size = (header.height, header.width)
    if payload[0] == 0:
        require(len(payload) == 2, "constant alpha has two bytes")
        return np.full(size, payload[1], np.uint8)
    png = payload[1:]
    require(payload[0] == 1 and png[:16] == b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" and len(png) > 33, "alpha is no PNG")
    require((int.from_bytes(png[20:24], "big"), int.from_bytes(png[16:20], "big")) == size, "alpha of another size")
    require(png[24] in (1, 8) and png[25:29] == bytes(4), "alpha PNG is not plain grey")
    require(len(png) * 1032 >= header.height * (1 + -(-header.width * png[24] // 8)), "alpha PNG is too small")
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            image.load()
            require(image.size == size[::-1] and "transparency" not in image.info, "alpha PNG has a transparent colour")
            return np.asarray(image.convert("L"))
    except (OSError, SyntaxError) as error:
        raise Rejected("alpha PNG is damaged") from error


def decode(data: bytes, model_path: str | Path) -> Array:
    """uint8 (height, width) for grey, else (height, width, channels); alpha is the last channel."""
    boxes = read_boxes(data)
    header = read_header(boxes[0][1])
    model = Model(model_path)
    require(header.model == model.hash[:8], "coded with another model")
    payloads = [payload for kind, payload in boxes if kind == LATENT]
    shapes = [(header.height, header.width)]
    while max(shapes[-1]) > 1:
        shapes.append((-(-shapes[-1][0] // 2), -(-shapes[-1][1] // 2)))
    levels = len(shapes) - 1
    require(len(payloads) == max(1, min(levels, 4)), "wrong number of latent boxes")

    # 4.3, 6.4: the coarsest sample of each plane
    coder = Coder(payloads.pop(0))
    numbers = coder.numbers(3 if header.color else 1)
    planes = np.zeros((3, 1, 1), np.int64)
    planes[: len(numbers), 0, 0] = [n >> 1 if n % 2 == 0 else -(n + 1 >> 1) for n in numbers]
    planes = scaled(clip(planes, 1 << 26) * 64, base_step(header.step), 20)
    carried = np.zeros((16, 1, 1), np.int64)
    for level in range(levels, 0, -1):
        if level < min(levels, 4):
            coder.finish()
            coder = Coder(payloads.pop(0))
        q, carried = read_level(coder, model, header, level, planes, carried, shapes[level - 1])
        planes = synthesize(model, header, level, planes, q, shapes[level - 1])
    coder.finish()

    pixels = to_pixels(header, restore(model, header, planes))
    for kind, payload in boxes:
        if kind == ALPHA:
            pixels = np.concatenate([pixels, read_alpha(header, payload)[..., None]], -1)
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels
