"""From samples to batches: how they are viewed, stacked, and loaded by worker processes.

Stored values travel to the device; normalisation and colours happen there. The views are pure functions of (seed,
epoch, index), so that worker processes keep no state.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from segkit.data import augment
from segkit.data.cores import own_cores
from segkit.data.main_guard import refuse_unguarded
from segkit.data.normalise import IMAGENET, Normalisation
from segkit.data.order import BatchOrder, EvaluationOrder, Key, Stream
from segkit.data.places import Places
from segkit.data.sample import Batch, Sample
from segkit.data.samples import Samples
from segkit.settings import AugmentSettings
from segkit.signals import CAUGHT

PATIENCE = 2.0  # seconds for the processes of a loader to end what they are at


class Draws:
    """What is drawn for each key ``(epoch, index)``: the same view each time, whoever asks.

    Args:
        samples: the split.
        settings: what is drawn, from which ranges.
        seed: another one, other views.
        places: of the split's classes.
        normalisation: whose mean is put where there is no image.
    """

    def __init__(
        self,
        samples: Samples,
        settings: AugmentSettings,
        seed: int,
        places: Places | None = None,
        normalisation: Normalisation = IMAGENET,
    ) -> None:
        self.settings, self.seed, self.length, self.normalisation = settings, seed, len(samples), normalisation
        self.ignore_index = samples.dataset.ignore_index
        self.places = places if settings.class_balanced else None

    def number(self, key: Key) -> int:
        """Which sample a key means."""
        return key[1] % self.length

    def view(self, key: Key, size: tuple[int, int], mask: Tensor | None) -> augment.View:
        """The view of a key.

        Args:
            key: (epoch, index).
            size: of the sample's image, height and width.
            mask: uint8, of that size; needed where ``max_class_share`` judges it.
        """
        targets = self.places.of(self.number(key)) if self.places else ()
        return augment.draw_mixed(self.settings, size, (self.seed, *key), targets, mask, self.ignore_index)


class TrainingViews(TorchDataset[tuple[Sample, augment.View]]):
    """Random views of samples; ``[(epoch, index)]`` is the same view each time it is asked for."""

    def __init__(self, samples: Samples, draws: Draws) -> None:
        self.samples, self.draws = samples, draws

    def __getitem__(self, key: Key) -> tuple[Sample, augment.View]:
        sample = self.samples.to_train(self.draws.number(key))
        height, width = sample.mask.shape
        view = self.draws.view(key, (height, width), sample.mask)
        return augment.apply(sample, view, self.draws.ignore_index, self.draws.normalisation.fill), view


class EvaluationViews(TorchDataset[Sample]):
    """Samples as they are."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples.to_score(index)


class CollateTraining:
    """Stack views to one batch; smaller ones are padded, the masks with void."""

    def __init__(self, draws: Draws) -> None:
        self.ignore_index, self.with_colour = draws.ignore_index, draws.settings.colour > 0
        self.fill = draws.normalisation.fill

    def __call__(self, items: list[tuple[Sample, augment.View]]) -> Batch:
        """One batch of the views, as large as the largest of them."""
        height = max(sample.mask.shape[0] for sample, _ in items)
        width = max(sample.mask.shape[1] for sample, _ in items)
        dtype = items[0][0].image.dtype
        images = torch.tensor(self.fill, dtype=dtype).repeat(len(items), height, width, 1)  # [B,H,W,3]
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
    samples: Samples, draws: Draws, order: BatchOrder, *, workers: int, device: torch.device
) -> DataLoader[Batch]:
    """A loader of training batches, in an order whose ``epoch`` and ``start`` are set before each pass."""
    refuse_unguarded(workers)
    return DataLoader(
        TrainingViews(samples, draws),  # type: ignore[arg-type]
        batch_sampler=order,
        collate_fn=CollateTraining(draws),
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
        worker_init_fn=_begin,
        # without a generator of its own it would draw from the one that dropout uses
        generator=torch.Generator().manual_seed(int(Stream.WORKERS.sequence(draws.seed).generate_state(1)[0])),
    )


def evaluation_loader(
    samples: Samples, order: EvaluationOrder, *, workers: int, device: torch.device
) -> DataLoader[list[Batch]]:
    """A loader of lists of equal-sized batches, in the given order."""
    refuse_unguarded(workers)
    return DataLoader(
        EvaluationViews(samples),  # type: ignore[arg-type]
        batch_sampler=order,
        collate_fn=collate_evaluation,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=_begin,
        generator=torch.Generator(),
    )


def shut_down(loader: Iterable[Batch]) -> None:
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
    """``auto`` is a worker for each core of this process, at most 8, on CUDA; none on a CPU: it is needed."""
    if isinstance(workers, int):
        return workers
    return min(8, own_cores()) if device.type == "cuda" else 0


def _begin(_worker: int) -> None:
    """What a loader's process does first."""
    torch.set_num_threads(1)  # several workers of several threads each would fight for the cores
    # A scheduler stops all processes of a run at once, and a terminal too. The run itself ends its loaders, after the
    # step; until then they work on. Only a second SIGTERM is to them: that of multiprocessing, to one that hangs.
    for number in CAUGHT:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    # A run that fails may hang up while a thread of multiprocessing hands it a batch; that thread would print it.
    tell = sys.excepthook
    sys.excepthook = lambda kind, *rest: None if issubclass(kind, (OSError, EOFError)) else tell(kind, *rest)
