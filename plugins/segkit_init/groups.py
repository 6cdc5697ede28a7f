"""Pictures of one car, patient or film: a part of their names says which, and their looks whether that matters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from os.path import commonpath
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool2d

from segkit.data.read import file_of
from segkit.data.sample import Dataset
from segkit_folder.splits import SPLIT_IN_A_NAME
from segkit_init.judged import OF_A_DATE

_MOST = 60  # pictures that are compared
_SIDE = 16  # pixels of a thumbnail
MANY = 9  # groups, which can be dealt to three splits
_WHOLE = re.compile(  # words of names that say what belongs together
    r"(?i)(?<![a-z])((patient|case|subject|person)[-_ ]?\w|(pat|subj|sub|study|volume|vol|series|specimen|slide|scene|"
    r"sequence|seq|video|vid|film|clip|flight|plot|field|site|roi|patch|crop|tile)[-_ ]?\d)"
)
_PART = re.compile(r"(?i)(?<![a-z])(p|s|slice|frame|view)[-_ ]?\d")  # or what it is a part of
_PACK = re.compile(r"(?i)(part|batch|chunk|data.?set)[-_ ]?\d+$")  # words of folders that say nothing


class Group(NamedTuple):
    """A way to see pictures as groups.

    Attributes:
        pattern: the part of their paths that is the same in a group, as the option ``group`` of a data set has it.
        number: of groups.
        inside: correlation of two thumbnails of a group, the median.
        between: the same of two groups.
        words: two paths of a group, where these have words as "patient3" or "slice12", or number both folders and what
            is in them; else "".
        is_certain: whether a group is surely of one thing: a file of pages; what is called a patient, a film or the
            like; one of two or of many that parts are numbered in; or a numbered folder of so many that there are no
            more pictures in each.
    """

    pattern: str
    number: int
    inside: float
    between: float
    words: str
    is_certain: bool

    @property
    def tells(self) -> bool:
        """Whether pictures of a group are at least twice as alike as others."""
        return 1 - self.between >= 2 * (1 - self.inside)


def group_of(splits: Sequence[Dataset], root: Path) -> Group | None:
    """The group that the names of pictures suggest, the finest one; None where they suggest none.

    Args:
        splits: datasets whose pictures were dealt at random.
        root: of the data set.
    """
    images = [(data, index, data.files(index)[0]) for data in splits for index in range(len(data)) if data.files(index)]
    paths = [Path(path).relative_to(root).as_posix() if path.is_relative_to(root) else "" for *_, path in images]
    if not paths:
        return None
    shared = [part for part in commonpath([path.rpartition("/")[0] for path in paths]).split("/") if part]
    inside = "".join(SPLIT_IN_A_NAME.sub("*", part) + "/" for part in shared)  # of test too, which is not dealt
    suffix = file_of(paths[0])[0].suffix
    of_folders = (f"{inside}{{group}}/", f"{inside}{{group}}{suffix}#")
    names = ("{group}_", f"{inside}{{group}}_", "{group}-", f"{inside}{{group}}-", "_{group}_", "{group}/")
    found = {pattern: _grouped(paths, pattern) for pattern in (*names, *of_folders)}
    if dates := _dates(paths):
        found[dates] = _grouped(paths, dates)
    numbered = [dates] if dates else [each for each in of_folders if _numbered(paths, found[each], each.endswith("#"))]
    fitting = {pattern: groups for pattern, groups in found.items() if 3 <= len({*groups}) <= len(groups) / 2}
    if not fitting and not numbered:
        return None
    pattern = (*numbered, *sorted(fitting, key=lambda each: -len({*fitting[each]})))[0]
    groups = found[pattern]
    common = {group for group, _ in Counter(groups).most_common(_MOST // 3)}
    chosen = [place for place, group in enumerate(groups) if group in common]
    chosen = chosen[:: -(-len(chosen) // _MOST)]
    alike = _likeness([images[place][:2] for place in chosen])
    same = np.array([[groups[one] == groups[other] for other in chosen] for one in chosen])
    apart = ~np.eye(len(chosen), dtype=bool)
    first = [path for path, group in zip(paths, groups, strict=True) if group == groups[0]][:2]
    number, are_said = len({*groups}), all(_WHOLE.search(path) or _PART.search(path) for path in paths)
    words = " and ".join(first) if numbered or are_said else ""
    of_many = number >= MANY and (are_said or (bool(numbered) and len(groups) <= number**2))
    is_whole = all(map(_WHOLE.search, groups))
    is_certain = is_whole or bool(dates) or of_many or pattern.endswith("#") or (are_said and number == 2)
    inside_group, between = (float(np.median(alike[each & apart])) for each in (same, ~same))
    return Group(pattern, number, inside_group, between, words, is_certain)


def _dates(paths: Sequence[str]) -> str:
    """The pattern of the names, where each is in two folders that are called as two dates of one place; else ""."""
    rows: dict[str, list[list[str]]] = {}
    for path in paths:
        rows.setdefault(path.rpartition("/")[2], []).append(path.split("/"))
    for those in rows.values():
        apart = [pair for pair in zip(*those, strict=False) if len({*pair}) > 1]
        if len(those) != 2 or len(apart) != 1 or not all(map(OF_A_DATE.fullmatch, apart[0])):
            return ""
    suffixes = {Path(name).suffix for name in rows}
    return f"/{{group}}{suffixes.pop()}" if len(suffixes) == 1 else ""


def _grouped(paths: Sequence[str], pattern: str) -> list[str]:
    """The group of each path; none where one of them has no group."""
    before, after = (re.escape(part).replace(r"\*", "[^/]*") for part in pattern.split("{group}"))
    found = [re.search(f"{before}([^/]+?){after}", path) for path in paths]
    return [match[1] for match in found if match] if all(found) else []


def _numbered(paths: Sequence[str], groups: Sequence[str], are_files: bool) -> bool:
    """Whether there are numbered folders, or any files, and numbered pictures in each, as of volumes and films."""
    kinds = {(group, re.sub(r"\d+", "0", path)) for path, group in zip(paths, groups, strict=False)}
    called = {re.sub(r"\d+", "0", group) for group in groups}
    number = len({*groups})
    if any(map(_PACK.search, groups)):
        return False
    return 2 <= number <= len(groups) / 2 >= len(kinds) and (are_files or 2 * len(called) <= number)


def _likeness(pictures: Sequence[tuple[Dataset, int]]) -> NDArray[np.float64]:
    """Correlation of the grey thumbnails of every two pictures, ``[N,N]``."""
    grey = [data[index].image.float().mean(0, keepdim=True) for data, index in pictures]  # [1,H,W]
    thumbnails = torch.stack([adaptive_avg_pool2d(each, _SIDE).flatten() for each in grey])  # [N,256]
    alike: NDArray[np.float64] = np.nan_to_num(np.corrcoef(thumbnails.double().numpy()))
    return alike.reshape(len(pictures), -1)
