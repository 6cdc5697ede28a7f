"""What stands in the report of a run: its score beside the floor, which classes it has learned, its data and costs."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.engine.history import stuck
from segkit.engine.history import verdict as sentence
from segkit_report.charts import curves, heat_map, reliability
from segkit_report.pictures import extremes, sheet
from segkit_report.story import Story

LEARNED = 0.5  # IoU: half of what is the class or is called so is both, as in Pascal VOC's detections
IN_PART = 0.2
_ONE_SIDED = 0.5  # of recall; a precision below it is that of a class which is predicted too often
_KNOWN = 0.2  # of precision or recall; of a class below both there is nothing to say but its IoU
_MOST = 6  # classes that are named
ABOVE = 0.1  # of the way from the IoU of predicting the class everywhere, its share, to a perfect one
MOST = 10  # confusions that are listed
GROUPS = {
    "learned": "Learned",
    "in part": "Learned in part",
    "not learned": "Hardly learned, or not at all",
    "at its floor": "No better than predicting it everywhere",
    "absent": "Not in this split",
}


def content(story: Story) -> dict[str, Any]:
    """Everything that the template names."""
    config, run, splits = story.settings, story.record.run, story.splits
    matrix, last = story.details["confusion"], splits[story.last_split]
    found, data = verdict(story), run.get("data") or {}
    calibrated = (story.record.model.get("calibration") or {}).get(story.last_split)
    used = [table.get("name", "") for key in ("model", "dataset") if isinstance(table := config.get(key), dict)]
    names = [name for name in last["floor"] if name != "class" and name in last]
    return {
        "title": story.folder.resolve().name,
        "story": story,
        "what": " · ".join(map(str, filter(None, used))),
        "planned": (config.get("train") or {}).get("epochs"),
        "verdict": found,
        "groups": GROUPS,
        "advice": story.advice if found["trouble"] and story.advice not in found["trouble"] else "",
        "curves": curves(story),
        "rows": _classes(story),
        "splits": list(splits),
        "scores": [(name, [(each.get(name), each["floor"].get(name)) for each in splits.values()]) for name in names],
        "confusion": heat_map(matrix, story.classes, story.last_split) if matrix else None,
        "confusions": _largest(matrix, story.classes) if matrix else [],
        "reliability": reliability(calibrated, story.last_split) if calibrated else None,
        "hardest": extremes(story, "hardest"),
        "easiest": extremes(story, "easiest"),
        "sheet": sheet(story),
        "data": [
            (split, each["images"], each["void"] / max(1, each["void"] + sum(each["pixels"].values())))
            for split, each in data.items()
        ],
        "findings": run.get("warnings") or [],
        "costs": costs(story),
        "components": run.get("components"),
        "config": {key: value for key, value in config.items() if key != "version"},
    }


def verdict(story: Story) -> dict[str, Any]:
    """The first lines: the score of the last split beside its floor, what went wrong, and which classes are learned.

    ``trouble`` is a text, ``groups`` has the names of classes by those keys of :data:`GROUPS` that have any, and
    ``remarks`` are sentences on what scores alone do not show.
    """
    scores = story.splits[story.last_split]
    of_class = {name: group(story, name) for name in story.classes}
    groups = {key: [name for name, own in of_class.items() if own == key] for key in GROUPS}
    return {
        "split": story.last_split,
        "mean_iou": float(scores["mean_iou"]),
        "floor": float(scores["floor"]["mean_iou"]),
        "floor_class": str(scores["floor"]["class"]),
        "trouble": _trouble(story),
        "groups": {key: names for key, names in groups.items() if names},
        "remarks": remarks(story),
    }


def remarks(story: Story) -> list[str]:
    """What a table of scores does not show at a glance, a sentence each.

    That a score is below its floor, and which classes are predicted far too often or too seldom, as precision and
    recall say; of those the most frequent ``_MOST``.
    """
    scores = story.splits[story.last_split]
    floor, odd = scores["floor"], []
    found = [
        f"{name} on {story.last_split}, {scores[name]:.3f}, is below its floor: '{floor['class']}' everywhere scores "
        f"{floor[name]:.3f}"
        for name in ("mean_iou", "pixel_accuracy")
        if scores.get(name, math.nan) < floor.get(name, math.nan)
    ]
    pixels, precisions, recalls = _precision_and_recall(story)
    for name, count, precision, recall in zip(story.classes, pixels, precisions, recalls, strict=True):
        if count and max(precision, recall) >= _KNOWN and min(precision, recall) < _ONE_SIDED * max(precision, recall):
            how = "often" if precision < recall else "seldom"
            odd.append((-count, f"{name} is predicted far too {how}: precision {precision:.2f}, recall {recall:.2f}"))
    return found + [text for _, text in sorted(odd)[:_MOST]]


def _precision_and_recall(story: Story) -> NDArray[np.float64]:
    """Of each class on the last split its pixels, precision and recall, ``[3,C]``; NaN where it is not known."""
    if not story.details["confusion"]:
        return np.array([[0.0], [math.nan], [math.nan]]).repeat(len(story.classes), axis=1)
    matrix = np.array(story.details["confusion"], float)  # [C,C], rows the truth
    pixels, predicted, hits = matrix.sum(1), matrix.sum(0), matrix.diagonal()
    there = np.where(pixels > 0, 1, math.nan)
    return np.stack([pixels, there * hits / predicted.clip(1), there * hits / pixels.clip(1)])


def group(story: Story, name: str) -> str:
    """How well a class is known, by its IoU alone, so that of two classes the one with the higher is never the worse.

    One that is no better than predicting the class everywhere, whatever it is, stands apart: it proves nothing.
    """
    iou, share = story.splits[story.last_split]["class_iou"].get(name), story.share(name)
    if iou is None or share == 0:
        return "absent"
    constant = share or 0.0  # all its pixels, of all that there are
    if iou < IN_PART:
        return "not learned"
    if iou < constant + ABOVE * (1 - constant) or constant == 1:
        return "at its floor"
    return "learned" if iou >= LEARNED else "in part"


def _trouble(story: Story) -> str:
    epochs, split = story.record.epochs, story.last_split
    collapsed = story.record.result.get("collapsed")
    if not story.finished:  # it may have recovered
        collapsed = any(line.get("collapsed") for line in epochs) and stuck(epochs[-1]["val"])
    if collapsed:
        return f"{sentence(story.splits[split], split)}."
    return f"{story.advice}." if story.finished and story.advice else ""  # of a run that knows train alone


def _classes(story: Story) -> list[dict[str, Any]]:
    """A row a class: colour, share and IoU by split, precision and recall on the last one."""
    _, precisions, recalls = _precision_and_recall(story).tolist()
    return [
        {
            "name": name,
            "colour": "#{:02x}{:02x}{:02x}".format(*map(int, story.record.model["palette"][number])),
            "share": story.share(name),
            "iou": {split: scores["class_iou"].get(name) for split, scores in story.splits.items()},
            "precision": precisions[number],
            "recall": recalls[number],
            "group": group(story, name),
        }
        for number, name in enumerate(story.classes)
    ]


def _largest(counts: list[list[int]], classes: list[str]) -> list[dict[str, Any]]:
    """The confusions of most pixels: the true and the predicted class, their share of the class and of all errors."""
    matrix = np.array(counts, np.int64)
    totals = matrix.sum(1)
    np.fill_diagonal(matrix, 0)
    order = np.argsort(-matrix, axis=None, kind="stable")[:MOST]
    return [
        {
            "true": classes[row],
            "predicted": classes[column],
            "pixels": int(matrix[row, column]),
            "of_class": matrix[row, column] / totals[row],
            "of_errors": matrix[row, column] / matrix.sum(),
        }
        for row, column in zip(*np.unravel_index(order, matrix.shape), strict=True)
        if matrix[row, column]
    ]


def costs(story: Story) -> list[tuple[str, str]]:
    """What the run took, and by what it was made."""
    known, run = story.costs, story.record.run
    train = [line["train"] for line in story.record.epochs]
    memory = known["peak_memory_bytes"]
    rows = [
        ("time", str(timedelta(seconds=round(known["seconds"])))),
        ("an epoch's training", f"{np.median([each['seconds'] for each in train]):.1f} s (median)"),
        ("images a second", f"{known['images_per_second']:.1f}"),
        ("peak memory", f"{memory / 2**20:,.0f} MiB" if memory else ""),
        ("precision", known["precision"]),
        ("device", known["device"]),
        ("best epoch", f"{known['best_epoch']} of {len(train)}"),
        ("stopped early", story.record.result.get("stopped_early")),
        ("segkit", run.get("segkit")),
        ("commit", str(run.get("commit") or "")[:12]),
        *(run.get("packages") or {}).items(),
        ("python", run.get("python")),
    ]
    return [(name, str(value)) for name, value in rows if value]
