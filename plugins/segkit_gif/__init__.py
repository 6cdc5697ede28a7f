"""Writes samples.gif at the end of every run: its pictures of all epochs, to watch it learn.

It is made of ``samples/epoch_*.png``, each under its mean IoU and its floor; without them (``output.samples=0``) there
is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import segkit

if TYPE_CHECKING:
    from segkit.engine.trainer import Result, Run


@segkit.hookimpl
def segkit_run_started(run: Run) -> None:
    """What a run that this one replaces has written goes."""
    if run.first_epoch == 1:
        (run.folder / "samples.gif").unlink(missing_ok=True)


@segkit.hookimpl
def segkit_run_ended(run: Run, result: Result) -> None:
    """Write it, of the epochs before a resumption too."""
    from segkit_gif.animation import write

    write(run.folder)
