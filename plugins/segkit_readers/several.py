"""Files that hold several pictures: TIFF of several pages, NumPy's archives and MATLAB's files."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.errors import DataError, Issue

MAX_BYTES = 4 << 30
"""Of a file, and of an array in one: 20,000 x 20,000 pixels of RGBA with 16 bits a channel are 3.2 GB."""

_LEAST = 8  # pixels: smaller arrays beside pictures are lists of numbers


class Parts(Mapping[str, Any]):
    """Pictures by name, of which each is read where it is asked for.

    Args:
        names: of the pictures.
        read: what reads one by its name.
    """

    def __init__(self, names: list[str], read: Callable[[str], Any]) -> None:
        self._names, self._read = dict.fromkeys(names), read

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def numbers(count: int) -> list[str]:
    """Names of pictures that have none: from 1."""
    return [str(number) for number in range(1, count + 1)]


def picture(stored: NDArray[Any]) -> NDArray[Any]:
    """An array ``[H,W]``, ``[H,W,C]`` or ``[C,H,W]``, C last: it is the shorter of first and last axis."""
    return np.moveaxis(stored, 0, -1) if stored.ndim == 3 and stored.shape[0] < stored.shape[2] else stored


def of_arrays(shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], NDArray[Any]]) -> SimpleNamespace:
    """The pictures in arrays: one of four axes holds many, ``name/1``, and so does one of three beside such a one.

    Args:
        shapes: of the arrays, by name.
        read: what reads one by its name.
    """
    many = {shape[0] for shape in shapes.values() if len(shape) == 4}
    names = []
    for name, shape in shapes.items():
        if len(shape) == 4 or (len(shape) == 3 and shape[0] in many):
            names += [f"{name}/{number}" for number in numbers(shape[0])]
        elif len(shape) in (2, 3) and sorted(shape)[-2] >= _LEAST:
            names.append(name)

    def part(name: str) -> NDArray[Any]:
        array, _, number = name.rpartition("/")
        return picture(read(array)[int(number) - 1] if array in shapes and number.isdecimal() else read(name))

    return SimpleNamespace(parts=Parts(names, part))


def of_objects(path: Path) -> DataError:
    """What is wrong with a file that holds objects in place of numbers."""
    what, advice = "holds Python objects, which could run anything", "save numbers alone: array.astype(np.uint8)"
    return DataError(Issue("objects", str(path), what, advice))


def npz(path: Path) -> SimpleNamespace:
    """The arrays of a ``.npz`` file.

    Raises:
        DataError: all arrays hold objects, which could run anything; or one is of more than :data:`MAX_BYTES`, which a
            small file can be.
        ValueError: the file is damaged.
    """
    shapes, are_objects = {}, []
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if (size := archive.getinfo(name).file_size) > MAX_BYTES:
                what = f"its array {name} has more than the {MAX_BYTES:,} bytes that are read"
                raise DataError(Issue("size", str(path), what, "save it in parts", f"{size:,} bytes"))
            with archive.open(name) as stream:
                is_first = np.lib.format.read_magic(stream) == (1, 0)
                header = np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
                shape, _, dtype = header(stream)
                are_objects.append(dtype.hasobject)
                if not dtype.hasobject:
                    shapes[name.removesuffix(".npy")] = shape
    if are_objects and all(are_objects):
        raise of_objects(path)
    file = np.load(path, allow_pickle=False)  # reads an array where it is asked for
    found = of_arrays(shapes, file.__getitem__)
    found.close = file.close
    return found


def mat(path: Path) -> SimpleNamespace:
    """The arrays of numbers of a MATLAB file before 7.3, those in structures too: ``GTcls.Segmentation``.

    Raises:
        DataError: scipy is not installed, or the file is of version 7.3.
    """
    try:
        from scipy.io import loadmat

        content = loadmat(path, simplify_cells=True)
    except ImportError:
        raise _no_mat(path, "needs scipy", "python -m pip install scipy") from None
    except NotImplementedError:
        raise _no_mat(path, "of version 7.3", "save it with -v7, or its arrays as .npy") from None
    arrays = dict(_arrays(content))
    return of_arrays({name: array.shape for name, array in arrays.items()}, arrays.__getitem__)


def _no_mat(path: Path, what: str, advice: str) -> DataError:
    return DataError(Issue("bands", str(path), f"a MATLAB file {what}", advice))


def _arrays(content: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, NDArray[Any]]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _arrays(value, f"{within}{name}.")
        elif isinstance(value, np.ndarray) and value.dtype.kind in "buif" and not name.startswith("__"):
            yield within + name, value
