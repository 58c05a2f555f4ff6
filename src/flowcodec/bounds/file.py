"""Per file, certain: the size of a file against the information of its symbols, which decoding recomputes.

The statement and its proof are in ``runtime/certificate.py``.
"""

from flowcodec.errors import FormatError, InputError
from flowcodec.runtime import container
from flowcodec.runtime.bundle import Model, find_model
from flowcodec.runtime.certificate import Certificate, read_certificate
from flowcodec.runtime.channel import make_channel
from flowcodec.runtime.decode import make_runner
from flowcodec.runtime.flow import level_count
from flowcodec.runtime.latent import LatentDecoder
from flowcodec.runtime.prior import Walk

_TOLERANCE = 1e-6
"""Relative: the accounts are sums of 32-bit costs; in bytes, one more for the two roundings up."""


def check_certificate(data: bytes, threads: int | None = None, model: Model | None = None) -> Certificate:
    """Decodes the symbols of a file and holds its certificate against them.

    Raises InputError where there is no certificate, FormatError where it is not that of this file or does not hold.
    """
    file = container.read(data)
    certificate, header = read_certificate(file, len(data)), file.header
    if certificate is None:
        raise InputError("the file has no certificate; encode with --certificate")
    model = find_model(header.model_id) if model is None else model
    channel = make_channel(header.channel, model.channels, header.seed)
    size = header.coded_size
    exchange = LatentDecoder(model, channel, file.latents, header.channels, level_count(*size), scale_shifts=header.scale_shifts)
    walk = Walk(model, make_runner(model, threads), *size, header.channels, header.step_index)
    walk.run(exchange, synthesise_image=False)
    found = exchange.ideal_bits / 8
    if abs(certificate.ideal_bytes - found) > 1 + _TOLERANCE * found:
        raise FormatError(f"certificate: says {certificate.ideal_bytes} bytes of information, the symbols hold {found:.1f}")
    if not certificate.holds:
        raise FormatError(f"certificate: the file has {certificate.size_bytes} bytes, its bound is {certificate.bytes}")
    return certificate
