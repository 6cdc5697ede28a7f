"""Runs side by side as text of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segkit.cli.text import hanging, terminal_width
from segkit.engine.console import number
from segkit.errors import one_line
from segkit_report.facts import RunFacts, same_data

SCORES = ("mean_iou", "pixel_accuracy", "mean_dice")
NAME = 22  # characters of a run's folder, the end of which tells it from others
VALUE = 40  # characters of a setting, before the runs that have it
OTHER_DATA = "not to be compared: the floors differ, so these are other images or other classes"
MOST = 150  # characters of a setting that are shown


def tables(runs: Sequence[RunFacts], changed: Mapping[str, Sequence[Any]]) -> str:
    """A table a split, one of what the runs cost, and what differs in their settings."""
    names = [_end(run.name) for run in runs]
    numbered = len(set(names)) < len(names)
    if numbered:
        names = [f"run {number}" for number in range(1, 1 + len(names))]
    parts = [_scores(split, names, runs) for split in splits_of(runs)]
    parts += [_costs(names, runs), _changed(names, changed)]
    unfinished = [name for name, run in zip(names, runs, strict=True) if not run.finished]
    if unfinished:
        parts.append(hanging(f"not finished, the best epoch so far: {', '.join(unfinished)}", 2))
    if numbered:
        parts.append("\n".join(f"{name}: {one_line(run.name)}" for name, run in zip(names, runs, strict=True)))
    return "\n\n".join(parts)


def splits_of(runs: Sequence[RunFacts]) -> list[str]:
    """The splits of all, in the order of the run that has most."""
    return list(dict.fromkeys(split for run in sorted(runs, key=lambda run: -len(run.splits)) for split in run.splits))


def _scores(split: str, names: Sequence[str], runs: Sequence[RunFacts]) -> str:
    titles = [title for score in SCORES for title in (score, "floor")]
    widths = [max(len(title), 6) for title in titles]
    lines = [f"{split:{NAME}}" + _row(titles, widths)]
    for name, run in zip(names, runs, strict=True):
        found = run.splits.get(split)
        if found is not None:
            cells = [number(each) for score in SCORES for each in (found.get(score), found["floor"].get(score))]
            lines.append(f"{name:{NAME}}" + _row(cells, widths))
    if not same_data([run.splits[split] for run in runs if split in run.splits]):
        lines.append(f"  {OTHER_DATA}")
    return "\n".join(lines)


def _costs(names: Sequence[str], runs: Sequence[RunFacts]) -> str:
    titles = ["best epoch", "seconds", "images/s", "memory, MiB", "precision"]
    widths = [len(title) for title in titles]
    head = f"{'':{NAME}}" + _row(titles, widths)
    devices = [one_line(run.costs["device"] or "-") for run in runs]
    beside = max(map(len, devices)) <= terminal_width() - len(head) - 2  # a card's name is longer, and stands below
    lines = [head + "  device" * beside]
    for name, run, device in zip(names, runs, devices, strict=True):
        cost = run.costs
        memory = cost["peak_memory_bytes"]
        cells = [
            str(cost["best_epoch"] or "-"),
            _decimals(cost["seconds"]),
            _decimals(cost["images_per_second"]),
            f"{memory / 2**20:.0f}" if memory else "-",
            cost["precision"] or "-",
        ]
        lines.append(f"{name:{NAME}}" + _row(cells, widths) + f"  {device}" * beside)
    return "\n".join(lines if beside else [*lines, *_held("device", names, devices)])


def _changed(names: Sequence[str], changed: Mapping[str, Sequence[Any]]) -> str:
    if not changed:
        return "their configs are the same" if len(names) > 1 else ""
    lines = ["what differs"]
    for key, row in changed.items():
        lines += _held(f"  {one_line(key)}", names, row)
    return "\n".join(lines)


def _held(title: str, names: Sequence[str], values: Sequence[Any]) -> list[str]:
    """What a title stands above: each value, and the runs that have it."""
    holders: dict[str, list[str]] = {}
    for name, value in zip(names, values, strict=True):
        holders.setdefault("-" if value is None else one_line(str(value)), []).append(name)
    found = [f"    {_cut(value):{VALUE}}  {', '.join(each)}" for value, each in holders.items()]
    return [title, *(hanging(line.rstrip(), VALUE + 6) for line in found)]


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(f" {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _decimals(value: Any) -> str:
    return "-" if value is None else f"{value:.1f}"


def _cut(value: str) -> str:
    """The beginning and the end of a long one."""
    return value if len(value) <= MOST else f"{value[: MOST // 2]}…{value[-MOST // 2 :]}"


def _end(name: str) -> str:
    text = one_line(name)
    return text if len(text) < NAME else f"…{text[-(NAME - 2) :]}"
