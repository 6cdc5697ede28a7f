"""Splits that are decoded once: into a file that is mapped into memory, or into the memory of the device."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import sys
import time
import weakref
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import Tensor

import segkit
from segkit.data.augment import RandomTransform, sample_affine
from segkit.data.batch_sampler import Key
from segkit.data.cache import UNUSED, cache_folder, files_of, reading_of, stamps_of
from segkit.data.loader import SampleSource
from segkit.data.normalise import mean_pixel
from segkit.data.resize import mask_at, resized_parts, resized_size
from segkit.data.sample import Batch, Sample
from segkit.errors import DataError, WriteError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FORMAT = 2  # another number where another code reads other pixels from the same files
_MARK = b"segkit01"
Size = tuple[int, int]


class MemmapCache(SampleSource):
    """A split decoded into one file that is mapped into memory: all processes and all later runs share it.

    The file holds image and mask of each sample, then an index as JSON, its length and a mark. It lies in the cache
    folder (:mod:`segkit.data.cache`) and may be deleted at any time. It is made anew when a file's name, size or
    time has changed, or the version of what reads them. Of the images in a folder one copy is kept: those for other
    splits, sizes or labels are deleted when another is made, unless a run uses them.

    Args:
        source: the split.
        path: the file.
        key: what it must have been made of.

    Raises:
        DataError: it is of something else, or damaged.
    """

    def __init__(self, source: SampleSource, path: Path, key: str) -> None:
        super().__init__(source.dataset, source.resize, source.value_bytes)
        self.path, self.key = path, key
        self._open()

    def __getitem__(self, index: int) -> Sample:
        """As :meth:`SampleSource.__getitem__`, in memory of its own."""
        height, width, rows, columns = self._sizes[index]
        start = int(self._starts[index])
        middle = start + 3 * height * width * self._dtype.itemsize
        image = np.array(self._pixels[start:middle]).view(self._dtype).reshape(height, width, 3)
        mask = np.array(self._pixels[middle : middle + rows * columns]).reshape(rows, columns)
        return Sample(torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(mask), self._names[index])

    def _open(self) -> None:
        descriptor = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, descriptor)
        with suppress(OSError):  # a file system without locks, or somebody else's file
            if fcntl:  # the file is not deleted while this lives; Windows sees to that itself
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            os.utime(self.path)
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

    @staticmethod
    def is_possible(source: SampleSource) -> bool:
        """Whether it is known when the split's files have changed."""
        return source.dataset.reading is not None and None not in stamps_of(source.dataset)

    @staticmethod
    def bytes_needed(source: SampleSource, sizes: Sequence[Size]) -> int:
        """The size of the file, but for its index."""
        a_pixel = 3 * source.value_bytes
        return sum(a_pixel * math.prod(resized_size(*size, source.resize)) + math.prod(size) for size in sizes)

    @classmethod
    def of(cls, source: SampleSource, sizes: Sequence[Size], description: str, progress: bool) -> MemmapCache:
        """The split from its file, which is made if there is none, or one of other files.

        Args:
            source: of a dataset that names its files.
            sizes: height and width of each mask.
            description: of the progress bar.
            progress: whether to show it.

        Raises:
            DataError: a sample cannot be read.
            WriteError: the file cannot be written.
        """
        path, key = _path_and_key(source)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(path, progress):
                index = _index_of(path)
                if index is None or index["key"] != key:
                    _delete_others(path)
                    needed, free = cls.bytes_needed(source, sizes), shutil.disk_usage(path.parent).free
                    if needed > free:
                        raise OSError(None, f"{needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free")
                    _write(source, path, key, description, progress)
                return cls(source, path, key)
        except OSError as error:
            raise WriteError(
                f'{path} could not be written: {error.strerror or error}; data.cache = "none" does without, '
                "SEGKIT_CACHE=... puts it elsewhere"
            ) from error


def _path_and_key(source: SampleSource) -> tuple[Path, str]:
    """The file of a split, by its folders and what is decoded of them, and a key that changes with the files."""
    paths = [os.path.abspath(file) for files in files_of(source.dataset) for file in files]  # noqa: PTH100
    folders = _digest(*sorted({os.path.dirname(path) for path in paths}))  # noqa: PTH120
    name = _digest(reading_of(source.dataset), str(source.resize), *paths)
    key = hashlib.sha256(f"{FORMAT} {segkit.__version__} {PIL.__version__}".encode())
    for stamp in stamps_of(source.dataset):
        key.update(stamp or b"")
    return cache_folder() / f"decoded-{folders}-{name}.bin", key.hexdigest()


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode(errors="surrogateescape")).hexdigest()[:24]


def _delete_others(path: Path) -> None:
    """Delete what was decoded of the files in the same folders, or was not used for long, and is not in use."""
    folders = path.name.rpartition("-")[0]
    for other in path.parent.glob("decoded-*.bin"):
        with suppress(OSError), other.open("rb") as file:
            old = time.time() - os.fstat(file.fileno()).st_mtime > UNUSED
            if other != path and (old or other.name.rpartition("-")[0] == folders):
                if fcntl:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                other.unlink()


@contextmanager
def _locked(path: Path, progress: bool) -> Iterator[None]:
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


def _write(source: SampleSource, path: Path, key: str, description: str, progress: bool) -> None:
    temporary = path.with_suffix(".tmp")  # one that a killed run has left is overwritten
    index: dict[str, Any] = {"key": key, "names": [], "sizes": [], "dtype": "uint8"}
    try:
        with temporary.open("wb") as file:
            for sample in source.read_all(description, progress):
                file.write(sample.image.permute(1, 2, 0).numpy().tobytes())
                file.write(sample.mask.numpy().tobytes())
                index["names"].append(sample.name)
                index["sizes"].append((*sample.image.shape[1:], *sample.mask.shape))
                index["dtype"] = str(sample.image.numpy().dtype)
            text = json.dumps(index).encode()
            file.write(text + len(text).to_bytes(8, "little") + _MARK)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _index_of(path: Path) -> dict[str, Any] | None:
    """The index of a file; None where there is none, or it is cut short or no such file."""
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
    a_pixel = 3 * np.dtype(index["dtype"]).itemsize
    return [a_pixel * height * width + rows * columns for height, width, rows, columns in index["sizes"]]


class DeviceCache(SampleSource):
    """A split decoded in the memory of the device: batches are made there.

    Every image takes the room of the largest one, 4 bytes a pixel: three colours and the label.

    Args:
        source: the split.
        sizes: height and width of each mask.
        device: where the samples will lie.
        keep_masks: in the host's memory too, for transforms that read them.
        description: of the progress bar.
        progress: whether to show it.

    Raises:
        DataError: a sample cannot be read.
    """

    on_device = True

    def __init__(
        self,
        source: SampleSource,
        sizes: Sequence[Size],
        device: torch.device,
        *,
        keep_masks: bool = False,
        description: str = "",
        progress: bool = False,
    ) -> None:
        super().__init__(source.dataset, source.resize)
        self.device, self.own_sizes = device, list(sizes)
        self.sizes = [resized_size(*size, source.resize) for size in sizes]
        self.names: list[str] = []
        self.masks: list[Tensor | None] = []
        self.pixels = torch.empty((len(source), *largest(self.sizes), 4), dtype=torch.uint8, device=device)
        self.own_masks: Tensor | None = None
        if self.sizes != self.own_sizes:  # scores are taken at a mask's own size
            self.own_masks = torch.empty((len(source), *largest(sizes)), dtype=torch.uint8, device=device)
        for index, sample in enumerate(source.read_all(description, progress)):
            height, width = sample.image.shape[1:]
            image = torch.cat([sample.image, mask_at(sample.mask, height, width)[None]]).permute(1, 2, 0)  # [H,W,4]
            below, beside = self.pixels.shape[1] - height, self.pixels.shape[2] - width
            # beyond an image its edge is repeated: what is sampled next to it is not blended with anything
            padded = np.pad(image.numpy(), ((0, below), (0, beside), (0, 0)), mode="edge")
            self.pixels[index] = torch.from_numpy(padded)
            if self.own_masks is not None:
                rows, columns = sample.mask.shape
                self.own_masks[index, :rows, :columns] = sample.mask.to(device)
            self.masks.append(sample.mask if keep_masks else None)
            self.names.append(sample.name)

    @staticmethod
    def bytes_needed(source: SampleSource, sizes: Sequence[Size]) -> int:
        """Bytes that a split would take on the device."""
        seen = [resized_size(*size, source.resize) for size in sizes]
        own = math.prod(largest(sizes)) if seen != list(sizes) else 0
        return len(sizes) * (4 * math.prod(largest(seen)) + own)

    def train_batch(self, keys: Sequence[Key], transform: RandomTransform) -> Batch:
        """As :meth:`SampleSource.train_batch`; the host does not wait for the device."""
        numbers = [index % len(self) for _, index in keys]
        sizes = [self.sizes[number] for number in numbers]
        drawn = [
            transform.params(key, size, self.masks[number])
            for key, size, number in zip(keys, sizes, numbers, strict=True)
        ]
        parts = [params.part(*size) for params, size in zip(drawn, sizes, strict=True)]
        as_stored = all(params.scaled == size for params, size in zip(drawn, sizes, strict=True))
        rows = [
            np.concatenate([params.row(size, (0, 0) if as_stored else (top, left)), params.colour.reshape(-1)])
            for params, size, ((top, _), (left, _)) in zip(drawn, sizes, parts, strict=True)
        ]
        values = to_device(np.stack(rows), self.device)  # [B,14+12]: all that is drawn in one copy
        maps = values[:, :14]
        pixels = self.pixels.index_select(0, to_device(np.array(numbers), self.device))  # [B,H,W,4]
        images = pixels[..., :3].permute(0, 3, 1, 2)  # [B,3,H,W]
        if not as_stored:
            spans = [(bottom - top, right - left) for (top, bottom), (left, right) in parts]
            images = resized_parts(images, maps[:, :2], maps[:, 4:6], maps[:, 6:8], largest([(1, 1), *spans]))
        size = largest([params.size for params in drawn])
        fill = mean_pixel(self.device, transform.normalisation)
        image, mask = sample_affine(images, pixels[..., 3], maps, size, fill, transform.ignore_index)
        colour = values[:, 14:].float().view(-1, 3, 4) if transform.settings.colour > 0 else None
        image = image.contiguous(memory_format=torch.channels_last)
        return Batch(image, mask, colour, [self.names[number] for number in numbers])

    def eval_batch(self, indices: Sequence[int]) -> list[Batch]:
        """As :meth:`SampleSource.eval_batch`."""
        groups: dict[tuple[Size, Size], list[int]] = defaultdict(list)
        for index in indices:
            groups[self.sizes[index], self.own_sizes[index]].append(index)
        batches = []
        for ((height, width), (rows, columns)), those in groups.items():
            chosen = to_device(np.array(those), self.device)
            pixels = self.pixels.index_select(0, chosen)[:, :height, :width]  # [B,h,w,4]
            mask = pixels[..., 3]
            if self.own_masks is not None:
                mask = self.own_masks.index_select(0, chosen)[:, :rows, :columns]
            image = pixels[..., :3].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
            batches.append(Batch(image, mask.contiguous(), None, [self.names[index] for index in those]))
        return batches


def largest(sizes: Sequence[Size]) -> Size:
    """The largest height and the largest width."""
    return max(height for height, _ in sizes), max(width for _, width in sizes)


def to_device(values: np.ndarray, device: torch.device) -> Tensor:
    """An array on the device, which is not waited for."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
