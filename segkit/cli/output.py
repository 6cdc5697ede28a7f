"""What a command prints: text that fits the terminal, tables, one JSON document for programs.

Every command that prints a figure or a list has ``--json`` and ``--quiet``, so that a script may say so to any of them.
With ``--json`` the standard output holds one JSON document and nothing else, by :func:`print_json`; what a command, a
plugin or a library prints beside it goes to the standard error. What is no number, as the score of an absent class, is
null. The keys are those that each command's help names; later versions may add some. Nothing is ever coloured.
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

_document: Any = None  # the standard output, where all but a document goes to the standard error
_LEAST = 20  # characters that a shortened column keeps, even if the line then is too long


def add_output_options(parser: argparse._ActionsContainer, *, document: str = "") -> None:
    """Add ``--json``, which prints a ``document`` in these words, where a command has one, and ``--quiet``."""
    if document:
        parser.set_defaults(_document=True)  # for whoever runs the command
        parser.add_argument("--json", action="store_true", help=f"print JSON, for programs: {document}")
    parser.add_argument("--quiet", action="store_true", help="no progress and no talk: results and warnings only")


@contextlib.contextmanager
def messages(*, aside: bool = False, quiet: bool = False) -> Iterator[None]:
    """How a command prints: ``aside`` of its document, on the standard error; ``quiet``, without progress bars."""
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
    """A standard stream of a command: what a terminal would take as an order is written as its escape.

    File names, class names and texts of a config may be a stranger's. A progress bar's carriage return is passed on.

    Args:
        stream: where to write.
        terminal: False says that it is no terminal: whoever draws a bar, a library of somebody else's too, asks that.
    """

    def __init__(self, stream: Any, terminal: bool = True) -> None:
        self._stream = io.StringIO() if stream is None else stream  # None where a shell has closed it
        self._terminal = terminal

    def write(self, text: str) -> int:
        """Write a text."""
        inner = text.strip("\r")
        shown = "\n".join(map(one_line, inner.split("\n")))
        written: int = self._stream.write(text.replace(inner, shown) if inner else text)
        return written

    def isatty(self) -> bool:
        """Whether it is a terminal, and bars are wanted there."""
        return self._terminal and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def rank() -> str:
    """The number of this process among those that torchrun started, of which "0" prints; "0" where it is alone."""
    return os.environ.get("RANK", "0") if "MASTER_ADDR" in os.environ else "0"


def as_options(text: object) -> str:
    """A message of the engine in the words of a command line: ``--resume`` for Python's ``resume=True``."""
    return re.sub(r"\b(resume|overwrite)=True\b", r"--\1", str(text))


def print_json(document: Any, indent: int | None = 2, file: Any = None) -> None:
    """Print a document, with null for what is no number; to the standard output, where no ``file`` is given."""
    text = json.dumps(to_jsonable(document), indent=indent, allow_nan=False)
    print(text, file=file or _document, flush=True)


def table(rows: Sequence[Sequence[str]], align: str = "", flexible: int | None = None, indent: int = 2) -> str:
    """Aligned rows.

    Args:
        rows: of cells; the first one may be a heading.
        align: of each column ``<`` or ``>``; left out: all to the left.
        flexible: the column that is shortened where a line would not fit the terminal.
        indent: spaces before a row.
    """
    cells = [[one_line(cell) for cell in row] for row in rows]
    sizes = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if flexible is not None and sizes:
        spare = terminal_width() - sum(sizes) - 2 * (len(sizes) - 1) - indent
        sizes[flexible] = max(min(_LEAST, sizes[flexible]), sizes[flexible] + min(0, spare))
    lines = []
    for row in cells:
        if flexible is not None:
            row[flexible] = textwrap.shorten(row[flexible], sizes[flexible], placeholder=" ...")
        aligned = (f"{cell:{side}{size}}" for cell, side, size in zip(row, align or "<" * len(row), sizes, strict=True))
        lines.append(f"{' ' * indent}{'  '.join(aligned)}".rstrip())
    return "\n".join(lines)


def hanging(text: str, indent: int = 0) -> str:
    """Text wrapped to the terminal, what comes below a line's beginning ``indent`` characters to the right.

    Of several paragraphs each that is too wide; lines of a list and those that are indented stay lines.
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
    """Characters a line: the terminal's, or 80 where the output goes to a file."""
    return shutil.get_terminal_size().columns
