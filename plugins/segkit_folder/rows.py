"""Read the lines of lists, and the rows of tables and JSON files, that assign images to splits."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import NamedTuple

from segkit.data.sample import SPLITS
from segkit.errors import ConfigError, DataError
from segkit_folder.pairs import NoFiles
from segkit_folder.records import FOLD, MOST_FOLDS, RECORDS, entries_of, fold_of
from segkit_folder.splits import (
    ANY_SPLIT,
    SECOND_NAME,
    SPLIT_NAMES,
    SPLIT_WORD,
    SUFFIXES,
    read_text,
    split_called,
    split_in,
)

Lists = str | Mapping[str, str] | Mapping[str, Sequence[str]]
"""One file for all splits, a pattern of files with ``{split}``, or for each split a file or the lines themselves."""
SPLIT_FILE = re.compile(r"(?i)(?<![^\W_])(splits?|partitions?|(k|cv)?folds?)\d*(?![^\W_])")
"""Words in the names of files that assign splits."""
_CODED = re.compile(r"(?i)(data)?[-_ ]?(split\w*|partition|subset|phase|set|usage)")  # columns of splits
_FLAGS = (("0", "1"), ("false", "true"), ("no", "yes"), ("n", "y"), ("f", "t"))
_SHORT = dict(zip(("tr", "va", "te"), SPLITS, strict=True))


class Line(NamedTuple):
    """A line of a list, or an entry of a JSON list; ``split`` is None where the list does not name one."""

    split: str | None
    file: str
    number: int
    text: str

    @property
    def place(self) -> str:
        """The file and the line number, for messages."""
        return f"{self.file}, {'entry' if self.file.endswith('.json') else 'line'} {self.number}"

    def __str__(self) -> str:
        return f"{self.place}: {self.text.strip().replace(chr(9), ', ')[:60]!r}"

    @property
    def cells(self) -> list[str]:
        """The parts of the line, separated by tabs, commas or semicolons, or if it has none of these by spaces."""
        cells = [cell.strip(' "') for cell in re.split(r"[\t,;]", self.text)]
        return self.text.split() if len(cells) == 1 else cells


def lines_of(root: Path, lists: Lists, fold: int = 0) -> Iterator[Line]:
    r"""Yield the lines of lists that are not empty, with ``\`` replaced by ``/``.

    Args:
        root: the folder that the lists are relative to.
        lists: see :data:`Lists`. One file for all splits may be JSON or YAML, {"train": [...], "val": [...]} or
            nnU-Net's list of such folds, or a table with a column that holds train, val or test in every line.
        fold: the index of the fold to read, where the file has several.

    Raises:
        ConfigError: there is no such split or no such fold.
        DataError: a file cannot be read or is not a list.
    """
    if not isinstance(lists, str):
        if unknown := [name for name in lists if name not in SPLITS]:
            raise ConfigError(f"{unknown[0]} is no split; lists are given for {', '.join(SPLITS)}")
        named: list[tuple[str | None, str | Sequence[str]]] = [*lists.items()]
    elif "{split}" not in lists:
        named = [(None, lists)]
    else:
        before, _, after = lists.partition("{split}")
        (folder, _, start), (end, slash, rest) = before.rpartition("/"), after.partition("/")
        pattern = re.compile(f"{re.escape(start)}({ANY_SPLIT}){re.escape(end)}", re.IGNORECASE)
        there = sorted(each.name for each in (root / folder).iterdir()) if (root / folder).is_dir() else []
        found = [(match[1], each + slash + rest) for each in there if (match := pattern.fullmatch(each))]
        found = [(split, file) for split, file in found if (root / folder / file).is_file()]
        plain = {split_called(word) for word, _ in found if not SECOND_NAME.fullmatch(word)}
        for second in [each for each in found if SECOND_NAME.fullmatch(each[0]) and split_called(each[0]) in plain]:
            found.remove(second)
            text = f"{root / folder / second[1]} is not read beside the list of {split_called(second[0])}"
            warnings.warn(text, stacklevel=2)
        named = [(split_called(split), f"{folder}/{file}" if folder else file) for split, file in found]
        if not named:
            names = ", ".join(name for names in SPLIT_NAMES.values() for name in names[:3])
            raise NoFiles(f'"{lists}": no such file in {root / folder} for any of {names}')
    for split, source in named:
        where = str(root / source) if isinstance(source, str) else f"{split} split"
        rows = _rows(root / source, fold) if isinstance(source, str) else [(None, *row) for row in enumerate(source, 1)]
        rows = [row for row in rows if row[2].strip()]
        if split == "train" and not rows:
            raise DataError(f"{where} is empty; list the training images, or leave the list out: all others are train")
        for row_split, number, text in rows:
            yield Line(split or row_split, where, number, text.replace("\\", "/"))


def _rows(path: Path, fold: int) -> list[tuple[str | None, int, str]]:
    """Return split, number and text of each line of a file, or of each entry of a JSON or YAML file or an array."""
    if path.suffix[1:].lower() in RECORDS:
        return entries_of(path, fold)
    text = read_text(path)
    rows = [*enumerate(text.splitlines(), 1)]
    cells = [Line(None, "", number, line).cells for number, line in rows if line.strip()]
    columns = [*zip_longest(*cells, fillvalue="")]  # short rows are padded with empty cells
    width = len(columns)
    columns += [*_of_flags(columns), *_of_codes(path, columns), *_of_folds(columns, fold)]
    split_at = [at for at, column in enumerate(columns) if len(columns) > 1 and _holds_splits(column[1:])]
    if len(cells) < 3 or not split_at:
        return _side_by_side(columns) or [(None, number, line.strip()) for number, line in rows]
    numbers = [number for number, line in rows if line.strip()]
    at = split_at[0]
    found = [
        (split_called(row[at]), number, "\t".join(row[:width][:at] + row[at + 1 : width]))
        for number, row in zip(numbers, zip(*columns, strict=True), strict=True)
        if row[at]
    ]
    first = cells[0]
    if (
        not found[0][0]
        and not re.search(r"\d", first[0])
        and not any(each.lower().endswith(SUFFIXES) for each in first)
    ):
        found = found[1:]  # the heading
    if odd := next((number for split, number, _ in found if not split), 0):
        word = columns[at][numbers.index(odd)]
        advice = "write one of these, or take the line out to leave its image out"
        raise DataError(f"{path}, line {odd}: '{word}' where other lines say train, val or test; {advice}")
    return _named_by_id(path, found)


def _holds_splits(column: Sequence[str]) -> bool:
    """Whether a column holds only names of splits, or at least two splits beside other words."""
    splits = {*map(split_called, column)}
    return None not in splits or len(splits) > 2


def _of_codes(path: Path, columns: Sequence[Sequence[str]]) -> Iterator[tuple[str, ...]]:
    """Yield a column of splits for one of other words, TR or train_set, or of numbers: 0 train, 1 val, 2 test.

    CelebA and WILDS number them so. In a file that is called after two splits, as CUB's train_test_split.txt, 1 is the
    first of these.
    """
    called = [*map(split_called, SPLIT_WORD.findall(path.stem))]
    for heading, *cells in columns:
        is_headed = not heading.isdecimal()
        cells, name = (cells, heading) if is_headed else ([heading, *cells], path.stem)
        codes: dict[str, str | None] = {}
        if {*cells} == {"0", "1"} and len(columns) == len({*called}) == 2 and (not is_headed or _CODED.fullmatch(name)):
            codes = dict(zip("10", called, strict=True))
        elif {*cells} == {*"012"} and (
            SPLIT_FILE.search(name) or (_CODED.fullmatch(name) and re.search("(?i)split|partition", name + path.stem))
        ):
            codes = dict(zip("012", SPLITS, strict=True)) if 2 * cells.count("0") >= len(cells) else {}
        elif is_headed and _CODED.fullmatch(name):
            codes = {cell: split_in(cell) or _SHORT.get(cell.casefold()) for cell in {*cells} - {""}}
        if "train" in codes.values() and None not in codes.values():
            yield ("split",) * is_headed + tuple(codes.get(cell) or "" for cell in cells)


def _of_folds(columns: Sequence[Sequence[str]], fold: int) -> Iterator[tuple[str, ...]]:
    """Yield a column of splits for one of folds, of which one is val and the others are train."""
    for heading, *cells in columns:
        folds = sorted({*cells}, key=lambda each: (len(each), each))
        if FOLD.fullmatch(heading) and 1 < len(folds) <= min(MOST_FOLDS, len(cells) / 2) and all(folds):
            yield ("split", *("val" if cell == fold_of(folds, fold, heading) else "train" for cell in cells))


def _side_by_side(columns: Sequence[Sequence[str]]) -> list[tuple[str | None, int, str]]:
    """Return the cells of columns headed train, val and test that hold names, as CLAM writes them; else nothing."""
    named: dict[str | None, Sequence[str]] = {split_called(heading): cells for heading, *cells in columns}
    named.pop(None, None)
    are_names = len({cell for cells in named.values() for cell in cells if cell}) > len(named) > 1 and "train" in named
    found = [(split, number, cell) for split, cells in named.items() for number, cell in enumerate(cells, 2) if cell]
    return found if are_names and len({cell for *_, cell in found}) == len(found) else []


def _named_by_id(path: Path, found: Sequence[tuple[str | None, int, str]]) -> list[tuple[str | None, int, str]]:
    """Return lines whose names are numbers with the names that a list beside gives these: CUB's images.txt."""
    ids = [text.split("\t")[0] for *_, text in found]
    for file in islice(sorted(path.parent.glob("*.txt")), MOST_FOLDS) if all(map(str.isdecimal, ids)) else ():
        rows = [line.split() for line in read_text(file).splitlines()] if file != path else []
        name_of = {row[0]: row[1] for row in rows if len(row) == 2 and row[1].lower().endswith(SUFFIXES)}
        if name_of.keys() >= {*ids}:
            return [(split, number, name_of[each]) for (split, number, _), each in zip(found, ids, strict=True)]
    return [*found]


def _of_flags(columns: Sequence[Sequence[str]]) -> Iterator[tuple[str, ...]]:
    """Yield a column of splits if there are columns such as is_train, or train and test, of 0 and 1 or no and yes.

    What none of them marks is of another split, the first of train, test and val. One of train only may be of trains.
    """
    flags: dict[str, list[bool]] = {}
    words = [re.sub(r"(?i)^(is[-_ ]?|in[-_ ])", "", heading) for heading, *_ in columns]
    for word, (_, *cells) in zip(words, columns, strict=True):
        if (split := split_called(word)) and {*map(str.casefold, cells)} in map(set, _FLAGS):
            flags[split] = [cell.casefold() in [yes for _, yes in _FLAGS] for cell in cells]
    if len(flags) > 1 or (flags and words != [heading for heading, *_ in columns]):
        other = next((split for split in ("train", "test", "val") if split not in flags), "")
        splits = [next((split for split, own in flags.items() if own[at]), other) for at in range(len(columns[0]) - 1)]
        yield from [("split", *splits)] * (2 * splits.count("train") >= len(splits))  # else valid may mean good


def without_suffix(name: str) -> str:
    """Return the name of a picture without its suffix."""
    return name[: name.rindex(".")] if name.lower().endswith(SUFFIXES) else name
