"""Other people's code: what it raises, told in a line, and what it prints, kept apart from what a command prints."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from pathlib import Path

_LONGEST = 300  # letters of a message; some print what they were working on
_OURS = str(Path(__file__).parent)


def strict() -> bool:
    """Whether problems of plugins are raised (``SEGKIT_STRICT=1``) rather than reported."""
    return os.environ.get("SEGKIT_STRICT", "") not in ("", "0")


def cause(error: BaseException) -> str:
    """An exception of somebody else's code in one line: type, message and, where known, file and line.

    Where the error comes from a function of ours, the place is that of the call.
    """
    try:
        message = " ".join(str(error).split())
    except BaseException:
        message = "(its message cannot be read)"
    shown = message if len(message) <= _LONGEST else f"{message[:_LONGEST]} ..."
    text = f"{type(error).__name__}: {shown}".removesuffix(": ")
    frames = [f for f in traceback.extract_tb(error.__traceback__)[1:] if "importlib" not in f.filename]
    frames = [f for f in frames if not f.filename.startswith(_OURS)] or frames
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else text


def off_stdout() -> contextlib.AbstractContextManager[object]:
    """What is printed meanwhile goes to stderr: a program may read what the command prints."""
    return contextlib.redirect_stdout(_Stderr())


class _Stderr(io.TextIOBase):
    """Passes on what is written; to close it, or to put something else in its place, harms nobody."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)
