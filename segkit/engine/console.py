"""What a run prints: a line an epoch and a table at the end, every score beside its floor."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from numpy.typing import NDArray
from torch import nn

from segkit.engine.device import device_name
from segkit.engine.precision import Precision
from segkit.errors import printable


class Console:
    """Prints for one process of a run; where nothing can be printed any more, the run goes on all the same.

    Args:
        active: whether this process is the one that prints.
    """

    def __init__(self, active: bool = True) -> None:
        self.active = active
        self._told = False

    def say(self, text: str) -> None:
        """Print a line on the standard output."""
        self._print(text, sys.stdout)

    def warn(self, text: str) -> None:
        """Print a warning on the standard error."""
        self._print(f"warning: {text}", sys.stderr)

    def _print(self, text: str, stream: TextIO) -> None:
        if not self.active:
            return
        try:
            print(printable(text), file=stream, flush=True)  # names of classes and files may be a stranger's
        except (OSError, ValueError) as error:  # a full disk, a reader that has left, a stream that was closed
            with contextlib.suppress(OSError, ValueError):  # what is left in the buffer must not fail once more
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if stream is sys.stdout and not self._told:
                self._told = True
                self.warn(f"nothing can be printed any more ({error}); training goes on")


def introduction(
    model: nn.Module,
    precision: Precision,
    sizes: Mapping[str, int],
    floor: Mapping[str, Any],
    classes: int,
    steps: str,
) -> str:
    """What is trained, on what, and what val's scores will have to beat."""
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    images = ", ".join(f"{count} {name}" for name, count in sizes.items())
    return (
        f"{type(model).__name__}, {parameters:.2f} M parameters, {device_name(precision.device)}, {precision.name}; "
        f"images: {images}; {classes} classes; {steps}\n"
        f"the floor of val, always predicting '{floor['class']}': "
        f"mean_iou {floor['mean_iou']:.3f}, pixel_accuracy {floor['pixel_accuracy']:.3f}"
    )


def score_text(name: str, scores: Mapping[str, Any], floor: Mapping[str, Any]) -> str:
    """``mean_iou 0.412 (floor 0.024)``."""
    beside = f" (floor {number(floor[name])})" if isinstance(floor.get(name), float) else ""
    return f"{name} {number(scores[name])}{beside}"


def number(value: Any) -> str:
    """Three decimals; a dash for an absent class."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"


def epoch_line(
    epoch: int, epochs: int, trained: Mapping[str, Any], scores: Mapping[str, Any], floor: Mapping[str, Any], best: bool
) -> str:
    """One epoch in one line; a star marks the best so far."""
    width = len(str(epochs))
    parts = [
        f"epoch {epoch:{width}}/{epochs}",
        f"loss {trained['loss']:.4f}",
        f"val loss {scores['loss']:.4f}",
        score_text("mean_iou", scores, floor),
        score_text("pixel_accuracy", scores, floor),
        f"{scores['predicted']['classes']}/{len(scores['class_iou'])} classes",
        f"{trained['images_per_second']:.1f} images/s",
    ]
    return "  ".join(parts) + (" *" if best else "")


def final_table(
    splits: Mapping[str, Mapping[str, Any]], classes: Sequence[str], shares: Mapping[str, NDArray[Any]]
) -> str:
    """Every class with its IoU and its share of the pixels, a pair of columns a split; the means beside the floors."""
    names = list(splits)
    label = max(len(text) for text in [*classes, "frequency_weighted_iou"])
    lines = [
        f"{'':{label}}" + "".join(f"  {name:^15}" for name in names),
        f"{'class':{label}}" + "".join(f"  {'IoU':>7} {'share':>7}" for _ in names),
    ]
    for index, name in enumerate(classes):
        cells = [
            f"  {number(splits[split]['class_iou'][name]):>7} {100 * float(shares[split][index]):>6.2f}%"
            for split in names
        ]
        lines.append(f"{name:{label}}" + "".join(cells))
    lines.append(f"{'':{label}}" + "".join(f"  {'score':>7} {'floor':>7}" for _ in names))
    first = splits[names[0]]
    rows = [name for name, value in first.items() if isinstance(value, float) and name not in ("loss", "lift")]
    for row in rows:
        cells = [f"  {number(splits[s].get(row)):>7} {number(splits[s]['floor'].get(row)):>7}" for s in names]
        lines.append(f"{row:{label}}" + "".join(cells))
    predicted = [splits[split]["predicted"]["classes"] for split in names]
    lines.append(f"{'classes predicted':{label}}" + "".join(f"  {p:>7} {'1':>7}" for p in predicted))
    if all("loss" in scores for scores in splits.values()):  # predictions alone have none
        lines.append(f"{'loss':{label}}" + "".join(f"  {number(splits[s]['loss']):>7} {'':>7}" for s in names))
    return "\n".join(line.rstrip() for line in lines)
