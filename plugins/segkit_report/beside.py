"""What stands in the page that sets runs side by side; the template only sets it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segkit_report.charts import SERIES, Chart, chart
from segkit_report.content import costs
from segkit_report.facts import same_data
from segkit_report.story import Story
from segkit_report.tables import OTHER_DATA, SCORES, splits_of


def beside(stories: Sequence[Story], changed: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Everything that the template names."""
    names = _names(stories)
    splits = splits_of([story.facts for story in stories])
    told = [dict(costs(story)) for story in stories]
    return {
        "title": f"{len(stories)} runs compared" if len(stories) > 1 else names[0],
        "names": names,
        "unfinished": [name for name, story in zip(names, stories, strict=True) if not story.result],
        "headings": SCORES,
        "splits": [(split, *_scores(split, names, stories)) for split in splits],
        "other_data": OTHER_DATA,
        "curves": _curves(names, stories),
        "classes": [(split, rows) for split in splits if (rows := _classes(split, stories))],
        "costs": [(name, [each.get(name, "") for each in told]) for name in dict.fromkeys(n for t in told for n in t)],
        "changed": [(key, ["–" if value is None else str(value) for value in row]) for key, row in changed.items()],
    }


def _names(stories: Sequence[Story]) -> list[str]:
    """The names of their folders, or where those are alike the whole paths."""
    paths = [story.facts.name for story in stories]
    last = [story.folder.resolve().name for story in stories]
    return last if len(set(last)) == len(last) else paths


def _scores(
    split: str, names: Sequence[str], stories: Sequence[Story]
) -> tuple[bool, list[tuple[str, list[tuple[Any, Any, bool]]]]]:
    """Whether they may be compared, and of each run with the split: score, floor, whether none has a higher one."""
    found = {
        name: story.facts.splits[split]
        for name, story in zip(names, stories, strict=True)
        if split in story.facts.splits
    }
    values = {name: [each.get(name) or 0.0 for each in found.values()] for name in SCORES}
    best, worst = ({name: chosen(row) for name, row in values.items()} for chosen in (max, min))
    same = same_data(list(found.values()))
    return same, [
        (
            run,
            [(s.get(name), s["floor"].get(name), same and s.get(name) == best[name] != worst[name]) for name in SCORES],
        )
        for run, s in found.items()
    ]


def _classes(split: str, stories: Sequence[Story]) -> list[tuple[str, list[Any]]]:
    """The IoU of each class, a value a run; nothing where the runs have other classes."""
    if any(story.classes != stories[0].classes for story in stories):
        return []
    ious = [story.facts.splits.get(split, {}).get("class_iou", {}) for story in stories]
    return [(name, [each.get(name) for each in ious]) for name in stories[0].classes]


def _curves(names: Sequence[str], stories: Sequence[Story]) -> list[Chart]:
    """Mean IoU and loss of val, and the loss of training, by epoch, a line a run."""
    epochs = list(range(1, 1 + max(int(story.epochs[-1]["epoch"]) for story in stories)))
    floors = {story.epochs[-1]["val"]["floor"]["mean_iou"] for story in stories}
    charts = []
    for title, part, name in (("mean_iou of val", "val", "mean_iou"), *((f"loss of {p}", p, "loss") for p in _PARTS)):
        lines = [
            (run, _by_epoch(story, part, name, len(epochs)), SERIES[number % len(SERIES)])
            for number, (run, story) in enumerate(zip(names, stories, strict=True))
        ]
        floor = floors.copy().pop() if name == "mean_iou" and len(floors) == 1 else None
        charts.append(chart(title, epochs, lines, floor=floor))
    return charts


_PARTS = ("val", "train")


def _by_epoch(story: Story, part: str, name: str, count: int) -> list[float | None]:
    values: list[float | None] = [None] * count
    for line in story.epochs:
        values[int(line["epoch"]) - 1] = line[part].get(name)
    return values
