"""Data sources of a run's batches: image files, or decoded images in the memory of the machine or the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

import torch
from torch.utils.data import DataLoader

from segkit.data.augment import RandomTransform
from segkit.data.batch_sampler import TrainBatchSampler
from segkit.data.loader import DecodedSource, SampleSource, batch_loader, decoded_bytes
from segkit.data.sample import Batch
from segkit.engine.distributed import PROCESSES
from segkit.engine.precision import free_memory
from segkit.errors import ConfigError

if TYPE_CHECKING:
    from segkit.engine.inputs import TrainerInputs

SHARES = {"device": 0.4, "ram": 0.7}  # usable shares of free memory; the network and the loader processes need the rest


def prefetched(source: Iterator[list[Batch]], device: torch.device) -> Iterator[list[Batch]]:
    """Yield the batches on the device: each is copied while the previous one is computed, without blocking the host."""
    if device.type != "cuda":
        yield from source
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def moved() -> list[Batch]:
        with torch.cuda.stream(stream):
            return [batch.to(device) for batch in next(source, [])]

    ahead = moved()
    while ahead:
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(stream)
        for tensor in [each for batch in ahead for each in batch[:3] if each is not None]:
            tensor.record_stream(computing)  # otherwise its memory could be reused for the next batch too early
        yield ahead
        ahead = moved()


def training_batches(inputs: TrainerInputs, source: SampleSource) -> tuple[DataLoader[Batch], TrainBatchSampler]:
    """The loader of training batches, and its sampler, whose ``epoch`` and ``start`` are set before each epoch."""
    train = inputs.train
    sampler = TrainBatchSampler(
        len(inputs.splits["train"]),
        train.batch_size,
        train.seed,
        train.repeat,
        parts=train.accumulate,
        rank=PROCESSES.rank,
        size=PROCESSES.size,
    )
    transform = RandomTransform.of(inputs.scan, inputs.augment, train.seed, inputs.normalisation, inputs.transforms)
    return batch_loader(source, sampler, transform, workers=train.workers, device=inputs.precision.device), sampler


def open_sources(inputs: TrainerInputs) -> dict[str, SampleSource]:
    """Open the samples of each split; with ``data.cache`` they are decoded once.

    ``auto`` decodes splits into GPU memory as long as they fit, train first, and the others into the machine's memory;
    on a CPU it decodes in every epoch, which takes 1 to 4 % of the time of the network.

    Raises:
        ConfigError: a split does not fit into the memory that ``data.cache`` names.
        DataError: a sample cannot be read.
    """
    cache, resize, device = inputs.data.cache, inputs.data.resize, inputs.precision.device
    sources = {name: SampleSource(dataset, resize) for name, dataset in inputs.splits.items()}
    if cache == "none" or (cache == "auto" and device.type in ("cpu", "mps")):
        return sources
    places = {"device": device, "ram": torch.device("cpu")}
    allowed = list(places) if cache == "auto" else [cache]
    # all processes use the same cache, even if their memory differs, because they share batches of equal cost
    free = {name: min(PROCESSES.gather(free_memory(places[name]) or 1 << 40)) for name in allowed}
    room = {name: SHARES[name] * free[name] / (PROCESSES.size if name == "ram" else 1) for name in allowed}
    keep_masks = inputs.augment.max_class_share < 1 or inputs.augment.class_balanced > 0
    for name, source in sources.items():
        rows = inputs.scan.statistics[name]
        needed = decoded_bytes(rows, len(source.dataset.channels), resize)
        fitting = [place for place in allowed if needed <= room[place]]
        if not fitting and cache != "auto":
            usable, available = room[cache] / 1e9, free[cache] / 1e9
            raise ConfigError(
                f'data.cache = "{cache}": {name} takes {needed / 1e9:.1f} GB when decoded, and {usable:.1f} of the '
                f'{available:.1f} GB of free memory are available; reduce data.resize, or set data.cache = "none"'
            )
        for place in fitting:
            decoded = None
            with nullcontext() if place == cache else suppress(torch.OutOfMemoryError):  # other programs use it too
                decoded = DecodedSource(
                    source,
                    places[place],
                    keep_masks=keep_masks and name == "train" and place == "device",
                    description=f"decoding {name}" if PROCESSES.is_main_process else "",
                )
            if all(PROCESSES.gather(decoded is not None)) and decoded is not None:
                room[place], sources[name] = room[place] - needed, decoded
                break
            room[place] = 0
    return sources
