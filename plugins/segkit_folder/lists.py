"""Read lists that assign splits: one file per split, or one table or JSON file for all; of names or pairs of files."""

from __future__ import annotations

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from segkit.data.sample import SPLITS
from segkit.errors import ConfigError, DataError, DataWarning, Issue, first_few
from segkit_folder.pairs import Found, Pattern, natural
from segkit_folder.pictures import folders_in
from segkit_folder.records import RECORDS
from segkit_folder.rows import SPLIT_FILE, Line, without_suffix
from segkit_folder.rows import Lists as Lists
from segkit_folder.rows import lines_of as lines_of
from segkit_folder.splits import (
    ANY_SPLIT,
    SPLIT_WORD,
    SUFFIXES,
    composed,
    split_called,
)

_LIST = re.compile(
    rf"(?:lists?[-_])?(?:{ANY_SPLIT}|trainval|splits?)\d*"
    r"(?:[-_](?:lists?|ids?|files?|names?|set|final|id?x|ind(?:ex|ices)))?(?:\.(?:txt|csv|f?lst|f?list|jsonl?|ya?ml))?",
    re.IGNORECASE,
)
OF_A_RUN = re.compile(r"(?i)(?<![^\W_])(logs?|loss(es)?|metrics?|history|results?|scores?)(?![^\W_])")
_HEADING = re.compile(r"(?i)[\"#]*(image|img|file|mask|label|name|id|path|sample)[a-z_ ]*\"?")  # a column's heading
DEPTH = 4  # levels of folders that are searched: VOCdevkit/VOC2010/ImageSets/Segmentation
MOST_TABLES = 20  # files that are searched for splits inside
MOST_BYTES = 4 << 20


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
        parts = re.split(r"([_\-. ])", each.name.rpartition("/")[2])
        for word in {"".join(parts[:end]) for end in range(1, len(parts) - 1, 2)} - {*known}:  # of one patient or film
            several.setdefault(word, []).append(each)
    found: dict[Path, tuple[Found, Line]] = {}
    missing: list[tuple[str | None, Issue]] = []
    twice: dict[Path, str] = {}
    for line in _by_number([*lines_of(root, lists, fold)], images, {**several, **known}):
        cells = sorted(  # pictures first, then paths, because a row number may look like a name
            (line.text.split()[0], *line.cells), key=lambda cell: (not cell.lower().endswith(SUFFIXES), "/" not in cell)
        )
        names = [without_suffix(composed(text.strip(' "/'))) for text in (line.text, *cells)]
        names = [name for name in names if name] or [""]
        names = [each for name in names for each in (name, name.rpartition("/")[2])]
        pictures = [cell for cell in cells if cell.lower().endswith(SUFFIXES)]  # then other words are of none
        begun = {without_suffix(composed(cell)).rpartition("/")[2] for cell in pictures} or {*names}
        ways = (known, {name: several[name] for name in begun & several.keys()})
        selected = next((those[each] for those in ways for each in names if each in those), [])
        if len(selected) > 1 and selected not in several.values():
            raise DataError(f"{line} may be {first_few([str(each.path) for each in selected])}; list the path")
        if not selected and line.number == 1 and any(map(_HEADING.fullmatch, line.cells)):
            continue
        if not selected:
            name = without_suffix((pictures or re.split(r"[\t,;]", names[0]))[0])
            file = pattern.example({"id": name.rpartition("/")[2]}) if pattern else name
            advice = "add the image or take it off the list"
            where = str(line) if re.search(r"[\t,;]", line.text) else line.file
            missing.append((line.split, Issue("missing", file, "listed but not there", advice, where)))
        for each in selected:
            _, other = found.setdefault(each.path, (each, line))
            if other.split != line.split:
                twice[each.path] = f"{line} is in {other.place}, too"
                found[each.path] = each, max(line, other, key=lambda each: [*SPLITS].index(each.split or "train"))
    if twice:
        where = first_few([*twice.values()])
        text = f"{len(twice)} images are in two splits; each stays in test, or else in val: {where}"
        warnings.warn(DataWarning(text, {"leave them out of train, or of val if they are in test": {}}), stacklevel=4)
    named = {path: line.split for path, (_, line) in found.items()}
    chosen = [each for each, _ in found.values()]
    if named and not {None, "train"} & {*named.values()}:
        rest = [each for each in images if each.path not in named and each.values.get("split", "train") == "train"]
        warnings.warn(f"the lists name no train split: the {len(rest)} images that none names are train", stacklevel=4)
        chosen += rest
        named |= dict.fromkeys((each.path for each in rest), "train")
    return chosen, named, missing


def _by_number(lines: list[Line], images: Sequence[Found], words: Mapping[str, Sequence[Found]]) -> list[Line]:
    """Return lines of numbers that are no names with the images or groups of these numbers or, else, positions.

    1, P1 and "patient 1" mean patient001, if all numbers are there. Positions count from 0 or 1 in the order of names,
    if names have one order. Lines are returned as they are where the numbers leave a doubt.
    """
    texts = [line.cells[0] for line in lines]
    keys, cells = [*map(_numbered, texts)], {cell for line in lines for cell in line.cells}
    beside = {cell.rpartition("/")[2] for line in lines for cell in line.cells[1:] if not cell.isdecimal()}
    is_named = words.keys() >= {*texts} or any(cell.lower().endswith(SUFFIXES) for cell in cells)
    is_named = is_named or not words.keys().isdisjoint(beside)  # the numbers are those of rows
    starts, numbers = {start for start, _ in keys}, {number for _, number in keys}
    is_twice = len({(line.split, key) for line, key in zip(lines, keys, strict=True)}) < len(lines)  # labels
    if is_named or is_twice or -1 in numbers or len(starts) > 1:
        return lines
    kinds: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for (start, number), word in zip(map(_numbered, words), words, strict=True):
        kinds[start] += [(number, word)] * (number >= 0)
    ways: dict[str, dict[int, str]] = {}  # images of the numbers -> number -> name
    for start, those in kinds.items():
        own = dict(those)
        is_meant = all(start.startswith(each) or (start and each.startswith(start)) for each in starts)
        is_whole = len(own) == len(those) and sum(len(words[word]) for word in own.values()) == len(images)
        if is_meant and is_whole and numbers <= own.keys():
            ways[repr([words[own[number]] for number in sorted(numbers)])] = own
    names, are_positions = sorted(composed(each.path.as_posix()) for each in images), False
    if not ways and not all(each.name.rpartition("/")[2].isdecimal() for each in images):
        called = dict(enumerate(names, 0 if 0 in numbers else 1))
        are_positions = numbers <= called.keys() and (0 in numbers or max(numbers) == len(names))
        are_positions &= names == sorted(names, key=natural) and all(map(str.isdecimal, cells))
        ways = {"": called} if are_positions else {}
    if len(ways) != 1:
        return lines
    [called] = ways.values()
    found = [called[number] for _, number in keys]
    if are_positions or not starts & {_numbered(name)[0] for name in found}:
        what = f"positions of images in the order of names, from {min(called)}" if are_positions else "those in names"
        warnings.warn(f"lists hold numbers, which are taken as {what}: {texts[0]} is {found[0]}", stacklevel=5)
    return [line._replace(text=name) for line, name in zip(lines, found, strict=True)]


def _numbered(text: str) -> tuple[str, int]:
    """Return the word before the number at the end of a name, and the number; without one, -1."""
    match = re.fullmatch(r"([^\d/]*?)[-_. #]*(\d+)", text)
    return (match[1].casefold(), int(match[2])) if match else ("", -1)


def warn_of_lists(root: Path) -> None:
    """Warn about files that are named like a split: they may be lists, but are not read."""
    if lists := [path for path in split_lists(root) if path.suffix not in (".yaml", ".yml") or _is_list(path)]:
        pattern = _pattern(lists[0].relative_to(root))
        text = f"not read, though named like a split: {first_few([str(path) for path in lists])}; if they list names, "
        text += f'set lists = "{pattern}"; if they list images with their masks, pairs = "{pattern}"'
        ways = {"they list no images": {}, "they list the names of each split": {"lists": pattern}}
        warnings.warn(DataWarning(text, ways), stacklevel=3)


def _is_list(path: Path) -> bool:
    """Whether a file lists anything; YAML is rather the config of a program."""
    with suppress(DataError, ConfigError):
        return bool([*lines_of(path.parent, path.name)])
    return False


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
    every = [folder / name for folder, names in folders_in(root, DEPTH) for name in names]
    texts = [path for path in every if path.suffix in (".txt", ".csv", ".lst", ".npy") and SPLIT_WORD.search(path.stem)]
    texts = [path for path in texts if not OF_A_RUN.search(path.stem)]  # whose epochs may be names of images
    alike = Counter(map(_pattern, texts)) if len(texts) <= MOST_TABLES else {}  # more may be annotations
    called = [
        *dict.fromkeys((*split_lists(root, DEPTH), *(path for path in texts if alike.get(_pattern(path), 0) > 1)))
    ]
    named: dict[str, dict[str, Path]] = defaultdict(dict)
    for file in called:
        if word := SPLIT_WORD.search(file.stem):
            named[_pattern(file.relative_to(root))][split_called(word[0]) or ""] = file
        elif file.stem.lower().startswith("trainval"):
            named[file.relative_to(root).with_name("{split}" + file.suffix).as_posix()]["trainval"] = file
    inside = [path for path in every if path.suffix[1:] in ("txt", "csv", *RECORDS) and split_called(path.parent.name)]
    for file in inside if len(inside) <= MOST_TABLES else ():  # more may be annotations
        place = file.relative_to(root).parent.with_name("{split}") / file.name
        named[place.as_posix()][split_called(file.parent.name) or ""] = file
    for pattern, files in named.items():
        both = files.pop("trainval", None)
        lists: Lists = pattern
        if both and "train" not in files:
            files = {"train": both, **{split: file for split, file in files.items() if split != "val"}}
            lists = {split: file.relative_to(root).as_posix() for split, file in files.items()}
        if files and (files.keys() >= {"train", "val"} or not _is_table(root, files.values())):
            yield lists
    others = [path for path in tables_in(root, "txt") if SPLIT_FILE.search(path.stem)]
    for file in [*dict.fromkeys((*called, *tables_in(root, "csv", "tsv", *RECORDS), *others))][:MOST_TABLES]:
        name = file.relative_to(root).as_posix()
        with suppress(DataError, ConfigError):  # it is no list; ConfigError: an empty JSON list has no fold
            lines = [*lines_of(root, name)] if file.stat().st_size < MOST_BYTES else []
            pictures = {sum(cell.lower().endswith(SUFFIXES) for cell in line.cells) for line in lines[1:]}
            if "train" in {line.split for line in lines} or pictures == {2}:
                yield name


def tables_in(root: Path, *suffixes: str) -> list[Path]:
    """Return the files with these suffixes in a folder and in the folders in it."""
    return [path for deep in ("*", "*/*") for end in suffixes for path in sorted(root.glob(f"{deep}.{end}"))]


def _is_table(root: Path, files: Iterable[Path]) -> bool:
    """Whether files hold columns without pictures and splits, and so are other tables than lists."""
    with suppress(DataError):
        lines = [line for file in files for line in lines_of(root, str(file.relative_to(root)))]
        cells = [cell for line in lines for cell in line.cells]
        has_columns = any(re.search(r"[\t,;]", line.text) and not line.split for line in lines)
        return has_columns and not any(cell.lower().endswith(SUFFIXES) for cell in cells)
    return False
