"""Parallel work: how many cores a process may use, threads that read ahead, and scripts that start processes."""

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

from segkit.data.read import quiet_pillow
from segkit.errors import ConfigError

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container, as docker's --cpus sets it: "200000 100000" are two cores
_GUARD = 'put the call of segkit into a file, under `if __name__ == "__main__":`, or set workers=0'
Item = TypeVar("Item")
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
    read: Callable[[Item], T], items: Sequence[Item], description: str = "", threads: int | None = None
) -> Iterator[T]:
    """``read(item)`` of each item in order, by several threads, as decoding releases the interpreter.

    At most twice as many results as threads wait to be taken, since a decoded sample is large.

    Args:
        read: what to call.
        items: for which.
        description: of the progress bar, on a terminal; none is shown without it.
        threads: how many calls at a time; left out: one a core.
    """
    threads = threads or cores()
    pool = ThreadPoolExecutor(threads)
    try:
        with quiet_pillow():
            later = iter(items)
            waiting = deque(pool.submit(read, item) for item in islice(later, 2 * threads))
            for _ in tqdm(items, description, leave=False, disable=None if description else True):
                yield waiting.popleft().result()
                waiting.extend(pool.submit(read, item) for item in islice(later, 1))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C need not wait for the rest


def refuse_unguarded(workers: int | str) -> None:
    """Refuse to start processes, where each would begin by running the script that is under way, and start its own.

    So it is with the start methods spawn (Windows, macOS) and forkserver (Linux from Python 3.14 on); a process that is
    forked runs nothing anew, and neither does one that a notebook starts.

    Raises:
        ConfigError: the script has no main guard, or this is such a process already.
    """
    script = getattr(sys.modules["__main__"], "__file__", None)
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # true while a new process runs the script
        raise ConfigError(f"a process that loads data runs the script that has started it, and calls segkit: {_GUARD}")
    # asked so that it stays to be set: multiprocessing refuses that once a context was made
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    if script is None or workers in (0, "auto") or method == "fork":
        return
    with suppress(OSError):  # it came from the standard input
        if b"__name__" in Path(script).read_bytes():
            return
    raise ConfigError(
        f"{script}: each process that loads data (workers={workers}) begins by running this script anew, as Python's "
        f"start method is {method} here; {_GUARD}"
    )
