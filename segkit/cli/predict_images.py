"""Which images a command line means: files, folders, patterns, and a list on the standard input."""

from __future__ import annotations

import glob
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from segkit.errors import DataError

STANDARD_INPUT = "-"


def list_images(places: Sequence[str | Path]) -> list[Path]:
    """The images that are meant, in order; a file that is named twice comes once.

    Args:
        places: files; folders, for the images directly in them; patterns such as ``photos/**/*.jpg``, which Windows'
            shell does not expand and others refuse to where they match too much; ``-`` for a list of all these on the
            standard input, a line each, or a zero byte after each as ``find -print0`` has it.

    Raises:
        DataError: a folder, a pattern or the list names no image.
    """
    found: list[Path] = []
    for place in places:
        if str(place) == STANDARD_INPUT:
            listed = listed_paths(sys.stdin.buffer.read())
            if not listed:
                raise DataError("the standard input names no image; a file, a folder or a pattern a line is expected")
            found += [image for each in listed for image in _images_at(each)]
        else:
            found += _images_at(str(place))
    return list({os.path.realpath(file): file for file in found}.values())  # Path.resolve raises at a loop of links


def listed_paths(text: bytes) -> list[str]:
    """The names in a list: zero bytes end them where there are any, as names may hold line breaks; else lines."""
    names = text.split(b"\0") if b"\0" in text else text.splitlines()
    return [os.fsdecode(name) for name in names if name.strip()]


def _images_at(place: str) -> list[Path]:
    path = Path(place)
    if stat.S_ISDIR(_mode(path)):
        return _images_in(path)
    if _mode(path) or not glob.has_magic(place):  # a file may be called [1].jpg
        return [path]
    found: list[Path] = []
    for match in map(Path, sorted(glob.glob(place, recursive=True))):  # noqa: PTH207 - Path.glob takes no absolute pattern
        found += [match] if _is_image(match) else []
    if not found:
        raise DataError(f"no image matches {place}; looked for {_suffixes()}")
    return found


def _images_in(folder: Path) -> list[Path]:
    try:
        inside = sorted(file for file in folder.iterdir() if _is_image(file))
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error
    if not inside:
        raise DataError(f"{folder} holds no image; looked for {_suffixes()}")
    return inside


def _is_image(file: Path) -> bool:
    from segkit.data.pairing import SUFFIXES

    return file.suffix.lower() in SUFFIXES and stat.S_ISREG(_mode(file))


def _mode(path: Path) -> int:
    """What kind of file it is, 0 where that cannot be told: no name is too long and no folder too secret to ask."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _suffixes() -> str:
    from segkit.data.pairing import SUFFIXES

    return ", ".join(SUFFIXES)
