"""Pictures of one car, patient or film: a part of their names says which, and their looks whether that matters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from os.path import commonpath
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from segkit.data.read import file_of
from segkit.data.sample import Dataset
from segkit.data.scan import Scan
from segkit_folder.layout import group_in
from segkit_folder.splits import SPLIT_IN_A_NAME
from segkit_init.findings import Answer, Question
from segkit_init.judged import OF_A_DATE
from segkit_init.text import options_text

_MOST = 60  # pictures that are compared
_SIDE = 16  # pixels of a thumbnail
_MANY = 9  # groups, which can be dealt to three splits
_SAID = re.compile(  # words of names that say what belongs together, or what it is a part of
    r"(?i)(?<![a-z])((patient|case|subject|person)[-_ ]?\w|(pat|subj|sub|study|volume|vol|series|specimen|slide|scene|"
    r"sequence|seq|video|vid|film|clip|flight|plot|field|site|roi|patch|crop|tile|p|s|slice|frame|view)[-_ ]?\d)"
)
_PACK = re.compile(r"(?i)(part|batch|chunk|data.?set)[-_ ]?\d+$")  # words of folders that say nothing


def groups_asked(scan: Scan, root: Path, options: Mapping[str, Any]) -> Iterator[Question]:
    """Whether pictures belong together; where names or looks say so, they do, as no score is then too good.

    Two groups make no three splits: whether these are of one thing each is asked where names or looks say so.
    """
    dealt = [data for name, data in scan.splits.items() if "val" not in options or name != "test"]
    images = [(data, index, data.files(index)[0]) for data in dealt for index in range(len(data)) if data.files(index)]
    paths = [path.relative_to(root).as_posix() if path.is_relative_to(root) else "" for *_, path in images]
    pattern, is_told = _pattern(paths) if paths else ("", False)
    if not pattern:
        return
    groups = _grouped(paths, pattern)
    number, option = len({*groups}), {"group": pattern}
    inside, between = _likeness([each[:2] for each in images], groups)
    has_turned = number >= _MANY and any(issue.kind == "turned_picture" for issue in scan.errors)
    is_alike = 1 - between >= 2 * (1 - inside)  # pictures of a group are at least twice as alike as others
    are_said = all(map(_SAID.search, paths))
    is_sure = is_alike or has_turned or are_said or pattern.startswith("/") or pattern.endswith("#")  # dates, or pages
    text = f"the names come in {number} groups"
    first = [path for path, group in zip(paths, groups, strict=True) if group == groups[0]]
    text += f", as {' and '.join(first[:2])}" if is_told or are_said else ""
    text += ", of which some hold one picture turned or mirrored" * has_turned
    if is_alike:
        text += f", and a picture is like another of its group ({inside:.2f}) and unlike others ({between:.2f})"
    too_few = number < 3 and "fractions" in options
    if too_few and is_sure:
        keep = Answer("yes: all its pictures stay in one split", option | {"fractions": [0.5, 0.5]})
        answers = [keep, Answer("no: chance deals single pictures")]
        yield Question(f"{text}: is each of one patient, scene or film?", answers, "group")
    elif is_sure or (is_told and not too_few):
        text += f": {'' if is_sure else 'is each of one patient, scene or film? if so, '}no group is in two splits"
        yield Question(text, [Answer("", option)], "group", must=False)
    else:
        text += f": is each of one object, patient or film? then {options_text(option)} keeps it in one split"
        yield Question(text, (), "fractions", must=False)


def _pattern(paths: Sequence[str]) -> tuple[str, bool]:
    """The part of paths that is the same in a group, the finest one, as the option ``group`` has it; "": there is none.

    And whether it is one of numbered folders or files with numbered pictures, or of two dates.
    """
    shared = [part for part in commonpath([path.rpartition("/")[0] for path in paths]).split("/") if part]
    inside = "".join(SPLIT_IN_A_NAME.sub("*", part) + "/" for part in shared)  # of test too, which is not dealt
    suffix = file_of(paths[0])[0].suffix
    of_folders = (f"{inside}{{group}}/", f"{inside}{{group}}{suffix}#")
    names = ("{group}_", f"{inside}{{group}}_", "{group}-", f"{inside}{{group}}-", "_{group}_", "{group}/")
    found = {pattern: _grouped(paths, pattern) for pattern in (*names, *of_folders)}
    dates = _dates(paths)
    numbered = [dates] if dates else [each for each in of_folders if _numbered(paths, found[each], each.endswith("#"))]
    fitting = {pattern: groups for pattern, groups in found.items() if 3 <= len({*groups}) <= len(groups) / 2}
    return (*numbered, *sorted(fitting, key=lambda each: -len({*fitting[each]})), "")[0], bool(numbered)


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
    found = [*map(group_in(pattern).search, paths)]
    return [match[1] for match in found if match] if all(found) else []


def _numbered(paths: Sequence[str], groups: Sequence[str], are_files: bool) -> bool:
    """Whether there are numbered folders, or any files, and numbered pictures in each, as of volumes and films."""
    kinds = {(group, re.sub(r"\d+", "0", path)) for path, group in zip(paths, groups, strict=False)}
    called = {re.sub(r"\d+", "0", group) for group in groups}
    number = len({*groups})
    if any(map(_PACK.search, groups)):
        return False
    return 2 <= number <= len(groups) / 2 >= len(kinds) and (are_files or 2 * len(called) <= number)


def _likeness(pictures: Sequence[tuple[Dataset, int]], groups: Sequence[str]) -> tuple[float, float]:
    """Correlation of the grey thumbnails of two pictures of a group, the median, and the same of two groups."""
    common = {group for group, _ in Counter(groups).most_common(_MOST // 3)}
    chosen = [place for place, group in enumerate(groups) if group in common]
    chosen = chosen[:: -(-len(chosen) // _MOST)]
    grey = [data[index].image.float().mean(0, keepdim=True) for data, index in (pictures[each] for each in chosen)]
    thumbnails = torch.stack([adaptive_avg_pool2d(each, _SIDE).flatten() for each in grey])  # [N,256]
    alike = np.nan_to_num(np.corrcoef(thumbnails.double().numpy())).reshape(len(chosen), -1)
    same = np.array([[groups[one] == groups[other] for other in chosen] for one in chosen])
    apart = ~np.eye(len(chosen), dtype=bool)
    return float(np.median(alike[same & apart])), float(np.median(alike[~same & apart]))
