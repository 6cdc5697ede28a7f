"""The reader of NumPy's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read(path: Path) -> NDArray[Any]:
    """An array ``[H,W]``, ``[H,W,C]`` or ``[C,H,W]`` in a ``.npy`` file: the shorter of first and last axis is C.

    It is mapped into memory, and read where it is sliced; what is written to it stays in memory.

    Raises:
        ValueError: the file is damaged, or holds objects, which could run anything.
    """
    stored: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    return np.moveaxis(stored, 0, -1) if stored.ndim == 3 and stored.shape[0] < stored.shape[2] else stored
