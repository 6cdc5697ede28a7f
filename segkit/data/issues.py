"""Issues of a data set: merge those of many files into one, and collect them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

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
