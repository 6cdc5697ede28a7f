"""Where the batches of a run come from: image files, one file that holds them decoded, or the device's own memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from segkit.data.augment import RandomTransform
from segkit.data.batch_sampler import TrainBatchSampler
from segkit.data.loader import SampleSource, train_loader, worker_count
from segkit.data.sample import Batch
from segkit.data.scan import Scan
from segkit.data.stores import DeviceCache, MemmapCache
from segkit.engine.distributed import DistributedContext
from segkit.engine.precision import free_memory as free_host_memory
from segkit.errors import ConfigError, WriteError


def prefetched(source: Iterator[list[Batch]], device: torch.device) -> Iterator[list[Batch]]:
    """The batches, on the device; one is under way when the next is asked for, and the host waits for none."""
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


if TYPE_CHECKING:
    from segkit.engine.inputs import Job

SHARE = 0.4  # of the device's free memory, or of the machine's: the network needs the rest


@dataclass(frozen=True)
class DataSource:
    """The samples of each split, from wherever they come.

    Attributes:
        sources: by split.
        workers: processes that load what is not on the device.
        device: where batches are needed.
        told: what a person should know of it, in one line; may be empty.
    """

    sources: Mapping[str, SampleSource]
    workers: int
    device: torch.device
    told: str = ""

    def training(
        self, job: Job, scan: Scan, distributed: DistributedContext
    ) -> tuple[Iterable[Batch], TrainBatchSampler]:
        """Training batches, and the sampler whose ``epoch`` and ``start`` are set before each pass."""
        train, source = job.train, self.sources["train"]
        sampler = TrainBatchSampler(
            len(scan.splits["train"]),
            train.batch_size,
            train.seed,
            train.repeat,
            parts=train.accumulate,
            rank=distributed.rank,
            size=distributed.size,
        )
        pixels = scan.counts("train").pixels
        transform = RandomTransform(
            job.augment,
            train.seed,
            ignore_index=scan.splits["train"].ignore_index,
            centre_on=[label for label in range(len(pixels)) if label != pixels.argmax()],  # any crop shows the largest
            normalisation=job.normalisation,
        )
        return train_loader(source, transform, sampler, workers=self.workers, device=self.device), sampler


def open_data_source(job: Job, scan: Scan, device: torch.device, distributed: DistributedContext) -> DataSource:
    """Decode what ``data.cache`` wants decoded.

    Raises:
        ConfigError: the data does not fit where it is wanted.
        DataError: a sample cannot be read.
        WriteError: the file of decoded samples cannot be written.
    """
    wide = job.normalisation.dtype != "uint8"
    splits = {name: SampleSource(dataset, job.data.resize, 4 if wide else 1) for name, dataset in scan.splits.items()}
    sizes = {name: [facts.size for facts in scan.statistics[name]] for name in splits}
    wish = job.data.cache
    if wide and wish == "device":
        raise ConfigError(
            'data.cache = "device" keeps images of 8 bits a channel, and these have more; "ram" keeps them in a file '
            "that is mapped into memory"
        )
    if wish == "auto" and device.type == "cpu":  # decoding is 1 to 4 % of what a network takes there
        wish = "none"
    sources: dict[str, SampleSource] = {}
    if wish in ("auto", "device") and not wide:
        keep_masks = job.augment.max_class_share < 1 or job.augment.class_balanced > 0
        sources |= _on_device(splits, sizes, device, distributed, keep_masks=keep_masks)
    on_device = list(sources)
    needed = {name: DeviceCache.bytes_needed(samples, sizes[name]) for name, samples in splits.items()}
    if wish == "device" and len(on_device) < len(splits):
        raise ConfigError(
            f'data.cache = "device": the splits decoded are {_gigabytes(sum(needed.values()))}, more than '
            f'{SHARE:.0%} of the {_gigabytes(free_memory(device))} that are free; "ram" keeps them in a file that is '
            "mapped into memory, a smaller data.resize makes them smaller"
        )
    for name in [name for name in splits if name not in on_device]:
        if wish == "none" or (wish == "auto" and not _worth_a_file(splits[name], sizes[name])):
            sources[name] = splits[name]
        else:
            names = [facts.name for facts in scan.statistics[name]]
            sources[name] = _from_file(splits[name], sizes[name], names, name, wish, distributed)
    told = ""
    if on_device:
        told = f"data: {', '.join(on_device)} on the device, {_gigabytes(sum(needed[name] for name in on_device))}"
    return DataSource(sources, worker_count(job.train.workers, device), device, told)


def _on_device(
    splits: Mapping[str, SampleSource],
    sizes: Mapping[str, Sequence[tuple[int, int]]],
    device: torch.device,
    distributed: DistributedContext,
    *,
    keep_masks: bool,
) -> dict[str, DeviceCache]:
    """The splits that fit into the share of the device's memory, one after the other, train first."""
    left = SHARE * free_memory(device)
    found: dict[str, DeviceCache] = {}
    for name, samples in splits.items():
        needed = DeviceCache.bytes_needed(samples, sizes[name])
        if needed > left:
            if name == "train":
                break
            continue
        try:
            found[name] = DeviceCache(
                samples,
                sizes[name],
                device,
                keep_masks=keep_masks and name == "train",
                description=f"decoding {name}",
                progress=distributed.is_main_process,
            )
        except torch.OutOfMemoryError:  # another process has taken what was free
            break
        left -= needed
    return found


def _from_file(
    samples: SampleSource,
    sizes: Sequence[tuple[int, int]],
    names: Sequence[str],
    split: str,
    wish: str,
    distributed: DistributedContext,
) -> SampleSource:
    if not MemmapCache.is_possible(samples):
        kind = samples.dataset.kind.rpartition(".")[2]
        raise ConfigError(
            f'data.cache = "ram": {kind} does not say which files its samples are read from '
            '(files and reading, see segkit.hookspecs), so nothing tells when they have changed; use "none" or "device"'
        )
    try:
        return distributed.main_process_first(
            lambda: MemmapCache.of(samples, sizes, names, f"decoding {split}", distributed.is_main_process)
        )
    except WriteError:
        if wish == "ram":
            raise
        return samples  # it is only slower


def _worth_a_file(samples: SampleSource, sizes: Sequence[tuple[int, int]]) -> bool:
    """Whether what is too large for the device fits into the machine's memory, or is read from the disk each time."""
    return MemmapCache.is_possible(samples) and MemmapCache.bytes_needed(samples, sizes) < SHARE * memory()


def free_memory(device: torch.device) -> int:
    """Bytes that are free on the card, or of a CPU."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else memory()


def memory() -> int:
    """Bytes that this process may still take of the machine or its container; plenty where that is not known."""
    return free_host_memory() or 1 << 40


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
