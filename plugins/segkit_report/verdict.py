"""What a run came to in words: its score beside its floor, and which classes it has learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from segkit.engine import collapse
from segkit_report.story import Story

LEARNED = 0.1  # of the way from the IoU that a constant prediction has of the class to a perfect one


@dataclass(frozen=True)
class Verdict:
    """The first lines of a report.

    Attributes:
        split: what it is about.
        mean_iou: on it.
        floor: of the mean IoU, and in ``floor_class`` the class that scores it.
        floor_class: its name.
        trouble: what went wrong, or nothing.
        learned: names of classes.
        missed: those that are there and were not learned.
        absent: those that are not in the split, nor ever predicted.
    """

    split: str
    mean_iou: float
    floor: float
    floor_class: str
    trouble: str
    learned: list[str]
    missed: list[str]
    absent: list[str]


def verdict(story: Story) -> Verdict:
    """Judge a run by its last split."""
    split = story.last_split
    scores = story.facts.splits[split]
    floor = scores["floor"]
    ious = {name: scores["class_iou"].get(name) for name in story.classes}
    known = {name: is_learned(iou, name, floor) for name, iou in ious.items() if iou is not None}
    return Verdict(
        split=split,
        mean_iou=float(scores["mean_iou"]),
        floor=float(floor["mean_iou"]),
        floor_class=str(floor["class"]),
        trouble=_trouble(story),
        learned=[name for name, yes in known.items() if yes],
        missed=[name for name, yes in known.items() if not yes],
        absent=[name for name, iou in ious.items() if iou is None],
    )


def is_learned(iou: float, name: str, floor: Mapping[str, Any]) -> bool:
    """Whether a class's IoU is clearly above that which predicting one class everywhere has."""
    constant = float(floor["pixel_accuracy"]) if name == floor["class"] else 0.0  # all its pixels of all there are
    return iou >= constant + LEARNED * (1 - constant)


def _trouble(story: Story) -> str:
    splits, last = story.facts.splits, story.last_split
    if not story.result:
        stuck = any(line.get("collapsed") for line in story.epochs)
        return f"{collapse.verdict(splits[last], last)}." if stuck else ""
    if story.result.get("collapsed"):
        return f"{collapse.verdict(splits[last], last)}."
    if "train" in splits and collapse.at_the_end(splits["train"], splits[last])[1]:
        return f"{collapse.memorised(splits['train'], splits[last], last)}."
    return ""
