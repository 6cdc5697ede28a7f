"""What a run prints at its end: a table of all classes, and in plain words whether anything was learned."""

from __future__ import annotations

import math
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from segkit.engine import collapse
from segkit.engine.console import final_table
from segkit.engine.events import Result
from segkit.engine.history import History
from segkit.metric.scores import class_score

_ONE_SIDED = 0.5  # of recall; a precision below it is that of a class which is predicted too often
_KNOWN = 0.2  # of precision or recall; of a class below both there is nothing to tell but its IoU
_MOST = 6  # classes that are told of


def conclusion(
    result: Result,
    history: History,
    shares: Mapping[str, NDArray[Any]],
    config: Mapping[str, Any],
    side: int,
    findings: Collection[str] = (),
    confusion: Tensor | None = None,
) -> str:
    """The table of scores beside their floors, and the verdict where there is one.

    Args:
        result: of the run.
        history: its epochs.
        shares: per split the share of each class in the labelled pixels, ``[C]``.
        config: of the run, for advice.
        side: of a training image, the shorter one, pixels.
        findings: the kinds of what the scan has warned of.
        confusion: of the last split, int64 ``[C,C]``, rows are the truth.
    """
    splits = result.splits
    last = list(splits)[-1]
    classes = list(splits[last]["class_iou"])
    text = f"\n{final_table(splits, classes, shares)}"
    if found := remarks(splits[last], last, classes, confusion):
        text += "\n\n" + "\n".join(found)
    _, memorised = collapse.at_the_end(splits["train"], splits[last])
    if result.collapsed:
        told = any(line.get("collapsed") for line in history.lines)  # the advice too
        advice = "" if told else "\n" + collapse.advice(config, history.lines, side, findings)
        text += f"\n\n{collapse.verdict(splits[last], last)}{advice}"
    elif memorised:
        text += f"\n\n{collapse.memorised(splits['train'], splits[last], last, config)}"
    return text


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
    """The last two lines of a run: where its report is, if one was written, and how its model is used."""
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    if "model" in config:
        use = f"python -m segkit predict {shlex.quote(str(shown))} photo.jpg --out masks"
    else:
        use = f"segkit.load({str(shown)!r}, model=...).predict('photo.jpg')"
    report, result = folder / "report.html", folder / "result.json"
    written = report.is_file() and report.stat().st_mtime >= result.stat().st_mtime  # a resumed run may hold an old one
    return (f"\nreport: {shown / report.name}\n" if written else "\n") + f"next:   {use}"
