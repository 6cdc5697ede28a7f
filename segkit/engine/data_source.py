"""Where the batches of a run come from: image files, one file that holds them decoded, or the device's own memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

from segkit.data.augment import RandomTransform
from segkit.data.batch_sampler import TrainBatchSampler
from segkit.data.loader import SampleSource, batch_loader
from segkit.data.sample import Batch
from segkit.data.scan import Scan
from segkit.data.stores import DeviceCache, MemmapCache
from segkit.engine.distributed import ALONE, DistributedContext
from segkit.engine.precision import free_memory
from segkit.errors import ConfigError, WriteError

if TYPE_CHECKING:
    from segkit.engine.inputs import TrainerInputs

SHARE = 0.4  # of the device's free memory, or of the machine's: the network needs the rest


def prefetched(source: Iterator[list[Batch]], device: torch.device) -> Iterator[list[Batch]]:
    """The batches, on the device; one is copied while the one before is computed with, and the host waits for none."""
    if device.type != "cuda":
        yield from source
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def begin() -> list[Batch] | None:
        batches = next(source, None)
        with torch.cuda.stream(stream):
            return None if batches is None else [batch.to(device) for batch in batches]

    ahead = begin()
    while ahead is not None:
        ready, computing = ahead, torch.cuda.current_stream(device)
        computing.wait_stream(stream)
        for batch in ready:
            for tensor in batch.tensors:
                tensor.record_stream(computing)  # else its memory would be given to the next batch too early
        yield ready
        ahead = begin()


def training_batches(
    inputs: TrainerInputs,
    scan: Scan,
    source: SampleSource,
    device: torch.device,
    distributed: DistributedContext = ALONE,
) -> tuple[DataLoader[Batch], TrainBatchSampler]:
    """Training batches, and the sampler whose ``epoch`` and ``start`` are set before each pass."""
    train, dataset = inputs.train, scan.splits["train"]
    sampler = TrainBatchSampler(
        len(dataset),
        train.batch_size,
        train.seed,
        train.repeat,
        parts=train.accumulate,
        rank=distributed.rank,
        size=distributed.size,
    )
    transform = RandomTransform.of(scan, inputs.augment, train.seed, inputs.normalisation, inputs.transforms)
    return batch_loader(source, sampler, transform, workers=train.workers, device=device), sampler


def open_sources(
    inputs: TrainerInputs, scan: Scan, device: torch.device, distributed: DistributedContext = ALONE
) -> dict[str, SampleSource]:
    """The samples of each split, decoded into the caches that ``data.cache`` asks for.

    ``auto`` puts splits on a card as long as they fit there, train first, then into files if they fit into memory; on a
    CPU it decodes each time, which takes 1 to 4 % of the time that a network does.

    Raises:
        ConfigError: a split does not fit into the cache that was asked for.
        DataError: a sample cannot be read.
        WriteError: the file of decoded samples cannot be written.
    """
    cache, value_bytes = inputs.data.cache, 1 if inputs.normalisation.dtype == "uint8" else 4
    sources = {name: SampleSource(data, inputs.data.resize, value_bytes) for name, data in scan.splits.items()}
    if cache == "none" or (cache == "auto" and device.type in ("cpu", "mps")):
        return sources
    sizes = {name: [sample.size for sample in scan.statistics[name]] for name in sources}
    needed = {name: sum(source.decoded_bytes(sizes[name])) for name, source in sources.items()}
    # all processes go the same way, whatever memory each of them has: they wait for each other in a cache
    free, host = (min(distributed.gather(free_memory(each) or 1 << 40)) for each in (device, torch.device("cpu")))
    keep_masks = inputs.augment.max_class_share < 1 or inputs.augment.class_balanced > 0
    room = 0.0 if cache == "ram" else SHARE * free
    for name, source in sources.items():
        how: dict[str, Any] = {"description": f"decoding {name}", "progress": distributed.is_main_process}
        room -= needed[name]  # once one does not fit, none that is asked for later is put on the device
        if room >= 0:
            sources[name] = DeviceCache(source, device, keep_masks=keep_masks and name == "train", **how)
        elif cache == "device":
            raise ConfigError(
                f'data.cache = "device": the splits decoded are {sum(needed.values()) / 1e9:.1f} GB, more than '
                f'{SHARE:.0%} of the {free / 1e9:.1f} GB that are free; "ram" keeps them in a file that is mapped into '
                "memory, a smaller data.resize makes them smaller"
            )
        elif cache == "ram" or needed[name] < SHARE * host:
            names = [sample.name for sample in scan.statistics[name]]
            decode = partial(_memmap, cache == "ram", source, sizes[name], names, **how)
            sources[name] = distributed.main_process_first(decode)
    return sources


def _memmap(needed: bool, source: SampleSource, *about: Any, **how: Any) -> SampleSource:
    """The split as a file of decoded samples; as it is, where there can be no such file and none is ``needed``."""
    try:
        return MemmapCache(source, *about, **how)
    except (ConfigError, WriteError):
        if needed:
            raise
        return source
