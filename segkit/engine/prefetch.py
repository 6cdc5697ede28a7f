"""The next batch travels, or is made, on a stream of its own, while the device computes the one before."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from segkit.data.batch import Batch


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
