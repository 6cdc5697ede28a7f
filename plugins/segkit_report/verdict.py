"""What a run came to in words: its score beside its floor, and which classes it has learned."""

from __future__ import annotations

from dataclasses import dataclass

from segkit.engine import collapse
from segkit_report.story import Story

LEARNED = 0.1  # of the way from the IoU of predicting the class everywhere, its share, to a perfect one


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
        absent: those that no pixel of the split is.
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
    known = {name: is_learned(story, name) for name in story.classes}
    return Verdict(
        split=split,
        mean_iou=float(scores["mean_iou"]),
        floor=float(floor["mean_iou"]),
        floor_class=str(floor["class"]),
        trouble=_trouble(story),
        learned=[name for name, yes in known.items() if yes],
        missed=[name for name, yes in known.items() if yes is False],
        absent=[name for name, yes in known.items() if yes is None],
    )


def is_learned(story: Story, name: str) -> bool | None:
    """Whether a class's IoU is clearly above that of predicting it everywhere; None where the split has none of it."""
    iou, share = story.facts.splits[story.last_split]["class_iou"].get(name), story.share(story.last_split, name)
    if iou is None or share == 0:
        return None
    constant = share or 0.0  # all its pixels, of all that there are
    return bool(iou >= constant + LEARNED * (1 - constant) and constant < 1)


def _trouble(story: Story) -> str:
    splits, last = story.facts.splits, story.last_split
    if not story.result:
        flagged = any(line.get("collapsed") for line in story.epochs)
        stuck = flagged and collapse.stuck(story.epochs[-1]["val"])  # it may have recovered
        return f"{collapse.verdict(splits[last], last)}." if stuck else ""
    if story.result.get("collapsed"):
        return f"{collapse.verdict(splits[last], last)}."
    if "train" in splits and collapse.at_the_end(splits["train"], splits[last])[1]:
        return f"{collapse.memorised(splits['train'], splits[last], last, story.facts.settings)}."
    return ""
