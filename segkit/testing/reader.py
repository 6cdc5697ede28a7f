"""The rules of readers: ``read(path)`` -> an array ``[H,W]`` or ``[H,W,C]``, or None to leave the file to others."""

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
    """A reader, asked with the file of its option ``path``."""

    @property
    def path(self) -> Path:
        """A file that it reads.

        Raises:
            NotAsked: there is none.
        """
        name = f"picture.{'png' if self.name == 'any' else self.name}"
        path = Path(self.options.get("path", name))
        if "path" not in self.options or not path.exists():
            told = f"name one: options={{'path': '{name}'}}, or check-plugin --option path={name}"
            raise NotAsked(f"there is no file {path.name} to read; {told}")
        return path

    def pixels(self, path: Path) -> Any:
        """What is in a file, by its header first; None where it leaves it to other readers."""
        raster = self.factory(path)
        try:
            if raster is None:
                return None
            found = np.asarray(raster[...])
            header, pixels = ((np.dtype(each.dtype), tuple(each.shape)) for each in (raster, found))
            require(header == pixels, f"it says {header}, and where it is sliced it gives {pixels}")
            return found
        finally:
            if hasattr(raster, "close"):
                raster.close()


def picture(case: ReaderSubject) -> None:
    """A file is a picture [H,W] or [H,W,C] of numbers, of the size its header says, the same in several threads."""
    with failing(str(case.path)):
        first = case.pixels(case.path)
        require(first is not None, "it leaves the file to other readers")
    fits = first.ndim in (2, 3) and first.size and first.dtype.kind in "buif"
    require(fits, f"it gave {first.dtype} {list(first.shape)}; a picture is [H,W] or [H,W,C], of numbers")
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(case.pixels, [case.path] * 8):
            same = found is not None and np.array_equal(found, first, equal_nan=first.dtype.kind == "f")
            require(same, "read again it is another one")


def no_picture(case: ReaderSubject) -> None:
    """What is no picture, or cut short, is an error or left to other readers, and never a picture."""
    if case.path.is_dir():
        raise NotAsked("it reads a folder, which is not cut in two")
    content = case.path.read_bytes()
    for what, part in (("a text", b"no picture\n" * 99), ("half of a file", content[: len(content) // 2])):
        made = None
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), suppress(Exception):
            warnings.simplefilter("ignore")  # of files that a reader that fails leaves open
            other = Path(folder) / f"other{case.path.suffix}"
            other.write_bytes(part)
            made = case.pixels(other)
        require(made is None, f"{what} became a picture")
