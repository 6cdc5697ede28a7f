"""Which pictures lie in a folder: files, and parts of files that surely hold several."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np

from segkit.data.read import opened
from segkit.errors import DataError
from segkit_folder.pairs import certain_parts, parts_of
from segkit_folder.splits import CONTAINERS, SEVERAL, SUFFIXES, TABLES, folders_in

MOST_SEEN = 5  # files that are opened
LEAST_SIDE = 8  # pixels: a shorter axis counts channels
MOST_FILES = 50_000  # that are looked at


def pictures_in(root: Path) -> Iterator[Path]:
    """The pictures below a folder, those in files of several too."""
    for folder, names in folders_in(root):
        own: dict[str, list[Path]] = {}
        for path in (folder / name for name in names):
            odd = re.search("[{}*]", path.relative_to(root).as_posix())
            suffix = path.suffix.lower()
            if suffix in (*SUFFIXES, *CONTAINERS, *TABLES) and not odd and path.is_file():
                kind = path.name[path.name.index(".") :].lower() if suffix in TABLES else suffix
                own.setdefault(kind, []).append(path)
        for suffix, paths in own.items():
            if suffix.endswith(TABLES):
                yield from paths if all(map(_is_matrix, paths[:MOST_SEEN])) else ()
                continue
            may_be_several = suffix in SEVERAL and (any(map(certain_parts, paths[:MOST_SEEN])) or _stacks(paths))
            yield from _parts_in(paths, suffix) if may_be_several else paths if suffix in SUFFIXES else ()


def _stacks(paths: Sequence[Path]) -> set[int]:
    """How many pictures arrays ``[N,H,W]`` hold, as grey pictures and their masks do, where a few files agree."""
    held = []
    for path in paths if len(paths) <= MOST_SEEN else ():
        with suppress(DataError), opened(path, whole=True) as raster:
            if len(shape := getattr(raster, "shape", ())) == 3 and min(shape) >= LEAST_SIDE:
                held.append(len(getattr(raster, "parts", ())))
    return {number for number in held if held.count(number) > 1}


def _is_matrix(path: Path) -> bool:
    """Whether a text file begins with rows of whole numbers, of one length."""
    with suppress(OSError, ValueError), path.open(encoding="utf-8-sig") as file:
        rows = [[float(cell) for cell in re.split(r"[,\s]+", line.strip())[1:]] for line in islice(file, 8)]
        return (
            len(rows) > 7 and {*map(len, rows)} == {len(rows[0])} and len(rows[0]) > 6 and not np.any(np.mod(rows, 1))
        )
    return False


def _parts_in(paths: Sequence[Path], suffix: str) -> Iterator[Path]:
    """The pictures in files, some of which hold several; an array of three axes does so beside those that surely do."""
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
