"""Finds the picture that a table names, by its file name or by words of its path."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from segkit_folder.splits import SUFFIXES


def finder(root: Path, pictures: Sequence[Path]) -> Callable[[str], Sequence[Path]]:
    """Return a function from a name in a table to the pictures with that name, or else with its words in their path."""
    by_name: dict[str, list[Path]] = {}
    for each in pictures:
        for name in {each.stem, each.name}:
            by_name.setdefault(name, []).append(each)
    having: dict[str, set[Path]] = {}  # word of a path -> pictures

    @functools.cache
    def find(name: str) -> Sequence[Path]:
        if not having:
            for each in pictures:
                for word in _words(str(each.relative_to(root).with_suffix(""))):
                    having.setdefault(word, set()).add(each)
        wanted = _words(name[: name.rindex(".")] if name.lower().endswith(SUFFIXES) else name)
        both = set.intersection(*sorted((having.get(word, set()) for word in wanted), key=len)) if wanted else set()
        return sorted(each for each in both if _names(wanted, _words(str(each.parent.relative_to(root))), each.stem))

    return lambda name: by_name.get(name) or find(name)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def _names(wanted: Sequence[str], folders: Sequence[str], stem: str) -> bool:
    """Whether the wanted words are in a path in order: some in its folders, the others beside each other in its stem.

    Those in the stem must not follow a number, or else img_5 would match img_7_5.
    """
    own = _words(stem)
    for first in range(len(wanted) + 1):
        beside, left = wanted[first:], iter(folders)
        places = [at for at in range(len(own) - len(beside) + 1) if own[at : at + len(beside)] == beside]
        if any(not at or not own[at - 1].isdecimal() for at in places) and all(word in left for word in wanted[:first]):
            return True
    return False
