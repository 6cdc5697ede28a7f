"""Lists the images given on a command line: files, folders, patterns, and a list on the standard input."""

from __future__ import annotations

import glob
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from segkit.data.read import file_of, suffixes
from segkit.errors import DataError
from segkit_folder.layout import pictures
from segkit_folder.pictures import certain_parts
from segkit_folder.splits import SEVERAL, by_suffix


def list_images(
    places: Sequence[str | Path],
    skipped: Counter[str] | None = None,
    pattern: Any = None,
) -> dict[Path, str]:
    """Return image -> name without suffix, in order; a file that is given twice occurs once.

    Args:
        places: files, which may hold several pictures; folders, for the images directly in them; patterns such as
            ``photos/**/*.jpg``, which Windows' shell does not expand and other shells refuse if they match too much;
            ``-`` for a list of all these on the standard input, one per line, or each ended by a zero byte as by
            ``find -print0``.
        skipped: counts the other files in folders and patterns, by suffix.
        pattern: of the run's images, or another value if its dataset has no patterns. Several are those of the files of
            one image in a folder, and ``{id}`` is its name. What follows # in a single one selects the images among the
            pictures of a file, if any match; the others are counted as skipped.

    Raises:
        DataError: a folder, a pattern or the list contains no image.
    """
    skipped = Counter() if skipped is None else skipped
    found: dict[Path, str] = {}
    texts = isinstance(pattern, list | tuple) and all(isinstance(each, str) for each in pattern)
    patterns = pattern if texts else []  # of another dataset the option may be a number
    inside = pattern.partition("#")[2] if isinstance(pattern, str) else ""
    called = re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(inside)).replace(r"\*", "[^/]*"))
    for name in (each for place in places for each in (_standard_input() if str(place) == "-" else [str(place)])):
        if patterns and stat.S_ISDIR(_mode(Path(name))):
            found |= {each.path: each.values["id"] for each in pictures(Path(name), patterns)}
            continue
        for image in _images_at(name, skipped):
            file, part = file_of(image)
            every = certain_parts(file) if not part and file.suffix.lower() in SEVERAL else [part] if part else []
            parts = every if part else [each for each in every if called.fullmatch(each)] or every
            skipped.update({"pictures of other names": len(every) - len(parts)} if parts != every else {})
            found |= {Path(f"{file}#{each}"): f"{file.stem}_{each.replace('/', '_')}" for each in parts}
            found |= {} if every else {image: image.stem}
    once = {os.path.realpath(file): file for file in found}.values()  # Path.resolve raises on a loop of links
    return {file: found[file] for file in once}


def _standard_input() -> list[str]:
    """Return the names in a list, split at zero bytes if there are any (names may hold line breaks), else at lines."""
    text = sys.stdin.buffer.read()
    every = text.split(b"\0") if b"\0" in text else text.splitlines()
    if not (names := [os.fsdecode(name) for name in every if name.strip()]):
        raise DataError("the standard input names no image; give a file, a folder or a pattern per line")
    return names


def _images_at(place: str, skipped: Counter[str]) -> list[Path]:
    path = Path(place)
    if stat.S_ISDIR(_mode(path)):
        return _images_in(path, skipped)
    if _mode(path) or not glob.has_magic(place):  # a file name such as [1].jpg is no pattern
        return [path]
    matches = map(Path, sorted(glob.glob(place, recursive=True)))  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not (found := _chosen(matches, skipped)):
        raise DataError(f"no image matches {place}; looked for {', '.join(suffixes())}")
    return found


def _images_in(folder: Path, skipped: Counter[str]) -> list[Path]:
    others: Counter[str] = Counter()
    try:
        inside = _chosen(sorted(folder.iterdir()), others)
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error
    below = _chosen((path for path in folder.rglob("*") if path.parent != folder), Counter())
    if inside:
        skipped.update(others)
        skipped.update(f"{path.suffix.lower()} in its folders" for path in below)
        return inside
    if (folder / "run.json").exists():
        raise DataError(f"{folder} is the folder of a run, not of images; the run comes first: RUN IMAGES --out DIR")
    instead = f", and it holds {by_suffix(others)}" if others else ""
    instead += f'; {len(below)} images are in its folders: give "{folder}/**/*"' if below else ""
    raise DataError(f"{folder} holds no image; looked for {', '.join(suffixes())}{instead}")


def _chosen(files: Iterable[Path], skipped: Counter[str]) -> list[Path]:
    """Return the images among some paths, and count the other files, except hidden ones."""
    files = [file for file in files if stat.S_ISREG(_mode(file))]
    found = [file for file in files if file.suffix.lower() in suffixes()]
    others = {*files} - {*found}
    skipped.update(file.suffix.lower() for file in files if file in others and file.name[0] != ".")
    return found


def _mode(path: Path) -> int:
    """Return the mode of a file; 0 if it cannot be read, for example because the name is too long."""
    with suppress(OSError):
        return path.stat().st_mode
    return 0
