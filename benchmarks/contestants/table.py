"""The rows of a comparison as tables: medians over the repeats, and beside them the lowest and the highest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

Row = Mapping[str, Any]  # one contestant in one repeat


def tables(rows: Sequence[Row]) -> str:
    """What each contestant took, and segkit against each of the others."""
    names = list(dict.fromkeys(row["contestant"] for row in rows))
    found = {name: [row for row in rows if row["contestant"] == name] for name in names}
    text = markdown(
        ["contestant", "s/epoch", "training alone", "images/s", "start-up, s", "peak, MiB", "train loss", "val mIoU"],
        [[name, *_cells(found[name])] for name in names],
    )
    ours = [name for name in names if name.startswith("segkit")]
    ratios = [_ratios(found[mine], found[name], mine, name) for mine in ours for name in names if name not in ours]
    if not ratios:
        return text
    return f"{text}\n\n{markdown(['times as fast', 'whole epochs', 'training alone', 'total, start-up too'], ratios)}"


def epoch(row: Row) -> float:
    """Seconds of an epoch of training and validation."""
    return median(row["epoch_seconds"])


def training(row: Row) -> float:
    """Seconds of an epoch of training."""
    return median(row["train_seconds"])


def _cells(rows: Sequence[Row]) -> list[str]:
    return [
        spread([epoch(row) for row in rows]),
        spread([training(row) for row in rows]),
        spread([row["images_an_epoch"] / training(row) for row in rows], 1),
        spread([row["startup_seconds"] for row in rows], 1),
        spread([row["peak_memory_bytes"] / 2**20 for row in rows], 0),
        spread([row["train_loss"] for row in rows], 3),
        spread([row["val_mean_iou"] for row in rows], 3),
    ]


def _ratios(ours: Sequence[Row], theirs: Sequence[Row], mine: str, name: str) -> list[str]:
    """By repeat, as those two ran one after the other."""

    def ratio(seconds: Callable[[Row], float]) -> str:
        return spread([seconds(b) / seconds(a) for a, b in zip(ours, theirs, strict=True)])

    return [f"{mine} : {name}", ratio(epoch), ratio(training), ratio(lambda row: row["total_seconds"])]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """``1.52 (1.48-1.60)``."""
    text = f"{median(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *lines])
