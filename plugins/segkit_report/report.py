"""The content of a run's report: scores and floors, which classes were learned, the data, and the costs."""

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

LEARNED = 0.5  # IoU from which a class counts as learned, as for detections in Pascal VOC
IN_PART = 0.2  # IoU from which a class counts as learned in part
_ONE_SIDED = 0.5  # ratio of precision and recall below which a class is predicted too often or too seldom
_KNOWN = 0.2  # minimum of the larger of precision and recall for such a remark
_MOST = 6  # maximum number of classes with such remarks
ABOVE = 0.1  # share of the range from the IoU of predicting the class everywhere to 1 that a class must exceed
GROUPS = {
    "learned": "Learned",
    "in part": "Learned in part",
    "not learned": "Hardly learned, or not at all",
    "at its floor": "No better than predicting it everywhere",
    "absent": "Not in this split",
}


def content(story: Story) -> dict[str, Any]:
    """Return all variables of the template."""
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
    """Return the summary: the score of the last split and its floor, problems, and which classes were learned.

    ``trouble`` is a text, ``groups`` maps the non-empty groups of :data:`GROUPS` to class names, and ``remarks`` are
    the sentences of :func:`remarks`.
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
    """Return sentences on what a table of scores does not show at a glance.

    They name scores below their floors, and classes predicted far too often or too seldom according to precision and
    recall (the ``_MOST`` most frequent ones).
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
    """Return pixels, precision and recall of each class on the last split, ``[3,C]``; NaN where unknown."""
    if not story.details["confusion"]:
        return np.array([[0.0], [math.nan], [math.nan]]).repeat(len(story.classes), axis=1)
    matrix = np.array(story.details["confusion"], float)  # [C,C], rows the truth
    pixels, predicted, hits = matrix.sum(1), matrix.sum(0), matrix.diagonal()
    there = np.where(pixels > 0, 1, math.nan)
    return np.stack([pixels, there * hits / predicted.clip(1), there * hits / pixels.clip(1)])


def group(story: Story, name: str) -> str:
    """Return the key in :data:`GROUPS` of a class, by its IoU.

    A class that is hardly better than predicting it everywhere has its own group, because its IoU proves nothing.
    """
    iou, share = story.splits[story.last_split]["class_iou"].get(name), story.share(name)
    if iou is None or share == 0:
        return "absent"
    constant = share or 0.0  # the IoU of predicting the class everywhere
    if iou < IN_PART:
        return "not learned"
    if iou < constant + ABOVE * (1 - constant) or constant == 1:
        return "at its floor"
    return "learned" if iou >= LEARNED else "in part"


def _trouble(story: Story) -> str:
    epochs, split = story.record.epochs, story.last_split
    collapsed = story.record.result.get("collapsed")
    if not story.finished:  # the run may have recovered
        collapsed = any(line.get("collapsed") for line in epochs) and stuck(epochs[-1]["val"])
    if collapsed:
        return f"{sentence(story.splits[split], split)}."
    return f"{story.advice}." if story.finished and story.advice else ""  # the run has only memorised train


def _classes(story: Story) -> list[dict[str, Any]]:
    """Return one row per class: colour, share and IoU by split, precision and recall on the last split."""
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


def costs(story: Story) -> list[tuple[str, str]]:
    """Return the costs of the run and the versions of the software, as (name, value) rows."""
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
