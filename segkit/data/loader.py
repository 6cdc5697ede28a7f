"""Load batches: read, resize, transform and stack samples, in worker processes if wanted.

Batches hold stored values; normalisation and colour jitter run on the device. Random transforms are pure functions of
(seed, epoch, index), so worker processes have no state.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import warnings
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
from segkit.data.parallel import own_cores, read_ahead, refuse_unguarded, start_method
from segkit.data.read import ODD_METADATA
from segkit.data.resize import Resize, resized_part, resized_size
from segkit.data.sample import Batch, Dataset, Sample, checked
from segkit.data.statistics import SampleStatistics
from segkit.errors import DataError, reason
from segkit.signals import CAUGHT

_GRACE = 2.0  # seconds that worker processes get to finish before they are killed


class SampleSource:
    """The samples of a split with resized images: decoded at each access, or kept in memory by :meth:`decoded`.

    Args:
        dataset: the split.
        resize: value of ``data.resize``.

    Attributes:
        samples: the samples that are kept in memory; empty if they are decoded at each access.
        on_device: whether this is a device's memory; worker processes are then not used.
        masks: CPU copies of the masks, if the samples lie on the device and the random transform depends on masks.
    """

    samples: Sequence[Sample] = ()
    on_device = False
    masks: Sequence[Tensor] = ()

    def __init__(self, dataset: Dataset, resize: Resize = None) -> None:
        self.dataset, self.resize = dataset, resize

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        """Return a sample with its image resized and its mask at its original size; do not write to its tensors.

        Raises:
            DataError: the sample breaks the contract, or its files cannot be read.
            Exception: another error of the dataset, with a note that names the sample's index and files.
        """
        if self.samples:
            return self.samples[index]
        dataset = self.dataset
        try:
            sample = checked(dataset[index], dataset.channels)
        except Exception as error:
            if isinstance(error, DataError) and type(error).__init__ is not DataError.__init__:
                raise DataError(str(error), error.issue) from error  # a worker process may fail to pickle a subclass
            names = ", ".join(map(str, dataset.files(index)))
            which = f"sample {index} of {type(dataset.whole).__name__} ({names})".removesuffix(" ()")
            if isinstance(error, OSError):  # such as a network drive that has gone away
                raise DataError(f"{which} cannot be read: {reason(error)}") from error
            error.add_note(f"this was {which}")
            raise
        size = resized_size(sample.image.shape[1], sample.image.shape[2], self.resize)
        return sample._replace(image=resized_part(sample.image, size))

    def decoded(self, device: torch.device, *, keep_masks: bool = False, description: str = "") -> SampleSource:
        """Return a source that keeps the samples in host memory, which forked worker processes share, or on a device.

        Args:
            device: the device whose memory holds the samples.
            keep_masks: keep masks on the CPU too; random transforms that depend on them need not wait for the device.
            description: label of the progress bar; without it no bar is shown.

        Raises:
            DataError: a sample cannot be read.
        """
        kept = SampleSource(self.dataset, self.resize)
        # a dataset without `reading` may not be thread-safe: it may read from a single open file
        threads = 1 if self.dataset.reading is None else own_cores()
        samples, masks = list[Sample](), list[Tensor]()
        for image, mask, name in read_ahead(self.__getitem__, range(len(self)), description, threads):
            pixels = image.permute(1, 2, 0).contiguous().to(device)  # [H,W,C], as batches lie in memory
            samples.append(Sample(pixels.permute(2, 0, 1), mask.to(device), name))
            masks += [mask] if keep_masks else []
        kept.samples, kept.masks, kept.on_device = samples, masks, device.type != "cpu"
        return kept


def decoded_bytes(statistics: Sequence[SampleStatistics], channels: int, resize: Resize) -> int:
    """Return the number of bytes that a decoded split takes."""
    value = 1 if statistics[0].dtype == "uint8" else 4
    return sum(
        value * channels * math.prod(resized_size(*each.size, resize)) + math.prod(each.size) for each in statistics
    )


class TrainBatches(TorchDataset[Batch]):
    """Training batches by their keys: transformed samples, padded with the mean colour and void to the largest."""

    def __init__(self, source: SampleSource, transform: RandomTransform) -> None:
        self.source, self.transform = source, transform

    def __getitem__(self, keys: Sequence[Key]) -> Batch:
        source, transform, items = self.source, self.transform, []
        for key in keys:
            index = key[1] % len(source)
            sample = source[index]
            items.append(transform(sample, key, source.masks[index] if source.masks else sample.mask))
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


class EvalBatches(TorchDataset[list[Batch]]):
    """Samples by their indices, stacked by size; nothing is padded, so no score depends on the rest of a batch."""

    def __init__(self, source: SampleSource) -> None:
        self.source = source

    def __getitem__(self, indices: Sequence[int]) -> list[Batch]:
        groups: dict[tuple[torch.Size, torch.Size], list[Sample]] = defaultdict(list)
        for index in indices:
            sample = self.source[index]
            groups[sample.image.shape, sample.mask.shape].append(sample)
        batches = []
        for samples in groups.values():
            images, masks, names = zip(*samples, strict=True)
            image = torch.stack([each.permute(1, 2, 0) for each in images]).permute(0, 3, 1, 2)  # channels_last
            batches.append(Batch(image, torch.stack(masks), None, list(names)))
        return batches


def batch_loader(
    source: SampleSource,
    keys: TrainBatchSampler | Sequence[Sequence[int]],
    transform: RandomTransform | None = None,
    *,
    workers: int | str = 0,
    device: torch.device,
) -> DataLoader[Any]:
    """Create a loader of training batches, or, without a transform, of lists of evaluation batches.

    Args:
        source: the samples.
        keys: the sample keys of each batch; for evaluation the sample indices.
        transform: the random transform; None for evaluation.
        workers: value of ``train.workers``; ignored if the source lies in memory that workers do not share.
        device: the network's device.
    """
    is_shared = not source.samples or (start_method() == "fork" and not source.on_device)
    workers = worker_count(workers, device) if is_shared else 0
    refuse_unguarded(workers)
    generator = torch.Generator()  # by default the loader would draw from the generator that dropout uses
    if transform:
        generator.manual_seed(int(Stream.WORKERS.sequence(transform.seed).generate_state(1)[0]))
    return DataLoader(
        TrainBatches(source, transform) if transform else EvalBatches(source),
        batch_size=None,  # the sampler yields the keys of whole batches
        sampler=keys,
        num_workers=workers,
        persistent_workers=workers > 0 and transform is not None,
        pin_memory=device.type == "cuda" and not source.on_device,
        worker_init_fn=_start_worker,
        generator=generator,
    )


def shut_down(loader: Iterable[Any]) -> None:
    """End the workers of a loader or of its iterator; they ignore SIGTERM, by which Python ends child processes."""
    iterator: Any = getattr(loader, "_iterator", loader)  # torch has no public API for this
    if not hasattr(iterator, "_shutdown_workers"):
        return
    timer = threading.Timer(
        _GRACE, lambda: [process.kill() for process in iterator._workers]
    )  # torch would wait 5 s for each worker
    timer.start()
    try:
        with contextlib.suppress(RuntimeError):  # torch's signal handler raises if a worker was killed
            iterator._shutdown_workers()
    finally:
        timer.cancel()


def worker_count(workers: int | str, device: torch.device) -> int:
    """Resolve ``auto``: on CUDA one worker per available core, at most 8; on a CPU none, as the network needs it."""
    if isinstance(workers, int):
        return workers
    return min(8, own_cores()) if device.type == "cuda" else 0


def _start_worker(_worker: int) -> None:
    """Set up a worker process."""
    warnings.filterwarnings("ignore", module=ODD_METADATA)
    torch.set_num_threads(1)  # otherwise the threads of several workers would compete for the cores
    # Schedulers and terminals signal all processes of a run at once. Workers ignore these signals: the main process
    # finishes its step first, and then ends them.
    for number in CAUGHT:
        signal.signal(number, signal.SIG_IGN)
