"""Text in columns, as wide as the terminal."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby

from segkit.errors import one_line, printable

_LEAST = 20  # characters that a shortened column keeps, even if the line then is too long


def columns(rows: Sequence[Sequence[str]], flexible: int) -> str:
    """Indented, aligned rows; the flexible column is shortened where a line would not fit the terminal."""
    if not rows:
        return ""
    rows = [[one_line(cell) for cell in row] for row in rows]
    sizes = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    spare = terminal_width() - sum(sizes) - 2 * len(sizes)
    sizes[flexible] = max(min(_LEAST, sizes[flexible]), sizes[flexible] + min(0, spare))
    return "\n".join(_line(row, sizes) for row in rows)


def paragraph(text: str, indent: str) -> str:
    """Text wrapped to the terminal."""
    return textwrap.fill(printable(text), terminal_width(), initial_indent=indent, subsequent_indent=indent)


def fitted(text: str) -> str:
    """A docstring, the paragraphs that are too wide wrapped to the terminal; lines that are indented stay lines."""
    return "\n".join(line for part in re.split(r"\n[ \t]*\n", text) for line in [*_fitted(part.split("\n")), ""])[:-1]


def _fitted(lines: Sequence[str]) -> Iterator[str]:
    width = terminal_width()
    if max(map(len, lines)) <= width:
        yield from lines
        return
    for indented, group in groupby(lines, lambda line: line.startswith((" ", "\t"))):
        for line in list(group) if indented else [" ".join(group)]:
            yield hanging(line, len(line) - len(line.lstrip()) + 2 * indented)


def hanging(line: str, indent: int) -> str:
    """A line wrapped to the terminal, what comes below its beginning ``indent`` characters to the right."""
    return textwrap.fill(
        line, terminal_width(), subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )


def terminal_width() -> int:
    """Characters a line: the terminal's, or 80 where the output goes to a file."""
    return shutil.get_terminal_size().columns


def _line(row: Sequence[str], sizes: Sequence[int]) -> str:
    cells = (
        textwrap.shorten(cell, size, placeholder=" ...").ljust(size) for cell, size in zip(row, sizes, strict=True)
    )
    return f"  {'  '.join(cells)}".rstrip()
