"""Every error that FlowCodec raises on purpose.

FlowCodecError
├── FormatError            the bytes are not a file this decoder can read
│   ├── TruncatedFile          they end too early
│   ├── ChecksumMismatch       a stored CRC-32 differs from the computed one
│   └── UnsupportedVersion     a newer format, or a feature this version lacks
├── ModelError             the model cannot be used
│   ├── MissingModel           no model of that name or path
│   └── WrongModel             the file was made with another model
├── InputError             the caller's image or argument is not acceptable
└── LimitError             a size beyond the limits of the format or of this decoder
"""


class FlowCodecError(Exception):
    """Root of all errors raised by FlowCodec; its text is one line meant for the user."""


class FormatError(FlowCodecError):
    """The bytes are not a FlowCodec file, or a damaged one."""


class TruncatedFile(FormatError):
    """The file ends before what it promises."""


class ChecksumMismatch(FormatError):
    """A box does not match its CRC-32."""


class UnsupportedVersion(FormatError):
    """The file needs a newer version of the format."""


class ModelError(FlowCodecError):
    """The model cannot be used."""


class MissingModel(ModelError):
    """There is no model of that name or at that path."""


class WrongModel(ModelError):
    """The file was made with another model than the one given."""


class InputError(FlowCodecError):
    """An image or an argument that cannot be accepted."""


class LimitError(FlowCodecError):
    """A size beyond the limits of the format or of this decoder."""
