"""Writes what TensorBoard shows of every run, to tensorboard/ in its folder.

It writes where tensorboard is installed (``pip install tensorboard``) unless ``SEGKIT_TENSORBOARD=0`` is
set; elsewhere it does nothing. ``tensorboard --logdir runs`` shows all runs side by side.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import segkit

if TYPE_CHECKING:
    from segkit.engine.trainer import Result, Run


@segkit.hookimpl
def segkit_run_started(run: Run) -> None:
    """Begin an event file; those of a run that this one replaces go, whether or not it writes some itself."""
    from segkit_tensorboard import writer

    writer.clear(run)
    if os.environ.get("SEGKIT_TENSORBOARD") != "0" and find_spec("tensorboard"):
        writer.start(run)


@segkit.hookimpl
def segkit_epoch_ended(run: Run, epoch: int, metrics: Mapping[str, Any]) -> None:
    """Write the epoch's figures and pictures."""
    from segkit_tensorboard import writer

    writer.write(run, epoch, metrics)


@segkit.hookimpl
def segkit_run_ended(run: Run, result: Result) -> None:
    """Write the pictures of the best weights, and close the file."""
    from segkit_tensorboard import writer

    writer.finish(run, result.best_epoch)
