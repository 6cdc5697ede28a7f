"""Rules of readers: ``read(path)`` -> an array ``[H,W]`` or ``[H,W,C]``, or None to leave the file to other readers."""

from __future__ import annotations

import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segkit.testing.check import NotAsked, Subject, failing, require


@dataclass(frozen=True)
class ReaderSubject(Subject):
    """A reader, checked with the file of its option ``path``."""

    @property
    def path(self) -> Path:
        """A file for the reader.

        Raises:
            NotAsked: no file was given, or it does not exist.
        """
        name = f"picture.{'png' if self.name == 'any' else self.name}"
        path = Path(self.options.get("path", name))
        if "path" not in self.options or not path.exists():
            advice = f"give its path: options={{'path': '{name}'}}, or check-plugin --option path={name}"
            raise NotAsked(f"there is no file {path.name} to read; {advice}")
        return path

    def pixels(self, path: Path) -> Any:
        """Read a file and compare its header with its pixels; None if it is left to other readers."""
        raster = self.factory(path)
        try:
            if raster is None:
                return None
            found = np.asarray(raster[...])
            header, pixels = ((np.dtype(each.dtype), tuple(each.shape)) for each in (raster, found))
            require(header == pixels, f"its dtype and shape are {header}, but slicing it returns {pixels}")
            return found
        finally:
            if hasattr(raster, "close"):
                raster.close()


def picture(case: ReaderSubject) -> None:
    """A file is read as numbers [H,W] or [H,W,C], of the size in its header, and equally in several threads."""
    with failing(str(case.path)):
        first = case.pixels(case.path)
        require(first is not None, "it leaves the file to other readers")
    fits = first.ndim in (2, 3) and first.size and first.dtype.kind in "buif"
    require(fits, f"it returned {first.dtype} {list(first.shape)}; it must return numbers, [H,W] or [H,W,C]")
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(case.pixels, [case.path] * 8):
            same = found is not None and np.array_equal(found, first, equal_nan=first.dtype.kind == "f")
            require(same, "reading it again returns another picture")


def no_picture(case: ReaderSubject) -> None:
    """A file that is not a picture, or is cut short, is an error or left to other readers."""
    content = case.path.read_bytes()
    for what, part in (("a text", b"no picture\n" * 99), ("half of a file", content[: len(content) // 2])):
        made = None
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), suppress(Exception):
            warnings.simplefilter("ignore")  # warnings about files that a failing reader leaves open
            other = Path(folder) / f"other{case.path.suffix}"
            other.write_bytes(part)
            made = case.pixels(other)
        require(made is None, f"{what} became a picture")
