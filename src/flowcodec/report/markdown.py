"""Tables in Markdown, and where they stand in a page: between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``."""

import re
from collections.abc import Iterable, Sequence

from flowcodec.errors import InputError


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column to the left, the others, numbers, to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def replace_block(text: str, name: str, body: str) -> str:
    """``text`` with ``body`` between the markers of ``name``. Raises InputError where they are not there once, in this order."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise InputError(f"expected the markers {begin} and {end} once, in this order; add them where the table belongs")
    return pattern.sub(lambda _: f"{begin}\n{body}\n{end}", text)
