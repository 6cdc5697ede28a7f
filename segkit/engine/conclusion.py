"""What a run prints at its end: a table of all classes, and in plain words whether anything was learned."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from numpy.typing import NDArray

from segkit.engine import collapse
from segkit.engine.console import final_table
from segkit.engine.events import Result
from segkit.engine.history import History


def conclusion(
    result: Result,
    history: History,
    shares: Mapping[str, NDArray[Any]],
    config: Mapping[str, Any],
    side: int,
    findings: Collection[str] = (),
) -> str:
    """The table of scores beside their floors, and the verdict where there is one.

    Args:
        result: of the run.
        history: its epochs.
        shares: per split the share of each class in the labelled pixels, ``[C]``.
        config: of the run, for advice.
        side: of a training image, the shorter one, pixels.
        findings: the kinds of what the scan has warned of.
    """
    splits = result.splits
    last = list(splits)[-1]
    text = f"\n{final_table(splits, list(splits[last]['class_iou']), shares)}"
    _, memorised = collapse.at_the_end(splits["train"], splits[last])
    if result.collapsed:
        told = any(line.get("collapsed") for line in history.lines)  # the advice too
        advice = "" if told else "\n" + collapse.advice(config, history.lines, side, findings)
        text += f"\n\n{collapse.verdict(splits[last], last)}{advice}"
    elif memorised:
        text += f"\n\n{collapse.memorised(splits['train'], splits[last], last, config)}"
    return text
