"""A split decoded once, into one file that is mapped into memory: all processes and all later runs share it.

The file holds image and mask of each sample as they are, then the index of them as JSON, its length and a mark.
It lies in the cache folder (:mod:`segkit.data.cache`) and may be deleted at any time. It is made anew when a
file's name, size or time has changed, or the version of what reads them. Of the images in a folder one copy is kept:
what was decoded of them for other splits, sizes or labels goes when another is made, unless a run uses it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray

import segkit
from segkit.data.cache import UNUSED, cache_folder, files_of, has_files, reading_of, stamps_of
from segkit.data.resize import resized_size
from segkit.data.sample import Sample
from segkit.data.samples import Samples
from segkit.errors import DataError, WriteError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FORMAT = 2  # another number where another code reads other pixels from the same files
_MARK = b"segkit01"


class StoredSamples(Samples):
    """The samples of a split, read from the file that holds them decoded.

    Args:
        samples: the split.
        path: the file.
        key: what it must have been made of.

    Raises:
        DataError: it is of something else, or damaged.
    """

    def __init__(self, samples: Samples, path: Path, key: str) -> None:
        super().__init__(samples.dataset, samples.resize, samples.value_bytes)
        self.path, self.key = path, key
        self._open()

    def to_score(self, index: int) -> Sample:
        """As :meth:`segkit.data.samples.Samples.to_score`, in memory of its own."""
        height, width, rows, columns = self._sizes[index]
        start = int(self._starts[index])
        middle = start + 3 * height * width * self._dtype.itemsize
        image = np.array(self._pixels[start:middle]).view(self._dtype).reshape(height, width, 3)
        mask = np.array(self._pixels[middle : middle + rows * columns]).reshape(rows, columns)
        return Sample(torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(mask), self._names[index])

    def _open(self) -> None:
        _use(self)
        index = _index_of(self.path)
        if index is None or index["key"] != self.key:
            raise DataError(f"{self.path} is damaged, or was replaced by another run's; start again")
        self._names: list[str] = index["names"]
        self._sizes: list[list[int]] = index["sizes"]
        self._dtype = np.dtype(index["dtype"])
        self._starts = np.concatenate([[0], np.cumsum(_lengths(index), dtype=np.int64)])
        self._pixels: NDArray[np.uint8] = np.memmap(self.path, np.uint8, "r")

    def __getstate__(self) -> dict[str, Any]:
        """For a loader's process: where the pixels are, and not the pixels."""
        return {key: value for key, value in vars(self).items() if not key.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()


def stored(samples: Samples, sizes: Sequence[tuple[int, int]], description: str, progress: bool) -> StoredSamples:
    """A split from its file, which is made if there is none, or one of other files.

    Args:
        samples: of a dataset that names its files.
        sizes: height and width of each mask.
        description: of the progress bar.
        progress: whether to show it.

    Raises:
        DataError: a sample cannot be read.
        WriteError: the file cannot be written.
    """
    path, key = _place(samples)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path, progress):
            index = _index_of(path)
            if index is None or index["key"] != key:
                _drop_others(path)
                _refuse_full_disk(path, bytes_of(samples, sizes))
                _write(samples, path, key, description, progress)
            return StoredSamples(samples, path, key)
    except OSError as error:
        raise WriteError(
            f'{path} could not be written: {error.strerror or error}; data.cache = "none" does without, '
            "SEGKIT_CACHE=... puts it elsewhere"
        ) from error


def can_be_stored(samples: Samples) -> bool:
    """Whether it is known when the split's files have changed."""
    return has_files(samples.dataset) and None not in stamps_of(samples.dataset)


def bytes_of(samples: Samples, sizes: Sequence[tuple[int, int]]) -> int:
    """That a split takes when it is decoded: 3 values a pixel of the image, 1 byte a pixel of the mask."""
    a_pixel = 3 * samples.value_bytes
    return sum(a_pixel * math.prod(resized_size(*size, samples.resize)) + math.prod(size) for size in sizes)


def _place(samples: Samples) -> tuple[Path, str]:
    """The file of a split, and what stands in it: one of files that have changed takes the place of the old one."""
    paths = [os.path.abspath(file) for files in files_of(samples.dataset) for file in files]  # noqa: PTH100
    place = _digest(*sorted({os.path.dirname(path) for path in paths}))  # noqa: PTH120
    name = _digest(reading_of(samples.dataset), str(samples.resize), *paths)
    key = hashlib.sha256(f"{FORMAT} {segkit.__version__} {PIL.__version__}".encode())
    for stamp in stamps_of(samples.dataset):
        key.update(stamp or b"")
    return cache_folder() / f"decoded-{place}-{name}.bin", key.hexdigest()


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode(errors="surrogateescape")).hexdigest()[:24]


def _use(samples: StoredSamples) -> None:
    """Keep a file from being dropped as long as its samples live; Windows does so itself."""
    descriptor = os.open(samples.path, os.O_RDONLY)
    weakref.finalize(samples, os.close, descriptor)
    with suppress(OSError):  # a file system without locks, or somebody else's file
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        os.utime(samples.path)


def _drop_others(path: Path) -> None:
    """Delete what was decoded of the files in the same folders, or was not used for long, and is not in use."""
    place = path.name.rpartition("-")[0]
    for other in path.parent.glob("decoded-*.bin"):
        with suppress(OSError), other.open("rb") as file:
            old = time.time() - os.fstat(file.fileno()).st_mtime > UNUSED
            if other != path and (old or other.name.rpartition("-")[0] == place):
                if fcntl:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                other.unlink()


@contextmanager
def _alone(path: Path, progress: bool) -> Iterator[None]:
    """While nobody else makes a file of the images in the same folders."""
    lock = FileLock(path.with_name(f"{path.name.rpartition('-')[0]}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if progress:
            print(f"another run decodes the same images into {path}; waiting for it", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _write(samples: Samples, path: Path, key: str, description: str, progress: bool) -> None:
    temporary = path.with_suffix(".tmp")  # one that a killed run has left is overwritten
    names: list[str] = []
    sizes: list[tuple[int, ...]] = []
    dtype = "uint8"
    try:
        with temporary.open("wb") as file:
            for sample in samples.each(description, progress):
                file.write(sample.image.permute(1, 2, 0).numpy().tobytes())
                file.write(sample.mask.numpy().tobytes())
                names.append(sample.name)
                sizes.append((*sample.image.shape[1:], *sample.mask.shape))
                dtype = str(sample.image.numpy().dtype)
            index = json.dumps({"key": key, "names": names, "sizes": sizes, "dtype": dtype}).encode()
            file.write(index + len(index).to_bytes(8, "little") + _MARK)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _index_of(path: Path) -> dict[str, Any] | None:
    """What the file says of itself; None where there is none, or it is cut short or no such file."""
    try:
        with path.open("rb") as file:
            end = file.seek(-16, os.SEEK_END)
            length = int.from_bytes(file.read(8), "little")
            if file.read(8) != _MARK:
                return None
            file.seek(end - length)
            index: dict[str, Any] = json.loads(file.read(length))
        return index if sum(_lengths(index)) + length + 16 == path.stat().st_size else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _lengths(index: dict[str, Any]) -> list[int]:
    """Bytes of each sample."""
    channels = 3 * np.dtype(index["dtype"]).itemsize
    return [channels * height * width + rows * columns for height, width, rows, columns in index["sizes"]]


def _refuse_full_disk(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise OSError(None, f"{needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free")
