"""Find groups of pictures (of one car, patient or film) by their names; their likeness shows whether it matters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from os.path import commonpath
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segkit.data.read import file_of
from segkit.data.scan import Scan
from segkit_folder.layout import group_in
from segkit_folder.pairs import natural
from segkit_folder.splits import SPLIT_IN_A_NAME, composed
from segkit_init.judged import OF_A_DATE, OF_A_SIDE, is_side
from segkit_init.questions import Answer, Question
from segkit_init.text import options_text
from segkit_readers.joined import places_of

_MOST = 300  # pictures that are compared
_MANY = 9  # groups, enough to divide into three splits
_SOME = 5  # groups that numbers in names suggest; fewer would take much of train for val and test
_LONG = 4  # letters of an identifier; coordinates of a part are shorter
_MOST_CUT = 3  # letters at the end of a name that may tell pictures of a group apart
_PERSON = re.compile(r"(?i)(?<![a-z])((patient|case|subject|person)[-_ ]?\w|(pat|subj|sub)[-_ ]?\d)")
_GROUP = re.compile(  # words that name a group
    rf"{_PERSON.pattern}|(?<![a-z])(study|volume|vol|series|specimen|slide|scene|sequence|seq|video|vid|film|clip|"
    r"flight|plot|field|site|p|s)[-_ ]?\d"
)
_PART = re.compile(  # words that name a part of a group
    r"(?i)(?<![a-z])((roi|patch|crop|tile|slice|frame|f|view|row|x|y)[-_ ]?\d|r\d+[-_ ]?c\d)"
    r"|(?<=[_-])\d+[_-]\d+\."  # row and column of a tile
)
_PACK = re.compile(r"(?i)(part|batch|chunk|data.?set|fold|class|label|type|grade)[-_ ]?\d+$")  # names of no group
_DATED = re.compile(r"(?<!\d)(19|20)\d\d[_-](\d\d|0\d+)([_-]\d\d)*\.").search  # a date, or a number in a year
_DIGIT = re.compile(r"\d").search
_SEPARATOR = re.compile(r"([_\-. ])")


class _Way(NamedTuple):
    """A way to group pictures.

    Attributes:
        rank: 0 if words name the groups, 1 if their pictures are alike, 2 if numbers suggest them, 3 if only names do.
        pattern: as the option ``group`` takes it.
        groups: the group of each picture.
        text: what suggests the groups.
    """

    rank: int
    pattern: str
    groups: tuple[str, ...]
    text: str

    @property
    def number(self) -> int:
        """Number of groups."""
        return len({*self.groups})

    @property
    def is_cut(self) -> bool:
        """Whether the last letters of names are left out, which may make blocks of a film."""
        return self.pattern.endswith("?.")


def groups_asked(scan: Scan, root: Path, options: Mapping[str, Any], is_dealt: bool) -> Iterator[Question]:
    """Ask whether pictures form groups; where names or likeness say so, assume it, lest scores be too high.

    Two groups cannot fill three splits: where names or likeness suggest two groups, ask whether they are groups. Where
    folders or lists assign splits (``is_dealt`` is false), note groups that are in several.
    """
    images = {
        composed(place.relative_to(root).as_posix()): (name, index)
        for name, data in scan.splits.items()
        for index in range(len(data) if name != "test" or "val" not in options else 0)
        for place in (places_of(file)[0] for file in data.files(index)[:1])
        if place.is_relative_to(root)
    }
    paths = sorted(images, key=natural)
    ways = _ways(scan, paths, [images[path] for path in paths], str(options.get("images"))) if paths else []
    ways = [each for each in ways if each.rank == 0 and _are_called(paths, each, _PERSON)] or ways  # not their sites
    torn = {way: _torn(way.groups, [images[path][0] for path in paths]) for way in ways if way.rank < 2}
    if not is_dealt:  # the first and last pictures of a split may be in blocks of others
        ways = [way for way, number in torn.items() if number > way.number / 2 * way.is_cut]
    if not ways:
        return
    # the coarsest groups, of names alone the finest; and rather three than two
    way = min(ways, key=lambda way: (way.rank, way.number < 3, way.number * (-1 if way.rank == 3 else 1)))
    option = {"group": way.pattern}
    first = [path for path, group in zip(paths, way.groups, strict=True) if group == way.groups[0]]
    text = f"the names form {way.number} groups"
    text += f", one of them with {' and '.join(first[:2])}" * (way.rank < 3) + way.text
    if not is_dealt:
        what = "if each is one patient, scene or film, the scores are of pictures like those that were trained on"
        are = "is" if torn[way] == 1 else "are"
        yield Question(f"{text}; {torn[way]} of these groups {are} in two splits: {what}")
    elif way.number < 3 and way.rank < 2 and "fractions" in options:
        keep = Answer("yes: the pictures of a group stay in one split", option | {"fractions": [0.5, 0.5]})
        answers = [keep, Answer("no: single pictures are split at random")]
        yield Question(f"{text}: is each group one patient, scene or film?", answers)
    elif way.rank < 2 or (way.rank == 2 and way.number > 2):
        text += ": " if way.rank < 2 else ": is each group one patient, scene or film? assumed yes: "
        yield Question(f"{text}every group stays in one split", [Answer("", option)])
    else:
        text += f": is each group one object, patient, film or site? then {options_text(option)} keeps it in one split"
        yield Question(text)


def _torn(groups: Sequence[str], splits: Sequence[str]) -> int:
    """Return how many groups are in several splits."""
    return sum(number > 1 for number in Counter(group for group, _ in {*zip(groups, splits, strict=True)}).values())


def _ways(scan: Scan, paths: Sequence[str], places: Sequence[tuple[str, int]], images: str) -> list[_Way]:
    """Return the ways to group pictures; only the one of two dates if there is such.

    Args:
        scan: the scan, which has thumbnails of the pictures, and names of those that are turned copies of others.
        paths: paths of the pictures below the root, in natural order.
        places: split and index of each picture.
        images: the option ``images``; folders that stand for ``{class}`` are no groups.
    """
    small = np.array([[*bytes.fromhex(scan.statistics[name][at].measured["duplicates"])] for name, at in places], float)
    small -= small.mean(1, keepdims=True)
    small /= np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6)  # [N,K], so that products correlate
    turned = {Path(name).name for issue in scan.errors if issue.kind == "turned_picture" for name in issue.files}
    own = [place for place, path in enumerate(paths) if Path(path).stem in turned]
    classes, has_classes, _ = images.partition("{class}/")
    seen = {tuple(_numbers(_grouped(paths, re.sub(r"{\w+}", "*", classes) + "{group}/")))} if has_classes else set()
    dates, (simple, others) = _dates(paths), _patterns(paths)
    found = []
    for pattern in [dates] if dates else (*simple, *others):
        groups = tuple(_grouped(paths, pattern))
        number, key = len({*groups}), tuple(_numbers(groups))
        if not 2 <= number <= len(groups) / 2 or key in seen:
            continue
        seen.add(key)
        way = _Way(3, pattern, groups, "")
        likeness, is_numbered = _likeness(small, groups), _numbered(paths, way)
        has_turned = number >= _MANY and 2 * len({groups[place] for place in own}) <= len(own) > 0  # in one, not in two
        is_sure = (bool(likeness) and (number > 2 or is_numbered)) or has_turned or pattern == dates
        is_named = _are_called(paths, way, _GROUP)
        rank = 0 if is_named else 1 if is_sure or pattern.endswith("#") else 2 if is_numbered else 3
        if rank < 3 or (number > 2 and pattern in simple):
            text = ", and some hold one picture turned or mirrored" * has_turned + likeness
            found.append(way._replace(rank=rank, text=text))
    return found


def _patterns(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return simple patterns that may group the paths, as the option ``group`` takes them, and further ones.

    The further ones take a folder, a word, all before a word that all names have, or all but the last letters.
    """
    shared = [part for part in commonpath([path.rpartition("/")[0] for path in paths]).split("/") if part]
    inside = "".join(SPLIT_IN_A_NAME.sub("*", part) + "/" for part in shared)  # match the test split too
    suffix = file_of(paths[0])[0].suffix
    simple = ["{group}_", f"{inside}{{group}}_", "{group}-", f"{inside}{{group}}-", "_{group}_", "{group}/"]
    simple += [f"{inside}{{group}}/", f"{inside}{{group}}{suffix}#"]
    depths = {path.count("/") - len(shared) for path in paths}
    start = inside + "*/" * min(depths) if len(depths) == 1 else "/"
    others = [f"{inside}{'*/' * depth}{{group}}/" for depth in range(1, min(depths))] + [f"/{{group}}{suffix}"]
    names = [_SEPARATOR.split(file_of(path)[0].name) for path in paths]  # words and separators in turn
    short = min(map(len, names))
    before = start
    for at in range(0, short - 2, 2):
        words, marks = ("".join(sorted({name[place] for name in names})) for place in (at, at + 1))
        others.append(f"{before}{{group}}{marks if len(marks) == 1 else f'[{marks}]'}")
        if len(marks) > 1:
            break
        before += (words if words == names[0][at] else "*") + marks
    for at in (*range(2, short - 2, 2), *range(-3, 1 - short, -2)):
        middle = {"".join(name[at - 1 : at + 2]) for name in names}
        others += [f"{start}{{group}}{text}" for text in middle if len(middle) == 1]
    marks = "".join(sorted({name[-4] for name in names if len(name) > 4}))
    others += [f"[/{marks}]{{group}}{suffix}"] if marks else []  # aug1_0001 beside 0001
    return simple, others + [f"{start}{{group}}{'?' * cut}." for cut in range(1, _MOST_CUT + 1)]


def _dates(paths: Sequence[str]) -> str:
    """Return a pattern that groups equal names, each in two folders named after dates, sides or formats; else ""."""
    rows: dict[str, list[list[str]]] = {}
    for path in paths:
        rows.setdefault(Path(path).stem, []).append(path.rpartition("/")[0].split("/"))
    for those in rows.values():
        apart = [pair for pair in zip(*those, strict=False) if len({*pair}) > 1]
        are_two = len(those) == 2 and len(apart) == 1
        if not are_two or not (all(map(OF_A_DATE.fullmatch, apart[0])) or all(map(is_side, apart[0]))):
            return ""
    suffixes = {Path(path).suffix for path in paths}
    return f"/{{group}}{suffixes.pop() if len(suffixes) == 1 else '.'}"


def _grouped(paths: Sequence[str], pattern: str) -> list[str]:
    """Return the group of each path; empty if a path has no group."""
    found = [*map(group_in(pattern).search, paths)]
    return [match[1] for match in found if match] if all(found) else []


def _numbers(groups: Sequence[str]) -> list[int]:
    """Return a number for each picture, the same in each group."""
    number = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    return [number[group] for group in groups]


class _Named(NamedTuple):
    """The name of a group in a path: the word before it, itself, and what follows it."""

    before: str
    group: str
    after: str

    def is_called(self, words: re.Pattern[str]) -> bool:
        """Whether one of the words, with a number, is in the group's name or just before it."""
        return any(found.end() > len(self.before) for found in words.finditer(self.before + self.group))


def _named(paths: Sequence[str], pattern: str) -> Iterator[_Named]:
    for path, match in zip(paths, map(group_in(pattern).search, paths), strict=True):
        if match:
            word = re.search(r"[^_\-. /]*[_\-. ]?$", path[: match.start(1)])
            yield _Named(word[0] if word else "", match[1], path[match.end(1) :])


def _are_called(paths: Sequence[str], way: _Way, words: re.Pattern[str]) -> bool:
    return not way.is_cut and all(each.is_called(words) for each in _named(paths, way.pattern))


def _numbered(paths: Sequence[str], way: _Way) -> bool:
    """Whether groups are numbered folders, or files, with numbered pictures in each, as for volumes and films.

    Or numbers in names, if the rest of these names repeats in other groups (1L and 1R) or names a part (1_tile_3).
    """
    groups, named = way.groups, [*_named(paths, way.pattern)]
    if any(map(_PACK.search, groups)):
        return False
    if way.pattern.endswith(("/", "#")):
        kinds = {(group, re.sub(r"\d+", "0", path)) for path, group in zip(paths, groups, strict=True)}
        called = {re.sub(r"\d+", "0", group) for group in groups}
        return len(groups) / 2 >= len(kinds) and (way.pattern.endswith("#") or 2 * len(called) <= way.number)
    if way.number < 3 or any(each.is_called(_PART) for each in named):
        return False
    if all(_PART.search(each.after) for each in named) and not all(_DATED(each.group + each.after) for each in named):
        return True
    starts = {path[: -len(each.group + each.after)] for path, each in zip(paths, named, strict=True)}
    if min(map(len, groups)) >= _LONG and all(map(_PART.search, starts)):  # an identifier after tile_3
        return True
    are_sides = all(OF_A_SIDE.fullmatch(re.split("[-_. /]", start.rstrip("-_. /"))[-1]) for start in starts)
    is_cut = way.is_cut and any(each.after[0].isdigit() for each in named)  # any number has a last digit
    has_digits = all(map(_DIGIT, groups))
    repeats = 2 * len({each.after for each in named}) <= len(named)
    return way.number >= _SOME and (len(starts) == 1 or are_sides) and repeats and has_digits and not is_cut


def _likeness(small: NDArray[np.float64], groups: Sequence[str]) -> str:
    """Return text that pictures of a group are at least twice as alike as others, or "".

    Compared are the median correlations of thumbnails; also that of pictures that follow each other, as in a film,
    where groups are numbered parts of the sequence.
    """
    common = {group for group, _ in Counter(groups).most_common(_MOST // 3)}
    chosen = [place for place, group in enumerate(groups) if group in common]
    chosen = chosen[:: -(-len(chosen) // _MOST)]
    alike, numbers = small[chosen] @ small[chosen].T, np.array(_numbers(groups))[chosen]
    same, self = numbers[:, None] == numbers, np.eye(len(chosen), dtype=bool)
    if same.all():  # of pictures that take turns, those chosen may be of one group
        return ""
    between, runs = float(np.median(alike[~same])), 1 + sum(one != other for one, other in pairwise(groups))
    ways = {"within a group": alike[same & ~self]}
    if runs == len({*groups}):
        ways["with the next one"] = (small[1:] * small[:-1]).sum(1)
    for where, those in ways.items():
        if those.size and 1 - between >= 2 * (1 - (inside := float(np.median(those)))):
            return f", and pictures correlate more {where} ({inside:.2f}) than across groups ({between:.2f})"
    return ""
