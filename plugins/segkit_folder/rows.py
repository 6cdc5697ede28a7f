"""Read the lines of lists, and the rows of tables and JSON files, that assign images to splits."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from segkit.data.sample import SPLITS
from segkit.errors import ConfigError, DataError
from segkit_folder.pairs import NoFiles
from segkit_folder.splits import ANY_SPLIT, SPLIT_NAMES, SUFFIXES, is_train_and_val, read_text, split_called

Lists = str | Mapping[str, str] | Mapping[str, Sequence[str]]
"""One file for all splits, a pattern of files with ``{split}``, or for each split a file or the lines themselves."""


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
        return f"{self.place}: {self.text.strip()[:60]!r}"

    @property
    def cells(self) -> list[str]:
        """The parts of the line, separated by tabs, commas or semicolons, or if it has none of these by spaces."""
        cells = [cell.strip(' "') for cell in re.split(r"[\t,;]", self.text)]
        return self.text.split() if len(cells) == 1 else cells


def lines_of(root: Path, lists: Lists, fold: int = 0) -> Iterator[Line]:
    r"""Yield the lines of lists that are not empty, with ``\`` replaced by ``/``.

    Args:
        root: the folder that the lists are relative to.
        lists: see :data:`Lists`. One file for all splits may be JSON, {"train": [...], "val": [...]} or nnU-Net's list
            of such folds, or a table with a column that holds train, val or test in every line.
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
        folder, _, name = lists.rpartition("/")
        pattern = re.compile(re.escape(name).replace(r"\{split\}", f"({ANY_SPLIT})"), re.IGNORECASE)
        there = sorted(each.name for each in (root / folder).iterdir()) if (root / folder).is_dir() else []
        found = [(match[1], file) for file in there if (match := pattern.fullmatch(file))]
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
    """Return split, number and text of each line of a file, or of each entry of a JSON file."""
    text = read_text(path)
    if path.suffix.lower() == ".json":
        return _entries(path, text, fold)
    rows = [*enumerate(text.splitlines(), 1)]
    cells = [Line(None, "", number, line).cells for number, line in rows if line.strip()]
    columns = [*zip_longest(*cells, fillvalue="")]  # short rows are padded with empty cells
    columns += [*_of_flags(columns)]
    split_at = [at for at, column in enumerate(columns) if len(columns) > 1 and _holds_splits(column[1:])]
    if len(cells) < 3 or not split_at:
        return [(None, number, line.strip()) for number, line in rows]
    numbers = [number for number, line in rows if line.strip()]
    found = [
        (split_called(row[split_at[0]]), number, "\t".join(cell for at, cell in enumerate(row) if at != split_at[0]))
        for number, row in zip(numbers, zip(*columns, strict=True), strict=True)
    ]
    first = cells[0]
    if (
        not found[0][0]
        and not re.search(r"\d", first[0])
        and not any(each.lower().endswith(SUFFIXES) for each in first)
    ):
        found = found[1:]  # the heading
    if odd := next((number for split, number, _ in found if not split), 0):
        word = columns[split_at[0]][numbers.index(odd)]
        advice = "write one of these, or take the line out to leave its image out"
        raise DataError(f"{path}, line {odd}: '{word}' where other lines say train, val or test; {advice}")
    return found


def _holds_splits(column: Sequence[str]) -> bool:
    """Whether a column holds only names of splits, or at least two splits beside other words."""
    splits = {*map(split_called, column)}
    return None not in splits or len(splits) > 2


def _of_flags(columns: Sequence[Sequence[str]]) -> Iterator[tuple[str, ...]]:
    """Yield a column of splits if there are columns such as is_train, or train and test, that hold only 0 and 1.

    What none of them marks is of another split, the first of train, test and val. One of train only may be of trains.
    """
    flags: dict[str, list[bool]] = {}
    words = [re.sub(r"(?i)^is[-_ ]?", "", heading) for heading, *_ in columns]
    for word, (_, *cells) in zip(words, columns, strict=True):
        if (split := split_called(word)) and {*map(str.casefold, cells)} in ({"0", "1"}, {"false", "true"}):
            flags[split] = [cell.casefold() in ("1", "true") for cell in cells]
    if len(flags) > 1 or (flags and words != [heading for heading, *_ in columns]):
        other = next((split for split in ("train", "test", "val") if split not in flags), "")
        splits = [next((split for split, own in flags.items() if own[at]), other) for at in range(len(columns[0]) - 1)]
        yield from [("split", *splits)] * (2 * splits.count("train") >= len(splits))  # else valid may mean good


def _entries(path: Path, text: str, fold: int) -> list[tuple[str | None, int, str]]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON, or cut short: {error}") from None
    are_words = isinstance(content, dict) and all(isinstance(each, str) for each in content.values())
    if are_words and not all(map(split_called, content)) and all(map(split_called, content.values())):
        content = [{"name": name, "split": split} for name, split in content.items()]  # of each image
    if isinstance(content, list) and all(isinstance(each, dict) for each in content):
        words = [[each for each in record.values() if isinstance(each, str)] for record in content]
        splits = [next(filter(None, map(split_called, those)), None) for those in words]
        if splits and all(splits):
            names = ["\t".join(word for word in those if not split_called(word)) for those in words]
            return [(split, number, name) for number, (split, name) in enumerate(zip(splits, names, strict=True), 1)]
        if not 0 <= fold < len(content):
            raise ConfigError(f"fold = {fold}: {path} has {len(content)} folds, from 0")
        content = content[fold]
    lists = content if isinstance(content, dict) else {"": content}
    has_train = any(split_called(name) == "train" and not is_train_and_val(name) for name in lists)
    names = [name for name in lists if not name or (split_called(name) and not (has_train and is_train_and_val(name)))]
    found = []
    for name in names:
        for number, entry in enumerate(lists[name] if isinstance(lists[name], list) else [lists[name]], 1):
            cells = [*entry.values()] if isinstance(entry, dict) else entry if isinstance(entry, list) else [entry]
            if not all(isinstance(cell, str) for cell in cells):
                raise DataError(f"{path}: {entry!r:.60} is no name; lists are as {{'train': ['a', 'b'], 'val': ['c']}}")
            found.append((split_called(name), number, "\t".join(cells)))
    if not found:
        raise DataError(f"{path} lists no names under train, val or test")
    return found


def without_suffix(name: str) -> str:
    """Return the name of a picture without its suffix."""
    return name[: name.rindex(".")] if name.lower().endswith(SUFFIXES) else name
