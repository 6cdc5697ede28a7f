"""Read JSON, YAML and NumPy files that assign images to splits or to folds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from segkit.errors import ConfigError, DataError
from segkit_folder.splits import is_train_and_val, read_text, split_called, split_in

RECORDS = ("json", "jsonl", "yaml", "yml", "npy", "npz")
"""File types that hold lists of names, or records."""
FOLD = re.compile(r"(?i)((k|cv)?[-_ ]?folds?|cv)([-_ ]?(id|no|number|index|\d+))?")
"""Regular expression for the name of a fold, or of a column of folds."""
MOST_FOLDS = 20
_Entries = list[tuple[str | None, int, Any]]


def entries_of(path: Path, fold: int) -> list[tuple[str | None, int, str]]:
    """Return split, number and text of each entry of a file; a record's text is its cells, separated by tabs.

    Raises:
        ConfigError: there is no such fold.
        DataError: the file cannot be read or is no list.
    """
    content = _content(path)
    ways = _divisions(content) or [
        [(None, *each) for each in enumerate(content if isinstance(content, list) else [], 1)]
    ]
    found = [(split, number, _text(entry)) for split, number, entry in fold_of(ways, fold * (len(ways) > 1), path)]
    if odd := next((number for _, number, text in found if not text), 0):
        raise DataError(f"{path}, entry {odd} is no name; lists are as {{'train': ['a', 'b'], 'val': ['c']}}")
    if not found:
        raise DataError(f"{path} lists no names under train, val or test")
    return found


def fold_of(folds: Sequence[Any], fold: int, where: object) -> Any:
    """Return one of several folds.

    Raises:
        ConfigError: there is no such fold.
    """
    if not 0 <= fold < len(folds):
        raise ConfigError(f"fold = {fold}: {where} has {len(folds)} folds, from 0")
    return folds[fold]


def _content(path: Path) -> Any:
    """Return what a file holds; numbers in YAML stay text, because 007 may be a name."""
    kind = path.suffix[1:].lower()
    try:
        if kind in ("npy", "npz"):
            held = np.load(path, mmap_mode="r")
            arrays = {"": held} if kind == "npy" else {name: held[name] for name in held}
            lists = {
                name: each.ravel().tolist() for name, each in arrays.items() if each.size in each.shape
            }  # no picture
            return lists if kind == "npz" else lists.get("")
        text = read_text(path)
        if kind == "jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        return json.loads(text) if kind == "json" else yaml.load(text, yaml.CBaseLoader)
    except (OSError, EOFError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{path} is no {kind.upper()}, or cut short: {error}") from None


def _text(entry: Any) -> str:
    """Return the texts of an entry without the name of its split, or the number of an image; else ""."""
    if isinstance(entry, int) and not isinstance(entry, bool):
        return str(entry)
    if isinstance(entry, Mapping):
        return "\t".join(cell for cell in entry.values() if isinstance(cell, str) and not split_called(cell))
    cells = entry if isinstance(entry, list) else [entry]
    return "\t".join(cells) if all(isinstance(cell, str) for cell in cells) else ""


def _divisions(content: Any) -> list[_Entries]:
    """Return the divisions into splits, one or one a fold, that nested mappings and lists hold.

    They are {"train": [...], "val": [...]}, {name: split}, {"fold1": [...], "fold2": [...]} or records with a
    split or a fold each; nnU-Net's is a list of the first.
    """
    if isinstance(content, list):
        return _of_records(content) if all(isinstance(each, dict) for each in content) else []
    if not isinstance(content, dict):
        return []
    lists = {
        str(name): each if isinstance(each, list) else [each]
        for name, each in content.items()
        if isinstance(each, list | str)
    }
    called = [name for name in lists if split_called(name)] or [name for name in lists if split_in(name)]
    if any(split_in(name) == "train" and not is_train_and_val(name) for name in called):
        called = [name for name in called if not is_train_and_val(name)]
    if called:
        return [[(split_in(name), *each) for name in called for each in enumerate(lists[name], 1)]]
    if content and all(isinstance(each, str) and split_called(each) for each in content.values()):
        return [[(split_called(split), number, name) for number, (name, split) in enumerate(content.items(), 1)]]
    are_folds = all(FOLD.fullmatch(name) or name.isdecimal() for name in lists) and 1 < len(lists) <= MOST_FOLDS
    named = [(name, each) for name, those in lists.items() for each in those]
    if are_folds and len(lists) == len(content) and not any(isinstance(each, int | float) for _, each in named):
        return _of_folds(named)
    return [way for each in content.values() for way in _divisions(each)]


def _of_records(records: Sequence[Mapping[str, Any]]) -> list[_Entries]:
    """Return the divisions that records name by a split or a fold each, or those within the records."""
    words = [[split_called(each) for each in record.values() if isinstance(each, str)] for record in records]
    splits = [next(filter(None, those), None) for those in words]
    if splits and all(splits):
        return [[(split, *each) for split, each in zip(splits, enumerate(records, 1), strict=True)]]
    for key in [key for key in records[0] if FOLD.fullmatch(str(key))] if records else ():
        if all(isinstance(each.get(key), int | str) for each in records):
            return _of_folds([(str(each[key]), {**each, key: None}) for each in records])
    return [way for each in records for way in _divisions(each)]


def _of_folds(entries: Sequence[tuple[str, Any]]) -> list[_Entries]:
    """Return a division for each fold, which is its val."""
    folds = sorted({fold for fold, _ in entries}, key=lambda each: (len(each), each))
    return [
        [("val" if own == fold else "train", number, each) for number, (own, each) in enumerate(entries, 1)]
        for fold in folds
    ]
