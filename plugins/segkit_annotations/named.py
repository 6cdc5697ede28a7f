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
    words: dict[Path, tuple[list[str], list[str]]] = {}
    having: dict[str, set[Path]] = {}

    @functools.cache
    def find(name: str) -> Sequence[Path]:
        if not words:
            words.update({each: (_words(str(each.parent.relative_to(root))), _words(each.stem)) for each in pictures})
            for path, (folders, own) in words.items():
                for word in (*folders, *own):
                    having.setdefault(word, set()).add(path)
        wanted = _words(name[: name.rindex(".")] if name.lower().endswith(SUFFIXES) else name)
        both = set.intersection(*sorted((having.get(word, set()) for word in wanted), key=len)) if wanted else set()
        spans = {path: span for path in both if (span := _span(*words[path], wanted))}
        return sorted(path for path, span in spans.items() if span == min(spans.values()))

    return lambda name: by_name.get(name) or find(name)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def _span(folders: Sequence[str], name: Sequence[str], wanted: Sequence[str]) -> int:
    """Return the length of the shortest span of a path's words that holds ``wanted`` in order; 0 if there is none.

    Wanted words in the file's name (or in the folders, if none are in the name) must be adjacent and must not follow a
    number, or else img_5 would match img_7_5.
    """
    every, spans = [*folders, *name], []
    for count in range(1, len(wanted) + 1):
        before, beside = wanted[:-count], wanted[-count:]
        for at in range(len(folders) if before else 0, len(every) - count + 1):
            if every[at : at + count] == beside and not (at and every[at - 1].isdecimal() and at != len(folders)):
                left = iter(range(len(folders) - 1, -1, -1))
                places = [next((place for place in left if folders[place] == word), -1) for word in reversed(before)]
                spans += [at + count - min([*places, at])] if -1 not in places else []
    return min(spans, default=0)
