"""Issues of a data set: merge those of many files into one, and collect them."""

from __future__ import annotations

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

    The text becomes ``"12 files: what is wrong: a.png, ... and 7 more; what to do"``.
    """
    groups: dict[tuple[str, str], list[Issue]] = {}
    for issue in issues:
        groups.setdefault((issue.kind, issue.what), []).append(issue)
    return [*map(_merge, groups.values())]


def _merge(group: Sequence[Issue]) -> Issue:
    split = ", ".join(dict.fromkeys(each.split for each in group))
    group = list({each.file: each for each in group}.values())
    first, wrong = group[0], Counter[Any]()
    for each in group:
        wrong.update(each.wrong)
    masks = Counter(label for each in group for label in each.wrong)
    text = replace(first, advice="").text
    if len(group) > 1:
        counted = [f"{label} ({wrong[label]:,} pixels in {masks[label]} of them)" for label, _ in wrong.most_common()]
        alike = {each.detail for each in group} == {first.detail}
        details = (
            f", {first_few(counted)}" if wrong else f" ({one_line(first.detail)})" if alike and first.detail else ""
        )
        names = [f"{each.file} ({each.detail})" if each.detail and not details else each.file for each in group]
        text = f"{len(group)} files: {one_line(first.what)}{details}: {first_few(names)}"
    files = tuple(each.file for each in group if each.file)  # none, for issues of whole splits
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
