"""Certificates of files: they hold, tightly, and a wrong one is found."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import flowcodec
from flowcodec.bounds.file import check_certificate
from flowcodec.cli import app
from flowcodec.errors import FormatError, InputError
from flowcodec.runtime import container
from flowcodec.runtime.certificate import certificate_payload
from flowcodec.runtime.coder import SymbolEncoder, Tables
from flowcodec.runtime.container import Box, BoxKind
from flowcodec.runtime.encode import EncodeSettings, encode_detailed, encode_picture
from flowcodec.runtime.fields import parse_varint
from flowcodec.runtime.image import Picture


@pytest.mark.parametrize("channel", ["round", "dither", "trellis"])
def test_certificates_hold_with_little_slack(photograph: np.ndarray, channel: str) -> None:
    """Slack at most 1 % + 128 bytes, over qualities and sizes down to a pixel."""
    for side, quality in ((1, 50), (17, 0), (64, 100), (96, 20), (96, 60), (160, 85)):
        picture = Picture(photograph[100 : 100 + side, 50 : 50 + side])
        settings = EncodeSettings(quality=quality, channel=channel, certificate=True, threads=1)
        encoded = encode_detailed(picture, settings)
        certificate = check_certificate(encoded.data, threads=1)
        assert certificate.holds and certificate.ideal_bytes == int(np.ceil(encoded.ideal_bits / 8))
        assert len(encoded.data) <= certificate.bytes <= 1.01 * len(encoded.data) + 128
        assert flowcodec.info(encoded.data)["certificate"]["bytes"] == certificate.bytes


def test_the_certificate_costs_few_bytes_and_no_pixels(photograph: np.ndarray) -> None:
    picture = Picture(photograph[:64, :64])
    plain = encode_picture(picture, EncodeSettings(threads=1))
    certified = encode_picture(picture, EncodeSettings(threads=1, certificate=True))
    assert 0 < len(certified) - len(plain) <= 9
    assert flowcodec.info(plain)["certificate"] is None
    np.testing.assert_array_equal(flowcodec.decode(certified), flowcodec.decode(plain))


def test_wrong_certificates_are_found(photograph: np.ndarray) -> None:
    data = encode_picture(Picture(photograph[:64, :64]), EncodeSettings(threads=1, certificate=True))
    file = container.read(data)
    ideal_bits = 8 * parse_varint(file.first(BoxKind.CERTIFICATE) or b"", "test")

    def with_payload(payload: bytes) -> bytes:
        return container.write(file.header, [*file.boxes[:-1], Box(BoxKind.CERTIFICATE, payload)])

    for wrong in (0.9 * ideal_bits, ideal_bits + 24):
        with pytest.raises(FormatError, match="certificate: says"):
            check_certificate(with_payload(certificate_payload(wrong)))
    with pytest.raises(FormatError, match="certificate: expected 1 bytes"):
        check_certificate(with_payload(b"\x05\x00"))
    with pytest.raises(InputError, match="--certificate"):
        check_certificate(container.write(file.header, file.boxes[:-1]))


def test_a_file_with_padding_breaks_its_bound() -> None:
    """A coder that wasted bits would be caught: the bound does not follow the size of the payload."""
    from flowcodec.runtime.certificate import Certificate

    assert not Certificate(ideal_bytes=100, bytes=150, size_bytes=151).holds


@pytest.mark.parametrize("skew", [1, 2**10, 2**19])
def test_the_coder_loses_no_more_than_the_theorem_says(skew: int) -> None:
    """Payload bits <= (1 + 1/256) I + 64 for symbols from cheap to dear, few to many, where the loss counts most."""
    rest = (1 << 20) - skew
    tables = Tables(np.array([skew, rest - rest // 2, rest // 2], np.uint32), np.array([0, 3]), np.array([0]))
    rng = np.random.default_rng(skew)
    for count in (1, 2, 5, 40, 3000, 100_000):
        encoder = SymbolEncoder(tables)
        symbols = rng.choice([-1, 0, 1], count, p=tables.frequencies / (1 << 20))
        encoder._operations.append(((symbols + 1).astype(np.int32), tables.models[0]))
        bits = sum(tables.bits(0, part) for part, _ in encoder._operations)
        assert 8 * len(encoder.finish()) <= (1 + 2**-8) * bits + 64


def test_command_line(tmp_path) -> None:
    from PIL import Image

    from flowcodec.demo import PHOTO

    source, target = tmp_path / "a.png", tmp_path / "a.flow"
    Image.open(PHOTO).convert("RGB").crop((0, 0, 96, 96)).save(source)
    run = CliRunner().invoke
    assert run(app, ["encode", str(source), str(target), "-q", "90", "--cap", "1.0", "--certificate"]).exit_code == 0
    facts = json.loads(run(app, ["info", "--json", str(target)]).stdout)
    assert facts["bpp"] <= 1.0 and facts["certificate"]["holds"] and facts["certificate"]["bytes"] >= facts["size_bytes"]
    checked = run(app, ["bounds", "check", str(target)])
    assert checked.exit_code == 0 and str(facts["certificate"]["bytes"]) in checked.stdout
    assert run(app, ["encode", str(source), str(target)]).exit_code == 0
    refused = run(app, ["bounds", "check", str(target)])
    assert refused.exit_code == 1 and "--certificate" in refused.output
