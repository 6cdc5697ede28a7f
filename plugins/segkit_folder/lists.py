"""Read lists that assign splits: one file per split, or one table or JSON file for all; of names or pairs of files."""

from __future__ import annotations

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path

from segkit.errors import ConfigError, DataError, DataWarning, Issue, first_few
from segkit_folder.pairs import Found, Pattern
from segkit_folder.pictures import folders_in
from segkit_folder.rows import Line, lines_of, without_suffix
from segkit_folder.rows import Lists as Lists
from segkit_folder.splits import (
    ANY_SPLIT,
    SPLIT_WORD,
    SUFFIXES,
    composed,
    read_text,
    split_called,
)

_LIST = re.compile(
    rf"(?:lists?[-_])?(?:{ANY_SPLIT}|trainval|splits?)\d*(?:[-_](?:lists?|ids?|files?|names?|set|final))?\.(?:txt|csv|lst|json)",
    re.IGNORECASE,
)
_OF_A_RUN = re.compile(r"(?i)(?<![^\W_])(logs?|loss(es)?|metrics?|history|results?|scores?)(?![^\W_])")
_HEADING = re.compile(r"(?i)[\"#]*(image|img|file|mask|label|name|id|path|sample)[a-z_ ]*\"?")  # a column's heading
_COLUMN = re.compile(
    r"(?i)(is[-_ ]?)?(train(ing)?|val(id(ation)?)?|test(ing)?|k?[-_ ]?folds?|split\w*|subset|partition|usage|phase|set)"
    r"([-_ ]?id)?"
)
_DEPTH = 4  # levels of folders that are searched: VOCdevkit/VOC2010/ImageSets/Segmentation
_MOST_TABLES = 20  # files that are searched for splits inside
_MOST_BYTES = 4 << 20


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
        names = [without_suffix(composed(text.strip(' "/'))) for text in (line.text, *cells)]
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
    for file in [*dict.fromkeys((*called, *_tables(root, "csv", "tsv", "json")))][:_MOST_TABLES]:
        name = file.relative_to(root).as_posix()
        with suppress(DataError, ConfigError):  # it is no list; ConfigError: an empty JSON list has no fold
            lines = [*lines_of(root, name)] if file.stat().st_size < _MOST_BYTES else []
            pictures = {sum(cell.lower().endswith(SUFFIXES) for cell in line.cells) for line in lines[1:]}
            if "train" in {line.split for line in lines} or pictures == {2}:
                yield name


def _tables(root: Path, *suffixes: str) -> list[Path]:
    return [path for deep in ("*", "*/*") for end in suffixes for path in sorted(root.glob(f"{deep}.{end}"))]


def unread_columns(root: Path, names: Collection[str]) -> Iterator[str]:
    """Yield text about each table with a column such as fold or usage, if it names most of the images ``names``."""
    for file in _tables(root, "csv", "tsv")[:_MOST_TABLES]:
        with suppress(DataError):
            lines = read_text(file).splitlines() if file.stat().st_size < _MOST_BYTES else []
            heading, *rows = [Line(None, "", 0, line).cells for line in lines if line.strip()] or [[]]
            cells = {cell.replace("\\", "/").rpartition("/")[2] for row in rows for cell in row}
            if 2 * len({*names} & {*map(without_suffix, cells)}) > len(names):
                for each, column in zip(heading, zip_longest(*rows), strict=False):
                    if _COLUMN.fullmatch(each) and 1 < len({*column}) <= len(rows) / 2:  # else measurements
                        yield f"the column '{each}' of {file}"


def _is_table(root: Path, files: Iterable[Path]) -> bool:
    """Whether files hold columns without pictures and splits, and so are other tables than lists."""
    with suppress(DataError):
        lines = [line for file in files for line in lines_of(root, str(file.relative_to(root)))]
        cells = [cell for line in lines for cell in line.cells]
        has_columns = any(re.search(r"[\t,;]", line.text) and not line.split for line in lines)
        return has_columns and not any(cell.lower().endswith(SUFFIXES) for cell in cells)
    return False
