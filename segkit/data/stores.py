"""Splits that are decoded once: into a file that is mapped into memory, or into the memory of the device."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
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
from segkit.errors import ConfigError, DataError, WriteError, reason
from segkit.files import write_atomically

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FORMAT = 3  # another number where another code reads other pixels from the same files
Size = tuple[int, int]


class MemmapCache(SampleSource):
    """A split decoded into one file that is mapped into memory: all processes and all later runs share it.

    The file holds image and mask of each sample, one after the other, and is made if there is none. It lies in the
    cache folder (:mod:`segkit.data.cache`) and may be deleted at any time. Its name says which images it was made of,
    and with what it was read: another file is made when a file's name, size or time has changed, or a version. Of the
    images in a folder one copy is kept: the others are deleted when another is made, unless a run uses them.

    Args:
        source: of a dataset that names its files.
        sizes: height and width of each mask.
        names: of the samples.
        description: of the progress bar.
        progress: whether to show it.

    Raises:
        ConfigError: nothing tells when the samples have changed.
        DataError: a sample cannot be read.
        WriteError: the file cannot be written.
    """

    def __init__(
        self,
        source: SampleSource,
        sizes: Sequence[Size],
        names: Sequence[str],
        description: str = "",
        progress: bool = False,
    ) -> None:
        super().__init__(source.dataset, source.resize, source.value_bytes)
        self.sizes, self.names = sizes, names
        stamps = stamps_of(self.dataset)
        if self.dataset.reading is None or None in stamps:
            raise ConfigError(
                f'data.cache = "ram": {self.dataset.kind.rpartition(".")[2]} does not say which files its samples are '
                "read from (files and reading, see segkit.hookspecs), so nothing tells when they have changed; use "
                '"none" or "device"'
            )
        self.path, needed = self._path(stamps), sum(self.decoded_bytes(sizes))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self.path, progress):
                if not self.path.is_file() or self.path.stat().st_size != needed:
                    _delete_others(self.path)
                    free = shutil.disk_usage(self.path.parent).free
                    if needed > free:
                        raise OSError(None, f"{needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free")
                    samples = source.read_all(description, progress)
                    write_atomically(self.path, lambda file: _write(file, samples, sizes))
                self._open()
        except (OSError, WriteError) as error:
            why = error if isinstance(error, WriteError) else f"{self.path} could not be written: {reason(error)}"
            raise WriteError(f'{why}; data.cache = "none" does without, SEGKIT_CACHE=... puts it elsewhere') from error

    def __getitem__(self, index: int) -> Sample:
        """As :meth:`SampleSource.__getitem__`, in memory of its own."""
        height, width = resized_size(*self.sizes[index], self.resize)
        start, end = self._starts[index : index + 2]
        middle = end - math.prod(self.sizes[index])
        image = np.array(self._bytes[start:middle]).view(np.uint8 if self.value_bytes == 1 else np.float32)
        mask = torch.from_numpy(np.array(self._bytes[middle:end])).view(self.sizes[index])
        return Sample(torch.from_numpy(image).view(height, width, -1).permute(2, 0, 1), mask, self.names[index])

    def __getstate__(self) -> dict[str, Any]:
        """For a loader's process: where the pixels are, and not the pixels."""
        return {key: value for key, value in vars(self).items() if not key.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()

    def _path(self, stamps: Sequence[bytes | None]) -> Path:
        """The file, named after the folders of the images, and what is decoded of them."""
        paths = [os.path.abspath(file) for files in files_of(self.dataset) for file in files]  # noqa: PTH100
        folders = {os.path.dirname(path) for path in paths}  # noqa: PTH120
        own = (FORMAT, segkit.__version__, PIL.__version__, self.resize, reading_of(self.dataset), stamps)
        names = [hashlib.sha256(repr(key).encode()).hexdigest()[:24] for key in (sorted(folders), own)]
        return cache_folder() / f"decoded-{names[0]}-{names[1]}.bin"

    def _open(self) -> None:
        self._starts = np.cumsum([0, *self.decoded_bytes(self.sizes)]).tolist()
        try:
            with self.path.open("rb") as file:
                with suppress(OSError):  # a file system without locks, or somebody else's file
                    if fcntl:  # held as long as it is mapped: it is not deleted; Windows sees to that itself
                        fcntl.flock(file, fcntl.LOCK_SH)
                    os.utime(self.path)
                self._bytes = np.memmap(file, np.uint8, "r", shape=(self._starts[-1],))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path} is gone or damaged; start again") from error


def _write(file: BinaryIO, samples: Iterable[Sample], sizes: Sequence[Size]) -> None:
    for sample, size in zip(samples, sizes, strict=True):
        if sample.mask.shape != size:
            raise DataError(f"{sample.name} is {list(sample.mask.shape)}, and was {list(size)} when scanned")
        file.write(sample.image.permute(1, 2, 0).numpy().tobytes())
        file.write(sample.mask.numpy().tobytes())


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
        self.samples, self.masks = list[Sample](), list[Tensor]()
        for sample in source.read_all(description, progress):
            self.samples.append(Sample(sample.image.to(device), sample.mask.to(device), sample.name))
            self.masks += [sample.mask] if keep_masks else []

    def __getitem__(self, index: int) -> Sample:
        """As :meth:`SampleSource.__getitem__`, on the device."""
        return self.samples[index]
