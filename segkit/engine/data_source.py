"""Data sources of a run's batches: image files, or decoded images in the memory of the machine or the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch.utils.data import DataLoader

from segkit.data.augment import RandomTransform
from segkit.data.batch_sampler import TrainBatchSampler
from segkit.data.loader import SampleSource, batch_loader, decoded_bytes
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
    pixels, dataset = inputs.scan.counts("train").pixels, inputs.splits["train"]
    transform = RandomTransform(
        inputs.augment,
        train.seed,
        dataset.ignore_index,
        [label for label in range(len(pixels)) if label != pixels.argmax()],
        inputs.normalisation,
        dataset.channels,
        inputs.transforms,
    )
    return batch_loader(source, sampler, transform, workers=train.workers, device=inputs.precision.device), sampler


def open_sources(inputs: TrainerInputs) -> dict[str, SampleSource]:
    """Open the samples of each split; with ``data.cache`` they are decoded once.

    ``auto`` decodes all splits into GPU memory if they fit, else into the machine's memory if they fit; on a CPU it
    decodes in every epoch, which takes 1 to 4 % of the time of the network.

    Raises:
        ConfigError: the splits do not fit into the memory that ``data.cache`` names.
        DataError: a sample cannot be read.
    """
    cache, resize, device = inputs.data.cache, inputs.data.resize, inputs.precision.device
    sources = {name: SampleSource(dataset, resize) for name, dataset in inputs.splits.items()}
    if cache == "none" or (cache == "auto" and device.type in ("cpu", "mps")):
        return sources
    rows, places = inputs.scan.statistics, {"device": device, "ram": torch.device("cpu")}
    needed = sum(decoded_bytes(rows[name], len(source.dataset.channels), resize) for name, source in sources.items())
    for place in places if cache == "auto" else [cache]:
        # all processes use the same cache, even if their memory differs, because they share batches of equal cost
        free = min(PROCESSES.gather(free_memory(places[place]) or 1 << 40))
        usable = SHARES[place] * free / (PROCESSES.size if place == "ram" else 1)
        if needed <= usable:
            keep_masks = place == "device" and (inputs.augment.max_class_share < 1 or inputs.augment.class_balanced > 0)
            return {
                name: source.decoded(
                    places[place],
                    keep_masks=keep_masks and name == "train",
                    description=f"decoding {name}" if PROCESSES.is_main_process else "",
                )
                for name, source in sources.items()
            }
    if cache == "auto":
        return sources
    raise ConfigError(
        f'data.cache = "{cache}": the images take {needed / 1e9:.1f} GB when decoded, and {usable / 1e9:.1f} of the '
        f'{free / 1e9:.1f} GB of free memory are available; reduce data.resize, or set data.cache = "none"'
    )
