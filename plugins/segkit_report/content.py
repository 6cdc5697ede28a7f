"""What stands in a report, worked out of a run's story; the template only sets it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import torch

from segkit.metric.scores import class_score
from segkit_report.charts import curves
from segkit_report.heatmap import heat_map, largest
from segkit_report.pictures import extremes, sheet
from segkit_report.story import Story
from segkit_report.verdict import GROUPS, group, verdict


def content(story: Story) -> dict[str, Any]:
    """Everything that the template names."""
    config, last = story.facts.settings, story.last_split
    matrix = story.details.get(last, {}).get("confusion")
    found = verdict(story)
    return {
        "title": story.folder.resolve().name,
        "story": story,
        "what": " · ".join(filter(None, (_named(config, "model"), _named(config, "dataset")))),
        "planned": (config.get("train") or {}).get("epochs"),
        "verdict": found,
        "groups": GROUPS,
        "advice": story.advice if found.trouble and story.advice not in found.trouble else "",
        "curves": curves(story),
        "rows": _classes(story),
        "splits": list(story.facts.splits),
        "scores": _scores(story),
        "confusion": heat_map(matrix, story.classes, last) if matrix else None,
        "confusions": largest(matrix, story.classes) if matrix else [],
        "hardest": extremes(story, "hardest"),
        "easiest": extremes(story, "easiest"),
        "sheet": sheet(story),
        "data": _data(story),
        "findings": story.record.get("warnings") or [],
        "costs": costs(story),
        "components": story.record.get("components"),
        "config": {key: value for key, value in config.items() if key != "version"},
    }


def _named(config: Mapping[str, Any], table: str) -> str:
    found = config.get(table)
    return str(found.get("name", "")) if isinstance(found, Mapping) else ""


def _classes(story: Story) -> list[dict[str, Any]]:
    """A row a class: colour, share and IoU by split, precision and recall on the last one."""
    splits, last = story.facts.splits, story.last_split
    matrix = story.details.get(last, {}).get("confusion")
    counts = torch.tensor(matrix) if matrix else None
    precision, recall = (
        (None, None) if counts is None else (class_score(name, counts) for name in ("precision", "recall"))
    )
    rows = []
    for number, name in enumerate(story.classes):
        rows.append(
            {
                "name": name,
                "colour": "#{:02x}{:02x}{:02x}".format(*map(int, story.model["palette"][number])),
                "share": story.share(last, name),
                "iou": {split: scores["class_iou"].get(name) for split, scores in splits.items()},
                "precision": None if precision is None else float(precision[number]),
                "recall": None if recall is None else float(recall[number]),
                "group": group(story, name),
            }
        )
    return rows


def _scores(story: Story) -> list[tuple[str, list[tuple[float | None, float | None]]]]:
    """Every score by split, each with its floor."""
    splits = story.facts.splits
    names = [name for name in splits[story.last_split]["floor"] if name != "class" and name in splits[story.last_split]]
    return [(name, [(each.get(name), each["floor"].get(name)) for each in splits.values()]) for name in names]


def _data(story: Story) -> list[tuple[str, int, float]]:
    """By split: images, and the share of void pixels."""
    found = story.record.get("data") or {}
    return [
        (split, each["images"], each["void"] / max(1, each["void"] + sum(each["pixels"].values())))
        for split, each in found.items()
    ]


def costs(story: Story) -> list[tuple[str, str]]:
    """What the run took, and by what it was made."""
    known, train = story.facts.costs, [line["train"] for line in story.epochs]
    memory = known["peak_memory_bytes"]
    rows = [
        ("time", str(timedelta(seconds=round(known["seconds"])))),
        ("an epoch's training", f"{np.median([each['seconds'] for each in train]):.1f} s (median)"),
        ("images a second", f"{known['images_per_second']:.1f}"),
        ("peak memory", f"{memory / 2**20:,.0f} MiB" if memory else ""),
        ("precision", str(known["precision"] or "")),
        ("device", str(known["device"] or "")),
        ("best epoch", f"{story.best_epoch} of {len(story.epochs)}"),
        ("stopped early", str(story.result.get("stopped_early") or "")),
        ("segkit", str(story.record.get("segkit") or "")),
        ("commit", str(story.record.get("commit") or "")[:12]),
        *((name, str(version)) for name, version in (story.record.get("packages") or {}).items()),
        ("python", str(story.record.get("python") or "")),
    ]
    return [(name, value) for name, value in rows if value]
