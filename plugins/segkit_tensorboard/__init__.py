"""Writes TensorBoard event files of every run, to tensorboard/ in its folder.

Scalars, with floors beside scores, and pictures are written if tensorboard is installed (``pip install tensorboard``)
and ``SEGKIT_TENSORBOARD=0`` is not set. ``tensorboard --logdir runs`` shows all runs side by side. The step is the
epoch. A resumed run starts a new event file, which hides the earlier events of repeated epochs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import segkit

_writers: dict[Path, Any] = {}  # by run folder: files stay open between events


@segkit.hookimpl
def segkit_run_started(run: segkit.Run) -> None:
    """Start an event file; a run that does not resume first removes existing ones, even if it writes none."""
    if run.folder in _writers:  # left by a run in this process that did not finish
        _writers.pop(run.folder).close()
    if run.first_epoch == 1:
        for stale in (run.folder / "tensorboard").glob("events.out.tfevents.*"):
            stale.unlink()
    if os.environ.get("SEGKIT_TENSORBOARD") != "0" and find_spec("tensorboard"):
        from segkit_tensorboard.writer import RunWriter

        _writers[run.folder] = RunWriter(run)


@segkit.hookimpl
def segkit_epoch_ended(run: segkit.Run, epoch: int, metrics: Mapping[str, Any]) -> None:
    """Write the pictures and all finite scalars of the epoch."""
    if not (writer := _writers.get(run.folder)):
        return
    train, val, floors = metrics["train"], metrics["val"], metrics["val"]["floor"]
    scores = {name: value for name, value in val.items() if isinstance(value, int | float)}
    tagged = {
        "loss/train": train["loss"],
        **{f"loss/train_{name}": value for name, value in train["losses"].items()},
        **{f"loss/val_{name}": value for name, value in val["losses"].items()},
        **{f"{name}/val": value for name, value in scores.items()},  # including the loss
        **{f"{name}/floor": floors[name] for name in scores if name in floors},
        **{f"class_iou/{name}": value for name, value in val["class_iou"].items()},
        "train/lr": train["lr"],
        "train/images_per_second": train["images_per_second"],
    }
    for tag, value in tagged.items():
        if math.isfinite(value):
            writer.add_scalar(tag, value, epoch)
    if epoch == run.first_epoch:
        charts = {name: ["Multiline", [f"{name}/val", f"{name}/floor"]] for name in val if name in floors}
        writer.add_custom_scalars({"scores beside their floors": charts})
    writer.add_picture(f"epoch_{epoch:04d}", "samples/val", epoch)
    writer.flush()  # the run may be killed


@segkit.hookimpl
def segkit_run_ended(run: segkit.Run, result: segkit.Result) -> None:
    """Write the picture of the best weights and close the file."""
    if writer := _writers.pop(run.folder, None):
        writer.add_picture("best", "samples/best", result.best_epoch)
        writer.close()
