"""The report of a run, report.html in its folder, and runs side by side: the commands ``report`` and ``compare``.

Every run writes its report, anew as it goes on, unless ``SEGKIT_REPORT=0`` is set.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import segkit

if TYPE_CHECKING:
    from segkit.engine.trainer import Result, Run


@segkit.hookimpl
def segkit_commands() -> Mapping[str, str]:
    """Offer the commands."""
    return {"compare": "segkit_report.command:Compare", "report": "segkit_report.command:Report"}


@segkit.hookimpl
def segkit_run_started(run: Run) -> None:
    """Note when it was; the report of a run that this one replaces goes."""
    if run.first_epoch == 1:
        (run.folder / "report.html").unlink(missing_ok=True)
    _tell("begin", run.folder)


@segkit.hookimpl
def segkit_epoch_ended(run: Run, epoch: int, metrics: Mapping[str, Any]) -> None:
    """Write the report so far."""
    _tell("refresh", run.folder)


@segkit.hookimpl
def segkit_run_ended(run: Run, result: Result) -> str | None:
    """Write the report, and say where it is and what the scores alone do not show."""
    if os.environ.get("SEGKIT_REPORT") == "0":
        return None
    from segkit_report.report import remarks
    from segkit_report.story import Story

    _tell("finish", run.folder)
    path, here = run.folder / "report.html", Path.cwd()
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    return "\n".join([*remarks(Story(str(run.folder))), f"report: {shown}"])


def _tell(event: str, folder: Path) -> None:
    if os.environ.get("SEGKIT_REPORT") != "0":
        from segkit_report import observer  # here, for every command imports this module

        getattr(observer, event)(folder)
