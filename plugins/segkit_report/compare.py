"""Compares runs: scores with floors, mean and standard deviation, costs, and differences of their configs."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from segkit.cli.output import hanging, table
from segkit.errors import one_line
from segkit_report.story import Story, same_data

if TYPE_CHECKING:
    from segkit_report.charts import Chart

SCORES = ("mean_iou", "pixel_accuracy", "mean_dice")
NAME = 22  # maximum characters of a run folder; longer paths lose their beginning
VALUE = 40  # width of the column of values in characters
MOST = 150  # maximum characters of a value
OTHER_DATA = "not to be compared: the floors differ, so these are other images or other classes"
EVERYWHERE = ("output.dir",)  # differs between all runs and has no effect on results
REPEATED = {"dataset.fold": "folds", "train.seed": "seeds"}  # settings that may differ between runs to average

Scores = Mapping[str, Any]
Splits = Mapping[str, Scores]  # by split


def differences(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return settings that differ, one value per run or None: ``{"train.precision": ["fp32", "bf16"]}``.

    Losses and metrics are keyed by name as on the command line (``loss.dice.scale``); a second one is ``loss.dice-2``.
    """
    flat = [dict(_flat(each)) for each in settings]
    keys = dict.fromkeys(key for each in flat for key in each)
    values = {key: [each.get(key) for each in flat] for key in keys if key not in EVERYWHERE}
    return {key: row for key, row in values.items() if any(each != row[0] for each in row)}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value and all(isinstance(each, Mapping) and "name" in each for each in value):
        seen: Counter[str] = Counter()
        for each in value:
            seen[each["name"]] += 1
            inner = {key: option for key, option in each.items() if key != "name"}
            place = f"{path}.{each['name']}" + (f"-{seen[each['name']]}" if seen[each["name"]] > 1 else "")
            yield place, "yes"
            yield from _flat(inner, place) if inner else ()
    else:
        yield path, value


def by_split(stories: Sequence[Story], names: Sequence[str] | None = None) -> dict[str, dict[str, Scores]]:
    """Return the scores by split and run name; splits are in the order of the run that has most."""
    splits = [split for story in sorted(stories, key=lambda each: -len(each.splits)) for split in story.splits]
    named = list(zip(names or map(str, range(len(stories))), stories, strict=True))
    return {
        split: {name: story.splits[split] for name, story in named if split in story.splits}
        for split in dict.fromkeys(splits)
    }


def repeated(stories: Sequence[Story]) -> str:
    """Return "folds" or "seeds" if only that setting differs between runs, "runs" if both do, "" otherwise."""
    asked = [story.record.replaced for story in stories]  # values like "auto", whose result may differ by fold
    changed = [
        key
        for key in differences([story.settings for story in stories])
        if key not in asked[0] or any(each.get(key) != asked[0][key] for each in asked)
    ]
    names = {REPEATED.get(key, "") for key in changed}
    return "" if not names or "" in names else "runs" if len(names) > 1 else names.pop()


def spread(stories: Sequence[Story]) -> dict[str, dict[str, tuple[float, float]]]:
    """Return mean and standard deviation (n - 1) of each score by split, for runs that are :func:`repeated`."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for split, shown in by_split(stories).items() if repeated(stories) else ():
        rows = {name: [each[name] for each in shown.values() if each.get(name) is not None] for name in SCORES}
        several = {name: row for name, row in rows.items() if len(row) > 1}
        found[split] = {name: (statistics.mean(row), statistics.stdev(row)) for name, row in several.items()}
    return found


def notes(split: str, shown: Mapping[str, Scores], stories: Sequence[Story], ensemble: Splits) -> list[str]:
    """Return the notes below a split's scores: whether they are comparable, mean and deviation, ensemble gain."""
    found, what = [], repeated(stories)
    if not same_data(list(shown.values())) and what not in ("folds", "runs"):
        found.append(OTHER_DATA)
    if means := spread(stories).get(split):
        text = ", ".join(f"{name} {mean:.3f} ± {deviation:.3f}" for name, (mean, deviation) in means.items())
        folds = stories[0].settings.get("dataset", {}).get("folds") if what == "folds" else None
        count = f"{len(shown)} of {folds}" if folds else str(len(shown))
        found.append(f"{count} {what}: {text} (mean ± standard deviation)")
    if split in ensemble:
        score = ensemble[split]["mean_iou"]
        gains = ", ".join(f"{score - each['mean_iou']:+.3f} beside {name}" for name, each in shown.items())
        found.append(f"ensemble of {len(stories)}: mean_iou {score:.3f}, {gains}")
    return found


# --- as text of 80 columns


def tables(stories: Sequence[Story], ensemble: Splits) -> str:
    """Format one table per split, a table of costs, and the differences of settings."""
    names = [text if len(text := one_line(story.name)) < NAME else f"…{text[-(NAME - 2) :]}" for story in stories]
    numbered = len(set(names)) < len(names)
    if numbered:
        names = [f"run {number}" for number in range(1, 1 + len(names))]
    parts = []
    for split, shown in by_split(stories, names).items():
        rows = [[split, *(title for score in SCORES for title in (score, "floor"))]]
        for name, scores in shown.items():
            rows.append([name, *(_number(each.get(score)) for score in SCORES for each in (scores, scores["floor"]))])
        below = (hanging(f"  {note}", 4) for note in notes(split, shown, stories, ensemble))
        parts.append("\n".join([table(rows, "<" + ">" * (len(rows[0]) - 1), indent=0), *below]))
    parts += [_costs(names, stories), _changed(names, differences([story.settings for story in stories]))]
    unfinished = [name for name, story in zip(names, stories, strict=True) if not story.finished]
    if unfinished:
        parts.append(hanging(f"not finished, the best epoch so far: {', '.join(unfinished)}", 2))
    if numbered:
        parts.append("\n".join(f"{name}: {one_line(story.name)}" for name, story in zip(names, stories, strict=True)))
    return "\n\n".join(filter(None, parts))


def _number(value: Any) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _costs(names: Sequence[str], stories: Sequence[Story]) -> str:
    rows = [["", "best epoch", "seconds", "images/s", "MiB", "precision", "device"]]
    for name, cost in zip(names, (story.costs for story in stories), strict=True):
        memory = (cost["peak_memory_bytes"] or 0) / 2**20 or None
        numbers = zip((cost["seconds"], cost["images_per_second"], memory), (1, 1, 0), strict=True)
        told = [f"{value:.{digits}f}" if value is not None else "-" for value, digits in numbers]
        rows.append([name, str(cost["best_epoch"] or "-"), *told, cost["precision"] or "-", cost["device"] or "-"])
    return table(rows, "<>>>>><", indent=0)


def _changed(names: Sequence[str], changed: Mapping[str, Sequence[Any]]) -> str:
    """Format each differing setting with its values and the runs of each value."""
    if not changed:
        return "their configs are the same" if len(names) > 1 else ""
    lines = ["what differs"]
    for key, row in changed.items():
        holders: dict[str, list[str]] = {}
        for name, value in zip(names, row, strict=True):
            text = "-" if value is None else one_line(str(value))
            text = text if len(text) <= MOST else f"{text[: MOST // 2]}…{text[-MOST // 2 :]}"
            holders.setdefault(text, []).append(name)
        lines.append(f"  {one_line(key)}")
        lines += [hanging(f"    {value:{VALUE}}  {', '.join(each)}", VALUE + 6) for value, each in holders.items()]
    return "\n".join(lines)


# --- as a page


def comparison(stories: Sequence[Story], ensemble: Splits) -> dict[str, Any]:
    """Return all variables of the template."""
    from segkit_report.report import costs

    last = [story.folder.resolve().name for story in stories]
    names = last if len(set(last)) == len(last) else [story.name for story in stories]
    shown = by_split(stories, names)
    of_runs = [dict(costs(story)) for story in stories]
    kinds = dict.fromkeys(key for each in of_runs for key in each)
    changed = differences([story.settings for story in stories])
    return {
        "title": f"{len(stories)} runs compared" if len(stories) > 1 else names[0],
        "names": names,
        "unfinished": [name for name, story in zip(names, stories, strict=True) if not story.finished],
        "headings": SCORES,
        "splits": [
            (split, _score_rows(scores), notes(split, scores, stories, ensemble)) for split, scores in shown.items()
        ],
        "curves": _curves(names, stories),
        "classes": [(split, rows) for split in shown if (rows := _class_rows(split, stories))],
        "costs": [(key, [each.get(key, "") for each in of_runs]) for key in kinds],
        "changed": [(key, ["–" if value is None else str(value) for value in row]) for key, row in changed.items()],
    }


def _score_rows(found: Mapping[str, Scores]) -> list[tuple[str, list[tuple[Any, Any, bool]]]]:
    """Return score, floor and whether it is the best score, for each run and score; none is best if not comparable."""
    values = {name: [each.get(name) or 0.0 for each in found.values()] for name in SCORES}
    best = {name: max(row) if max(row) != min(row) else None for name, row in values.items()}  # None if all are equal
    same = same_data(list(found.values()))
    return [
        (run, [(s.get(name), s["floor"].get(name), same and s.get(name, 0.0) == best[name]) for name in SCORES])
        for run, s in found.items()
    ]


def _class_rows(split: str, stories: Sequence[Story]) -> list[tuple[str, list[Any]]]:
    """Return the IoU of each class in each run; empty if the classes differ between runs."""
    if any(story.classes != stories[0].classes for story in stories):
        return []
    ious = [story.splits.get(split, {}).get("class_iou", {}) for story in stories]
    return [(name, [each.get(name) for each in ious]) for name in stories[0].classes]


def _curves(names: Sequence[str], stories: Sequence[Story]) -> list[Chart]:
    """Draw mean IoU and loss of val, and the training loss, by epoch, with one line per run."""
    from segkit_report.charts import SERIES, chart  # imports matplotlib

    runs = [story.record.epochs for story in stories]
    epochs = list(range(1, 1 + max(int(lines[-1]["epoch"]) for lines in runs)))
    floors = {lines[-1]["val"]["floor"]["mean_iou"] for lines in runs}
    charts = []
    for part, score in (("val", "mean_iou"), ("val", "loss"), ("train", "loss")):
        curves = []
        for place, (name, lines) in enumerate(zip(names, runs, strict=True)):
            values = {int(line["epoch"]): line[part].get(score) for line in lines}
            curves.append((name, [values.get(epoch) for epoch in epochs], SERIES[place % len(SERIES)]))
        floor = next(iter(floors)) if score == "mean_iou" and len(floors) == 1 else None
        charts.append(chart(f"{score} of {part}", epochs, curves, floor=floor))
    return charts
