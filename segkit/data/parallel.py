"""Parallel work within one process: how many cores it may use, and threads that read ahead."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from segkit.data.read import quiet_pillow

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container, as docker's --cpus sets it: "200000 100000" are two cores
T = TypeVar("T")


def cores() -> int:
    """The cores of the process's affinity (Slurm, taskset), or of its container's quota where that is less; >= 1."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text().split()
        count = min(count, round(int(quota) / int(period)))
    except (OSError, ValueError):  # no container, or one without a limit: "max 100000"
        pass
    return max(1, count)


def own_cores() -> int:
    """This process's share of :func:`cores`, where torchrun has started several on this machine; at least 1."""
    together = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, cores() // (int(together) if together.isdecimal() and int(together) else 1))


def read_ahead(
    read: Callable[[int], T], indices: Sequence[int], threads: int, description: str = "", progress: bool = False
) -> Iterator[T]:
    """``read(index)`` of each index in order, by several threads, as decoding releases the interpreter.

    At most twice as many results as threads wait to be taken, since a decoded sample is large.

    Args:
        read: what to call.
        indices: for which.
        threads: how many calls at a time.
        description: of the progress bar.
        progress: whether to show it; on a terminal only.
    """
    pool = ThreadPoolExecutor(threads)
    try:
        with quiet_pillow():
            later = iter(indices)
            waiting = deque(pool.submit(read, index) for index in islice(later, 2 * threads))
            for _ in tqdm(indices, description, leave=False, disable=None if progress else True):
                yield waiting.popleft().result()
                waiting.extend(pool.submit(read, index) for index in islice(later, 1))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C need not wait for the rest
