"""Freed memory goes back to the system: the peak of a large picture is what it holds, not what was once freed."""

import ctypes
from functools import cache
from typing import Any


@cache
def _trim() -> Any:
    """glibc's ``malloc_trim``, or None with another C library, which needs none or has none."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None


def return_freed_memory() -> None:
    """glibc keeps freed blocks of tens of megabytes once a few of that size were freed; this gives them back (some ms)."""
    trim = _trim()
    if trim is not None:
        trim(0)
