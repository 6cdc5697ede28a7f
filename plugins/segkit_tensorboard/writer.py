"""Event files for TensorBoard: a run's figures beside their floors, the IoU of each class, and its pictures.

The step of everything is the epoch. A resumed run begins a file of its own, which hides what an earlier one wrote of
the epochs that are done again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from segkit.engine.trainer import Run

_writers: dict[Path, Any] = {}  # by run folder: a file stays open between two events


def clear(run: Run) -> None:
    """Close what is open, and remove what a run that this one replaces has written; nothing else."""
    if run.folder in _writers:  # of a run in this process that did not come to its end
        _writers.pop(run.folder).close()
    if run.first_epoch == 1:
        for stale in (run.folder / "tensorboard").glob("events.out.tfevents.*"):
            stale.unlink()


def start(run: Run) -> None:
    """Begin an event file."""
    from torch.utils.tensorboard import SummaryWriter  # takes a while, and is not there without tensorboard

    resumed_at = run.first_epoch if run.first_epoch > 1 else None
    _writers[run.folder] = SummaryWriter(str(run.folder / "tensorboard"), purge_step=resumed_at)


def write(run: Run, epoch: int, metrics: Mapping[str, Any]) -> None:
    """Write an epoch; nothing where no file was begun."""
    writer = _writers.get(run.folder)
    if writer is None:
        return
    for tag, value in _scalars(metrics):
        writer.add_scalar(tag, value, epoch)
    if epoch == run.first_epoch:
        floors = metrics["val"]["floor"]
        charts = {name: ["Multiline", [f"{name}/val", f"{name}/floor"]] for name in metrics["val"] if name in floors}
        writer.add_custom_scalars({"scores beside their floors": charts})
    _add_picture(writer, run, f"epoch_{epoch:04d}", "samples/val", epoch)
    writer.flush()  # a run may be killed


def finish(run: Run, best_epoch: int) -> None:
    """Write the pictures of the best weights and close the file."""
    writer = _writers.pop(run.folder, None)
    if writer is not None:
        _add_picture(writer, run, "best", "samples/best", best_epoch)
        writer.close()


def _scalars(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Every figure of an epoch with its tag; a class or a score that there is none of is left out."""
    train, val = metrics["train"], metrics["val"]
    scores = {name: value for name, value in val.items() if isinstance(value, int | float)}
    tagged = {
        "loss/train": train["loss"],
        **{f"loss/train_{name}": value for name, value in train["losses"].items()},
        **{f"loss/val_{name}": value for name, value in val["losses"].items()},
        **{f"{name}/val": value for name, value in scores.items()},  # the loss among them
        **{f"{name}/floor": val["floor"][name] for name in scores if name in val["floor"]},
        **{f"class_iou/{name}": value for name, value in val["class_iou"].items()},
        "train/lr": train["lr"],
        "train/images_per_second": train["images_per_second"],
    }
    return ((tag, value) for tag, value in tagged.items() if math.isfinite(value))


def _add_picture(writer: Any, run: Run, name: str, tag: str, epoch: int) -> None:
    path = run.folder / "samples" / f"{name}.png"
    if path.exists():  # output.samples may be 0
        with Image.open(path) as picture:
            writer.add_image(tag, np.asarray(picture.convert("RGB")), epoch, dataformats="HWC")  # [H,W,3]
