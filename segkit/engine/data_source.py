"""Where the batches of a run come from: image files, one file that holds them decoded, or the device's own memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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


@dataclass(frozen=True)
class DataSource:
    """The samples of each split, from wherever they come.

    Attributes:
        sources: by split.
        workers: processes that load what is not on the device.
        device: where batches are needed.
        message: one line for the console: which splits are on the device; may be empty.
    """

    sources: Mapping[str, SampleSource]
    workers: int
    device: torch.device
    message: str = ""

    def training(
        self, inputs: TrainerInputs, scan: Scan, distributed: DistributedContext
    ) -> tuple[Iterable[Batch], TrainBatchSampler]:
        """Training batches, and the sampler whose ``epoch`` and ``start`` are set before each pass."""
        train, source = inputs.train, self.sources["train"]
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
            inputs.augment,
            train.seed,
            ignore_index=scan.splits["train"].ignore_index,
            centre_on=[label for label in range(len(pixels)) if label != pixels.argmax()],  # any crop shows the largest
            normalisation=inputs.normalisation,
        )
        return train_loader(source, transform, sampler, workers=self.workers, device=self.device), sampler


def open_data_source(
    inputs: TrainerInputs, scan: Scan, device: torch.device, distributed: DistributedContext
) -> DataSource:
    """Decode the splits into the caches that ``data.cache`` asks for.

    ``auto`` puts splits on a card as long as they fit there, train first, then into files if they fit into memory; on a
    CPU it decodes each time, which takes 1 to 4 % of the time that a network does.

    Raises:
        ConfigError: a split does not fit into the cache that was asked for.
        DataError: a sample cannot be read.
        WriteError: the file of decoded samples cannot be written.
    """
    wide, cache = inputs.normalisation.dtype != "uint8", inputs.data.cache
    if cache == "auto" and device.type == "cpu":
        cache = "none"
    sources = {name: SampleSource(data, inputs.data.resize, 4 if wide else 1) for name, data in scan.splits.items()}
    sizes = {name: [sample.size for sample in scan.statistics[name]] for name in sources}
    needed = {name: sum(source.decoded_bytes(sizes[name])) for name, source in sources.items()}
    # whatever depends on the memory of a machine is agreed on, or processes that go different ways wait for each other
    limit = SHARE * min(distributed.gather(free_memory(device))) if cache in ("auto", "device") else 0.0
    keep_masks = inputs.augment.max_class_share < 1 or inputs.augment.class_balanced > 0
    on_device: list[str] = []
    for name, source in sources.items():
        progress: dict[str, Any] = {"description": f"decoding {name}", "progress": distributed.is_main_process}
        if limit and sum(needed[each] for each in [*on_device, name]) <= limit:
            held = _on_device(source, device, keep_masks=keep_masks and name == "train", **progress)
            if all(distributed.gather(held is not None)):
                sources[name] = source if held is None else held
                on_device.append(name)
                continue
        limit = 0.0  # what is asked for later is not put on the device either
        if cache == "device":
            raise ConfigError(
                f'data.cache = "device": the splits decoded are {_gigabytes(sum(needed.values()))}, more than '
                f'{SHARE:.0%} of the {_gigabytes(free_memory(device))} that are free; "ram" keeps them in a file that '
                "is mapped into memory, a smaller data.resize makes them smaller"
            )
        if cache == "ram" or (cache == "auto" and all(distributed.gather(_fits_into_memory(source, sizes[name])))):
            names = [sample.name for sample in scan.statistics[name]]
            sources[name] = _memmap(source, sizes[name], names, cache, distributed, **progress)
    message = f"data: {', '.join(on_device)} on the device, {_gigabytes(sum(needed[name] for name in on_device))}"
    return DataSource(sources, worker_count(inputs.train.workers, device), device, message if on_device else "")


def _on_device(source: SampleSource, device: torch.device, **how: Any) -> DeviceCache | None:
    try:
        return DeviceCache(source, device, **how)
    except torch.OutOfMemoryError:  # another process has taken it
        return None


def _memmap(
    source: SampleSource,
    sizes: Sequence[tuple[int, int]],
    names: Sequence[str],
    cache: str,
    distributed: DistributedContext,
    **progress: Any,
) -> SampleSource:
    """The split as a file of decoded samples; with ``auto``, the split as it is where the file cannot be written."""
    if not MemmapCache.is_possible(source):
        raise ConfigError(
            f'data.cache = "ram": {source.dataset.kind.rpartition(".")[2]} does not say which files its samples are '
            "read from (files and reading, see segkit.hookspecs), so nothing tells when they have changed; use "
            '"none" or "device"'
        )

    def decoded() -> SampleSource:
        try:
            return MemmapCache.of(source, sizes, names, **progress)
        except WriteError:
            if cache == "ram":
                raise
            return source

    return distributed.main_process_first(decoded)


def _fits_into_memory(source: SampleSource, sizes: Sequence[tuple[int, int]]) -> bool:
    return MemmapCache.is_possible(source) and sum(source.decoded_bytes(sizes)) < SHARE * host_memory()


def free_memory(device: torch.device) -> int:
    """The free bytes of a card, or of the machine for a CPU."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else host_memory()


def host_memory() -> int:
    """The bytes that this process may still take of the machine or its container; plenty where that is unknown."""
    return free_host_memory() or 1 << 40


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
