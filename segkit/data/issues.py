"""What is wrong or odd about a data set: issues of many files told as one, and the rules for whole splits."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from segkit.data.sample import Advise, Dataset
from segkit.data.statistics import SampleStatistics
from segkit.errors import DataError, Issue, first_few, one_line

_gathered: ContextVar[list[Issue] | None] = ContextVar("gathered", default=None)


class TooFewImages(DataError):
    """Fewer images than splits; says nothing new where images were left out before."""


def merged(issues: Iterable[Issue], advise: Advise | None = None) -> list[Issue]:
    """Issues of the same kind and words as one each, with the names of the first few files; a file counts once."""
    groups: dict[tuple[str, str], list[Issue]] = {}
    for issue in issues:
        groups.setdefault((issue.kind, issue.what), []).append(issue)
    return [_merge(group, advise) for group in groups.values()]


def messages(issues: Iterable[Issue], advise: Advise | None = None) -> list[str]:
    """The texts of merged issues: ``"12 files: what is wrong: a.png, ... and 7 more (in folder); what to do"``."""
    return [str(issue) for issue in merged(issues, advise)]


def _merge(group: Sequence[Issue], advise: Advise | None) -> Issue:
    split = ", ".join(dict.fromkeys(each.split for each in group))
    group = list({each.file: each for each in group}.values())
    first, files, details = group[0], tuple(each.file for each in group), {each.detail for each in group}
    wrong, stored = _sum(each.wrong for each in group), _sum(each.stored for each in group)
    text = replace(first, advice="").text
    if len(group) > 1:
        folder = os.path.dirname(os.path.commonprefix(files))  # noqa: PTH120, RUF071  (some names are no paths)
        names = [file[len(folder) :].lstrip("/\\") for file in files] if folder else list(files)
        text = f"{len(group)} files: {one_line(first.what)}"
        if wrong:  # the sum of the details
            masks = Counter(value for each in group for value in each.wrong)
            masks_text = {value: f"{count} mask{'s' * (count > 1)}" for value, count in masks.items()}
            counted = [f"{value_text(v)} ({pixels:,} pixels in {masks_text[v]})" for v, pixels in wrong.most_common()]
            text += f", {first_few(counted)}"
        elif len(details) > 1:
            names = [f"{name} ({each.detail})" for name, each in zip(names, group, strict=True)]
        elif first.detail:
            text += f" ({one_line(first.detail)})"
        text += f": {first_few(names)}" + (f" (in {one_line(folder)})" if folder else "")
    advice = (advise(first.kind, wrong, stored) if advise else "") or first.advice
    whole = replace(first, file="", what=text, advice=advice, detail="", wrong=wrong, stored=stored)
    return replace(whole, split=split, files=files)


def _sum(counts: Iterable[Mapping[Any, int]]) -> Counter[Any]:
    total: Counter[Any] = Counter()
    for each in counts:
        total.update(each)
    return total


def value_text(value: Any) -> str:
    """A stored label or colour: ``200``, ``[9, 8, 7]``."""
    return str(list(value)) if isinstance(value, tuple) else str(value)


@contextmanager
def gathered() -> Iterator[list[Issue]]:
    """Inside, :func:`refuse` adds to this list instead of raising: a dataset goes on with the files it can use.

    Raises:
        DataError: the dataset could not go on; with what was gathered until then, which is why there are too few files.
    """
    issues: list[Issue] = []
    token = _gathered.set(issues)
    try:
        yield issues
    except DataError as error:
        if not issues:
            raise
        own = [] if isinstance(error, TooFewImages) else [str(error)]
        raise DataError("\n".join([*messages(issues), *own])) from error
    finally:
        _gathered.reset(token)


def refuse(issues: Sequence[Issue]) -> None:
    """Report all issues of a dataset's files together, before any file is read.

    Raises:
        DataError: there are issues, and nobody gathers them.
    """
    found = _gathered.get()
    if found is not None:
        found.extend(issues)
    elif issues:
        raise DataError("\n".join(messages(issues)), issues[0] if len(issues) == 1 else None)


def about(
    kind: str, split: str, odd: Sequence[tuple[str, str]], total: int, what: str, advice: str, error: bool = False
) -> Issue:
    """An issue of some images of a split: ``"2 of 6 images are blank: a, b; leave them out"``.

    Args:
        kind: one word for it.
        split: that they are of.
        odd: name and detail, or "", of each.
        total: images of the split.
        what: follows their number.
        advice: what to do.
        error: whether it stops a run.
    """
    names = [f"{name} ({detail})" if detail else name for name, detail in odd]
    text = f"{len(odd)} of {total} images {what}: {first_few(names)}; {advice}"
    severity: Literal["error", "warning"] = "error" if error else "warning"
    return Issue(kind, what=text, severity=severity, split=split, files=tuple(name for name, _ in odd))


def _warning(kind: str, split: str, what: str, files: Iterable[str] = ()) -> Issue:
    return Issue(kind, what=what, severity="warning", split=split, files=tuple(files))


def label_issues(samples: Sequence[SampleStatistics], dataset: Dataset, split: str, whole: bool) -> Iterator[Issue]:
    """What is odd about the labels of a split; of one that is not ``whole``, classes may lie in what is left out."""
    counts = np.array([each.counts for each in samples])  # [N,C+1]
    pixels, images, classes = counts.sum(0).tolist(), (counts[:, :-1] > 0).sum(0), dataset.classes
    present = np.flatnonzero(images).tolist()
    if not present:
        text = "every mask is void throughout: there is nothing to learn or to score"
        yield Issue("all_void", what=text, split=split, files=tuple(each.name for each in samples))
    elif split == "train" and len(present) == 1 and len(classes) > 1:
        void = f", and {pixels[-1] / sum(pixels):.1%} of all pixels are void" if pixels[-1] else ""
        stored = {
            label: pixels[at] for at, label in ((present[0], present[0]), (-1, dataset.ignore_index)) if pixels[at]
        }
        hint = dataset.advice("one_class", {}, stored) or "which stored label is which class?"
        text = f"every labelled pixel is '{classes[present[0]]}'{void}; nothing can be learned; {hint}"
        yield Issue("one_class", what=text, severity="error" if whole else "warning", split=split)
    elif split == "train" and len(classes) == 1:
        text = f"'{classes[0]}' is the only class, so every prediction is right and nothing can be learned; "
        yield _warning("one_class", split, text + "what is not of it, such as the background, is a class too")
    elif whole and len(present) < len(classes):
        absent = [name for name, count in zip(classes, images, strict=True) if not count]
        lacking = "no network can learn these" if split == "train" else "these have no score here"
        text = f"{len(absent)} of {len(classes)} classes in no image; {lacking}: {first_few(absent, 20)}"
        yield _warning("absent_class", split, text, absent)
