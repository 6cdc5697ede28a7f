"""Parallelism: available cores, threads that read ahead, and the check for a missing main guard."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from segkit.errors import ConfigError

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # a container's CPU quota (docker --cpus): "200000 100000" means two cores
_GUARD = 'put the call of segkit into a file, under `if __name__ == "__main__":`, or set workers=0'
Item = TypeVar("Item")
T = TypeVar("T")


def cores() -> int:
    """Return how many cores the CPU affinity (Slurm, taskset) and the container's quota allow; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text().split()
        count = min(count, round(int(quota) / int(period)))
    except (OSError, ValueError):  # no container, or one without a limit: "max 100000"
        pass
    return max(1, count)


def own_cores() -> int:
    """Return this process's share of :func:`cores` if torchrun started several on this machine; at least 1."""
    processes = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, cores() // (int(processes) if processes.isdecimal() and int(processes) else 1))


def read_ahead(
    read: Callable[[Item], T], items: Sequence[Item], description: str = "", threads: int | None = None
) -> Iterator[T]:
    """Yield ``read(item)`` for each item in order, computed in threads; decoding releases the GIL.

    At most ``2 * threads`` results wait to be consumed, since decoded samples are large.

    Args:
        read: the function to call.
        items: its arguments.
        description: label of the progress bar on a terminal; without it no bar is shown.
        threads: number of concurrent calls; default: one per core.
    """
    threads = threads or cores()
    pool = ThreadPoolExecutor(threads)
    try:
        remaining = iter(items)
        waiting = deque(pool.submit(read, item) for item in islice(remaining, 2 * threads))
        for _ in tqdm(items, description, leave=False, disable=None if description else True):
            yield waiting.popleft().result()
            waiting.extend(pool.submit(read, item) for item in islice(remaining, 1))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # so that Ctrl-C does not wait for the rest


def start_method() -> str:
    """Return how new processes start; ``multiprocessing.get_start_method`` would fix it, and nobody could set it."""
    return multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]


def refuse_unguarded(workers: int | str) -> None:
    """Refuse to start worker processes from a script without a main guard, as each would run the script again.

    This happens with the start methods spawn (Windows, macOS) and forkserver (Linux from Python 3.14 on), but not with
    fork or in notebooks.

    Raises:
        ConfigError: the script has no main guard, or this process is itself such a worker.
    """
    script = getattr(sys.modules["__main__"], "__file__", None)
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # true while a new process runs the script
        raise ConfigError(f"a worker process runs the script that started it, which calls segkit again: {_GUARD}")
    method = start_method()
    if script is None or workers in (0, "auto") or method == "fork":
        return
    with suppress(OSError):  # a script from standard input has no file
        if b"__name__" in Path(script).read_bytes():
            return
    raise ConfigError(
        f"{script}: each worker process (workers={workers}) would run this script again, because Python's start "
        f"method is {method} here; {_GUARD}"
    )
