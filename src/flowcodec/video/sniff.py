"""What a file is, from its first bytes; without PyAV."""

from flowcodec.runtime.film import MAGIC

_STILL_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
_MAGICS = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"YUV4MPEG2",
    b"OggS",
    b"FLV\x01",
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG video
    b"0&\xb2u\x8ef\xcf\x11",  # ASF
    b"\x00\x00\x00\x01\x67",  # H.264
)
_TS_SYNC, _TS_PACKET = 0x47, 188


def is_flow_film(head: bytes) -> bool:
    """A film of this codec."""
    return head.startswith(MAGIC)


def is_film(head: bytes) -> bool:
    """A film of another format."""
    if head[4:8] == b"ftyp":
        return head[8:12] not in _STILL_BRANDS
    if head[4:8] in (b"moov", b"mdat", b"wide"):
        return True
    if head[:4] == b"RIFF":
        return head[8:12] == b"AVI "
    if len(head) > 2 * _TS_PACKET and all(head[k * _TS_PACKET] == _TS_SYNC for k in range(3)):
        return True
    return head.startswith(_MAGICS)
