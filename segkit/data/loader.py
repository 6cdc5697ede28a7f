"""From the samples of a split to batches: how they are resized, transformed, stacked, and loaded by worker processes.

Stored values travel to the device; normalisation and colours happen there. The random transforms are pure functions of
(seed, epoch, index), so that worker processes keep no state.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from segkit.data.augment import RandomTransform
from segkit.data.batch_sampler import Key, Stream, TrainBatchSampler
from segkit.data.parallel import own_cores, refuse_unguarded
from segkit.data.resize import Resize, resized_part, resized_size
from segkit.data.sample import Batch, Dataset, Sample, checked
from segkit.errors import DataError, reason
from segkit.signals import CAUGHT

_GRACE = 2.0  # seconds for the processes of a loader to finish what they are doing


class SampleSource:
    """The samples of a split with their images resized, decoded each time they are asked for.

    Args:
        dataset: the split.
        resize: as ``data.resize``.

    Attributes:
        on_device: whether the samples lie on the device, so that no process loads any.
        masks: once more on the CPU, where the samples lie elsewhere and the random transform depends on them.
    """

    on_device = False
    masks: Sequence[Tensor] | None = None

    def __init__(self, dataset: Dataset, resize: Resize = None) -> None:
        self.dataset, self.resize = dataset, resize

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        """A sample, its image resized, its mask at its own size."""
        sample = read_sample(self.dataset, index)
        size = resized_size(sample.image.shape[1], sample.image.shape[2], self.resize)
        return sample._replace(image=resized_part(sample.image, size))

    def train_batch(self, keys: Sequence[Key], transform: RandomTransform) -> Batch:
        """Transformed samples as one batch, as large as the largest; smaller ones are padded, the masks with void."""
        items = []
        for key in keys:
            index = key[1] % len(self)
            sample = self[index]
            items.append(transform(sample, key, self.masks[index] if self.masks else sample.mask))
        samples = [sample for sample, _ in items]
        height = max(sample.mask.shape[0] for sample in samples)
        width = max(sample.mask.shape[1] for sample in samples)
        device = samples[0].image.device
        images = transform.normalisation.mean_pixel(device).flatten().repeat(len(items), height, width, 1)  # [B,H,W,C]
        masks = torch.full((len(items), height, width), transform.ignore_index, dtype=torch.uint8, device=device)
        for number, sample in enumerate(samples):
            rows, columns = sample.mask.shape
            images[number, :rows, :columns] = sample.image.permute(1, 2, 0)
            masks[number, :rows, :columns] = sample.mask
        colour = None
        if transform.settings.colour > 0:
            colour = torch.from_numpy(np.stack([params.colour for _, params in items]))
        return Batch(images.permute(0, 3, 1, 2), masks, colour, [sample.name for sample in samples])  # channels_last

    def eval_batch(self, indices: Sequence[int]) -> list[Batch]:
        """Samples as they are, in batches of one size: nothing is padded, so no score depends on a neighbour."""
        groups: dict[tuple[torch.Size, torch.Size], list[Sample]] = defaultdict(list)
        for index in indices:
            sample = self[index]
            groups[sample.image.shape, sample.mask.shape].append(sample)
        batches = []
        for samples in groups.values():
            images, masks, names = zip(*samples, strict=True)
            image = torch.stack([each.permute(1, 2, 0) for each in images]).permute(0, 3, 1, 2)  # channels_last
            batches.append(Batch(image, torch.stack(masks), None, list(names)))
        return batches


def read_sample(dataset: Dataset, index: int) -> Sample:
    """A sample of a dataset; a note says which one it was where the dataset raises an error.

    Raises:
        DataError: it breaks the contract of samples, or its files cannot be read.
    """
    try:
        return checked(dataset[index], dataset.channels)
    except Exception as error:
        if isinstance(error, DataError) and type(error.retold("")) is not type(error):
            raise error.retold(str(error)) from error  # a loader's process could not hand it over
        files = dataset.files(index)
        names = f" ({', '.join(map(str, files))})" if files else ""
        which = f"sample {index} of {dataset.kind.rpartition('.')[2]}{names}"
        if isinstance(error, OSError):  # a disk of the network that has gone
            file = f", {error.filename}" if error.filename and not files else ""
            raise DataError(f"{which}{file} cannot be read: {reason(error)}") from error
        error.add_note(f"this was {which}")
        raise


class _Batches(TorchDataset[Any]):
    """A data source as torch's loader asks for it: a batch by the keys of its samples."""

    def __init__(self, source: SampleSource, transform: RandomTransform | None) -> None:
        self.source, self.transform = source, transform

    def __getitem__(self, keys: Sequence[Any]) -> Batch | list[Batch]:
        if self.transform is None:
            return self.source.eval_batch(keys)
        return self.source.train_batch(keys, self.transform)


def batch_loader(
    source: SampleSource,
    keys: TrainBatchSampler | Sequence[Sequence[int]],
    transform: RandomTransform | None = None,
    *,
    workers: int | str = 0,
    device: torch.device,
) -> DataLoader[Any]:
    """A loader of training batches; without a transform, for evaluation, of lists of batches of one size each.

    Args:
        source: the samples.
        keys: of the samples of each batch; in evaluation their indices.
        transform: of training samples.
        workers: as ``train.workers``; a source on the device needs none.
        device: the network's.
    """
    workers = 0 if source.on_device else worker_count(workers, device)
    refuse_unguarded(workers)
    generator = torch.Generator()  # without one of its own it would draw from the one that dropout uses
    if transform:
        generator.manual_seed(int(Stream.WORKERS.sequence(transform.seed).generate_state(1)[0]))
    return DataLoader(
        _Batches(source, transform),
        batch_size=None,  # the sampler's keys are those of whole batches
        sampler=keys,
        num_workers=workers,
        persistent_workers=workers > 0 and transform is not None,
        pin_memory=device.type == "cuda" and not source.on_device,
        worker_init_fn=_start_worker,
        generator=generator,
    )


def shut_down(loader: Iterable[Any]) -> None:
    """End the processes of a loader, or of an iterator of one; they ignore the SIGTERM that Python ends others by."""
    iterator: Any = getattr(loader, "_iterator", loader)  # torch has no public name for it
    if not hasattr(iterator, "_shutdown_workers"):
        return
    timer = threading.Timer(
        _GRACE, lambda: [process.kill() for process in iterator._workers]
    )  # torch waits 5 s for each
    timer.start()
    try:
        with contextlib.suppress(RuntimeError):  # where one had to be killed, torch's handler raises even here
            iterator._shutdown_workers()
    finally:
        timer.cancel()


def worker_count(workers: int | str, device: torch.device) -> int:
    """``auto`` is a worker for each core of this process, at most 8, on CUDA; none on a CPU: the network needs it."""
    if isinstance(workers, int):
        return workers
    return min(8, own_cores()) if device.type == "cuda" else 0


def _start_worker(_worker: int) -> None:
    """What a loader's process does first."""
    torch.set_num_threads(1)  # several workers of several threads each would compete for the cores
    # A scheduler signals all processes of a run at once, and a terminal too. The run itself ends its loaders, after the
    # step; until then they work on.
    for number in CAUGHT:
        signal.signal(number, signal.SIG_IGN)
    # A run that fails may close the connection while a thread of multiprocessing sends a batch; nobody should see that.
    show = sys.excepthook
    sys.excepthook = lambda kind, *rest: None if issubclass(kind, (OSError, EOFError)) else show(kind, *rest)
