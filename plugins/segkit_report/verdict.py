"""What a run came to in words: its score beside its floor, and which classes it has learned."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from segkit.engine import history
from segkit.engine.console import remarks
from segkit_report.story import Story

LEARNED = 0.5  # IoU: half of what is the class or is called so is both, as in Pascal VOC's detections
IN_PART = 0.2
ABOVE = 0.1  # of the way from the IoU of predicting the class everywhere, its share, to a perfect one
GROUPS = {
    "learned": "Learned",
    "in part": "Learned in part",
    "not learned": "Hardly learned, or not at all",
    "at its floor": "No better than predicting it everywhere",
    "absent": "Not in this split",
}


@dataclass(frozen=True)
class Verdict:
    """The first lines of a report.

    Attributes:
        split: what it is about.
        mean_iou: on it.
        floor: of the mean IoU, and in ``floor_class`` the class that scores it.
        floor_class: its name.
        trouble: what went wrong, or nothing.
        groups: names of classes by a key of :data:`GROUPS`; those without a class are left out.
        remarks: sentences, on what scores alone do not show.
    """

    split: str
    mean_iou: float
    floor: float
    floor_class: str
    trouble: str
    groups: dict[str, list[str]]
    remarks: list[str]


def verdict(story: Story) -> Verdict:
    """Judge a run by its last split."""
    split = story.last_split
    scores = story.facts.splits[split]
    floor = scores["floor"]
    known = {name: group(story, name) for name in story.classes}
    matrix = story.details.get(split, {}).get("confusion")
    return Verdict(
        split=split,
        mean_iou=float(scores["mean_iou"]),
        floor=float(floor["mean_iou"]),
        floor_class=str(floor["class"]),
        trouble=_trouble(story),
        groups={key: names for key in GROUPS if (names := [name for name, own in known.items() if own == key])},
        remarks=remarks(scores, split, story.classes, torch.tensor(matrix) if matrix else None),
    )


def group(story: Story, name: str) -> str:
    """How well a class is known, by its IoU alone, so that of two classes the one with the higher is never the worse.

    One that is no better than predicting the class everywhere, whatever it is, is told apart: it proves nothing.
    """
    iou, share = story.facts.splits[story.last_split]["class_iou"].get(name), story.share(story.last_split, name)
    if iou is None or share == 0:
        return "absent"
    constant = share or 0.0  # all its pixels, of all that there are
    if iou < IN_PART:
        return "not learned"
    if iou < constant + ABOVE * (1 - constant) or constant == 1:
        return "at its floor"
    return "learned" if iou >= LEARNED else "in part"


def _trouble(story: Story) -> str:
    splits, last = story.facts.splits, story.last_split
    collapsed = story.result.get("collapsed")
    if not story.result:
        flagged = any(line.get("collapsed") for line in story.epochs)
        collapsed = flagged and history.stuck(story.epochs[-1]["val"])  # it may have recovered
    if collapsed:
        return f"{history.verdict(splits[last], last)}."
    memorised = "train" in splits and history.outcome(splits["train"], splits[last]) == "memorised"
    return f"{story.advice}." if memorised and story.advice else ""
