"""From a dataset to batches: how samples are viewed, stacked, and loaded by worker processes.

uint8 travels to the device; normalisation and colours happen there. The views are pure functions of (seed, epoch,
index), so that worker processes keep no state.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from segkit.data import augment
from segkit.data.normalise import MEAN_PIXEL
from segkit.data.order import BatchOrder, EvaluationOrder, Key
from segkit.data.places import Places
from segkit.data.sample import Dataset, Sample, checked
from segkit.errors import DataError
from segkit.settings import AugmentSettings
from segkit.signals import CAUGHT

Resize = float | Sequence[int] | None
PATIENCE = 2.0  # seconds for the processes of a loader to end what they are at


class Batch(NamedTuple):
    """What a step or an evaluation gets.

    Attributes:
        image: uint8 ``[B,3,H,W]``.
        mask: uint8 ``[B,H,W]``; in evaluation at the mask's own size, not the resized image's.
        colour: float32 ``[B,3,4]``, or None where colours stay.
        names: one a sample.
    """

    image: Tensor
    mask: Tensor
    colour: Tensor | None
    names: list[str]

    def to(self, device: torch.device) -> Batch:
        """The batch on the device; the copy does not block where memory is pinned."""
        colour = None if self.colour is None else self.colour.to(device, non_blocking=True)
        image, mask = self.image.to(device, non_blocking=True), self.mask.to(device, non_blocking=True)
        return Batch(image, mask, colour, self.names)

    def parts(self, count: int) -> list[Batch]:
        """The batch in ``count`` parts, for gradient accumulation; fewer where it has fewer images."""
        size = -(-len(self.names) // count)
        starts = range(0, len(self.names), size)
        return [
            Batch(
                self.image[s : s + size],
                self.mask[s : s + size],
                None if self.colour is None else self.colour[s : s + size],
                self.names[s : s + size],
            )
            for s in starts
        ]


class TrainingViews(TorchDataset[tuple[Sample, augment.View]]):
    """A dataset of random views; ``[(epoch, index)]`` is the same view each time it is asked for."""

    def __init__(
        self, dataset: Dataset, settings: AugmentSettings, seed: int, resize: Resize, places: Places | None = None
    ) -> None:
        self.dataset, self.settings, self.seed, self.resize = dataset, settings, seed, resize
        self.places = places if settings.class_balanced else None

    def __getitem__(self, key: Key) -> tuple[Sample, augment.View]:
        epoch, index = key
        number = index % len(self.dataset)
        sample = resized(read(self.dataset, number), self.resize, mask_too=True)
        targets = self.places.of(number) if self.places else ()
        view = augment.draw_mixed(
            self.settings, sample.mask, (self.seed, epoch, index), targets, self.dataset.ignore_index
        )
        return augment.apply(sample, view, self.dataset.ignore_index), view


class EvaluationViews(TorchDataset[Sample]):
    """A dataset as it is, but for the size of its images."""

    def __init__(self, dataset: Dataset, resize: Resize) -> None:
        self.dataset, self.resize = dataset, resize

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return resized(read(self.dataset, index), self.resize, mask_too=False)


def read(dataset: Dataset, index: int) -> Sample:
    """A sample of a dataset; to whatever the dataset raises a note is added which one it was.

    Raises:
        DataError: it breaks the contract of samples, or its files cannot be read.
    """
    try:
        return checked(dataset[index])
    except Exception as error:
        files = getattr(dataset, "files", None)
        names = f" ({', '.join(map(str, files(index)))})" if files else ""
        which = f"sample {index} of {type(dataset).__name__}{names}"
        if isinstance(error, OSError):  # a disk of the network that has gone
            raise DataError(f"{which} cannot be read: {error}") from error
        error.add_note(f"this was {which}")
        raise


class CollateTraining:
    """Stack views to one batch; smaller ones are padded, the masks with void."""

    def __init__(self, ignore_index: int, with_colour: bool) -> None:
        self.ignore_index, self.with_colour = ignore_index, with_colour

    def __call__(self, items: list[tuple[Sample, augment.View]]) -> Batch:
        """One batch of the views, as large as the largest of them."""
        height = max(sample.mask.shape[0] for sample, _ in items)
        width = max(sample.mask.shape[1] for sample, _ in items)
        images = torch.tensor(MEAN_PIXEL, dtype=torch.uint8).repeat(len(items), height, width, 1)  # [B,H,W,3]
        masks = torch.full((len(items), height, width), self.ignore_index, dtype=torch.uint8)
        for place, (sample, _) in enumerate(items):
            rows, columns = sample.mask.shape
            images[place, :rows, :columns] = sample.image.permute(1, 2, 0)
            masks[place, :rows, :columns] = sample.mask
        colour = torch.from_numpy(np.stack([view.colour for _, view in items])) if self.with_colour else None
        names = [sample.name for sample, _ in items]
        return Batch(images.permute(0, 3, 1, 2), masks, colour, names)  # [B,3,H,W] in channels_last


def collate_evaluation(samples: list[Sample]) -> list[Batch]:
    """Batches of samples of one size: nothing is padded, so that no score depends on a neighbour in the batch."""
    groups: dict[tuple[torch.Size, torch.Size], list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.image.shape, sample.mask.shape].append(sample)
    return [
        Batch(
            torch.stack([s.image.permute(1, 2, 0) for s in group]).permute(0, 3, 1, 2),  # [B,3,H,W] in channels_last
            torch.stack([s.mask for s in group]),
            None,
            [s.name for s in group],
        )
        for group in groups.values()
    ]


def training_loader(
    dataset: Dataset,
    settings: AugmentSettings,
    *,
    batch_size: int,
    seed: int,
    repeat: int,
    resize: Resize,
    workers: int,
    device: torch.device,
    places: Places | None = None,
    parts: int = 1,
    rank: int = 0,
    size: int = 1,
) -> tuple[DataLoader[Batch], BatchOrder]:
    """A loader of training batches, and the order whose ``epoch`` and ``start`` are set before each pass."""
    order = BatchOrder(len(dataset), batch_size, seed, repeat, parts=parts, rank=rank, size=size)
    loader: DataLoader[Batch] = DataLoader(
        TrainingViews(dataset, settings, seed, resize, places),  # type: ignore[arg-type]
        batch_sampler=order,
        collate_fn=CollateTraining(dataset.ignore_index, settings.colour > 0),
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
        worker_init_fn=_begin,
        generator=torch.Generator().manual_seed(seed),  # else it would draw from the one that dropout uses
    )
    return loader, order


def evaluation_loader(
    dataset: Dataset, order: EvaluationOrder, *, resize: Resize, workers: int, device: torch.device
) -> DataLoader[list[Batch]]:
    """A loader of lists of equal-sized batches, in the given order."""
    return DataLoader(
        EvaluationViews(dataset, resize),  # type: ignore[arg-type]
        batch_sampler=order,
        collate_fn=collate_evaluation,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=_begin,
        generator=torch.Generator(),
    )


def shut_down(loader: DataLoader[Batch]) -> None:
    """End the loader's processes; those of an iterator that is alive when Python ends can keep it from ending."""
    iterator: Any = getattr(loader, "_iterator", None)  # torch has no public name for it
    if not hasattr(iterator, "_shutdown_workers"):
        return
    # torch waits 5 s for each of them, one after the other, and then asks it to end, which _begin has it not hear once
    impatient = threading.Timer(PATIENCE, lambda: [process.kill() for process in iterator._workers])
    impatient.start()
    try:
        with contextlib.suppress(RuntimeError):  # one of them had to be killed: torch's handler tells of it even here
            iterator._shutdown_workers()
    finally:
        impatient.cancel()


def worker_count(workers: int | str, device: torch.device) -> int:
    """``auto`` is one worker a core on CUDA, at most 8, and none on the CPU: there the network needs the cores."""
    if isinstance(workers, int):
        return workers
    return min(8, os.cpu_count() or 1) if device.type == "cuda" else 0


def resized(sample: Sample, resize: Resize, *, mask_too: bool) -> Sample:
    """The sample with its image resized (antialiased), its mask too (nearest) or left at its own size."""
    size = resized_size(sample.image.shape[1], sample.image.shape[2], resize)
    if size == tuple(sample.image.shape[1:]):
        return sample
    width_height = (size[1], size[0])
    pixels = Image.fromarray(np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy()))
    image = np.asarray(pixels.resize(width_height, Image.Resampling.BILINEAR))
    mask = sample.mask
    if mask_too:
        labels = Image.fromarray(np.ascontiguousarray(mask.numpy()))
        mask = torch.from_numpy(np.asarray(labels.resize(width_height, Image.Resampling.NEAREST)).copy())
    return Sample(torch.from_numpy(image.copy()).permute(2, 0, 1), mask, sample.name)


def resized_size(height: int, width: int, resize: Resize) -> tuple[int, int]:
    """Height and width after ``resize``: a factor, or [height, width], or None."""
    if resize is None:
        return height, width
    if isinstance(resize, (int, float)):
        return max(1, round(height * resize)), max(1, round(width * resize))
    return int(resize[0]), int(resize[1])


def _begin(_worker: int) -> None:
    """What a loader's process does first."""
    torch.set_num_threads(1)  # several workers of several threads each would fight for the cores
    # A scheduler stops all processes of a run at once, and a terminal too. The run itself ends its loaders, after the
    # step; until then they work on. Only a second SIGTERM is to them: that of multiprocessing, to one that hangs.
    for number in CAUGHT:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
