"""List the contents of a folder: subfolders, files, pictures, and the pictures inside files that hold several."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np

from segkit.data.read import opened
from segkit.errors import DataError
from segkit_folder.splits import CONTAINERS, SEVERAL, SUFFIXES, TABLES

MOST_SEEN = 5  # files of one type that are opened
LEAST_SIDE = 8  # pixels; a shorter axis is the channel axis
MOST_FILES = 50_000  # pictures that are considered
_SYSTEM = ("thumbs.db", "desktop.ini", "__macosx")  # Windows and macOS add these to folders and archives
_SETTLED = 3_000_000_000  # nanoseconds

Listing = tuple[tuple[str, ...], tuple[str, ...]]
"""The sorted names of the subfolders and of the files in a folder, without hidden ones and those of the system."""


def version_of(path: str | Path) -> object:
    """Return a value that stays equal until the file or folder changes; for a recent change it never compares equal.

    The time stamps of file systems are accurate to two seconds (FAT) or better.
    """
    try:
        state = os.stat(path)  # noqa: PTH116  (a third of pathlib's time)
    except OSError:  # reading the file will raise an error
        return object()
    times = state.st_mtime_ns, state.st_ctime_ns
    return (*times, state.st_size) if time.time_ns() - max(times) > _SETTLED else object()


def listing(folder: str | Path) -> Listing:
    """Return the contents of a folder, empty if it cannot be read; cached until the folder changes."""
    with suppress(OSError):
        return _listing(str(folder), version_of(folder))
    return (), ()


@lru_cache(1 << 16)
def _listing(folder: str, version: object) -> Listing:
    with os.scandir(folder) as entries:
        shown = [each for each in entries if each.name[0] != "." and each.name.lower() not in _SYSTEM]
        are_folders = {each.name: each.is_dir() for each in shown}
    folders, files = (tuple(sorted(name for name in are_folders if are_folders[name] is of)) for of in (True, False))
    return folders, files


@lru_cache(1 << 17)
def path_in(folder: Path, name: str) -> Path:
    """Return ``folder / name``, cached so that the path object keeps the parts and the hash that Python computed."""
    return folder / name


def folders_in(root: Path, depth: float = math.inf) -> Iterator[tuple[Path, Sequence[str]]]:
    """Yield a folder and all folders below it, each with the names of its files, in order and without hidden ones.

    Links to folders are followed, except to a parent of ``root``; no folder is entered twice.
    """
    whole = root.resolve()
    entered = {*map(str, (whole, *whole.parents))}
    waiting = [(root, str(whole), 0)]
    while waiting:
        folder, real, level = waiting.pop()
        folders, files = listing(folder)
        yield folder, files
        below = []
        for name in folders if level < depth else ():
            place = os.path.join(real, name)  # noqa: PTH118
            place = os.path.realpath(place) if os.path.islink(place) else place  # noqa: PTH114
            if place not in entered:
                entered.add(place)
                below.append((folder / name, place, level + 1))
        waiting += below[::-1]


def pictures_in(root: Path) -> Iterator[Path]:
    """Yield the pictures below a folder, including each picture inside a file that holds several."""
    for folder, names in folders_in(root):
        by_kind: dict[str, list[Path]] = {}
        below = folder.relative_to(root).as_posix()
        for name in names if "*" not in below else ():
            suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122
            if suffix in (*SUFFIXES, *CONTAINERS, *TABLES) and "*" not in name:
                path = path_in(folder, name)
                if os.path.isfile(path):  # noqa: PTH113
                    kind = name[name.index(".") :].lower() if suffix in TABLES else suffix
                    by_kind.setdefault(kind, []).append(path)
        for suffix, paths in by_kind.items():
            if suffix.endswith(TABLES):
                yield from paths if all(map(_is_matrix, paths[:MOST_SEEN])) else ()
                continue
            may_be_several = suffix in SEVERAL and (any(map(certain_parts, paths[:MOST_SEEN])) or _stacks(paths))
            yield from _parts_in(paths, suffix) if may_be_several else paths if suffix in SUFFIXES else ()


def parts_of(path: Path) -> list[str]:
    """Return the names of the pictures in a file that may hold several.

    Raises:
        DataError: the file cannot be opened.
    """
    return [*_parts(str(path), version_of(path))[0]]


def certain_parts(path: Path) -> list[str]:
    """Return the names of the pictures in a file; empty if it may be a single picture or cannot be opened."""
    with suppress(DataError):
        names, may_be_one = _parts(str(path), version_of(path))
        return [] if may_be_one else [*names]
    return []


@lru_cache(1 << 12)
def _parts(path: str, version: object) -> tuple[tuple[str, ...], bool]:
    """Return the names of the pictures in a file, and whether it may be a single picture; cached until it changes."""
    with opened(Path(path), whole=True) as raster:
        return tuple(getattr(raster, "parts", ())), hasattr(raster, "shape")


def _stacks(paths: Sequence[Path]) -> set[int]:
    """Return each N for which at least two of the files hold an array ``[N,H,W]``, such as grey images and masks."""
    held = []
    for path in paths if len(paths) <= MOST_SEEN else ():
        with suppress(DataError), opened(path, whole=True) as raster:
            if len(shape := getattr(raster, "shape", ())) == 3 and min(shape) >= LEAST_SIDE:
                held.append(len(getattr(raster, "parts", ())))
    return {number for number in held if held.count(number) > 1}


def _is_matrix(path: Path) -> bool:
    """Whether a text file begins with rows of whole numbers, all of the same length."""
    with suppress(OSError, ValueError), path.open(encoding="utf-8-sig") as file:
        rows = [[float(cell) for cell in re.split(r"[,;\s]+", line.strip())] for line in islice(file, 8)]
        return (
            len(rows) > 7 and {*map(len, rows)} == {len(rows[0])} and len(rows[0]) > 6 and not np.any(np.mod(rows, 1))
        )
    return False


def _parts_in(paths: Sequence[Path], suffix: str) -> Iterator[Path]:
    """Yield the pictures in files; a 3-axis ``.npy`` array is split if other files hold the same number of pictures."""
    parts = {path: certain_parts(path) for path in paths}
    counts = ({*map(len, parts.values())} | _stacks(paths)) - {0}
    for path, names in parts.items():
        if not names and suffix == ".npy":
            with suppress(DataError):
                names = parts_of(path)
            names = names if len(names) in counts else []
        yield from (Path(f"{path}#{name}") for name in names)
        if not names and suffix in SUFFIXES:
            yield path
