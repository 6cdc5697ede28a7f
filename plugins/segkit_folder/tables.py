"""Read tables beside images, with a column of groups, and find files that may assign splits but are not read."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path

from segkit.errors import DataError, first_few
from segkit_folder.lists import DEPTH, MOST_BYTES, MOST_TABLES, OF_A_RUN, split_lists, tables_in
from segkit_folder.pictures import folders_in
from segkit_folder.rows import SPLIT_FILE, Line, without_suffix
from segkit_folder.splits import SPLIT_WORD, read_text

_COLUMN = re.compile(
    r"(?i)(is[-_ ]?)?(train(ing)?|val(id(ation)?)?|test(ing)?|k?[-_ ]?folds?|split\w*|subset|partition|usage|phase|set)"
    r"([-_ ]?id)?"
)
_OF_GROUPS = re.compile(
    r"(?i)(patient|subject|person|participant|case|animal|slide|specimen|study|scene|video|sequence|volume|series)s?"
    r"([-_ ]?(id|no|number|name|code|key|uid|instanceuid))?"
)
SITES = re.compile(
    r"(?i)(site|cent(?:er|re)|hospital|institut(?:e|ion)|clinic|cohort|scanner|vendor)s?([-_ ]?(id|number|name|code)|)"
)
"""Names of columns of sites, whose pictures one may want to keep in one split."""
_DEALT = re.compile(  # names of lists that say nothing else
    r"(?i)(?<![^\W_])(learn(ing)?|exam|public|private|(un)?seen|(un)?label+ed|yes|no|[a-z]|set)\d*(?![^\W_])"
)
_FEW_GROUPS = 10  # fewer words without numbers may be kinds
_CLOSED = (".pkl", ".pickle", ".mat", ".xls", ".xlsx", ".ods", ".parquet", ".feather", ".npy", ".npz")
_TEXTS = ("", ".txt", ".lst", ".list", ".csv", ".tsv", ".xml", ".toml", ".json", ".yaml", ".yml")
_MOST_TEXTS = 100  # more may be annotations
_MARKS = r"[\s,;:|\"'<>\[\](){}=]+"


def unread_columns(root: Path, names: Collection[str]) -> Iterator[str]:
    """Yield text about each table with a column such as fold or usage, if it names most of the images ``names``."""
    for file, columns, _ in _tables_of(root, names):
        for heading, *cells in columns:
            good = sum(cell in ("1", "True", "true") for cell in cells) * ("val" in heading.lower())
            is_coarse = 1 < len({*cells}) <= len(cells) / 2  # else measurements
            if _COLUMN.fullmatch(heading) and is_coarse and 2 * good < len(cells):  # else valid means good
                yield f"the column '{heading}' of {file} ({first_few(sorted({*cells}))})"


def columns_of_groups(
    root: Path, names: Collection[str], words: re.Pattern[str] = _OF_GROUPS
) -> Iterator[tuple[str, int]]:
    """Yield each column of patients, films or the like, as the option ``group`` takes it, and the number of groups."""
    for file, columns, named in _tables_of(root, names):
        for heading, *cells in columns:
            number = len({cell for cell, name in zip(cells, named, strict=True) if name in names})
            match = words.fullmatch(heading)
            are_kinds = number < _FEW_GROUPS and not all(re.search(r"\d", cell) for cell in cells)  # cat, dog, cow
            if match and (match[2] is not None or not are_kinds) and all(cells) and 2 < number <= len(names) / 2:
                yield f"{file.relative_to(root).as_posix()}#{heading}", number


def groups_in(root: Path, text: str, names: Collection[str]) -> dict[str, str]:
    """Return image -> group for "table.csv#column".

    Raises:
        DataError: there is no such table that names most images, or no such column.
    """
    place, _, heading = text.rpartition("#")
    for file, columns, named in _tables_of(root, names):
        if file == root / place and (cells := [column[1:] for column in columns if column[0] == heading]):
            return dict(zip(named, cells[0], strict=True))
    raise DataError(f'group = "{text}": no table {root / place} with a column {heading} that names most images')


def _tables_of(root: Path, names: Collection[str]) -> Iterator[tuple[Path, list[tuple[str, ...]], list[str]]]:
    """Yield each table that names most of the images ``names``, with its columns, and the name of each row."""
    for file in tables_in(root, "csv", "tsv")[:MOST_TABLES]:
        with suppress(DataError):
            lines = read_text(file).splitlines() if file.stat().st_size < MOST_BYTES else []
            rows = [Line(None, "", 0, line).cells for line in lines if line.strip()]
            columns = [*zip_longest(*rows, fillvalue="")]
            named = [
                [without_suffix(cell.replace("\\", "/").rpartition("/")[2]) for cell in own[1:]] for own in columns
            ]
            found = max(named, key=lambda own: len({*own} & {*names}), default=[])
            if 2 * len({*found} & {*names}) > len(names):
                yield file, columns, found


def unread_files(root: Path, names: Collection[str]) -> Iterator[tuple[str, bool]]:
    """Yield text about files that may assign the images ``names`` to splits, but are not read; true for kinds.

    They are called after splits and have other formats or name most images, or are texts that name different images;
    such texts may rather list kinds of images, as cats.txt and dogs.txt do.
    """
    every = [folder / name for folder, held in folders_in(root, DEPTH) for name in held]
    texts = [path for path in every if path.suffix.lower() in _TEXTS and path not in split_lists(root)]
    texts = texts if len(texts) < _MOST_TEXTS else []
    texts = [path for path in texts if path.stat().st_size < MOST_BYTES and not OF_A_RUN.search(path.stem)]
    alike: dict[tuple[Path, str], dict[Path, set[str]]] = defaultdict(dict)
    for file in texts:
        with suppress(DataError):
            held = {without_suffix(word.rpartition("/")[2]) for word in re.split(_MARKS, read_text(file))}
            words = held & {*names}
            if len(words) > 1 and (2 * len(words) > len(held) or not all(map(str.isdecimal, words))):  # else prose
                alike[file.parent, file.suffix][file] = alike[file.parent.parent, file.name][file] = words
    found = [[file] for those in alike.values() for file in those if 2 * len(those[file]) > len(names)]
    found = [files for files in found if SPLIT_FILE.search(files[0].stem)]
    of_data = {file.suffix for file in every if file.stem in names}  # arrays of images, or of masks of the same name
    closed = [file for file in every if file.suffix.lower() in _CLOSED and file.suffix not in of_data]
    found += [[file] for file in closed if SPLIT_FILE.search(file.stem) or SPLIT_WORD.search(file.stem)]
    for those in alike.values():
        number = len(set().union(*those.values()))
        if len(those) > 1 and 2 * number > len(names) and number == sum(map(len, those.values())):
            found.append([*those])
    for files in dict.fromkeys(map(tuple, found)):
        called = [path.relative_to(root).with_suffix("").as_posix() for path in files]
        are_kinds = len(files) > 1 and not any(SPLIT_FILE.search(each) or _DEALT.search(each) for each in called)
        yield first_few([*map(str, files)]), are_kinds
