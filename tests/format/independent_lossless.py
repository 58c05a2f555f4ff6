"""The lossless part of the second decoder, written from section 12 of ``docs/format.md`` alone, pixel by pixel."""

import hashlib
import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .independent_frame import Coder, Header, Rejected, require

Array = np.ndarray
PIXELS, STORED = 8, 9
OWN = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0), (2, -1), (1, 2), (2, 1), (2, -2), (0, 3), (3, 0))
EARLIER = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
ERRORS = ((*OWN[:7], OWN[9]), OWN[:4], OWN[:2])


class PixelModel:
    """12.5: the arrays and their hash."""

    def __init__(self, path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in sorted(archive.namelist())}
        digest = hashlib.sha256()
        for name, member in members.items():
            digest.update(name.encode() + b"\0" + len(member).to_bytes(8, "little") + member)
        self.hash = digest.digest()[:8]
        self.arrays = {name[:-4]: np.load(io.BytesIO(member)).astype(np.int64) for name, member in members.items()}

    def outputs(self, plane: int, features: list[int]) -> list[int]:
        """12.4"""
        values = np.array(features)
        values = np.concatenate([values, np.sign(values) * self.arrays["companding"][np.abs(values)]])
        for layer in range(3):
            weights, biases, shifts = (self.arrays[f"{name}{plane}_{layer}"] for name in ("weights", "biases", "shifts"))
            values = (weights @ values + biases) >> shifts
            values = values if layer == 2 else np.clip(values, 0, 1023)
        return values.tolist()


class Row:
    """12.3: what the predictor of one row of one tile knows."""

    def __init__(self, start: Array) -> None:
        count = len(start)
        self.a, self.b = np.zeros((count, count), np.int64), np.zeros(count, np.int64)
        self.w, self.slow = start.copy(), start.copy()

    def copy(self) -> "Row":
        other = Row(self.w)
        other.a, other.b, other.w, other.slow = self.a.copy(), self.b.copy(), self.w.copy(), self.slow.copy()
        return other


def limit(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


class Plane:
    """Values and prediction errors of one plane of one tile, with the borders of 12.2."""

    def __init__(self, height: int, width: int, start: Array, whitening: Array) -> None:
        self.height, self.width, self.start, self.whitening = height, width, start, whitening
        self.arrays = np.zeros((4, height, width), int)
        self.rows = [Row(start)]
        self.inputs: dict[int, Array] = {}
        self.guesses: dict[int, list[int]] = {}
        self.base: dict[int, int] = {}

    def own(self, which: int, row: int, column: int) -> int:
        if row < 0:
            row, column = 0, column + 2 * row
        elif row > 0 and column < 0:
            row, column = row - 1, 0
        if column < 0:
            return 0 if which else 128 << 8
        return int(self.arrays[which, row, min(column, self.width - 1)])

    def earlier(self, which: int, row: int, column: int) -> int:
        return int(self.arrays[which, min(max(row, 0), self.height - 1), min(max(column, 0), self.width - 1)])

    def solve(self, row: Row) -> None:
        """12.3: two sweeps over the weights."""
        for _ in range(2):
            for i in range(len(row.w)):
                rest = (int(row.b[i]) << 14) + 8192 * int(self.start[i] - row.w[i]) - int(row.a[i] @ row.w)
                row.w[i] = limit(int(row.w[i]) + rest // (int(row.a[i, i]) + 8192), -(1 << 21), 1 << 21)

    def features(self, row: int, column: int, before: "list[Plane]") -> tuple[list[int], int]:
        """12.2, 12.3: features and prediction."""
        own = [self.own(0, row - up, column - left) for up, left in OWN]
        base = self.base[row] = (own[0] + own[1]) >> 1
        taps = [value - base for value in own]
        for plane in before:
            around = [plane.earlier(0, row - up, column - left) for up, left in EARLIER]
            taps += [value - ((around[1] + around[2]) >> 1) for value in around]
        z = self.inputs[row] = np.clip((self.whitening @ np.array(taps) + 2048) >> 12, -65536, 65536)
        state = self.rows[row]
        self.solve(state)
        sums = [int(w @ z) for w in (state.w, state.slow, self.start)]
        self.guesses[row] = [limit(((s + 8192) >> 14) + base, 0, 65535) for s in sums]
        prediction, slow, fixed = self.guesses[row]
        fine = [prediction - base, slow - prediction, fixed - prediction]
        fine += [self.own(1 + f, row - up, column - left) for f in range(3) for up, left in ERRORS[f]]
        places = (*EARLIER[:5], EARLIER[6], EARLIER[7])
        fine += [plane.earlier(1, row - up, column - left) for plane in before for up, left in places]
        return [limit(v >> 6, -1023, 1023) for v in taps + fine], prediction

    def learn(self, rows: list[int], time: int, values: list[int]) -> None:
        """12.3: all pixels of a front."""
        for row, value in zip(rows, values, strict=True):
            errors = [value - guess for guess in self.guesses[row]]
            self.arrays[:, row, time - 2 * row] = [value, *errors]
            z, state = self.inputs[row], self.rows[row]
            share = (len(z) << 24) // (int(np.abs(z).sum()) + 77 * len(z))
            weighted = (z * share + (1 << 17)) >> 18
            state.a += weighted[:, None] * (z >> 2)
            state.b += weighted * ((value - self.base[row]) >> 2)
            gain = (errors[1] << 22) // (int(z @ z) + (1 << 18))
            state.slow = np.clip(state.slow + ((gain * z) >> 10), -(1 << 21), 1 << 21)
        old = {row: self.rows[row].copy() for row in rows}
        for row in rows:
            state, own, above = self.rows[row], old[row], old.get(row - 1)
            for name in ("a", "b"):
                mine = getattr(own, name)
                change = -(mine >> 4) if above is None else (getattr(above, name) - mine - (mine >> 2)) >> 2
                setattr(state, name, mine + change)
            if above is not None:
                state.w, state.slow = own.w + ((above.w - own.w) >> 2), own.slow + ((above.slow - own.slow) >> 2)


def cumulative(model: PixelModel, out: list[int], prediction: int, unit: int, step: int) -> tuple[int, int, list[int]]:
    """12.4: the value of symbol 0, the number of raw bits, and the bounds of the intervals."""
    tables = model.arrays
    shares = [int(tables["shares"][limit((out[i] + 8) >> 4, -32, 32) + 32]) for i in (4, 7)]
    locations = [limit(prediction + 4 * out[i], -65535, 2 * 65535) for i in (0, 2, 5)]
    scales = [limit((out[i] + 258) >> 2, 0, 160) for i in (1, 3, 6)]

    def mixed(values: list[int]) -> int:
        first = values[0] + (((values[1] - values[0]) * shares[0]) >> 8)
        return first + (((values[2] - first) * shares[1]) >> 8)

    centre = limit((mixed(locations) + unit // 2) // unit * unit, 0, 65536 - unit)
    low = max((mixed(scales) >> 4) - 4 + 8 - (step.bit_length() - 1) - 1, 0)
    bounds = [0]
    for number, j in enumerate(range(-31, 33), 1):
        edge = (j << low) * 2 * step - step + 2 * centre
        masses = [
            int(tables["logistic"][limit(((edge - 2 * m) * int(tables["inverse_scales"][s])) >> 22, -2048, 2048) + 2048])
            for m, s in zip(locations, scales, strict=True)
        ]
        bounds.append(((mixed(masses) * ((1 << 24) - 65)) >> 24) + number)
    return centre, low, [*bounds, 1 << 24]


def read_batch(stream: bytes, tiles: int, height: int, width: int, planes: int, header: Header, model: PixelModel) -> Array:
    """(planes, tiles, height, width)"""
    coder, unit = Coder(stream, model), 1 if header.mode & 16 else 256
    step = unit * (2 * header.step + 1)
    done: list[list[Plane]] = [[] for _ in range(tiles)]
    for plane in range(planes):
        current = [
            Plane(height, width, *(model.arrays[f"{name}{plane}"] for name in ("start", "whitening"))) for _ in range(tiles)
        ]
        for time in range(width + 2 * (height - 1)):
            rows = [row for row in range(height) if 0 <= time - 2 * row < width]
            front: list[Any] = []
            for tile in range(tiles):
                if rows[-1] == len(current[tile].rows):
                    current[tile].rows.append(current[tile].rows[-1].copy())
                for row in rows:
                    features, prediction = current[tile].features(row, time - 2 * row, done[tile])
                    front.append(cumulative(model, model.outputs(plane, features), prediction, unit, step))
            high = [coder.symbol(bounds) - 32 for _, _, bounds in front]
            lows = np.array([low for _, low, _ in front])
            raw = np.zeros(len(front), int)
            for bits in np.unique(lows[lows > 0]).tolist():
                raw[lows == bits] = coder.raw(int((lows == bits).sum()), bits)
            ends = [i for i, k in enumerate(high) if abs(k) == 32]
            for i, beyond in zip(ends, coder.numbers(len(ends)), strict=True):
                high[i] += beyond if high[i] > 0 else -beyond
            symbols = [(k << int(low)) + int(bits) for k, low, bits in zip(high, lows, raw, strict=True)]
            values = [limit(c + step * k, 0, 65536 - unit) for (c, _, _), k in zip(front, symbols, strict=True)]
            for tile in range(tiles):
                current[tile].learn(rows, time, values[tile * len(rows) : (tile + 1) * len(rows)])
        for tile in range(tiles):
            done[tile].append(current[tile])
    require(not (coder.state or coder.words), "a coder is not empty")
    return np.array([[done[tile][plane].arrays[0] // unit for tile in range(tiles)] for plane in range(planes)])


def cuts(length: int, limit: int) -> list[tuple[int, int]]:
    count = -(-length // limit)
    return [(length * i // count, length * (i + 1) // count - length * i // count) for i in range(count)]


def read_pixels(payload: bytes, header: Header, model: PixelModel) -> Array:
    """12.1"""
    channels = 3 if header.mode & 4 else 1
    require(header.height * header.width * channels <= 128 * len(payload), "too few bytes")
    height, width = sorted((header.height, header.width))
    planes, at = np.zeros((channels, height, width), np.uint16 if header.mode & 16 else np.uint8), 0
    sizes: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for top, rows in cuts(height, 512):
        for left, columns in cuts(width, 1024):
            sizes.setdefault((rows, columns), []).append((top, left))
    for (rows, columns), places in sizes.items():
        count = max((1 << 19) // (rows * columns), 1)
        for batch in (places[i : i + count] for i in range(0, len(places), count)):
            size = int.from_bytes(payload[at : at + 4], "little")
            require(at + 4 + size <= len(payload), "a stream is cut")
            tiles = read_batch(payload[at + 4 : at + 4 + size], len(batch), rows, columns, channels, header, model)
            at += 4 + size
            for number, (top, left) in enumerate(batch):
                for plane, values in zip((1, 0, 2) if channels == 3 else (0,), tiles[:, number], strict=True):
                    planes[plane, top : top + rows, left : left + columns] = values
    require(at == len(payload), "bytes after the last stream")
    return planes.transpose(2, 1, 0) if header.height > header.width else planes.transpose(1, 2, 0)


def read_deep_png(body: bytes, height: int, width: int, channels: int) -> Array:
    """A PNG file of 16 bits a sample, as its own standard says (filters: section 9)."""
    at, packed = 8, b""
    while at < len(body):
        size = int.from_bytes(body[at : at + 4], "big")
        packed += body[at + 8 : at + 8 + size] if body[at + 4 : at + 8] == b"IDAT" else b""
        at += size + 12
    try:
        data = zlib.decompress(packed)
    except zlib.error as error:
        raise Rejected("stored image is damaged") from error
    step, length = 2 * channels, 2 * channels * width
    require(len(data) == height * (length + 1), "stored image of another size")
    above, rows = [0] * length, []
    for row in range(height):
        kind, *line = data[row * (length + 1) : (row + 1) * (length + 1)]
        for i in range(length):
            left, corner = (line[i - step], above[i - step]) if i >= step else (0, 0)
            nearest = min((left, above[i], corner), key=lambda v: abs(left + above[i] - corner - v))
            line[i] = (line[i] + (0, left, above[i], (left + above[i]) // 2, nearest)[kind]) & 255
        above = line
        rows.append(bytes(line))
    return np.frombuffer(b"".join(rows), ">u2").reshape(height, width, channels).astype(np.uint16)


def read_stored(payload: bytes, header: Header) -> Array:
    """12.6"""
    channels = 3 if header.mode & 4 else 1
    kind, body = payload[:1], payload[1:]
    require(kind in (b"\1", b"\2")[: 1 if header.mode & 16 else 2], "neither PNG nor WebP")
    require(header.height * header.width * channels <= 1032 * len(body), "no stored image")
    try:
        image = Image.open(io.BytesIO(body), formats=["PNG" if kind == b"\1" else "WEBP"])
        require(image.size == (header.width, header.height), "stored image of another size")
        if kind == b"\1":
            depth = 16 if header.mode & 16 else 8
            require(body[24:26] == bytes([depth, 2 if channels == 3 else 0]) and body[28] == 0, "no plain PNG")
            if depth == 16:
                return read_deep_png(body, header.height, header.width, channels)
        else:
            require(body[12:16] == b"VP8L" and image.mode == "RGB", "no lossless WebP")
        return np.asarray(image).reshape(header.height, header.width, -1)[..., :channels]
    except (OSError, SyntaxError) as error:
        raise Rejected("stored image is damaged") from error


def decode_lossless(boxes: list[tuple[int, bytes]], header: Header, model_path: Path) -> Array:
    """uint8 or uint16 (height, width, channels)"""
    found = [box for box in boxes if box[0] in (PIXELS, STORED)]
    require(len(found) == 1 and all(kind != 1 for kind, _ in boxes), "not one box of pixels")
    kind, payload = found[0]
    if kind == STORED:
        require(header.model == bytes(8), "a stored image names a model")
        return read_stored(payload, header)
    model = PixelModel(model_path)
    require(header.model == model.hash, "coded with another model")
    return read_pixels(payload, header, model)
