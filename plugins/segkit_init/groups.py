"""Find groups of pictures (of one car, patient or film) by their names; their likeness shows whether it matters."""

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
from segkit_init.judged import OF_A_DATE, is_format
from segkit_init.questions import Answer, Question
from segkit_init.text import options_text

_MOST = 60  # pictures that are compared
_SIDE = 16  # pixels of a thumbnail
_MANY = 9  # groups, enough to divide into three splits
_GROUP_WORDS = re.compile(  # words that name a group or a part of it
    r"(?i)(?<![a-z])((patient|case|subject|person)[-_ ]?\w|(pat|subj|sub|study|volume|vol|series|specimen|slide|scene|"
    r"sequence|seq|video|vid|film|clip|flight|plot|field|site|roi|patch|crop|tile|p|s|slice|frame|view)[-_ ]?\d)"
)
_PACK = re.compile(r"(?i)(part|batch|chunk|data.?set)[-_ ]?\d+$")  # folder names that say nothing about groups


def groups_asked(scan: Scan, root: Path, options: Mapping[str, Any]) -> Iterator[Question]:
    """Ask whether pictures form groups; where names or likeness say so, assume it, lest scores be too high.

    Two groups cannot fill three splits: where names or likeness suggest two groups, ask whether they are groups.
    """
    dealt = [data for name, data in scan.splits.items() if "val" not in options or name != "test"]
    images = [(data, index, data.files(index)[0]) for data in dealt for index in range(len(data)) if data.files(index)]
    paths = [path.relative_to(root).as_posix() if path.is_relative_to(root) else "" for *_, path in images]
    pattern, is_numbered = _pattern(paths) if paths else ("", False)
    if not pattern:
        return
    groups = _grouped(paths, pattern)
    number, option = len({*groups}), {"group": pattern}
    inside, between = _likeness([each[:2] for each in images], groups)
    turned = {Path(name).name for issue in scan.errors if issue.kind == "turned_picture" for name in issue.files}
    own = [group for path, group in zip(paths, groups, strict=True) if Path(path).stem in turned]
    has_turned = number >= _MANY and 2 * len({*own}) <= len(own) > 0  # in one group, not in two
    is_alike = 1 - between >= 2 * (1 - inside)  # pictures of a group are at least twice as alike as others
    are_named = all(map(_GROUP_WORDS.search, paths))
    is_sure = is_alike or has_turned or are_named or pattern.startswith("/") or pattern.endswith("#")  # dates, or pages
    text = f"the names form {number} groups"
    first = [path for path, group in zip(paths, groups, strict=True) if group == groups[0]]
    text += f", one of them with {' and '.join(first[:2])}" if is_numbered or are_named else ""
    text += ", and some hold one picture turned or mirrored" * has_turned
    if is_alike:
        text += f", and pictures correlate more within a group ({inside:.2f}) than across groups ({between:.2f})"
    too_few = number < 3
    if too_few and is_sure and "fractions" in options:
        keep = Answer("yes: the pictures of a group stay in one split", option | {"fractions": [0.5, 0.5]})
        answers = [keep, Answer("no: single pictures are split at random")]
        yield Question(f"{text}: is each group one patient, scene or film?", answers)
    elif is_sure or (is_numbered and not too_few):
        text += ": " if is_sure else ": is each group one patient, scene or film? assumed yes: "
        yield Question(f"{text}every group stays in one split", [Answer("", option)])
    else:
        text += f": is each group one object, patient or film? then {options_text(option)} keeps it in one split"
        yield Question(text)


def _pattern(paths: Sequence[str]) -> tuple[str, bool]:
    """Return the finest pattern that groups the paths, as the option ``group`` takes it; "" if there is none.

    Also return whether the groups are two dates, or folders or files with numbered pictures.
    """
    shared = [part for part in commonpath([path.rpartition("/")[0] for path in paths]).split("/") if part]
    inside = "".join(SPLIT_IN_A_NAME.sub("*", part) + "/" for part in shared)  # match the test split too
    suffix = file_of(paths[0])[0].suffix
    of_folders = (f"{inside}{{group}}/", f"{inside}{{group}}{suffix}#")
    names = ("{group}_", f"{inside}{{group}}_", "{group}-", f"{inside}{{group}}-", "_{group}_", "{group}/")
    found = {pattern: _grouped(paths, pattern) for pattern in (*names, *of_folders)}
    dates = _dates(paths)
    numbered = [dates] if dates else [each for each in of_folders if _numbered(paths, found[each], each.endswith("#"))]
    fitting = {pattern: groups for pattern, groups in found.items() if 3 <= len({*groups}) <= len(groups) / 2}
    return (*numbered, *sorted(fitting, key=lambda each: -len({*fitting[each]})), "")[0], bool(numbered)


def _dates(paths: Sequence[str]) -> str:
    """Return a pattern that groups equal names, where each is in two folders named after dates or formats; else ""."""
    rows: dict[str, list[list[str]]] = {}
    for path in paths:
        rows.setdefault(Path(path).stem, []).append(path.rpartition("/")[0].split("/"))
    for those in rows.values():
        apart = [pair for pair in zip(*those, strict=False) if len({*pair}) > 1]
        are_two = len(those) == 2 and len(apart) == 1
        if not are_two or not (all(map(OF_A_DATE.fullmatch, apart[0])) or all(map(is_format, apart[0]))):
            return ""
    suffixes = {Path(path).suffix for path in paths}
    return f"/{{group}}{suffixes.pop() if len(suffixes) == 1 else '.'}"


def _grouped(paths: Sequence[str], pattern: str) -> list[str]:
    """Return the group of each path; empty if a path has no group."""
    found = [*map(group_in(pattern).search, paths)]
    return [match[1] for match in found if match] if all(found) else []


def _numbered(paths: Sequence[str], groups: Sequence[str], are_files: bool) -> bool:
    """Whether groups are numbered folders, or files, with numbered pictures in each, as for volumes and films."""
    kinds = {(group, re.sub(r"\d+", "0", path)) for path, group in zip(paths, groups, strict=False)}
    called = {re.sub(r"\d+", "0", group) for group in groups}
    number = len({*groups})
    if any(map(_PACK.search, groups)):
        return False
    return 2 <= number <= len(groups) / 2 >= len(kinds) and (are_files or 2 * len(called) <= number)


def _likeness(pictures: Sequence[tuple[Dataset, int]], groups: Sequence[str]) -> tuple[float, float]:
    """Return the median correlation of two grey thumbnails of one group, and that of two different groups."""
    common = {group for group, _ in Counter(groups).most_common(_MOST // 3)}
    chosen = [place for place, group in enumerate(groups) if group in common]
    chosen = chosen[:: -(-len(chosen) // _MOST)]
    grey = [data[index].image.float().mean(0, keepdim=True) for data, index in (pictures[each] for each in chosen)]
    thumbnails = torch.stack([adaptive_avg_pool2d(each, _SIDE).flatten() for each in grey])  # [N,256]
    alike = np.nan_to_num(np.corrcoef(thumbnails.double().numpy())).reshape(len(chosen), -1)
    same = np.array([[groups[one] == groups[other] for other in chosen] for one in chosen])
    apart = ~np.eye(len(chosen), dtype=bool)
    return float(np.median(alike[same & apart])), float(np.median(alike[~same & apart]))
