"""Read lists that assign splits: one file per split, or one table or JSON file for all; of names or pairs of files."""

from __future__ import annotations

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import zip_longest
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
    read_text,
    split_called,
)

_LIST = re.compile(
    rf"(?:lists?[-_])?(?:{ANY_SPLIT}|trainval|splits?)\d*"
    r"(?:[-_](?:lists?|ids?|files?|names?|set|final|id?x|ind(?:ex|ices)))?(?:\.(?:txt|csv|f?lst|f?list|jsonl?|ya?ml))?",
    re.IGNORECASE,
)
_OF_A_RUN = re.compile(r"(?i)(?<![^\W_])(logs?|loss(es)?|metrics?|history|results?|scores?)(?![^\W_])")
_HEADING = re.compile(r"(?i)[\"#]*(image|img|file|mask|label|name|id|path|sample)[a-z_ ]*\"?")  # a column's heading
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
_DEPTH = 4  # levels of folders that are searched: VOCdevkit/VOC2010/ImageSets/Segmentation
_MOST_TABLES = 20  # files that are searched for splits inside
_MOST_BYTES = 4 << 20
_CLOSED = (".pkl", ".pickle", ".mat", ".xls", ".xlsx", ".ods", ".parquet", ".feather", ".npy", ".npz")
_TEXTS = ("", ".txt", ".lst", ".list", ".csv", ".tsv", ".xml", ".toml", ".json", ".yaml", ".yml")
_MOST_TEXTS = 100  # more may be annotations
_MARKS = r"[\s,;:|\"'<>\[\](){}=]+"


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
    is_named = words.keys() >= {*texts} or any(cell.lower().endswith(SUFFIXES) for cell in cells)
    starts, numbers = {start for start, _ in keys}, {number for _, number in keys}
    is_twice = len({(line.split, key) for line, key in zip(lines, keys, strict=True)}) < len(lines)  # labels
    if is_named or is_twice or -1 in numbers or len(starts) > 1:
        return lines
    kinds: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for (start, number), word in zip(map(_numbered, words), words, strict=True):
        kinds[start] += [(number, word)] * (number >= 0)
    ways: dict[str, dict[int, str]] = {}  # images of the numbers -> number -> name
    for start, those in kinds.items():
        own, is_meant = (
            dict(those),
            all(start.startswith(each) or (start and each.startswith(start)) for each in starts),
        )
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
    every = [folder / name for folder, names in folders_in(root, _DEPTH) for name in names]
    texts = [path for path in every if path.suffix in (".txt", ".csv", ".lst", ".npy") and SPLIT_WORD.search(path.stem)]
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
    inside = [path for path in every if path.suffix[1:] in ("txt", "csv", *RECORDS) and split_called(path.parent.name)]
    for file in inside if len(inside) <= _MOST_TABLES else ():  # more may be annotations
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
    others = [path for path in _tables(root, "txt") if SPLIT_FILE.search(path.stem)]
    for file in [*dict.fromkeys((*called, *_tables(root, "csv", "tsv", *RECORDS), *others))][:_MOST_TABLES]:
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
    for file in _tables(root, "csv", "tsv")[:_MOST_TABLES]:
        with suppress(DataError):
            lines = read_text(file).splitlines() if file.stat().st_size < _MOST_BYTES else []
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
    every = [folder / name for folder, held in folders_in(root, _DEPTH) for name in held]
    texts = [path for path in every if path.suffix.lower() in _TEXTS and path not in split_lists(root)]
    texts = texts if len(texts) < _MOST_TEXTS else []
    texts = [path for path in texts if path.stat().st_size < _MOST_BYTES and not _OF_A_RUN.search(path.stem)]
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


def _is_table(root: Path, files: Iterable[Path]) -> bool:
    """Whether files hold columns without pictures and splits, and so are other tables than lists."""
    with suppress(DataError):
        lines = [line for file in files for line in lines_of(root, str(file.relative_to(root)))]
        cells = [cell for line in lines for cell in line.cells]
        has_columns = any(re.search(r"[\t,;]", line.text) and not line.split for line in lines)
        return has_columns and not any(cell.lower().endswith(SUFFIXES) for cell in cells)
    return False
