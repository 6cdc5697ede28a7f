"""Output of commands: text that fits the terminal, tables, and one JSON document for programs.

Every command that prints a number or a list has the options ``--json`` and ``--quiet``. With ``--json`` the standard
output holds one JSON document, printed by :func:`print_json`, and nothing else; everything else that a command, a
plugin or a library prints goes to the standard error. NaN, such as the score of an absent class, becomes null. The help
of each command lists the keys of its document; later versions may add some. Output is never coloured.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from segkit.errors import one_line
from segkit.files import to_jsonable

_document: Any = None  # the standard output, while everything but the JSON document goes to the standard error
_LEAST = 20  # characters that a shortened column keeps, even if the line then is too long


def add_output_options(parser: argparse._ActionsContainer, *, document: str = "") -> None:
    """Add ``--quiet``, and ``--json`` if the command prints a ``document``, described in these words in the help."""
    if document:
        parser.set_defaults(_document=True)  # segkit.cli reads it
        parser.add_argument("--json", action="store_true", help=f"print JSON, for programs: {document}")
    parser.add_argument("--quiet", action="store_true", help="print results and warnings only, no progress")


@contextlib.contextmanager
def messages(*, aside: bool = False, quiet: bool = False) -> Iterator[None]:
    """Set how a command prints: ``aside``, to the standard error, except JSON; ``quiet``, without progress bars."""
    global _document
    with contextlib.ExitStack() as stack:
        if quiet:
            stack.enter_context(contextlib.redirect_stderr(Stream(sys.stderr, terminal=False)))
        if aside:
            _document = sys.stdout
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        try:
            yield
        finally:
            _document = None


class Stream:
    """A standard stream that escapes control characters, so that no text can control the terminal.

    File names, class names and config texts may come from strangers. A progress bar's carriage return is passed on.

    Args:
        stream: where to write.
        terminal: False makes ``isatty`` return False, which turns progress bars off, also those of libraries.
    """

    def __init__(self, stream: Any, terminal: bool = True) -> None:
        self._stream = io.StringIO() if stream is None else stream  # None where a shell has closed it
        self._terminal = terminal

    def write(self, text: str) -> int:
        """Write a text with control characters escaped."""
        inner = text.strip("\r")
        shown = "\n".join(map(one_line, inner.split("\n")))
        written: int = self._stream.write(text.replace(inner, shown) if inner else text)
        return written

    def isatty(self) -> bool:
        """Whether the stream is a terminal and progress bars are wanted."""
        return self._terminal and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def rank() -> str:
    """The rank of this process among those that torchrun started; "0", without torchrun too, is the one that prints."""
    return os.environ.get("RANK", "0") if "MASTER_ADDR" in os.environ else "0"


def as_options(text: object) -> str:
    """Rewrite a message of the engine for the command line: ``--resume`` in place of Python's ``resume=True``."""
    return re.sub(r"\b(resume|overwrite)=True\b", r"--\1", str(text))


def print_json(document: Any) -> None:
    """Print a document as JSON on the standard output, with null for NaN and infinity."""
    print(json.dumps(to_jsonable(document), indent=2, allow_nan=False), file=_document, flush=True)


def table(rows: Sequence[Sequence[str]], align: str = "", flexible: int | None = None, indent: int = 2) -> str:
    """Format rows as aligned columns.

    Args:
        rows: lists of cells; the first row may be a heading.
        align: ``<`` or ``>`` for each column; default: all to the left.
        flexible: the column to shorten where a line would be wider than the terminal.
        indent: number of spaces before each row.
    """
    cells = [[one_line(cell) for cell in row] for row in rows]
    sizes = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if flexible is not None and sizes:
        spare = terminal_width() - sum(sizes) - 2 * (len(sizes) - 1) - indent
        sizes[flexible] = max(min(_LEAST, sizes[flexible]), sizes[flexible] + min(0, spare))
    lines = []
    for row in cells:
        if flexible is not None:
            row[flexible] = textwrap.shorten(row[flexible], max(4, sizes[flexible]), placeholder=" ...")
        aligned = (f"{cell:{side}{size}}" for cell, side, size in zip(row, align or "<" * len(row), sizes, strict=True))
        lines.append(f"{' ' * indent}{'  '.join(aligned)}".rstrip())
    return "\n".join(lines)


def hanging(text: str, indent: int = 0) -> str:
    """Wrap a text to the terminal's width, with continuation lines indented by ``indent`` characters.

    Only paragraphs that are too wide are wrapped; list items and indented lines stay separate lines.
    """
    lines: list[str] = []
    for paragraph in re.split(r"\n[ \t]*\n", text):
        own = paragraph.split("\n")
        fits = max(map(len, own)) <= terminal_width()
        for stay, group in groupby(own, lambda line: line.startswith((" ", "\t", "- "))):
            for line in group if fits or stay else [" ".join(group)]:
                begin = len(line) - len(line.lstrip(" \t-"))
                how: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
                how |= {"subsequent_indent": " " * (begin + 2 * line.startswith((" ", "\t")) or indent)}
                lines.append(line if fits else textwrap.fill(line, terminal_width(), **how))
        lines.append("")
    return "\n".join(lines[:-1])


def terminal_width() -> int:
    """Characters per line: the terminal's, or 80 where the output goes to a file."""
    return shutil.get_terminal_size().columns
