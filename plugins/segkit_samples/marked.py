"""The mark in files that segkit's commands have written; they replace no file without it."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from pathlib import Path

from PIL.PngImagePlugin import PngInfo

from segkit.errors import ConfigError, first_few, reason

MARK = "written by segkit"
"""Stands in the metadata of pictures and archives that a later command may replace."""


def signature() -> PngInfo:
    """Return metadata that marks a PNG as written by segkit."""
    text = PngInfo()
    text.add_text("Software", MARK)
    return text


def refuse_foreign(paths: Iterable[Path], option: str, mark: str = MARK) -> None:
    """Refuse to write to paths where something is that does not hold the ``mark`` of earlier output, or a link.

    Raises:
        ConfigError: such files, by name, or a file that cannot be looked at; ``option`` says where to write.
    """

    def is_replaceable(path: Path) -> bool:
        if path.is_symlink() or not path.exists():
            return not path.is_symlink()
        if not path.is_file() or not path.stat().st_size:  # opening a pipe would block
            return False
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(mark.encode()) >= 0

    try:
        foreign = [str(path) for path in paths if not is_replaceable(path)]
    except OSError as error:  # the path is too long, or a folder may not be read
        raise ConfigError(f"{option} cannot be written: {error.filename}: {reason(error)}") from error
    if foreign:
        raise ConfigError(f"{option} holds files that segkit has not written: {first_few(foreign)}; choose another one")
