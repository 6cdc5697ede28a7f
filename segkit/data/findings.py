"""What a scan tells people: the faults of many files told once, and what is odd about whole splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from segkit.data.facts import Facts
from segkit.data.faults import Advise, grouped
from segkit.data.leaks import same_pictures, similar_pictures
from segkit.data.sample import Dataset
from segkit.data.seams import interpolated
from segkit.errors import Fault, first_few


@dataclass(frozen=True)
class Finding:
    """Something wrong (an error) or odd (a warning).

    Attributes:
        kind: one word for it, as ``lossy_mask``.
        severity: errors stop a run, warnings are told.
        split: where; several are joined by commas.
        text: for people.
        files: all of them, by path or by the dataset's name for the sample.
    """

    kind: str
    severity: Literal["error", "warning"]
    split: str
    text: str
    files: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.split}: {self.text}"


def of_faults(
    faults: Mapping[str, Sequence[Fault]],
    facts: Mapping[str, Sequence[Facts]],
    splits: Mapping[str, Dataset],
    on_bad: Literal["stop", "skip"],
) -> list[Finding]:
    """The faults of the files of all splits, with one proposal for all; and splits of which nothing is left."""
    severity: Literal["error", "warning"] = "error" if on_bad == "stop" else "warning"
    found = []
    for group in grouped(fault for those in faults.values() for fault in those):
        where = [split for split, those in faults.items() if any(fault in group.faults for fault in those)]
        dataset = splits[where[0]]
        advise = getattr(dataset, "advice", None)
        if advise and getattr(dataset, "stores_indices", False):  # the good masks hold labels too
            advise = partial(_advise, advise, sum((each.counts for those in facts.values() for each in those), 0))
        text = ("" if on_bad == "stop" else "left out: ") + group.told(advise)
        found.append(Finding(group.kind, severity, ", ".join(where), text, tuple(each.file for each in group.faults)))
    for split, dataset in splits.items():
        if not len(dataset) or (on_bad == "skip" and not facts[split]):
            found.append(Finding("empty_split", "error", split, "not one image that can be used"))
    return found


def _advise(advise: Advise, good: Any, kind: str, wrong: Mapping[Any, int], stored: Mapping[Any, int]) -> str:
    """A dataset's advice on its faulty masks, told what its good ones hold as well."""
    if kind not in ("values", "black_and_white") or not stored:
        return advise(kind, wrong, stored)
    own = {label: int(pixels) for label, pixels in enumerate(np.atleast_1d(good)[:-1]) if pixels}
    return advise(kind, wrong, Counter(stored) + Counter(own))


def of_facts(facts: Sequence[Facts], dataset: Dataset, split: str) -> list[Finding]:
    """What is odd about the labels of a split."""
    if not facts:
        return []
    found = []
    images = (np.array([each.counts for each in facts])[:, :-1] > 0).sum(0)
    if not images.any():
        text = "every mask is void throughout: there is nothing to learn or to score"
        return [Finding("all_void", "error", split, text, tuple(each.name for each in facts))]
    absent = [name for name, count in zip(dataset.classes, images, strict=True) if not count]
    if absent and split in ("train", "val"):
        lacking = "no network can learn these" if split == "train" else "these have no score here"
        text = f"{len(absent)} of {len(dataset.classes)} classes in no image; {lacking}: {first_few(absent, 20)}"
        found.append(Finding("absent_class", "warning", split, text, tuple(absent)))
    blended = [facts[index].name for index in interpolated([each.seams for each in facts])]
    if blended:
        text = (
            f"{len(blended)} of {len(facts)} masks look interpolated, with thin seams of other labels along the "
            f"borders of two: {first_few(blended)}; resize masks by the nearest pixel, and never keep them as JPEG"
        )
        found.append(Finding("interpolated", "warning", split, text, tuple(blended)))
    return found


def of_leaks(facts: Mapping[str, Sequence[Facts]], allowed: bool) -> list[Finding]:
    """Pictures that are in two splits: the same ones, and nearly the same."""
    prints = {split: [each.fingerprint for each in those] for split, those in facts.items()}
    found = []
    for kind, pairs in (("same_picture", same_pictures(prints)), ("similar_picture", similar_pictures(prints))):
        for first, second in dict.fromkeys((a, b) for a, _, b, _ in pairs):
            own = [(facts[a][i].name, facts[b][j].name) for a, i, b, j in pairs if (a, b) == (first, second)]
            listed = first_few([one if one == other else f"{one} = {other}" for one, other in own])
            certain = kind == "same_picture"
            seen = "were trained on" if first == "train" else "the best epoch is chosen by"
            number = f"{len(own)} pictures are" if len(own) > 1 else "1 picture is"
            text = (
                f"{number} {'' if certain else 'nearly the same '}in both; the score on {second} is of pictures that "
            )
            text += f"{seen}: {listed}"
            if certain:
                text += "; take them out of one, or set data.allow_leaks = true"
            severity: Literal["error", "warning"] = "error" if certain and not allowed else "warning"
            found.append(Finding(kind, severity, f"{first} and {second}", text, tuple(name for name, _ in own)))
    return found
