"""Read class files as annotation tools write them: names alone, or names with labels and colours in a known form."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from segkit.data.sample import RGB
from segkit.errors import DataError

_NUMBER, _BREAK = r"\d{1,5}", r"(?:\s*[,;\t]\s*|\s+)"
_COLOUR = rf"(?P<r>{_NUMBER}){_BREAK}(?P<g>{_NUMBER}){_BREAK}(?P<b>{_NUMBER})"
_NAME, _LABEL = r"(?P<name>[^\s,;:=][^,;:=\t]*?)", rf"(?P<label>{_NUMBER})"
_FORMS = (
    rf"{_NAME}\s*:\s*{_COLOUR}(?:\s*:[^:]*){{0,2}}",  # cat:224,64,64:: (CVAT)
    rf"{_LABEL}(?:\s*:\s*|{_BREAK}){_NAME}(?:\s*:\s*|{_BREAK}){_COLOUR}",  # 1 cat 224 64 64
    rf"{_COLOUR}{_BREAK}{_NAME}",  # 224 64 64 cat (CamVid)
    rf"{_NAME}{_BREAK}{_COLOUR}",  # cat,224,64,64
    rf"{_LABEL}(?:\s*[:=]\s*|[.)]\s+|{_BREAK}){_NAME}",  # 1: cat
    rf"{_NAME}\s*[,;:=\t]\s*{_LABEL}",  # cat,1
)
_HEADER = {
    *("name", "class", "classname", "class_name", "label", "category", "id", "index", "value", "label_id", "class_id"),
    *("r", "g", "b", "red", "green", "blue", "color", "colour", "rgb", "color_rgb", "class_color"),
}
_OF_COLUMNS = _HEADER | {"idx", "pixel value", "label name", "class name", "class id", "train_id", "trainid"}
_ODD = re.compile(  # not a plain name, but part of a table, YAML, JSON, Python or HTML
    r"[\t:;={}\[\]\"<>|]|^[-*] |^'|,$|\s-\d+$|(?<!\w)\d+(?!\w)[^\w]+\d+(?!\w)|,\s*\d+$|^\d+\s*,"
)
_COMMENT = re.compile(r"(?:^|\s+)(?:#(?![0-9a-fA-F]{6}\b)|//).*$")
_HEX = re.compile(r"(?<!\w)#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})$")
_COLOURED = re.compile("colou?r|rgb|hex")  # the heading of a column that holds whole colours
_LONGEST_LINE = 300
KNOWN = (
    "a class name a line; or in every line a name with its label, its colour (red, green, blue) or both: '1: cat', "
    "'1 cat 224 64 64', 'cat,224,64,64', '224 64 64 cat' or CVAT's 'cat:224,64,64::'"
)


class ClassFile(NamedTuple):
    """The content of a class file.

    Attributes:
        names: in the order of the labels.
        labels: stored label of each class; None where the file has no labels, or these are 0, 1, 2, ...
        colours: RGB of each class; None where the file has no colours.
    """

    names: list[str]
    labels: list[int] | None = None
    colours: list[tuple[int, ...]] | None = None


def parse(text: str, place: str) -> ClassFile:
    """Read a class file: one name per line, or the same known form in all lines; comments after # or // are ignored.

    Args:
        text: the content of the file.
        place: how messages refer to the file.

    Raises:
        DataError: a line has no known form, or another form than the other lines.
    """
    if classes := _of_json(text):
        return classes
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, _COMMENT.sub("", line)) for number, line in lines]
    if columns := _by_heading([line for _, line in lines if line]):
        return columns
    lines = [(number, _HEX.sub(_numbers, line)) for number, line in lines if line]
    if lines and lines[0][1] == "__ignore__":  # labelme writes this class first, with label -1
        lines = lines[1:]
    fields = re.split(r"\s*[,;\t]\s*|\s+", lines[0][1].lower()) if lines else []
    if len(fields) > 1 and _HEADER.issuperset(fields):
        lines = lines[1:]
    rows = [line.replace('"', "") if len(line) <= _LONGEST_LINE else "" for _, line in lines]
    matches = max(
        ([re.fullmatch(form, row) for row in rows] for form in _FORMS), key=lambda those: sum(map(bool, those))
    )
    if not all(matches) and _are_numbered(numbered := [re.fullmatch(rf"{_NAME}\s+{_LABEL}", row) for row in rows]):
        matches = numbered
    parsed = [match.groupdict() for match in matches if match]
    if rows and len(parsed) == len(rows) and _is_table(parsed):
        return _table(parsed)
    odd = [bool(_ODD.search(line)) for _, line in lines]
    if {line.isdecimal() for _, line in lines} == {True, False}:  # the first line is the number of classes
        odd = [line.isdecimal() for _, line in lines]
    if len(lines) == 1 and "," in lines[0][1]:
        odd = [True]
    if rows and len(parsed) == len(rows):
        what = "names and labels must all differ, and colours are 0 to 255"
        raise DataError(f"{place}: its lines are as {lines[0][1][:60]!r}; {what}")
    if any(odd) or len(parsed) > 1:
        number, line = next(
            each for each, match, is_odd in zip(lines, matches, odd, strict=True) if (not match if parsed else is_odd)
        )
        raise DataError(f"{place}, line {number}: {line[:60]!r}; a class file has {KNOWN}")
    return ClassFile([line for _, line in lines])


def _of_json(text: str) -> ClassFile | None:
    """Read classes from JSON: a list of objects (Supervisely) or names with labels (nnU-Net); None if it has none."""
    rows: list[dict[str, str]] = []
    with suppress(ValueError, TypeError, AttributeError, RecursionError):
        content = json.loads(text)
        found = next((content[key] for key in ("classes", "labels", "categories") if key in content), content)
        if found and all(isinstance(each, str) for each in found) and isinstance(found, list):
            return ClassFile(found)
        if isinstance(found, dict):
            reverse = all(re.fullmatch(r"\d+|#\w{6}", name) for name in found)
            pairs = [(y, x) if reverse else (x, y) for x, y in found.items()]
            are_colours = all(isinstance(what, list) or str(what).startswith("#") for _, what in pairs)
            found = [{"name": x, "color": y} if are_colours else {"name": x, "id": int(str(y))} for x, y in pairs]
        for each in found:
            name = next((each[key] for key in ("readable", "title", "name", "label") if key in each), "")
            if isinstance(name, list):  # such as the colours of numbers
                return None
            number = next((each[key] for key in ("id", "classid", "value") if isinstance(each.get(key), int)), None)
            row = {"name": str(name), **({} if number is None else {"label": str(number)})}
            colour = each.get("color", each.get("colour", ()))
            colour = _HEX.sub(_numbers, colour).split(",") if isinstance(colour, str) else colour
            rows.append(row | dict(zip("rgb", map(str, colour), strict=False)))
    alike = len({*map(tuple, rows)}) == 1 and all(row[part].isdecimal() for row in rows for part in [*row][1:])
    return _table(rows) if alike and len(rows[0]) > 1 and _is_table(rows) else None


def _by_heading(lines: Sequence[str]) -> ClassFile | None:
    """Read a table with a heading, whose columns may be in any order and beside others; None if it is no such table."""
    mark = next((mark for mark in "\t;," if lines and mark in lines[0]), "")
    heading, *rows = [*csv.reader(lines, delimiter=mark, skipinitialspace=True)] if mark else [[]]
    words = [word.strip().lower() for word in heading]
    if len(rows) < 2 or {*map(len, rows)} != {len(words)} or any(map(str.isdecimal, words)):
        return None
    columns = {word: [*map(str.strip, cells)] for word, cells in zip(words, zip(*rows, strict=True), strict=True)}
    for word in filter(_COLOURED.search, words):
        parts = [re.findall(r"\d+", _HEX.sub(_numbers, f"#{cell.lstrip('#')}")) for cell in columns.pop(word, ())]
        if {*map(len, parts)} == {3}:
            columns |= {part: [*each] for part, each in zip("rgb", zip(*parts, strict=True), strict=True)}
    held = {part[0]: columns.pop(word) for part in RGB for word in (part, part[0]) if word in columns}
    if not all(cell.isdecimal() for cells in held.values() for cell in cells) or len(held) not in (0, 3):
        return None
    known = [cells for word, cells in columns.items() if word in _OF_COLUMNS or (len(words) == 2 and not held)]
    for cells in known + [*columns.values()] * bool(held):  # a table of colours is of classes, whatever its headings
        if len({*cells}) == len(cells) and not any(map(str.isdecimal, cells)):
            held.setdefault("name", cells)
        if len({*cells}) == len(cells) and _are_labels(cells) and cells in known:
            held.setdefault("label", cells)
    table = [dict(zip(held, cells, strict=True)) for cells in zip(*held.values(), strict=True)]
    is_whole = "name" in held and len(held) > 1 and ("label" in held or not any(map(_are_labels, known)))
    return _table(table) if is_whole and _is_table(table) else None


def _are_labels(cells: Sequence[str]) -> bool:
    return all(map(str.isdecimal, cells))


def _numbers(colour: re.Match[str]) -> str:
    """Return ``255,128,0`` for ``#ff8000``."""
    return ",".join(str(int(part, 16)) for part in colour.groups())


def _are_numbered(rows: Sequence[re.Match[str] | None]) -> bool:
    """Whether all lines are like ``cat 1``, with distinct names and, in any order, the labels 0, 1, ... or 1, 2, ..."""
    found = [match.groupdict() for match in rows if match]
    labels = sorted(int(row["label"]) for row in found)
    unlike = len({row["name"] for row in found}) == len(rows) > 1
    return unlike and labels in (list(range(len(rows))), list(range(1, len(rows) + 1)))


def _is_table(rows: Sequence[Mapping[str, str]]) -> bool:
    """Whether names and labels are unique and colours below 256; if not, the numbers are no labels or colours."""
    labels, names = [row["label"] for row in rows if "label" in row], [row["name"] for row in rows]
    parts = [int(row[part]) for row in rows for part in "rgb" if part in row]
    unlike = len({*labels}) == len(labels) and len({*names}) == len(names)
    ends = [re.search(r"\s\d+$", name) for name in names if "r" in rows[0]]
    if all(ends) and len(ends) > 1 and len({row["b"] for row in rows}) == 1:  # cat 9 8 7 255: RGB and alpha
        return False
    return unlike and max(parts, default=0) < 256 and not any(re.search(r"\d\s+\d", name) for name in names)


def _table(rows: Sequence[Mapping[str, str]]) -> ClassFile:
    if "label" in rows[0]:
        rows = sorted(rows, key=lambda row: int(row["label"]))
    labels = [int(row["label"]) for row in rows if "label" in row]
    colours = [tuple(int(row[part]) for part in "rgb") for row in rows if "r" in row]
    are_default = labels in ([], list(range(len(rows))))
    return ClassFile([row["name"].strip() for row in rows], None if are_default else labels, colours or None)
