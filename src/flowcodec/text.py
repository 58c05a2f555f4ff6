"""Errors and facts as lines of text."""

from typing import Any

from flowcodec.errors import FlowCodecError


def one_line(error: Exception) -> str:
    """What went wrong, for the user."""
    if isinstance(error, FlowCodecError):
        text = str(error)
    elif isinstance(error, MemoryError):
        text = "not enough memory"
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = f"unexpected {type(error).__name__}: {error}; please report it with what --verbose shows"
    return " ".join(text.split())


def facts_of(facts: dict[str, Any]) -> list[str]:
    return [f"{name} {_plain(value)}" for name, value in facts.items()]


def lines(facts: dict[str, Any]) -> list[str]:
    """One fact a line; a list of facts becomes one line each."""
    width = max(map(len, facts))
    lines = []
    for name, value in facts.items():
        entries = value if isinstance(value, list) and value and isinstance(value[0], dict) else [value]
        for position, entry in enumerate(entries):
            lines.append(f"{'' if position else name:{width}}  {_plain(entry)}")
    return lines


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(facts_of(value))
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
