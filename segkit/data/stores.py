"""Splits that are decoded once: into a file that is mapped into memory, or into the memory of the device."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import sys
import time
import weakref
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from filelock import FileLock, Timeout
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
        return Sample(torch.from_numpy(image).view(height, width, 3).permute(2, 0, 1), mask, self.names[index])

    def _open(self) -> None:
        self._starts = np.cumsum([0, *_bytes_of_each(self, self.sizes)]).tolist()
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

    @staticmethod
    def bytes_needed(source: SampleSource, sizes: Sequence[Size]) -> int:
        """The size of the file."""
        return sum(_bytes_of_each(source, sizes))

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
        path, needed = _path_of(source), cls.bytes_needed(source, sizes)
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
        except OSError as error:
            raise WriteError(
                f'{path} could not be written: {error.strerror or error}; data.cache = "none" does without, '
                "SEGKIT_CACHE=... puts it elsewhere"
            ) from error


def _bytes_of_each(source: SampleSource, sizes: Sequence[Size]) -> list[int]:
    """Bytes of each decoded sample: 3 values a pixel of the image, 1 byte a pixel of the mask."""
    a_pixel = 3 * source.value_bytes
    return [a_pixel * math.prod(resized_size(*size, source.resize)) + math.prod(size) for size in sizes]


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
    """Delete what was decoded of the files in the same folders, or was not used for long, and is not in use."""
    folders = path.name.rpartition("-")[0]
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
    temporary = path.with_name(f"{path.name.rpartition('-')[0]}.tmp")  # one of a killed run is overwritten
    try:
        with temporary.open("wb") as file:
            for sample, size in zip(source.read_all(description, progress), sizes, strict=True):
                if sample.mask.shape != size:
                    raise DataError(f"{sample.name} is {list(sample.mask.shape)}, and was {list(size)} when scanned")
                file.write(sample.image.permute(1, 2, 0).numpy().tobytes())
                file.write(sample.mask.numpy().tobytes())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
