"""Read lists that assign splits: one file per split, or one table or JSON file for all; of names or pairs of files."""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from segkit.data.sample import SPLITS
from segkit.errors import ConfigError, DataError, DataWarning, Issue, first_few
from segkit_folder.pairs import Found, NoFiles, Pattern
from segkit_folder.pictures import folders_in
from segkit_folder.splits import (
    ANY_SPLIT,
    SPLIT_NAMES,
    SPLIT_WORD,
    SUFFIXES,
    composed,
    is_train_and_val,
    read_text,
    split_called,
)

_LIST = re.compile(
    rf"(?:lists?[-_])?(?:{ANY_SPLIT}|trainval|splits?)\d*(?:[-_](?:lists?|ids?|files?|names?|set|final))?\.(?:txt|csv|lst|json)",
    re.IGNORECASE,
)
_OF_A_RUN = re.compile(r"(?i)(?<![^\W_])(logs?|loss(es)?|metrics?|history|results?|scores?)(?![^\W_])")
_HEADING = re.compile(r"(?i)[\"#]*(image|img|file|mask|label|name|id|path|sample)[a-z_ ]*\"?")  # a column's heading
_DEPTH = 4  # levels of folders that are searched: VOCdevkit/VOC2010/ImageSets/Segmentation
_MOST_TABLES = 20  # files that are searched for splits inside
_MOST_BYTES = 4 << 20
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


def _entries(path: Path, text: str, fold: int) -> list[tuple[str | None, int, str]]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON, or cut short: {error}") from None
    if isinstance(content, list) and all(isinstance(each, dict) for each in content):
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


def listed(
    root: Path, lists: Lists, images: Sequence[Found], pattern: Pattern | None = None, fold: int = 0
) -> tuple[list[Found], dict[Path, str | None], list[tuple[str | None, Issue]]]:
    """Return the images that lists name, a mapping image -> split, and the issues of names without an image.

    A name is that of an image, with or without suffix and folders, its ``{id}``, or the value of another placeholder,
    such as the group or folder of several images. If lists name only val or test, all other images are train.
    """
    known: dict[str, list[Found]] = {}
    for each in images:
        path = without_suffix(composed(each.path.as_posix())).removeprefix(f"{root.as_posix()}/")
        for name in {each.name, each.name.rpartition("/")[2], each.values["id"], path}:
            known.setdefault(name, []).append(each)
    several: dict[str, list[Found]] = {}  # name of a group or a folder -> its images
    for each in images:
        folders = each.path.relative_to(root).parts[:-1] if each.path.is_relative_to(root) else ()
        for word in {*folders, *(word for name, word in each.values.items() if name not in ("id", "split"))} - {*known}:
            several.setdefault(composed(word), []).append(each)
    known |= several
    found: dict[Path, tuple[Found, Line]] = {}
    missing: list[tuple[str | None, Issue]] = []
    for line in lines_of(root, lists, fold):
        cells = sorted(  # pictures first, then paths, because a row number may look like a name
            (line.text.split()[0], *line.cells), key=lambda cell: (not cell.lower().endswith(SUFFIXES), "/" not in cell)
        )
        names = [without_suffix(composed(text.strip(' "'))) for text in (line.text, *cells)]
        names = [name for name in names if name] or [""]
        name = next((each for name in names for each in (name, name.rpartition("/")[2]) if each in known), "")
        selected = known.get(name, [])
        if len(selected) > 1 and name not in several:
            raise DataError(f"{line} may be {first_few([str(each.path) for each in selected])}; list the path")
        if not selected and line.number == 1 and any(map(_HEADING.fullmatch, line.cells)):
            continue
        if not selected:
            file = pattern.example({"id": names[0].rpartition("/")[2]}) if pattern else names[0]
            advice = "add the image or take it off the list"
            missing.append((line.split, Issue("missing", file, "listed but not there", advice, line.file)))
        for each in selected:
            _, other = found.setdefault(each.path, (each, line))
            if other.split != line.split:
                raise DataError(f"{line} is in {other.place}, too; a sample is in one split")
    named = {path: line.split for path, (_, line) in found.items()}
    chosen = [each for each, _ in found.values()]
    if named and not {None, "train"} & {*named.values()}:
        rest = [each for each in images if each.path not in named and each.values.get("split", "train") == "train"]
        warnings.warn(f"the lists name no train split: the {len(rest)} images that none names are train", stacklevel=4)
        chosen += rest
        named |= dict.fromkeys((each.path for each in rest), "train")
    return chosen, named, missing


def warn_of_lists(root: Path) -> None:
    """Warn about files that are named like a split: they may be lists, but are not read."""
    if lists := split_lists(root):
        pattern = _pattern(lists[0].relative_to(root))
        text = f"not read, though named like a split: {first_few([str(path) for path in lists])}; if they list names, "
        text += f'set lists = "{pattern}"; if they list images with their masks, pairs = "{pattern}"'
        ways = {"they list no images": {}, "they list the names of each split": {"lists": pattern}}
        warnings.warn(DataWarning(text, ways), stacklevel=3)


def _pattern(file: Path) -> str:
    return file.with_name(SPLIT_WORD.sub("{split}", file.name)).as_posix()


def split_lists(root: Path, depth: int = 2) -> list[Path]:
    """Return files named like a split (``train.txt``, ``val_list.csv``), up to ``depth`` levels below the root."""
    named = [folder / name for folder, names in folders_in(root, depth) for name in names if _LIST.fullmatch(name)]
    return sorted(named, key=lambda path: (len(path.parts), path))


def candidates(root: Path) -> Iterator[Lists]:
    """Yield what may be lists in a folder: files named like splits, and tables and JSON files of splits or of pairs.

    Files with other words, such as ``flood_train_data.csv``, are lists if they differ in the name of the split only.
    If there is no list of train alone, a list such as ``trainval`` is used for train.
    """
    every = [folder / name for folder, names in folders_in(root, _DEPTH) for name in names]
    texts = [path for path in every if path.suffix in (".txt", ".csv", ".lst") and SPLIT_WORD.search(path.stem)]
    texts = [path for path in texts if not _OF_A_RUN.search(path.stem)]  # whose epochs may be names of images
    alike = Counter(map(_pattern, texts)) if len(texts) <= _MOST_TABLES else {}  # more may be annotations
    called = [
        *dict.fromkeys((*split_lists(root, _DEPTH), *(path for path in texts if alike.get(_pattern(path), 0) > 1)))
    ]
    named: dict[str, dict[str, Path]] = defaultdict(dict)
    for file in called:
        if word := SPLIT_WORD.search(file.stem):
            named[_pattern(file.relative_to(root))][split_called(word[0]) or ""] = file
        elif file.stem.lower().startswith("trainval"):
            named[file.relative_to(root).with_name("{split}" + file.suffix).as_posix()]["trainval"] = file
    for pattern, files in named.items():
        both = files.pop("trainval", None)
        lists: Lists = pattern
        if both and "train" not in files:
            files = {"train": both, **{split: file for split, file in files.items() if split != "val"}}
            lists = {split: file.relative_to(root).as_posix() for split, file in files.items()}
        if files and (files.keys() >= {"train", "val"} or not _is_table(root, files.values())):
            yield lists
    tables = [path for deep in ("*", "*/*") for end in ("csv", "json") for path in sorted(root.glob(f"{deep}.{end}"))]
    for file in [*dict.fromkeys((*called, *tables))][:_MOST_TABLES]:
        name = file.relative_to(root).as_posix()
        with suppress(DataError, ConfigError):  # it is no list; ConfigError: an empty JSON list has no fold
            lines = [*lines_of(root, name)] if file.stat().st_size < _MOST_BYTES else []
            pictures = {sum(cell.lower().endswith(SUFFIXES) for cell in line.cells) for line in lines[1:]}
            if "train" in {line.split for line in lines} or pictures == {2}:
                yield name


def _is_table(root: Path, files: Iterable[Path]) -> bool:
    """Whether files hold columns without pictures and splits, and so are other tables than lists."""
    with suppress(DataError):
        lines = [line for file in files for line in lines_of(root, str(file.relative_to(root)))]
        cells = [cell for line in lines for cell in line.cells]
        has_columns = any(re.search(r"[\t,;]", line.text) and not line.split for line in lines)
        return has_columns and not any(cell.lower().endswith(SUFFIXES) for cell in cells)
    return False
