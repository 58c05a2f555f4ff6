"""The lossless part of the second decoder, written from section 12 of ``docs/format.md`` alone, pixel by pixel."""

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .independent_decoder import Coder, Header, Rejected, require

Array = np.ndarray
PIXELS, STORED = 8, 9
OWN = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0), (2, -1), (1, 2), (2, 1), (2, -2), (0, 3), (3, 0))
EARLIER = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
ERRORS = ((*OWN[:7], OWN[9]), OWN[:4])
RATES = (1, 4)


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


class Plane:
    """Values and filter errors of one plane of one tile, with the borders of 12.2."""

    def __init__(self, height: int, width: int, start: Array) -> None:
        self.height, self.width = height, width
        self.arrays = np.zeros((3, height, width), int)
        self.weights = np.tile(start, (2, height, 1))
        self.taps: dict[int, Array] = {}
        self.guesses: dict[int, list[int]] = {}

    def own(self, which: int, row: int, column: int) -> int:
        if row < 0:
            row, column = 0, column + 2 * row
        elif row > 0 and column < 0:
            row, column = row - 1, 0
        if column < 0:
            return 0 if which else 128
        return int(self.arrays[which, row, min(column, self.width - 1)])

    def earlier(self, which: int, row: int, column: int) -> int:
        return int(self.arrays[which, min(max(row, 0), self.height - 1), min(max(column, 0), self.width - 1)])

    def features(self, row: int, column: int, before: "list[Plane]") -> tuple[list[int], int]:
        """12.2, 12.3: features and prediction."""
        own = [self.own(0, row - up, column - left) for up, left in OWN]
        base = (own[0] + own[1]) >> 1
        taps = [value - base for value in own]
        for plane in before:
            around = [plane.earlier(0, row - up, column - left) for up, left in EARLIER]
            taps += [value - ((around[1] + around[2]) >> 1) for value in around]
        self.taps[row] = np.array(taps)
        sums = (self.weights[:, row] @ self.taps[row] + 128) >> 8
        self.guesses[row] = fast, slow = [min(max(int(s) + 64 * base, 0), 64 * 255) for s in sums]
        prediction = (fast + slow) >> 1
        fine = [prediction - 64 * base, fast - slow]
        fine += [self.own(1 + f, row - up, column - left) for f in (0, 1) for up, left in ERRORS[f]]
        fine += [plane.earlier(1, row - up, column - left) for plane in before for up, left in EARLIER[:5]]
        return [min(max(v, -1023), 1023) for v in [4 * tap for tap in taps] + [v >> 4 for v in fine]], prediction

    def learn(self, rows: list[int], time: int, values: list[int]) -> None:
        """12.3: all pixels of a front."""
        for row, value in zip(rows, values, strict=True):
            errors = [64 * value - guess for guess in self.guesses[row]]
            self.arrays[:, row, time - 2 * row] = [value, *errors]
            power = int(self.taps[row] @ self.taps[row]) + 512
            for f, rate in enumerate(RATES):
                change = ((errors[f] << 14) // power * self.taps[row]) >> (rate + 6)
                self.weights[f, row] = np.clip(self.weights[f, row] + change, -(1 << 16), 1 << 16)
        old = self.weights.copy()
        for row in rows[1:]:
            self.weights[:, row] += (old[:, row - 1] - old[:, row]) >> 2


def cumulative(model: PixelModel, out: list[int], prediction: int, step: int) -> tuple[int, int, list[int]]:
    """12.4: the value of symbol 0, the number of raw bits, and the bounds of the intervals."""
    tables = model.arrays
    share = int(tables["shares"][min(max((out[4] + 8) >> 4, -32), 32) + 32])
    locations = [min(max(prediction + out[i], -(1 << 14)), 1 << 15) for i in (0, 2)]
    scales = [min(max((out[i] + 258) >> 2, 0), 160) for i in (1, 3)]
    mean = locations[0] + (((locations[1] - locations[0]) * share) >> 8)
    centre = min(max((mean + 32) >> 6, 0), 255)
    mean_scale = scales[0] + (((scales[1] - scales[0]) * share) >> 8)
    low = max((mean_scale >> 4) - 4 - (step.bit_length() - 1) - 1, 0)
    bounds = [0]
    for number, j in enumerate(range(-31, 33), 1):
        edge = 64 * ((j << low) * 2 * step - step + 2 * centre)
        first, second = (
            int(tables["logistic"][min(max(((edge - 2 * m) * int(tables["inverse_scales"][s])) >> 20, -2048), 2048) + 2048])
            for m, s in zip(locations, scales, strict=True)
        )
        below = 256 * first + (second - first) * share
        bounds.append(((below * ((1 << 24) - 65)) >> 32) + number)
    return centre, low, [*bounds, 1 << 24]


def read_batch(stream: bytes, tiles: int, height: int, width: int, planes: int, error: int, model: PixelModel) -> Array:
    """(planes, tiles, height, width)"""
    coder, step = Coder(stream, model), 2 * error + 1  # type: ignore[arg-type]
    done: list[list[Plane]] = [[] for _ in range(tiles)]
    for plane in range(planes):
        current = [Plane(height, width, model.arrays[f"start{plane}"]) for _ in range(tiles)]
        for time in range(width + 2 * (height - 1)):
            rows = [row for row in range(height) if 0 <= time - 2 * row < width]
            front: list[Any] = []
            for tile in range(tiles):
                if rows[-1] and time == 2 * rows[-1]:
                    current[tile].weights[:, rows[-1]] = current[tile].weights[:, rows[-1] - 1]
                for row in rows:
                    features, prediction = current[tile].features(row, time - 2 * row, done[tile])
                    front.append(cumulative(model, model.outputs(plane, features), prediction, step))
            high = [coder.symbol(bounds) - 32 for _, _, bounds in front]
            lows = np.array([low for _, low, _ in front])
            raw = np.zeros(len(front), int)
            for bits in np.unique(lows[lows > 0]).tolist():
                raw[lows == bits] = coder.raw(int((lows == bits).sum()), bits)
            ends = [i for i, k in enumerate(high) if abs(k) == 32]
            for i, beyond in zip(ends, coder.numbers(len(ends)), strict=True):
                high[i] += beyond if high[i] > 0 else -beyond
            symbols = [(k << int(low)) + int(bits) for k, low, bits in zip(high, lows, raw, strict=True)]
            values = [min(max(c + step * k, 0), 255) for (c, _, _), k in zip(front, symbols, strict=True)]
            for tile in range(tiles):
                current[tile].learn(rows, time, values[tile * len(rows) : (tile + 1) * len(rows)])
        for tile in range(tiles):
            done[tile].append(current[tile])
    require(not (coder.state or coder.words), "a coder is not empty")
    return np.array([[done[tile][plane].arrays[0] for tile in range(tiles)] for plane in range(planes)])


def cuts(length: int, limit: int) -> list[tuple[int, int]]:
    count = -(-length // limit)
    return [(length * i // count, length * (i + 1) // count - length * i // count) for i in range(count)]


def read_pixels(payload: bytes, header: Header, model: PixelModel) -> Array:
    """12.1"""
    channels = 3 if header.mode & 4 else 1
    require(header.height * header.width * channels <= 128 * len(payload), "too few bytes")
    height, width = sorted((header.height, header.width))
    planes, at = np.zeros((channels, height, width), np.uint8), 0
    sizes: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for top, rows in cuts(height, 512):
        for left, columns in cuts(width, 1024):
            sizes.setdefault((rows, columns), []).append((top, left))
    for (rows, columns), places in sizes.items():
        count = max((1 << 19) // (rows * columns), 1)
        for batch in (places[i : i + count] for i in range(0, len(places), count)):
            size = int.from_bytes(payload[at : at + 4], "little")
            require(at + 4 + size <= len(payload), "a stream is cut")
            tiles = read_batch(payload[at + 4 : at + 4 + size], len(batch), rows, columns, channels, header.step, model)
            at += 4 + size
            for number, (top, left) in enumerate(batch):
                for plane, values in zip((1, 0, 2) if channels == 3 else (0,), tiles[:, number], strict=True):
                    planes[plane, top : top + rows, left : left + columns] = values
    require(at == len(payload), "bytes after the last stream")
    return planes.transpose(2, 1, 0) if header.height > header.width else planes.transpose(1, 2, 0)


def read_stored(payload: bytes, header: Header) -> Array:
    """12.6"""
    channels = 3 if header.mode & 4 else 1
    kind, body = payload[:1], payload[1:]
    require(kind in (b"\1", b"\2") and header.height * header.width * channels <= 1032 * len(body), "no stored image")
    try:
        image = Image.open(io.BytesIO(body), formats=["PNG" if kind == b"\1" else "WEBP"])
        require(image.size == (header.width, header.height), "stored image of another size")
        if kind == b"\1":
            require(body[24:26] == (b"\x08\x02" if channels == 3 else b"\x08\x00") and body[28] == 0, "no plain PNG")
        else:
            require(body[12:16] == b"VP8L" and image.mode == "RGB", "no lossless WebP")
        return np.asarray(image).reshape(header.height, header.width, -1)[..., :channels]
    except (OSError, SyntaxError) as error:
        raise Rejected("stored image is damaged") from error


def decode_lossless(boxes: list[tuple[int, bytes]], header: Header, model_path: Path) -> Array:
    """uint8 (height, width, channels)"""
    found = [box for box in boxes if box[0] in (PIXELS, STORED)]
    require(len(found) == 1 and all(kind != 1 for kind, _ in boxes), "not one box of pixels")
    kind, payload = found[0]
    if kind == STORED:
        require(header.model == bytes(8), "a stored image names a model")
        return read_stored(payload, header)
    model = PixelModel(model_path)
    require(header.model == model.hash, "coded with another model")
    return read_pixels(payload, header, model)
