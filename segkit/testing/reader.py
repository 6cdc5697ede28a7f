"""The rules of readers: ``read(path)`` -> an array ``[H,W]`` or ``[H,W,C]``, or None to leave the file to others."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segkit.testing.check import NotAsked, Subject, failing, require


@dataclass(frozen=True)
class ReaderSubject(Subject):
    """A reader, asked with the file of its option ``path``, or with a picture that Pillow or NumPy can write."""

    @contextmanager
    def file(self) -> Iterator[Path]:
        """A file that it reads.

        Raises:
            NotAsked: there is none.
        """
        with tempfile.TemporaryDirectory() as folder:
            name = f"picture.{'png' if self.name == 'any' else self.name}"
            path = Path(self.options.get("path", Path(folder) / name))
            if "path" not in self.options:
                pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
                with suppress(Exception):  # Pillow cannot write all that it knows
                    np.save(path, pixels) if path.suffix == ".npy" else Image.fromarray(pixels).save(path)
            if not path.exists():
                told = f"name one: options={{'path': '{name}'}}, or check-plugin --option path={name}"
                raise NotAsked(f"there is no file {path.name} to read; {told}")
            yield path

    @contextmanager
    def opened(self, path: Path) -> Iterator[Any]:
        """What it makes of a file, closed afterwards where it can be."""
        raster = self.factory(path)
        try:
            yield raster
        finally:
            if hasattr(raster, "close"):
                raster.close()

    def pixels(self, path: Path) -> NDArray[Any]:
        """What is in a file.

        Raises:
            CheckFailed: it raises, or leaves the file to other readers.
            NotAsked: so it does with one that was not named.
        """
        with failing(str(path)), self.opened(path) as raster:
            if raster is None and "path" not in self.options:
                raise NotAsked(f"it leaves {path.name}, of three channels of 8 bits, to other readers; name another")
            require(raster is not None, "it leaves the file to other readers")
            found = np.asarray(raster[...])
            given = f"{np.dtype(raster.dtype)} {list(raster.shape)}"
        told = f"it says {given}, and where it is sliced it gives {found.dtype} {list(found.shape)}"
        require(f"{found.dtype} {list(found.shape)}" == given, told)
        return found


def picture(case: ReaderSubject) -> None:
    """Of a file it gives a picture [H,W] or [H,W,C] of numbers, or what gives one where it is sliced."""
    with case.file() as path:
        found = case.pixels(path)
    fits = found.ndim in (2, 3) and found.size and found.dtype.kind in "buif"
    require(fits, f"it gave {found.dtype} {list(found.shape)}; a picture is [H,W] or [H,W,C], of numbers")


def same_each_time(case: ReaderSubject) -> None:
    """A file is the same whenever it is read, in several threads too."""
    with case.file() as path:
        first = case.pixels(path)
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(case.pixels, [path] * 8):
                require(np.array_equal(found, first, equal_nan=found.dtype.kind == "f"), "read again it is another one")


def no_picture(case: ReaderSubject) -> None:
    """What is no picture, or cut short, is an error or left to other readers, and never a picture."""
    with tempfile.TemporaryDirectory() as folder, case.file() as path:
        if path.is_dir():
            raise NotAsked("it reads a folder, which is not cut in two")
        content = path.read_bytes()
        for what, part in (("a text", b"no picture\n" * 99), ("half of a file", content[: len(content) // 2])):
            other, made = Path(folder) / f"other{path.suffix}", []
            other.write_bytes(part)
            with warnings.catch_warnings(), suppress(Exception):
                warnings.simplefilter("ignore")  # of files that a reader that fails leaves open
                with case.opened(other) as raster:
                    made = [np.asarray(raster[...])] if raster is not None else []
            require(not made, f"{what} became a picture {[list(each.shape) for each in made]}")
