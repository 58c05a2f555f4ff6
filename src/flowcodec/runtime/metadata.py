"""EXIF and XMP of image files: found, freed of what speaks of the file, and turned upright."""

import re
import struct

from PIL import Image

_ORIENTATION = 0x0112
EXIF_PREFIX = b"Exif\0\0"
# ImageDescription, Make, Model, Software, DateTime, Artist, Copyright, the EXIF and the GPS directory: the tags of a TIFF
# file that speak of the photograph and not of the file.
_PHOTOGRAPH_TAGS = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298, 0x8769, 0x8825)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or it cannot be read."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata does not make the pixels unreadable
        return 1


def exif_of(image: Image.Image) -> bytes | None:
    """The stored block; from a TIFF file, whose own directory is its EXIF, a new one with the tags about the photograph."""
    if "exif" in image.info:
        return image.info["exif"].removeprefix(EXIF_PREFIX) or None
    try:
        tags = photograph_tags(image.getexif().tobytes())
        return tags.tobytes().removeprefix(EXIF_PREFIX) if len(tags) else None
    except Exception:  # damaged metadata does not make the pixels unreadable
        return None


def photograph_tags(exif: bytes) -> Image.Exif:
    tags = Image.Exif()
    tags.load(exif)
    for tag in [tag for tag in tags if tag not in _PHOTOGRAPH_TAGS]:
        del tags[tag]
    return tags


def xmp_of(image: Image.Image) -> bytes | None:
    stored = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    return (stored.encode() if isinstance(stored, str) else stored) or None


def upright_exif(exif: bytes) -> bytes:
    """The same bytes with the orientation tag of the main directory set to 1; all offsets stay valid."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return exif
    patched = bytearray(exif)
    (start,) = struct.unpack_from(order + "I", exif, 4)
    (count,) = struct.unpack_from(order + "H", exif, start)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", exif, entry)
        if tag == _ORIENTATION and kind in (3, 4):
            struct.pack_into(order + ("H" if kind == 3 else "I"), patched, entry + 8, 1)
    return bytes(patched)


def upright_xmp(xmp: bytes) -> bytes:
    return re.sub(rb'(tiff:Orientation(?:="|>))[0-9]', rb"\g<1>1", xmp)
