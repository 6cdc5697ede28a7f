"""Splits that are decoded once: into a file that is mapped into memory, or into the memory of the device."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import sys
import time
import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL
import torch
from filelock import FileLock, Timeout
from torch import Tensor

import segkit
from segkit.data.cache import UNUSED, cache_folder, files_of, reading_of, stamps_of
from segkit.data.loader import SampleSource
from segkit.data.resize import resized_size
from segkit.data.sample import Sample
from segkit.errors import DataError, WriteError, reason
from segkit.files import write_atomically

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FORMAT = 3  # another number where another code reads other pixels from the same files
Size = tuple[int, int]


class MemmapCache(SampleSource):
    """A split decoded into one file that is mapped into memory: all processes and all later runs share it.

    The file holds image and mask of each sample, one after the other. It lies in the cache folder
    (:mod:`segkit.data.cache`) and may be deleted at any time. Its name says which images it was made of, and with what
    it was read: another file is made when a file's name, size or time has changed, or a version. Of the images in a
    folder one copy is kept: the others are deleted when another is made, unless a run uses them.

    Args:
        source: the split.
        path: the file, which is complete.
        sizes: height and width of each mask.
        names: of the samples.

    Raises:
        DataError: the file is gone or has another size.
    """

    def __init__(self, source: SampleSource, path: Path, sizes: Sequence[Size], names: Sequence[str]) -> None:
        super().__init__(source.dataset, source.resize, source.value_bytes)
        self.path, self.sizes, self.names = path, list(sizes), list(names)
        self._open()

    def __getitem__(self, index: int) -> Sample:
        """As :meth:`SampleSource.__getitem__`, in memory of its own."""
        height, width = resized_size(*self.sizes[index], self.resize)
        start, end = self._starts[index : index + 2]
        middle = end - math.prod(self.sizes[index])
        image = np.array(self._bytes[start:middle]).view(np.uint8 if self.value_bytes == 1 else np.float32)
        mask = torch.from_numpy(np.array(self._bytes[middle:end])).view(self.sizes[index])
        return Sample(torch.from_numpy(image).view(height, width, -1).permute(2, 0, 1), mask, self.names[index])

    def _open(self) -> None:
        self._starts = np.cumsum([0, *self.decoded_bytes(self.sizes)]).tolist()
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
            weakref.finalize(self, os.close, descriptor)
            self._bytes = np.memmap(self.path, np.uint8, "r", shape=(self._starts[-1],))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path} is gone or damaged; start again") from error
        with suppress(OSError):  # a file system without locks, or somebody else's file
            if fcntl:  # the file is not deleted while this lives; Windows sees to that itself
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            os.utime(self.path)

    def __getstate__(self) -> dict[str, Any]:
        """For a loader's process: where the pixels are, and not the pixels."""
        return {key: value for key, value in vars(self).items() if not key.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()

    @staticmethod
    def is_possible(source: SampleSource) -> bool:
        """Whether it is known when the split's files have changed."""
        return source.dataset.reading is not None and None not in stamps_of(source.dataset)

    @classmethod
    def of(
        cls, source: SampleSource, sizes: Sequence[Size], names: Sequence[str], description: str, progress: bool
    ) -> MemmapCache:
        """The split from its file, which is made if there is none.

        Args:
            source: of a dataset that names its files.
            sizes: height and width of each mask.
            names: of the samples.
            description: of the progress bar.
            progress: whether to show it.

        Raises:
            DataError: a sample cannot be read.
            WriteError: the file cannot be written.
        """
        path, needed = _path_of(source), sum(source.decoded_bytes(sizes))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(path, progress):
                if not path.is_file() or path.stat().st_size != needed:
                    _delete_others(path)
                    free = shutil.disk_usage(path.parent).free
                    if needed > free:
                        raise OSError(None, f"{needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free")
                    _write(source, path, sizes, description, progress)
                return cls(source, path, sizes, names)
        except (OSError, WriteError) as error:
            why = error if isinstance(error, WriteError) else f"{path} could not be written: {reason(error)}"
            raise WriteError(f'{why}; data.cache = "none" does without, SEGKIT_CACHE=... puts it elsewhere') from error


def _path_of(source: SampleSource) -> Path:
    """The file of a split, named after the folders of its images, and what is decoded of them."""
    paths = [os.path.abspath(file) for files in files_of(source.dataset) for file in files]  # noqa: PTH100
    folders = _digest(*sorted({os.path.dirname(path) for path in paths}))  # noqa: PTH120
    stamps = [(stamp or b"").hex() for stamp in stamps_of(source.dataset)]
    versions = f"{FORMAT} {segkit.__version__} {PIL.__version__}"
    own = _digest(versions, str(source.resize), reading_of(source.dataset), *stamps)
    return cache_folder() / f"decoded-{folders}-{own}.bin"


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode(errors="surrogateescape")).hexdigest()[:24]


def _delete_others(path: Path) -> None:
    """Delete what was decoded of the files in the same folders, or was not used for long, and is not in use.

    Also what a killed run has left half-written, as nobody else writes while this process holds the lock.
    """
    folders = path.name.rpartition("-")[0]
    for left in path.parent.glob(f".{folders}-*.tmp"):
        left.unlink(missing_ok=True)
    for other in path.parent.glob("decoded-*.bin"):
        with suppress(OSError), other.open("rb") as file:
            old = time.time() - os.fstat(file.fileno()).st_mtime > UNUSED
            if other != path and (old or other.name.rpartition("-")[0] == folders):
                if fcntl:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                other.unlink()


def _locked(path: Path, progress: bool) -> AbstractContextManager[Any]:
    """While this is held, nobody else makes a file of the images in the same folders."""
    lock = FileLock(path.with_name(f"{path.name.rpartition('-')[0]}.lock"))
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        if progress:
            print(f"another run decodes the same images into {path}; waiting for it", file=sys.stderr)
        return lock.acquire()


def _write(source: SampleSource, path: Path, sizes: Sequence[Size], description: str, progress: bool) -> None:
    def write(file: BinaryIO) -> None:
        for sample, size in zip(source.read_all(description, progress), sizes, strict=True):
            if sample.mask.shape != size:
                raise DataError(f"{sample.name} is {list(sample.mask.shape)}, and was {list(size)} when scanned")
            file.write(sample.image.permute(1, 2, 0).numpy().tobytes())
            file.write(sample.mask.numpy().tobytes())

    write_atomically(path, write)


class DeviceCache(SampleSource):
    """A split decoded in the memory of the device: batches are made there.

    Args:
        source: the split.
        device: where the samples will lie.
        keep_masks: in the host's memory too, for transforms that depend on them.
        description: of the progress bar.
        progress: whether to show it.

    Raises:
        DataError: a sample cannot be read.
    """

    on_device = True

    def __init__(
        self,
        source: SampleSource,
        device: torch.device,
        *,
        keep_masks: bool = False,
        description: str = "",
        progress: bool = False,
    ) -> None:
        super().__init__(source.dataset, source.resize, source.value_bytes)
        self.samples: list[Sample] = []
        self.masks: list[Tensor | None] = []
        for sample in source.read_all(description, progress):
            self.samples.append(Sample(sample.image.to(device), sample.mask.to(device), sample.name))
            self.masks.append(sample.mask if keep_masks else None)

    def __getitem__(self, index: int) -> Sample:
        """As :meth:`SampleSource.__getitem__`, on the device."""
        return self.samples[index]

    def mask_on_cpu(self, index: int, sample: Sample) -> Tensor | None:
        """As :meth:`SampleSource.mask_on_cpu`: the device is not waited for."""
        return self.masks[index]
