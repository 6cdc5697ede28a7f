"""The report of a run, report.html in its folder, and runs side by side: the commands ``report`` and ``compare``.

Every run writes its report, anew as it goes on and as often as that takes a small part of the time, unless
``SEGKIT_REPORT=0`` is set.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import segkit
from segkit.errors import SegkitError

if TYPE_CHECKING:
    from segkit.engine.trainer import Result, Run

SHARE = 0.02  # of a run's time
FIRST = 120.0  # seconds from a run's start to its first page; that takes two, as matplotlib is imported for it
_due: dict[Path, float] = {}  # by run folder: an event knows its run and nothing else
_behind: set[Path] = set()  # whose report lacks an epoch; a run that is stopped tells no end


@segkit.hookimpl
def segkit_commands() -> Mapping[str, str]:
    """Offer the commands."""
    return {"compare": "segkit_report.command:Compare", "report": "segkit_report.command:Report"}


@segkit.hookimpl
def segkit_run_started(run: Run) -> None:
    """Note when it was; the report of a run that this one replaces goes."""
    if run.first_epoch == 1:
        (run.folder / "report.html").unlink(missing_ok=True)
    _due[run.folder] = time.monotonic() + FIRST


@segkit.hookimpl
def segkit_epoch_ended(run: Run) -> None:
    """Write the report so far, unless that would slow the run down."""
    _behind.add(run.folder)
    began = time.monotonic()
    if began >= _due.get(run.folder, 0.0):
        _write(run.folder)
        ended = time.monotonic()
        _due[run.folder] = ended + (ended - began) * (1 / SHARE - 1)


@segkit.hookimpl
def segkit_run_ended(run: Run, result: Result) -> str | None:
    """Write the report, and say where it is and what the scores alone do not show."""
    if not _write(run.folder):
        return None
    from segkit_report.report import remarks
    from segkit_report.story import Story

    path, here = run.folder / "report.html", Path.cwd()
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    return "\n".join([*remarks(Story(str(run.folder))), f"report: {shown}"])


@atexit.register
def catch_up() -> None:
    """Write the reports that lack an epoch, of runs that were stopped."""
    while _behind:
        with contextlib.suppress(SegkitError):  # moved or removed since
            _write(_behind.pop())


def _write(folder: Path) -> bool:
    """Write the report, if it is wanted; a RunFolderError where something in the folder cannot be read or written."""
    _behind.discard(folder)
    if os.environ.get("SEGKIT_REPORT") == "0":
        return False
    from segkit_report.page import write_report  # here, for every command imports this module; imports matplotlib
    from segkit_report.story import Story

    write_report(Story(str(folder)), folder / "report.html")
    return True
