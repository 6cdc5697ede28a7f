"""Issues of a data set: merge those of many files into one, collect them, and check the labels of whole splits."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from segkit.data.sample import Dataset
from segkit.data.statistics import SampleStatistics
from segkit.errors import DataError, Issue, first_few, one_line

_gathered: ContextVar[list[Issue] | None] = ContextVar("gathered", default=None)


def merged(issues: Iterable[Issue]) -> list[Issue]:
    """Merge issues of equal ``kind`` and ``what`` into one each; a file counts once.

    The text becomes ``"12 files: what is wrong: a.png, ... and 7 more (in folder); what to do"``.
    """
    groups: dict[tuple[str, str], list[Issue]] = {}
    for issue in issues:
        groups.setdefault((issue.kind, issue.what), []).append(issue)
    return [*map(_merge, groups.values())]


def _merge(group: Sequence[Issue]) -> Issue:
    split = ", ".join(dict.fromkeys(each.split for each in group))
    group = list({each.file: each for each in group}.values())
    first, files, details = group[0], tuple(each.file for each in group), {each.detail for each in group}
    wrong = Counter[Any]()
    for each in group:
        wrong.update(each.wrong)
    text = replace(first, advice="").text
    if len(group) > 1:
        folder = os.path.dirname(os.path.commonprefix(files))  # noqa: PTH120, RUF071  (some names are not paths)
        names = [file[len(folder) :].lstrip("/\\") for file in files] if folder else list(files)
        text = f"{len(group)} files: {one_line(first.what)}"
        if wrong:  # sums up the details
            masks = Counter(value for each in group for value in each.wrong)
            counted = [
                f"{list(value) if isinstance(value, tuple) else value} ({pixels:,} pixels in {masks[value]} "
                f"mask{'s' * (masks[value] > 1)})"
                for value, pixels in wrong.most_common()
            ]
            text += f", {first_few(counted)}"
        elif len(details) > 1:
            names = [f"{name} ({each.detail})" for name, each in zip(names, group, strict=True)]
        elif first.detail:
            text += f" ({one_line(first.detail)})"
        text += f": {first_few(names)}" + (f" (in {one_line(folder)})" if folder else "")
    return replace(first, file="", what=text, detail="", wrong=wrong, stored={}, split=split, files=files)


@contextmanager
def gathered() -> Iterator[list[Issue]]:
    """Collect the issues passed to :func:`refuse` in a list instead of raising; the dataset skips the files at fault.

    Raises:
        DataError: the body raised a DataError; if there are collected issues, the message lists these instead.
    """
    issues: list[Issue] = []
    token = _gathered.set(issues)
    try:
        yield issues
    except DataError as error:
        if issues:
            raise DataError("\n".join(map(str, merged(issues)))) from error
        raise
    finally:
        _gathered.reset(token)


def refuse(issues: Sequence[Issue]) -> None:
    """Report all issues of a dataset's files together, before any file is read.

    Raises:
        DataError: there are issues, and no :func:`gathered` context collects them.
    """
    collected = _gathered.get()
    if collected is not None:
        collected.extend(issues)
    elif issues:
        raise DataError("\n".join(map(str, merged(issues))), issues[0] if len(issues) == 1 else None)


def label_issues(samples: Sequence[SampleStatistics], dataset: Dataset, split: str, whole: bool) -> Iterator[Issue]:
    """Check the labels of a split; if it is not ``whole``, the samples left out may hold the absent classes."""

    def issue(kind: str, what: str, severity: Literal["error", "warning"], files: Iterable[str] = ()) -> Issue:
        return Issue(kind, what=what, severity=severity, split=split, files=tuple(files))

    counts = np.array([each.counts for each in samples])  # [N,C+1]
    pixels, images, classes = counts.sum(0).tolist(), (counts[:, :-1] > 0).sum(0), dataset.classes
    present = np.flatnonzero(images).tolist()
    if not present:
        text = "every pixel of every mask is void: there is nothing to learn or to score"
        yield issue("all_void", text, "error", [each.name for each in samples])
    elif split == "train" and len(present) == 1 and len(classes) > 1:
        void = f", and {pixels[-1] / sum(pixels):.1%} of all pixels are void" if pixels[-1] else ""
        hint = "does void belong to a class?" if pixels[-1] else "check which stored label is which class"
        text = f"every labelled pixel is '{classes[present[0]]}'{void}; nothing can be learned; {hint}"
        yield issue("one_class", text, "error" if whole else "warning")
    elif split == "train" and len(classes) == 1:
        text = f"'{classes[0]}' is the only class, so every prediction is right and nothing can be learned; "
        yield issue("one_class", text + "add a class for everything else, such as background", "warning")
    elif whole and len(present) < len(classes):
        absent = [name for name, count in zip(classes, images, strict=True) if not count]
        lacking = "no network can learn these" if split == "train" else "these have no score here"
        text = f"{len(absent)} of {len(classes)} classes in no image; {lacking}: {first_few(absent, 20)}"
        yield issue("absent_class", text, "warning", absent)
