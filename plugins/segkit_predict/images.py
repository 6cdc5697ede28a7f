"""Which images a command line means: files, folders, patterns, and a list on the standard input."""

from __future__ import annotations

import glob
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from segkit.data.read import file_of, suffixes
from segkit.errors import DataError
from segkit_folder.layout import pictures
from segkit_folder.pairs import certain_parts
from segkit_folder.splits import SEVERAL, by_suffix


def list_images(
    places: Sequence[str | Path], skipped: Counter[str] | None = None, patterns: Sequence[str] = ()
) -> dict[Path, str]:
    """The images that are meant, in order, and what they are called; a file that is named twice comes once.

    Args:
        places: files, all pictures in one that holds several; folders, for the images directly in them; patterns such
            as ``photos/**/*.jpg``, which Windows' shell does not expand and others refuse to where they match too much;
            ``-`` for a list of all these on the standard input, a line each, or a zero byte after each as
            ``find -print0`` has it.
        skipped: takes in the other files in folders and patterns, counted by the ends of their names.
        patterns: of the files of one image in a folder; its ``{id}`` is what it is called.

    Raises:
        DataError: a folder, a pattern or the list names no image.
    """
    skipped = Counter() if skipped is None else skipped
    names = [name for place in places for name in (_standard_input() if str(place) == "-" else [str(place)])]
    found: dict[Path, str] = {}
    for name in names:
        if patterns and stat.S_ISDIR(_mode(Path(name))):
            found |= {each.path: each.values["id"] for each in pictures(Path(name), patterns)}
        else:
            found |= {part: called for image in _images_at(name, skipped) for part, called in _parts(image)}
    once = {os.path.realpath(file): file for file in found}.values()  # Path.resolve raises at a loop of links
    return {file: found[file] for file in once}


def _parts(image: Path) -> list[tuple[Path, str]]:
    """The pictures in a file, as paths, and what they are called: that of a stack with the page's name behind it."""
    file, part = file_of(image)
    several = not part and file.suffix.lower() in SEVERAL
    parts = certain_parts(file) if several else [part] if part else []
    named = [(Path(f"{file}#{each}"), f"{file.stem}_{each.replace('/', '_')}") for each in parts]
    return named or [(image, image.stem)]


def _standard_input() -> list[str]:
    """The names in a list: zero bytes end them where there are any, as names may hold line breaks; else lines."""
    text = sys.stdin.buffer.read()
    names = text.split(b"\0") if b"\0" in text else text.splitlines()
    found = [os.fsdecode(name) for name in names if name.strip()]
    if not found:
        raise DataError("the standard input names no image; a file, a folder or a pattern a line is expected")
    return found


def _images_at(place: str, skipped: Counter[str]) -> list[Path]:
    path = Path(place)
    if stat.S_ISDIR(_mode(path)):
        return _images_in(path, skipped)
    if _mode(path) or not glob.has_magic(place):  # a file may be called [1].jpg
        return [path]
    matches = map(Path, sorted(glob.glob(place, recursive=True)))  # noqa: PTH207 - Path.glob takes no absolute pattern
    found = _chosen(matches, skipped)
    if not found:
        raise DataError(f"no image matches {place}; looked for {', '.join(suffixes())}")
    return found


def _images_in(folder: Path, skipped: Counter[str]) -> list[Path]:
    others: Counter[str] = Counter()
    try:
        inside = _chosen(sorted(folder.iterdir()), others)
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error
    if not inside and (folder / "run.json").exists():
        raise DataError(f"{folder} is the folder of a run, not of images; the run comes first: RUN IMAGES --out DIR")
    below = _chosen((path for path in folder.rglob("*") if path.parent != folder), Counter())
    if not inside:
        instead = f", and it holds {by_suffix(others)}" if others else ""
        instead += f'; {len(below)} images are in its folders: give "{folder}/**/*"' if below else ""
        raise DataError(f"{folder} holds no image; looked for {', '.join(suffixes())}{instead}")
    skipped.update(others)
    skipped.update(f"{path.suffix.lower()} in its folders" for path in below)
    return inside


def _chosen(files: Iterable[Path], skipped: Counter[str]) -> list[Path]:
    """The images among some paths; other files are counted, but for hidden ones."""
    files = [file for file in files if stat.S_ISREG(_mode(file))]
    skipped.update(
        suffix for file in files if (suffix := file.suffix.lower()) not in suffixes() and file.name[0] != "."
    )
    return [file for file in files if file.suffix.lower() in suffixes()]


def _mode(path: Path) -> int:
    """What kind of file it is; 0 where that cannot be told, as of a name that is too long."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0
