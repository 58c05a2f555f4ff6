"""Optional parts of the package, and the error where one is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager

from flowcodec.errors import InputError


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around the imports of something that needs the extra ``name``. Raises InputError with what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "flowcodec":
            raise
        raise InputError(f"this needs {error.name}: pip install 'flowcodec[{name}]'") from error
