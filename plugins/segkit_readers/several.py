"""Files that may hold several pictures: NumPy arrays and archives, MATLAB files, HDF5, and medical volumes."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.errors import DataError, Issue

MAX_BYTES = 4 << 30
"""Limit for a file, and for an array in it: 20,000 x 20,000 pixels of 16-bit RGBA take 3.2 GB."""

_MOST_BANDS = 32
_MOST_COLOURS = 4  # a first axis up to this length counts channels or classes, not pictures
_LEAST = 8  # pixels per side; smaller arrays are lists of numbers


class Parts(dict[str, Any]):
    """Pictures by name; each is read on access.

    Args:
        names: the names of the pictures.
        read: reads one picture by its name.
        also: further names that can be read, which are not listed or counted.
    """

    def __init__(self, names: Iterable[str], read: Callable[[str], Any], also: Collection[str] = ()) -> None:
        super().__init__(dict.fromkeys(names))
        self._read, self._also = read, also

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self._also

    def __getitem__(self, name: str) -> Any:
        return self._read(name)


def numbered(count: int, read: Callable[[int], Any]) -> Parts:
    """Return pictures without names as "1", "2", ...; ``read`` counts them from 0."""
    return Parts(map(str, range(1, count + 1)), lambda name: read(int(name) - 1))


def _picture(stored: NDArray[Any]) -> NDArray[Any]:
    """Return ``[H,W]``, ``[H,W,C]`` or ``[C,H,W]`` with C last; C is the shorter of first and last axis."""
    return np.moveaxis(stored, 0, -1) if stored.ndim == 3 and stored.shape[0] < stored.shape[2] else stored


def _of_arrays(
    shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], Any], turned: bool = False
) -> SimpleNamespace:
    """Return the pictures in a file's arrays; the pictures of a stack are named ``name/1``, ``name/2``, ...

    Stacks are arrays of four axes, and arrays of three axes whose first axis is as long as that of another stack (grey
    pictures and their masks), or which are a file's only array and hold many square pictures.

    Args:
        shapes: the arrays' shapes by name.
        read: returns the array of a name, or an object that can be sliced.
        turned: whether the axes of each picture are in reverse order, as MATLAB stores them.
    """
    stacks = [s[0] for s in shapes.values() if len(s) == 3 and min(s[1:]) >= _LEAST and s[0] > _MOST_COLOURS]
    many = {shape[0] for shape in shapes.values() if len(shape) == 4} | {x for x in stacks if stacks.count(x) > 1}
    only = next(iter(shapes.values())) if len(shapes) == 1 else ()
    many |= {only[0]} if len(only) == 3 and only[0] > _MOST_BANDS and only[1] == only[2] else set()
    names = []
    for name, shape in shapes.items():
        if len(shape) == 4 or (len(shape) == 3 and shape[0] in many):
            names += [f"{name}/{number}" for number in range(1, shape[0] + 1)]
        elif len(shape) in (2, 3) and sorted(shape)[-2] >= _LEAST:
            names.append(name)

    def part(name: str) -> NDArray[Any]:
        array, _, number = name.rpartition("/")
        stored = np.asarray(read(array)[int(number) - 1] if array in shapes and number.isdecimal() else read(name))
        return _picture(stored.T if turned else stored)

    return SimpleNamespace(parts=Parts(names, part, shapes))


def _of_objects(path: Path) -> DataError:
    """Return the error for a file that holds Python objects instead of numbers."""
    what, advice = "holds Python objects, which could run anything", "save numbers alone: array.astype(np.uint8)"
    return DataError(Issue("objects", str(path), what, advice))


def npy(path: Path) -> Any:
    """Read an array ``[H,W]``, ``[H,W,C]`` or ``[C,H,W]`` from a ``.npy`` file; C is the shorter of its end axes.

    The first axis of a four-dimensional array counts pictures, that of a three-dimensional one may; each picture is a
    part: ``masks.npy#3``. The file is memory-mapped copy-on-write and read when it is sliced.

    Raises:
        DataError: it holds Python objects, whose loading could run any code.
        ValueError: the file is damaged.
    """
    try:
        stored = np.load(path, mmap_mode="c", allow_pickle=False)
    except ValueError as error:
        raise _of_objects(path) if "Python objects" in str(error) else error from None
    parts = numbered(len(stored), lambda at: _picture(stored[at])) if stored.ndim in (3, 4) else {}
    if stored.ndim == 4:
        return SimpleNamespace(parts=parts)
    whole: Any = _picture(stored).view(Slice)
    whole.parts = parts
    return whole


def npz(path: Path) -> SimpleNamespace:
    """Return the arrays of a ``.npz`` file.

    Raises:
        DataError: all arrays hold Python objects, whose loading could run any code; or one array has over
            :data:`MAX_BYTES`, which a small compressed file can hold.
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
        raise _of_objects(path)
    file = np.load(path, allow_pickle=False)  # reads each array on access
    found = _of_arrays(shapes, file.__getitem__)
    found.close = file.close
    return found


def mat(path: Path) -> SimpleNamespace:
    """Return the numeric arrays of a MATLAB file, also those in structures: ``GTcls.Segmentation``; 7.3 is HDF5.

    Raises:
        DataError: scipy, or h5py for version 7.3, is not installed.
    """
    loadmat = package(path, "a MATLAB file", "scipy", "scipy", ".io").loadmat
    try:
        content = loadmat(path, simplify_cells=True)
    except NotImplementedError:
        return h5(path, turned=True)
    arrays = dict(_arrays(content))
    turned = _are_last([array.shape for array in arrays.values()])
    arrays = {name: array.T if turned else array for name, array in arrays.items()}
    return _of_arrays({name: array.shape for name, array in arrays.items()}, arrays.__getitem__, turned)


def _are_last(shapes: Sequence[tuple[int, ...]]) -> bool:
    """Whether the last axis counts pictures, as in MATLAB, and not the first, as in files written by Python."""
    if colours := [shape for shape in shapes if len(shape) == 4]:
        return all(shape[2] < _LEAST for shape in colours)
    greys = [shape for shape in shapes if len(shape) == 3 and min(shape) > _MOST_COLOURS]
    return len(greys) > 1 and not any(shape[0] != shape[1] == shape[2] for shape in greys)


def h5(path: Path, turned: bool = False) -> SimpleNamespace:
    """Return the numeric arrays of an HDF5 file by their paths: ``train/image``.

    Raises:
        DataError: h5py is not installed.
    """
    h5py = package(path, "an HDF5 file", "h5py", "'segkit[h5]'")
    file = h5py.File(path)
    shapes: dict[str, tuple[int, ...]] = {}

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "buif" and name[0] != "#":  # "#": MATLAB's internals
            shapes[name] = item.shape

    file.visititems(look)
    found = _of_arrays(shapes, file.__getitem__, turned)
    found.close = file.close
    return found


class Slice(np.ndarray[Any, Any]):
    """A picture with its place in the world, or with the parts that it may be a stack of."""

    parts: Mapping[str, Any]
    place: tuple[str, tuple[tuple[float, ...], ...]] | None = None


def nifti(path: Path) -> SimpleNamespace | None:
    """Return the slices of a NIfTI volume ``[X,Y,Z]`` or ``[X,Y,Z,C]`` along Z, each ``[Y,X,C]``; None for other files.

    Axes that are stored from right to left, front to back or top to bottom are mirrored, so that a volume and its
    labels match even if two programs wrote them with different orientations.

    Raises:
        DataError: nibabel is not installed.
    """
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return None
    nibabel = package(path, "a NIfTI volume", "nibabel", "'segkit[nifti]'")
    volume = nibabel.load(path)
    stored = volume.dataobj
    shape = (*stored.shape, 1, 1)[: max(3, len(stored.shape))]
    is_back = [way < 0 for _, way in nibabel.io_orientation(volume.affine)]  # X, Y, Z
    has_place = any(int(volume.header.get(code, 0)) for code in ("qform_code", "sform_code"))

    def read(at: int) -> Slice:
        at = shape[2] - 1 - at if is_back[2] else at
        values: NDArray[Any] = np.array(stored[:, :, at] if len(stored.shape) > 2 else stored)
        found = np.swapaxes(np.flip(values, tuple(axis for axis in (0, 1) if is_back[axis])), 0, 1).view(Slice)
        ends = [(-0.5, side - 0.5)[:: -1 if back else 1] for side, back in zip(shape, is_back, strict=False)]
        (left, right), (top, bottom) = ends[:2]
        corners = np.array([[left, top, at, 1], [right, top, at, 1], [left, bottom, at, 1]]) @ volume.affine.T
        found.place = ("", tuple(map(tuple, corners[:, :3].tolist()))) if has_place else None
        return found

    return SimpleNamespace(parts=numbered(shape[2], read))


def dicom(path: Path) -> Any:
    """Return the picture of a DICOM file, or its frames, rescaled to the file's units, such as Hounsfield units.

    Raises:
        DataError: pydicom, or a package that it needs for this compression, is not installed.
    """
    data = package(path, "a DICOM file", "pydicom", "'segkit[dicom]'").dcmread(path)
    try:
        values = package(path, "", "pydicom", "", ".pixels.processing").apply_rescale(data.pixel_array, data)
    except (RuntimeError, AttributeError) as error:
        advice = "save its pixels as .npy, or install the packages that pydicom names"
        raise DataError(Issue("bands", str(path), "a DICOM file without readable pixels", advice, str(error))) from None
    frames = int(data.get("NumberOfFrames") or 1)
    return values if frames == 1 else SimpleNamespace(parts=numbered(frames, values.__getitem__))


def package(path: Path, what: str, name: str, install: str, module: str = "") -> Any:
    """Import a package that is needed to read a file, or a module of it."""
    try:
        return import_module(name + module)
    except ImportError:
        advice = f"install it: python -m pip install {install}"
        raise DataError(Issue("bands", str(path), f"{what}, which needs {name}", advice)) from None


def _arrays(content: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, NDArray[Any]]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _arrays(value, f"{within}{name}.")
        elif isinstance(value, np.ndarray) and value.dtype.kind in "buif" and not name.startswith("__"):
            yield within + name, value
