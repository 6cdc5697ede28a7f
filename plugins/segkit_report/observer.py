"""The report while a run goes on: as often as it can be had for a small part of the time."""

from __future__ import annotations

import atexit
import contextlib
import time
from pathlib import Path

from segkit.errors import SegkitError

SHARE = 0.02  # of a run's time
FIRST = 120.0  # seconds from a run's start to its first page; that takes two, as matplotlib is imported for it
_due: dict[Path, float] = {}  # by run folder: an event knows its run and nothing else
_behind: set[Path] = set()  # whose report lacks an epoch; a run that is stopped tells no end


def begin(folder: Path) -> None:
    """Note when a run begins."""
    _due[folder] = time.monotonic() + FIRST


def refresh(folder: Path) -> None:
    """Write the report of a run that goes on, unless that would slow it down.

    Raises:
        RunFolderError: something in the folder cannot be read or written.
    """
    began = time.monotonic()
    if began >= _due.get(folder, 0.0):
        _write(folder)
        ended = time.monotonic()
        _due[folder] = ended + (ended - began) * (1 / SHARE - 1)
        _behind.discard(folder)
    else:
        _behind.add(folder)


def finish(folder: Path) -> None:
    """Write the report of a run that has ended.

    Raises:
        RunFolderError: something in the folder cannot be read or written.
    """
    _due.pop(folder, None)
    _behind.discard(folder)
    _write(folder)


@atexit.register
def catch_up() -> None:
    """Write the reports that lack an epoch, of runs that were stopped."""
    while _behind:
        folder = _behind.pop()
        with contextlib.suppress(SegkitError):  # moved or removed since
            _write(folder)


def _write(folder: Path) -> None:
    from segkit_report.page import write_report  # imports matplotlib
    from segkit_report.story import Story

    write_report(Story(str(folder)), folder / "report.html")
