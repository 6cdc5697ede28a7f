"""The readers of NumPy's ``.npy`` files, and of labels written as text."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit_readers.several import Parts, Slice, numbers, of_objects, picture


def read(path: Path) -> Any:
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
        raise of_objects(path) if "Python objects" in str(error) else error from None
    each = Parts(numbers(len(stored)), lambda name: picture(stored[int(name) - 1])) if stored.ndim in (3, 4) else {}
    if stored.ndim == 4:
        return SimpleNamespace(parts=each)
    whole: Any = picture(stored).view(Slice)
    whole.parts = each
    return whole


def matrix(path: Path) -> NDArray[Any]:
    """Read labels from text, one row per line, with numbers split at spaces, commas or semicolons.

    Raises:
        ValueError: the text is no numbers, or rows differ in length.
    """
    with path.open(encoding="utf-8-sig") as file:
        first = file.readline()
    comma = next((each for each in ",;" if each in first), None)
    values = np.loadtxt(path, delimiter=comma, ndmin=2, encoding="utf-8-sig")
    return values.astype(np.int32) if (values == np.rint(values)).all() else values
