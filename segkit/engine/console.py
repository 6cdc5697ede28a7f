"""Output of a run: one line per epoch, with every score beside its floor, and a final table."""

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
from typing import Any, TextIO

from numpy.typing import NDArray

from segkit.errors import reason


class Console:
    """Prints for one process of a run; if printing fails, the run continues without it.

    Args:
        active: whether this process prints.
        quiet: whether to print results and warnings only.
    """

    def __init__(self, active: bool = True, quiet: bool = False) -> None:
        self.active, self.quiet = active, quiet
        self._told = False

    def say(self, text: str) -> None:
        """Print a progress message to the standard output, unless quiet."""
        if not self.quiet:
            self.result(text)

    def result(self, text: str) -> None:
        """Print a result to the standard output."""
        self._print(wrapped(text), sys.stdout)

    def warn(self, text: str) -> None:
        """Print a warning to the standard error."""
        self._print(f"warning: {text}", sys.stderr)

    def _print(self, text: str, stream: TextIO) -> None:
        if not self.active:
            return
        encoding = getattr(stream, "encoding", None) or "utf-8"  # it may lack a letter of a class name, such as ü
        try:
            print(text.encode(encoding, "replace").decode(encoding), file=stream, flush=True)
        except (OSError, ValueError) as error:  # a full disk, a pipe without a reader, a closed stream
            with contextlib.suppress(OSError, ValueError):  # so that flushing the buffer later does not fail again
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if stream is sys.stdout and not self._told:
                self._told = True
                self.warn(f"printing to the standard output failed ({reason(error)}); training continues")


def wrapped(text: str) -> str:
    """Wrap lines to the terminal's width, or to 80 characters in a file; rows of tables stay single lines."""
    width = shutil.get_terminal_size().columns
    return "\n".join(
        line if len(line) <= width or "  " in line.strip() else textwrap.fill(line, width, break_on_hyphens=False)
        for line in text.split("\n")
    )


def number(value: Any) -> str:
    """Format with three decimals; a dash for None, NaN or infinity, such as the score of an absent class."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"


def duration(seconds: float) -> str:
    """Format as ``50 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def epoch_heading(epochs: int) -> str:
    """The column headings above the lines of the epochs."""
    width = max(5, 2 * len(str(epochs)) + 1)
    return (
        f"{'':{width}}  {'':>7}  {'':>8}  {'mean_iou':^12}  pixel_accuracy\n"
        f"{'epoch':>{width}}  {'loss':>7}  val loss  score  floor   score  floor  classes  images/s"
    )


def epoch_line(line: Mapping[str, Any], epochs: int) -> str:
    """Format a line of ``metrics.jsonl``, each score before its floor; a star marks the best epoch so far."""
    trained, scores, floor = line["train"], line["val"], line["val"]["floor"]
    width = max(5, 2 * len(str(epochs)) + 1)
    parts = [
        f"{line['epoch']}/{epochs}".rjust(width) + f"  {trained['loss']:7.4f}  {scores['loss']:8.4f}",
        f"{number(scores['mean_iou']):>5}  {number(floor['mean_iou']):>5}",
        f" {number(scores['pixel_accuracy']):>5}  {number(floor['pixel_accuracy']):>5}",
        f"{scores['predicted']['classes']}/{len(scores['class_iou'])}".rjust(7),
        f"{trained['images_per_second']:8.1f}",
    ]
    return "  ".join(parts) + (" *" if line["best"] else "")


def final_table(
    splits: Mapping[str, Mapping[str, Any]], classes: Sequence[str], shares: Mapping[str, NDArray[Any]]
) -> str:
    """The IoU and pixel share of every class, two columns per split, and the mean scores beside their floors."""
    most = shutil.get_terminal_size().columns - 17 * len(splits)
    width = max(len("frequency_weighted_iou"), min(most, max(map(len, classes))))

    def row(name: str, cells: Sequence[str]) -> str:
        name = name if len(name) <= width else f"{name[: width - 3]}..."
        return f"{name:{width}}{''.join(f'  {cell}' for cell in cells)}".rstrip()

    def scored(name: str) -> list[str]:
        return [f"{number(each.get(name)):>7} {number(each['floor'].get(name)):>7}" for each in splits.values()]

    first, count = next(iter(splits.values())), len(splits)
    lines = [row("", [f"{split:^15}" for split in splits]), row("class", [f"{'IoU':>7} {'share':>7}"] * count)]
    for index, name in enumerate(classes):
        pairs = [(scores["class_iou"][name], 100 * float(shares[split][index])) for split, scores in splits.items()]
        lines.append(row(name, [f"{number(iou):>7} {share:>6.2f}%" for iou, share in pairs]))
    lines.append(row("", [f"{'score':>7} {'floor':>7}"] * count))
    means = [name for name, value in first.items() if isinstance(value, float) and name not in ("loss", "lift")]
    lines += [row(name, scored(name)) for name in means]
    lines.append(row("classes predicted", [f"{each['predicted']['classes']:>7} {1:>7}" for each in splits.values()]))
    if all("loss" in scores for scores in splits.values()):  # scores of stored predictions have none
        lines.append(row("loss", [f"{number(scores['loss']):>7} {'':>7}" for scores in splits.values()]))
    return "\n".join(lines)


def how_to_use(folder: Path, config: Mapping[str, Any]) -> str:
    """The last line that a run prints: how to use its model."""
    if "model" in config:
        return f"next:   segkit predict {shlex.quote(os.path.relpath(folder))} photo.jpg --out masks"
    return f"next:   segkit.load({os.path.relpath(folder)!r}, model=...).predict('photo.jpg')"
