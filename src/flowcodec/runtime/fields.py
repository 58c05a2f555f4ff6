"""The fields that files are made of: little-endian integers, and varints, of seven bits a byte."""

from flowcodec.errors import FormatError, TruncatedFile

UINT32_MAX = (1 << 32) - 1
_VARINT_BYTES = 5


class Cursor:
    """Reads little-endian fields off ``data``, front to back; raises TruncatedFile where there are too few bytes."""

    def __init__(self, data: bytes | memoryview, name: str) -> None:
        self.data, self.name, self.position = memoryview(data), name, 0

    @property
    def remaining(self) -> int:
        return len(self.data) - self.position

    def take(self, size: int) -> memoryview:
        """The next ``size`` bytes, not copied."""
        if size > self.remaining:
            raise TruncatedFile(f"{self.name}: expected {size} bytes at offset {self.position}, found {self.remaining}")
        self.position += size
        return self.data[self.position - size : self.position]

    def uint(self, size: int) -> int:
        """Unsigned integer of ``size`` bytes."""
        return int.from_bytes(self.take(size), "little")

    def varint(self) -> int:
        """Unsigned LEB128 below 2^32, in its shortest form."""
        value = 0
        for index in range(_VARINT_BYTES):
            byte = self.uint(1)
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                break
        if byte >= 0x80 or value > UINT32_MAX or (byte == 0 and index > 0):
            raise FormatError(f"{self.name}: expected an integer below 2^32 in its shortest form before offset {self.position}")
        return value


def varint(value: int) -> bytes:
    """Shortest unsigned LEB128: seven bits a byte, low ones first, the top bit set in all bytes but the last."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(0x80 | value & 0x7F)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def parse_varint(payload: bytes, name: str) -> int:
    """The varint that fills a payload. Raises FormatError."""
    cursor = Cursor(payload, name)
    value = cursor.varint()
    if cursor.remaining:
        raise FormatError(f"{name}: expected {cursor.position} bytes, found {len(payload)}")
    return value
