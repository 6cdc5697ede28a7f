"""Parallel work: how many cores a process may use, threads that read ahead, and scripts that start processes."""

from __future__ import annotations

import ast
import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import TypeVar

from tqdm import tqdm

from segkit.data.read import quiet_pillow
from segkit.errors import ConfigError

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container, as docker's --cpus sets it: "200000 100000" are two cores
_GUARD = 'put the call of segkit under `if __name__ == "__main__":`, or set workers=0'
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


def refuse_unguarded(workers: int | str) -> None:
    """Refuse to start processes, where each would begin by running the script that is under way, and start its own.

    So it is with the start methods spawn (Windows, macOS) and forkserver (Linux from Python 3.14 on); a process that is
    forked runs nothing anew, and neither does one that a notebook starts.

    Raises:
        ConfigError: a script has no main guard around its call, or this is such a process already.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # true while a new process runs the script
        raise ConfigError(f"a process that loads data runs the script that has started it, and calls segkit: {_GUARD}")
    # asked so that it stays to be set: multiprocessing refuses that once a context was made
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    frame: FrameType | None = None if workers in (0, "auto") or method == "fork" else sys._getframe()
    while frame and not _is_script(frame):
        frame = frame.f_back
    if frame is None:
        return
    place, line = Path(frame.f_globals["__file__"]), frame.f_lineno
    why = (
        f"each process that loads data (workers={workers}) begins by running this script anew, as Python's start "
        f"method is {method} here"
    )
    try:
        nodes = ast.walk(ast.parse(place.read_bytes()))
    except OSError:  # it came from the standard input
        raise ConfigError(f"{place}: {why}, and it is no file; save it as one, or set workers=0") from None
    around = [node for node in nodes if isinstance(node, ast.If) and node.lineno <= line <= (node.end_lineno or line)]
    if not any(isinstance(each, ast.Name) and each.id == "__name__" for node in around for each in ast.walk(node.test)):
        raise ConfigError(f"{place}, line {line}: {why}; {_GUARD}")


def _is_script(frame: FrameType) -> bool:
    """Whether a frame is that of the script itself, not of text that the script has executed."""
    place, code = frame.f_globals.get("__file__") or "", frame.f_code
    is_main = code.co_name == "<module>" and frame.f_globals.get("__name__") == "__main__"
    return is_main and place != "" and Path(place).absolute() == Path(code.co_filename).absolute()
