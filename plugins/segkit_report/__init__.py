"""Reports of runs (report.html in the run folder) and comparisons: the commands ``report`` and ``compare``.

Every run writes its report and updates it while training, as often as this takes a small share of the run's time,
unless ``SEGKIT_REPORT=0`` is set.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

import segkit
from segkit.errors import SegkitError

SHARE = 0.02  # maximum share of a run's time spent on reports
FIRST = 120.0  # seconds from a run's start to its first report, which takes two because it imports matplotlib
_due: dict[Path, float] = {}  # time of the next report, by run folder
_behind: set[Path] = set()  # folders whose report lacks an epoch; a killed run sends no end event


@segkit.hookimpl
def segkit_commands() -> Mapping[str, str]:
    """Offer the commands."""
    return {"compare": "segkit_report.command:Compare", "report": "segkit_report.command:Report"}


@segkit.hookimpl
def segkit_run_started(run: segkit.Run) -> None:
    """Schedule the first report; remove an existing report unless the run is resumed."""
    if run.first_epoch == 1:
        (run.folder / "report.html").unlink(missing_ok=True)
    _due[run.folder] = time.monotonic() + FIRST


@segkit.hookimpl
def segkit_epoch_ended(run: segkit.Run) -> None:
    """Write the report so far, if one is due."""
    _behind.add(run.folder)
    began = time.monotonic()
    if began >= _due.get(run.folder, 0.0):
        _write(run.folder)
        ended = time.monotonic()
        _due[run.folder] = ended + (ended - began) * (1 / SHARE - 1)


@segkit.hookimpl
def segkit_run_ended(run: segkit.Run, result: segkit.Result) -> str | None:
    """Write the report; return remarks on the scores, and the path of the report."""
    if not _write(run.folder):
        return None
    from segkit_report.report import remarks
    from segkit_report.story import Story

    path, here = run.folder / "report.html", Path.cwd()
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    return "\n".join([*remarks(Story(str(run.folder))), f"report: {shown}"])


@atexit.register
def catch_up() -> None:
    """Write outdated reports of interrupted runs."""
    while _behind:
        with contextlib.suppress(SegkitError):  # the folder was moved or removed
            _write(_behind.pop())


def _write(folder: Path) -> bool:
    """Write the report unless disabled; raise RunFolderError if files of the folder cannot be read or written."""
    _behind.discard(folder)
    if os.environ.get("SEGKIT_REPORT") == "0":
        return False
    from segkit_report.page import write_report  # imported here because it imports matplotlib
    from segkit_report.story import Story

    write_report(Story(str(folder)), folder / "report.html")
    return True
