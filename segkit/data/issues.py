"""Faults of many files: the same fault is told once, and all faults of a dataset are refused or gathered together."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from segkit.errors import DataError, Issue, first_few, one_line

Advise = Callable[[str, Mapping[Any, int], Mapping[Any, int]], str]
"""A dataset's ``advice``: kind of a fault, pixels of what is not allowed, pixels of all stored -> what to do."""

_gathered: ContextVar[list[Issue] | None] = ContextVar("gathered", default=None)


class TooFewImages(DataError):
    """Fewer images than splits; says nothing new where images were left out before."""


@dataclass(frozen=True)
class Group:
    """The same fault of one or more files.

    Attributes:
        kind, what: as every fault's in it.
        faults: one a file.
    """

    kind: str
    what: str
    faults: tuple[Issue, ...]

    @property
    def wrong(self) -> Counter[Any]:
        """Stored labels or colours that are not allowed -> pixels in all the files."""
        return _sum(fault.wrong for fault in self.faults)

    @property
    def stored(self) -> Counter[Any]:
        """All the stored labels or colours -> pixels in all the files."""
        return _sum(fault.stored for fault in self.faults)

    def told(self, advise: Advise | None = None) -> str:
        """``"12 files: what is wrong: a.png, b.png, c.png, d.png, e.png and 7 more (in folder); what to do"``."""
        advice = (advise(self.kind, self.wrong, self.stored) if advise else "") or self.faults[0].advice
        if len(self.faults) == 1:
            return str(replace(self.faults[0], advice=advice))
        details = {fault.detail for fault in self.faults}
        text = f"{len(self.faults)} files: {one_line(self.what)}"
        if self.wrong:  # the sum of the details
            text += f", {self._wrong()}"
        elif len(details) == 1 and "" not in details:
            text += f" ({one_line(details.pop())})"
        names, folder = _below_shared_folder([fault.file for fault in self.faults])
        if len(details) > 1 and not self.wrong:
            names = [f"{name} ({fault.detail})" for name, fault in zip(names, self.faults, strict=True)]
        return (
            f"{text}: {first_few(names)}"
            + (f" (in {one_line(folder)})" if folder else "")
            + (f"; {advice}" if advice else "")
        )

    def _wrong(self) -> str:
        masks = Counter(value for fault in self.faults for value in fault.wrong)
        return first_few(
            [
                f"{value_text(value)} ({pixels:,} pixels in {masks[value]} mask{'s' * (masks[value] > 1)})"
                for value, pixels in self.wrong.most_common()
            ]
        )


def grouped(faults: Iterable[Issue]) -> list[Group]:
    """The faults by kind and what is wrong; what is wrong with a file in the same way counts once."""
    groups: dict[tuple[str, str], dict[str, Issue]] = {}
    for fault in faults:
        groups.setdefault((fault.kind, fault.what), {})[fault.file] = fault
    return [Group(kind, what, tuple(by_file.values())) for (kind, what), by_file in groups.items()]


def told(faults: Iterable[Issue], advise: Advise | None = None) -> list[str]:
    """A text for each group of faults (see :meth:`Group.told`)."""
    return [group.told(advise) for group in grouped(faults)]


@contextmanager
def gathered() -> Iterator[list[Issue]]:
    """Inside, :func:`refuse` adds to this list instead of raising: a dataset goes on with the files it can use.

    Raises:
        DataError: the dataset could not go on; with what was gathered until then, which is why there are too few files.
    """
    faults: list[Issue] = []
    token = _gathered.set(faults)
    try:
        yield faults
    except DataError as error:
        if not faults:
            raise
        own = [] if isinstance(error, TooFewImages) else [str(error)]
        raise DataError("\n".join([*told(faults), *own])) from error
    finally:
        _gathered.reset(token)


def refuse(faults: Sequence[Issue]) -> None:
    """Tell all the faults of a dataset's files together, before any file is read.

    Raises:
        DataError: there are faults, and nobody gathers them.
    """
    found = _gathered.get()
    if found is not None:
        found.extend(faults)
    elif faults:
        raise DataError("\n".join(told(faults)), faults[0] if len(faults) == 1 else None)


def value_text(value: Any) -> str:
    """A stored label or colour: ``200``, ``[9, 8, 7]``."""
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _sum(counts: Iterable[Mapping[Any, int]]) -> Counter[Any]:
    total: Counter[Any] = Counter()
    for each in counts:
        total.update(each)
    return total


def _below_shared_folder(files: Sequence[str]) -> tuple[list[str], str]:
    """The names as they are in the folder all share, and that folder, if there is one."""
    try:
        folder = os.path.commonpath([PurePath(file).parent for file in files])
    except ValueError:  # relative and absolute, or on several drives
        folder = "."
    if folder == ".":
        return list(files), ""
    return [str(PurePath(file).relative_to(folder)) for file in files], folder
