"""Hostile files: mutants of real ones decode to an image or raise a FlowCodecError, soon and in little memory; nothing else.

Mutants are decoded in a child process (``child.py``) of limited time and memory. One that takes more, or crashes the interpreter,
ends the child, which fails the test like any exception that is no FlowCodecError.

The mutations of the second half come with right checksums, so that header, entropy decoder and networks see the damage.
``FLOWCODEC_MUTANTS`` sets the number of mutants (default 300; 2000 and more in a nightly run).
"""

import io
import json
import os
import random
import select
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

import flowcodec
from flowcodec.runtime import container
from flowcodec.runtime.container import BoxKind
from flowcodec.runtime.header import MAX_PIXELS

MUTANTS = int(os.environ.get("FLOWCODEC_MUTANTS", "300"))
HANG_S = 60
GOLDEN = Path(__file__).parents[1] / "golden"
ORIGINALS = (
    "color",
    "grey",
    "fine",
    "dither",
    "trellis",
    "alpha",
    "constant alpha",
    "metadata",
    "pixel",
    "line",
    "margins",
    "shifts",
    "turned",
    "lossless",
    "near lossless",
    "stored",
)
Pieces = list[tuple[int, bytes]]
"""Kind and payload of every box, the header included."""
Mutation = Callable[[bytes, bytes, random.Random], bytes]


class Child:
    """A decoding process, started again after whatever escapes."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def decode(self, data: bytes, warm_up: bytes) -> dict[str, str]:
        """The child's report; a new child decodes ``warm_up`` first, so that loading a model does not count."""
        if self._process is None:
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
            command = [sys.executable, str(Path(__file__).with_name("child.py"))]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
            assert self._ask(warm_up).get("decode") == "done"
        report = self._ask(data)
        if "escaped" in report:
            self.stop()
        return report

    def _ask(self, data: bytes) -> dict[str, str]:
        process = self._process
        assert process and process.stdin and process.stdout
        process.stdin.write(len(data).to_bytes(4, "little") + data)
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], HANG_S)
        if not ready:
            return {"escaped": f"no answer within {HANG_S} s"}
        if line := process.stdout.readline():
            return json.loads(line)
        return {"escaped": f"the process ended with status {process.wait()}; -{signal.SIGPROF:d} means that it took too long"}

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    child = Child()
    yield child
    child.stop()


def _with_metadata(pixels: np.ndarray) -> Image.Image:
    """A JPEG with a color profile, EXIF and XMP."""
    exif = Image.Exif()
    exif[0x010F] = "maker"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", icc_profile=profile, exif=exif.tobytes(), xmp=b"<x:xmpmeta/>")
    return Image.open(file)


@pytest.fixture(scope="module")
def originals(photograph: np.ndarray) -> dict[str, bytes]:
    """Real files of small pictures: shaded, with an edge and some noise, one of a photograph; 48 x 40 but for two."""
    rows, columns, channels = np.ogrid[:40, :48, :4]
    noise = np.random.default_rng(5).normal(0, 6, (40, 48, 4))
    shaded = 40 + 3 * rows + columns * (1 + channels) / 2 + 60 * (rows + columns > 50) + noise
    rgba = np.clip(shaded, 0, 255).astype(np.uint8)
    opaque = np.dstack([rgba[..., :3], np.full((40, 48), 200, np.uint8)])
    rgb = rgba[..., :3].copy()
    return {
        "color": flowcodec.encode(rgb),
        "grey": flowcodec.encode(rgb[..., 0]),
        "fine": flowcodec.encode(rgb, quality=95),
        "dither": flowcodec.encode(rgb, channel="dither", seed=77),
        "trellis": flowcodec.encode(rgb, channel="trellis", quality=90),
        "alpha": flowcodec.encode(rgba),
        "constant alpha": flowcodec.encode(opaque),
        "metadata": flowcodec.encode(_with_metadata(rgb)),
        "pixel": flowcodec.encode(rgb[:1, :1]),
        "line": flowcodec.encode(rgb[:1]),
        "margins": (GOLDEN / "margins.flow").read_bytes(),
        "shifts": (GOLDEN / "shifts.flow").read_bytes(),
        "turned": (GOLDEN / "turned.flow").read_bytes(),
        "lossless": flowcodec.encode(photograph[200:224, 300:330], lossless=True),
        "near lossless": flowcodec.encode(rgba, max_error=2),
        "stored": flowcodec.encode(rgb // 128 * 100, lossless=True),
    }


def _varint(value: int) -> bytes:
    head, tail = value >> 7, value & 0x7F
    return bytes([tail | 0x80]) + _varint(head) if head else bytes([tail])


def _pieces(data: bytes) -> Pieces:
    """A valid file taken apart."""
    boxes = [(int(box.kind), box.payload) for box in container.read(data).boxes]
    size = data[7]
    return [(int(BoxKind.HEADER), data[8 : 8 + size]), *boxes]


def _frame(pieces: Pieces) -> bytes:
    """A file with right sizes and checksums, whatever is in its boxes."""
    data = container.MAGIC + bytes([container.VERSION, len(pieces)])
    crc = zlib.crc32(data)
    for kind, payload in pieces:
        box = bytes([kind]) + _varint(len(payload)) + payload
        crc = zlib.crc32(box, crc)
        data += box + crc.to_bytes(4, "little")
    return data


def _flip(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8, 100]) if data else 0):
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _size_offsets(data: bytes) -> list[tuple[int, int]]:
    """Begin and end of the size field of every box of a valid file."""
    offsets, position = [], 6
    for _, payload in _pieces(data):
        end = position + 1 + len(_varint(len(payload)))
        offsets.append((position + 1, end))
        position = end + len(payload) + 4
    return offsets


# Mutations with the checksums left as they are: (a file, another file, chance) -> mutant.


def truncate(data: bytes, other: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def flip_bits(data: bytes, other: bytes, rng: random.Random) -> bytes:
    return _flip(data, rng)


def overwrite(data: bytes, other: bytes, rng: random.Random) -> bytes:
    start, noise = rng.randrange(len(data)), rng.randbytes(rng.randint(1, 64))
    return data[:start] + noise + data[start + len(noise) :]


def insert(data: bytes, other: bytes, rng: random.Random) -> bytes:
    start = rng.randint(0, len(data))
    return data[:start] + rng.randbytes(rng.randint(1, 64)) + data[start:]


def delete(data: bytes, other: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.randint(1, 64) :]


def splice(data: bytes, other: bytes, rng: random.Random) -> bytes:
    return data[: rng.randint(0, len(data))] + other[rng.randint(0, len(other)) :]


def splice_boxes(data: bytes, other: bytes, rng: random.Random) -> bytes:
    (cut, _), (resume, _) = rng.choice(_size_offsets(data)), rng.choice(_size_offsets(other))
    return data[: cut - 1] + other[resume - 1 :]


def lie_about_size(data: bytes, other: bytes, rng: random.Random) -> bytes:
    begin, end = rng.choice(_size_offsets(data))
    lie = rng.choice([_varint(rng.getrandbits(rng.randint(0, 32))), _varint(1 << 63), b"\xff" * 12, b"\x80\x00", b"\x80" * 4])
    return data[:begin] + lie + data[end:]


def lie_about_count(data: bytes, other: bytes, rng: random.Random) -> bytes:
    return data[:5] + bytes([rng.randrange(256)]) + data[6:]


# Mutations with the checksums put right: what the layers behind the container get to see.


def _replace_payload(data: bytes, rng: random.Random, change: Callable[[bytes], bytes]) -> bytes:
    """Another payload in one or several boxes other than the header."""
    header, *boxes = _pieces(data)
    for index in {rng.randrange(len(boxes)) for _ in range(rng.choice([1, 1, 3]))}:
        kind, payload = boxes[index]
        boxes[index] = kind, change(payload)
    return _frame([header, *boxes])


def flip_payload(data: bytes, other: bytes, rng: random.Random) -> bytes:
    return _replace_payload(data, rng, lambda payload: _flip(payload, rng))


def cut_payload(data: bytes, other: bytes, rng: random.Random) -> bytes:
    return _replace_payload(data, rng, lambda payload: payload[: rng.randint(0, len(payload)) & rng.choice([-1, -4])])


def extend_payload(data: bytes, other: bytes, rng: random.Random) -> bytes:
    return _replace_payload(data, rng, lambda payload: payload + rng.randbytes(rng.choice([1, 4, 400, 40_000])))


def random_payload(data: bytes, other: bytes, rng: random.Random) -> bytes:
    return _replace_payload(data, rng, lambda payload: rng.randbytes(rng.choice([0, 4, len(payload), 1 << 16])))


def constant_payload(data: bytes, other: bytes, rng: random.Random) -> bytes:
    return _replace_payload(
        data, rng, lambda payload: rng.choice([b"\x00", b"\xff", b"\x01"]) * rng.choice([4, len(payload), 4096])
    )


def foreign_payload(data: bytes, other: bytes, rng: random.Random) -> bytes:
    payloads = [payload for _, payload in _pieces(other)]
    return _replace_payload(data, rng, lambda _: rng.choice(payloads))


def foreign_header(data: bytes, other: bytes, rng: random.Random) -> bytes:
    return _frame([_pieces(other)[0], *_pieces(data)[1:]])


def drop_or_repeat_boxes(data: bytes, other: bytes, rng: random.Random) -> bytes:
    return _frame([piece for piece in _pieces(data) for _ in range(rng.choice([0, 1, 1, 1, 2]))])


def shuffle_latents(data: bytes, other: bytes, rng: random.Random) -> bytes:
    header, *boxes = _pieces(data)
    rng.shuffle(boxes)
    return _frame([header, *sorted(boxes, key=lambda piece: piece[0])])


def change_kind(data: bytes, other: bytes, rng: random.Random) -> bytes:
    pieces = _pieces(data)
    index = rng.randrange(len(pieces))
    pieces[index] = rng.choice([0, 1, 2, 3, 8, 9, 127, 128, 129, 130, 131, 132, 255]), pieces[index][1]
    return _frame(sorted(pieces, key=lambda piece: piece[0]) if rng.random() < 0.8 else pieces)


def add_box(data: bytes, other: bytes, rng: random.Random) -> bytes:
    pieces = [*_pieces(data), (rng.choice([2, 128, 129, 130, 131, 132, 255]), rng.randbytes(rng.choice([0, 2, 100])))]
    return _frame(sorted(pieces, key=lambda piece: piece[0]))


def flip_header(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Bits of the fields behind the size."""
    (kind, payload), *boxes = _pieces(data)
    start = sum(len(_varint(side)) for side in _sides(data))
    return _frame([(kind, payload[:start] + _flip(payload[start:], rng)), *boxes])


def _sides(data: bytes) -> tuple[int, int]:
    header = container.read(data).header
    return header.width, header.height


def declare_other_size(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Any legal size, small or huge; the latents as they were, or empty, which an entropy decoder may well accept."""
    (kind, payload), *boxes = _pieces(data)
    start = sum(len(_varint(side)) for side in _sides(data))
    width = rng.randint(1, 1 << rng.randint(0, 24))
    height = rng.randint(1, min(1 << rng.randint(0, 24), MAX_PIXELS // width))
    if rng.random() < 0.5:
        latents = min((max(width, height) - 1).bit_length(), 4) or 1
        boxes = [(int(BoxKind.LATENT), b"")] * latents + [box for box in boxes if box[0] != BoxKind.LATENT]
    return _frame([(kind, _varint(width) + _varint(height) + payload[start:]), *boxes])


DAMAGED = [truncate, flip_bits, overwrite, insert, delete, splice, splice_boxes, lie_about_size, lie_about_count]
REPAIRED = [
    flip_payload,
    cut_payload,
    extend_payload,
    random_payload,
    constant_payload,
    foreign_payload,
    foreign_header,
    drop_or_repeat_boxes,
    shuffle_latents,
    change_kind,
    add_box,
    flip_header,
    declare_other_size,
]
PER_MUTATION = -(-MUTANTS // len(DAMAGED + REPAIRED))

# Nothing to shrink: a mutant follows from two names and the seed of its generator.
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]
mutants = settings(max_examples=PER_MUTATION, deadline=None, phases=PHASES, print_blob=True)


def decode_mutant(child: Child, mutant: bytes, warm_up: bytes) -> dict[str, str]:
    report = child.decode(mutant, warm_up)
    assert "escaped" not in report, f"{report['escaped']}\nfile of {len(mutant)} bytes: {mutant[:2048].hex()}"
    return report


@pytest.mark.parametrize("name", ORIGINALS)
def test_originals_decode(name: str, child: Child, originals: dict[str, bytes]) -> None:
    data = originals[name]
    assert _frame(_pieces(data)) == data
    report = decode_mutant(child, data, data)
    assert (report["info"], report["decode"]) == ("done", "done")


@pytest.mark.parametrize("mutate", DAMAGED)
@given(name=st.sampled_from(ORIGINALS), other=st.sampled_from(ORIGINALS), rng=st.randoms(use_true_random=True))
@mutants
def test_damaged(mutate: Mutation, name: str, other: str, rng: random.Random, child: Child, originals: dict[str, bytes]) -> None:
    """With wrong checksums there is no picture: a FormatError, unless the mutant is an original after all."""
    mutant = mutate(originals[name], originals[other], rng)
    report = decode_mutant(child, mutant, originals[name])
    expected = (
        {"done"} if mutant in originals.values() else {"FormatError", "TruncatedFile", "ChecksumMismatch", "UnsupportedVersion"}
    )
    assert {report["info"], report["decode"]} <= expected


@pytest.mark.parametrize("mutate", REPAIRED)
@given(name=st.sampled_from(ORIGINALS), other=st.sampled_from(ORIGINALS), rng=st.randoms(use_true_random=True))
@mutants
def test_repaired(mutate: Mutation, name: str, other: str, rng: random.Random, child: Child, originals: dict[str, bytes]) -> None:
    """With right checksums there may be a picture; otherwise a FlowCodecError."""
    decode_mutant(child, mutate(originals[name], originals[other], rng), originals[name])
