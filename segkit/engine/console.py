"""What a run prints: a line an epoch, every score beside its floor; at its end a table and what was learned."""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from numpy.typing import NDArray
from torch import Tensor, nn

from segkit.engine.history import verdict
from segkit.engine.precision import Precision, device_name
from segkit.errors import reason
from segkit.metric.scores import class_score

if TYPE_CHECKING:
    from segkit.engine.run_folder import Result

if TYPE_CHECKING:
    from segkit.engine.run_folder import Result


class Console:
    """Prints for one process of a run; where nothing can be printed any more, the run goes on all the same.

    Args:
        active: whether this process is the one that prints.
        quiet: whether results and warnings are all that is wanted.
    """

    def __init__(self, active: bool = True, quiet: bool = False) -> None:
        self.active, self.quiet = active, quiet
        self._told = False

    def say(self, text: str) -> None:
        """Print how the run goes on the standard output."""
        if not self.quiet:
            self.result(text)

    def result(self, text: str) -> None:
        """Print what the run came to on the standard output."""
        self._print(wrapped(text), sys.stdout)

    def warn(self, text: str) -> None:
        """Print a warning on the standard error."""
        self._print(f"warning: {text}", sys.stderr)

    def _print(self, text: str, stream: TextIO) -> None:
        if not self.active:
            return
        try:
            print(text, file=stream, flush=True)
        except (OSError, ValueError) as error:  # a full disk, a reader that has left, a stream that was closed
            with contextlib.suppress(OSError, ValueError):  # what is left in the buffer must not fail once more
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if stream is sys.stdout and not self._told:
                self._told = True
                self.warn(f"nothing can be printed any more ({reason(error)}); training goes on")


def wrapped(text: str) -> str:
    """Text whose lines fit the terminal, or 80 characters in a file; a row of a table stays one line."""
    width = shutil.get_terminal_size().columns
    return "\n".join(
        line if len(line) <= width or "  " in line.strip() else textwrap.fill(line, width, break_on_hyphens=False)
        for line in text.split("\n")
    )


def cut(name: str, size: int) -> str:
    """A name that a column of so many characters can hold."""
    return name if len(name) <= size else f"{name[: size - 3]}..."


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
        f"{type(model).__name__}, {parameters:.2f} M parameters, {device_name(precision.device)}, {precision.name}\n"
        f"images: {images}; {classes} classes; {steps}\n"
        f"floor of val, all '{floor['class']}': mean_iou {floor['mean_iou']:.3f}, "
        f"pixel_accuracy {floor['pixel_accuracy']:.3f}"
    )


def number(value: Any) -> str:
    """Three decimals; a dash for an absent class."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"


def epoch_heading(epochs: int) -> str:
    """What stands above the lines of the epochs."""
    width = _epoch_width(epochs)
    return (
        f"{'':{width}}  {'':>7}  {'':>8}  {'mean_iou':^12}  pixel_accuracy\n"
        f"{'epoch':>{width}}  {'loss':>7}  val loss  score  floor   score  floor  classes  images/s"
    )


def epoch_line(
    epoch: int, epochs: int, trained: Mapping[str, Any], scores: Mapping[str, Any], floor: Mapping[str, Any], best: bool
) -> str:
    """One epoch in one line, each score before its floor; a star marks the best so far."""
    parts = [
        f"{f'{epoch}/{epochs}':>{_epoch_width(epochs)}}  {trained['loss']:7.4f}  {scores['loss']:8.4f}",
        f"{number(scores['mean_iou']):>5}  {number(floor['mean_iou']):>5}",
        f" {number(scores['pixel_accuracy']):>5}  {number(floor['pixel_accuracy']):>5}",
        f"{scores['predicted']['classes']}/{len(scores['class_iou'])}".rjust(7),
        f"{trained['images_per_second']:8.1f}",
    ]
    return "  ".join(parts) + (" *" if best else "")


def _epoch_width(epochs: int) -> int:
    return max(5, 2 * len(str(epochs)) + 1)


def final_table(
    splits: Mapping[str, Mapping[str, Any]], classes: Sequence[str], shares: Mapping[str, NDArray[Any]]
) -> str:
    """Every class with its IoU and its share of the pixels, a pair of columns a split; the means beside the floors."""
    names = list(splits)
    least = len("frequency_weighted_iou")
    room = shutil.get_terminal_size().columns - 17 * len(names)
    label = max(least, min(room, max(map(len, classes))))
    lines = [
        f"{'':{label}}" + "".join(f"  {name:^15}" for name in names),
        f"{'class':{label}}" + "".join(f"  {'IoU':>7} {'share':>7}" for _ in names),
    ]
    for index, name in enumerate(classes):
        cells = [
            f"  {number(splits[split]['class_iou'][name]):>7} {100 * float(shares[split][index]):>6.2f}%"
            for split in names
        ]
        lines.append(f"{cut(name, label):{label}}" + "".join(cells))
    lines.append(f"{'':{label}}" + "".join(f"  {'score':>7} {'floor':>7}" for _ in names))
    first = splits[names[0]]
    rows = [name for name, value in first.items() if isinstance(value, float) and name not in ("loss", "lift")]
    for row in rows:
        cells = [f"  {number(splits[s].get(row)):>7} {number(splits[s]['floor'].get(row)):>7}" for s in names]
        lines.append(f"{cut(row, label):{label}}" + "".join(cells))
    predicted = [splits[split]["predicted"]["classes"] for split in names]
    lines.append(f"{'classes predicted':{label}}" + "".join(f"  {p:>7} {'1':>7}" for p in predicted))
    if all("loss" in scores for scores in splits.values()):  # predictions alone have none
        lines.append(f"{'loss':{label}}" + "".join(f"  {number(splits[s]['loss']):>7} {'':>7}" for s in names))
    return "\n".join(line.rstrip() for line in lines)


_ONE_SIDED = 0.5  # of recall; a precision below it is that of a class which is predicted too often
_KNOWN = 0.2  # of precision or recall; of a class below both there is nothing to tell but its IoU
_MOST = 6  # classes that are told of


def conclusion(result: Result, shares: Mapping[str, NDArray[Any]], confusion: Tensor) -> str:
    """The table of scores beside their floors, and in words what it does not show at a glance.

    Args:
        result: of the run.
        shares: per split the share of each class in the labelled pixels, ``[C]``.
        confusion: of the last split, int64 ``[C,C]``, rows are the ground truth.
    """
    last, scores = list(result.splits.items())[-1]
    classes = list(scores["class_iou"])
    parts = [f"\n{final_table(result.splits, classes, shares)}"]
    if found := remarks(scores, last, classes, confusion):
        parts.append("\n".join(found))
    if result.collapsed:
        parts.append(verdict(scores, last))
    return "\n\n".join(parts)


def remarks(
    scores: Mapping[str, Any], split: str, classes: Sequence[str], confusion: Tensor | None = None
) -> list[str]:
    """What a table of scores does not show at a glance, a sentence each.

    That the accuracy is below its floor, and which classes are predicted far too often or too seldom, as precision and
    recall say; of those the most frequent ``_MOST``.
    """
    found, floor = [], scores["floor"]
    accuracy, lowest = scores.get("pixel_accuracy", math.nan), floor.get("pixel_accuracy", math.nan)
    if accuracy < lowest:
        found.append(
            f"pixel_accuracy on {split}, {accuracy:.3f}, is below its floor: '{floor['class']}' everywhere scores "
            f"{lowest:.3f}"
        )
    if confusion is None:
        return found
    precisions, recalls = (class_score(name, confusion).tolist() for name in ("precision", "recall"))
    rows = zip(classes, precisions, recalls, confusion.sum(1).tolist(), strict=True)
    odd = []
    for name, precision, recall, true in rows:
        if not true or max(precision, recall) < _KNOWN:
            continue
        if precision < _ONE_SIDED * recall:
            how = "predicted far too often"
        elif recall < _ONE_SIDED * precision:
            how = "predicted far too seldom"
        else:
            continue
        odd.append((true, f"{name} is {how}: precision {precision:.2f}, recall {recall:.2f}"))
    odd.sort(key=lambda row: -row[0])
    return found + [text for _, text in odd[:_MOST]]


def what_next(folder: Path, config: Mapping[str, Any]) -> str:
    """The last line of a run: how its model is used."""
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    if "model" in config:
        return f"next:   python -m segkit predict {shlex.quote(str(shown))} photo.jpg --out masks"
    return f"next:   segkit.load({str(shown)!r}, model=...).predict('photo.jpg')"
