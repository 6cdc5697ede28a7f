"""What an observer of a run is told: the run while it goes on, and its result."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from segkit.data.sample import Palette

Notify = Callable[..., Any]  # notify("segkit_epoch_ended", run=..., epoch=..., metrics=...)


@dataclass(frozen=True)
class Run:
    """A run that goes on.

    Attributes:
        folder: where it writes; its name for observers, which are given a copy of this at each event.
        config: its settings with every default written out, as under ``config`` in ``run.json``.
        classes: names of the classes.
        palette: an RGB triple a class.
        floors: per split, what the best constant predictor scores there.
        first_epoch: the one it starts from: 1, or the one after those that a resumed run has done.
    """

    folder: Path
    config: Mapping[str, Any]
    classes: Sequence[str]
    palette: Palette
    floors: Mapping[str, Mapping[str, Any]]
    first_epoch: int


@dataclass(frozen=True)
class Result:
    """What a run came to; ``result.json`` holds the same.

    Attributes:
        folder: the run folder.
        splits: per split ``mean_iou``, ``pixel_accuracy``, ``mean_dice``, ``class_iou``, ``loss``, ``floor`` and
            whatever other metrics were asked for.
        best_epoch: the epoch whose weights were kept, from 1.
        collapsed: whether a constant prediction does about as well on the last split.
        stopped_early: why, or nothing.
        seconds: of the whole run, resumed parts included.
        images_per_second: of training, without evaluation.
        peak_memory_bytes: of this run: on the device on CUDA, of the process elsewhere.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        device: the name of the card, or ``cpu``.
    """

    folder: Path
    splits: dict[str, dict[str, Any]]
    best_epoch: int
    collapsed: bool
    stopped_early: str
    seconds: float
    images_per_second: float
    peak_memory_bytes: int
    precision: str
    device: str


def undisturbed(notify: Notify) -> Notify:
    """``notify``, after which the process is as if no observer had changed what belongs to all.

    Random numbers need no care: each step has its own.
    """

    def tell(event: str, **arguments: Any) -> None:
        folder, streams = Path.cwd(), (sys.stdout, sys.stderr)
        gradients, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
        try:
            notify(event, **arguments)
        finally:
            os.chdir(folder)
            sys.stdout, sys.stderr = streams
            torch.set_grad_enabled(gradients)
            torch.set_default_dtype(dtype)

    return tell
