"""The options ``--json`` and ``--quiet``: what a command prints for programs, and for those who want its result alone.

Every command that prints a figure or a list has both, so that a script may say so to any of them.

With ``--json`` the standard output holds one JSON document and nothing else; whatever a command, a plugin or a library
prints beside it goes to the standard error. What is no number, as the score of an absent class, is null. The keys are
those that each command's help names; later versions may add some. Nothing is ever coloured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
from collections.abc import Iterator
from typing import Any


def add_output_options(parser: argparse._ActionsContainer, *, document: str = "", quiet: bool = True) -> None:
    """Add ``--json``, which prints a ``document`` in these words, where a command has one, and ``--quiet``."""
    if document:
        parser.add_argument("--json", action="store_true", help=f"print JSON, for programs: {document}")
    if quiet:
        parser.add_argument("--quiet", action="store_true", help="no progress and no talk: results and warnings only")


@contextlib.contextmanager
def messages(*, aside: bool = False, quiet: bool = False) -> Iterator[None]:
    """What is printed within are messages.

    Args:
        aside: a document will be printed: they go to the standard error.
        quiet: no progress bar is drawn.
    """
    with contextlib.ExitStack() as stack:
        if quiet:
            stack.enter_context(contextlib.redirect_stderr(_NoTerminal(sys.stderr)))
        if aside:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


def as_options(text: object) -> str:
    """A message of the engine in the words of a command line: ``--resume`` for Python's ``resume=True``."""
    return re.sub(r"\b(resume|overwrite)=True\b", r"--\1", str(text))


def print_json(document: Any) -> None:
    """Print a document, with null for what is no number."""
    from segkit.data.plain import plain

    print(json.dumps(plain(document), indent=2, allow_nan=False, default=str))


class _NoTerminal:
    """A stream that says it is no terminal: whoever draws a bar, a library of somebody else's too, asks for that."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def isatty(self) -> bool:
        """No."""
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
