"""Distributed training: the processes that train one model, and reductions over them.

With a single process these functions do nothing. With several, Python objects are sent by gloo, CUDA tensors by NCCL.
"""

from __future__ import annotations

import gc
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from segkit.engine.precision import pick_device
from segkit.errors import ConfigError, SegkitError, TrainingError

T = TypeVar("T")
TIMEOUT = timedelta(hours=2)  # the main process may download data or scan it while the others wait
# these errors share no class
_CONNECTION = ("gloo", "NCCL", "Connection closed", "Connection reset", "TCPStore", "EADDRINUSE")


class MainProcessFailed(SegkitError):
    """The main process failed and has printed why; the others exit with its status and print nothing."""

    def __init__(self, status: int) -> None:
        super().__init__("the main process failed")
        self.exit_status = status


@dataclass
class DistributedContext:
    """The processes of a run; :data:`PROCESSES` is the context of this process.

    Attributes:
        rank: the rank of this process, from 0.
        size: the number of processes.
        sharing: whether the processes share a batch, see :func:`global_batch`.
        micro_batch: the micro-batch for which a loss is being computed; None for a whole batch.
    """

    rank: int = 0
    size: int = 1
    sharing: bool = False
    micro_batch: MicroBatch | None = None

    @property
    def is_main_process(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def broadcast_from_main(self, function: Callable[[], T]) -> T:
        """Call the function in the main process only, and return its result in all processes.

        Raises:
            Exception: in the main process, what the function raises.
            MainProcessFailed: in the other processes, if it raises.
        """
        if self.size == 1:
            return function()
        answer: list[Any] = [None, None]  # the result, or the exit status of a main process that failed
        failed: Exception | None = None
        if self.is_main_process:
            try:
                answer[0] = function()
            except Exception as error:
                failed, answer[1] = error, getattr(error, "exit_status", 1)
        dist.broadcast_object_list(answer, 0, device=torch.device("cpu"))
        if answer[1] is not None:
            raise failed or MainProcessFailed(answer[1])
        return answer[0]  # type: ignore[no-any-return]

    def main_process_first(self, function: Callable[[], T]) -> T:
        """Call the function in every process, first in the main process, then in the others."""
        if self.size == 1:
            return function()
        result: list[T] = []
        self.broadcast_from_main(lambda: result.append(function()))
        return result[0] if result else function()

    def gather(self, value: T) -> list[T]:
        """Collect the values of all processes, in the order of their ranks."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all processes, in place, without waiting for the device."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def any_process(self, flags: list[bool]) -> list[bool]:
        """For each flag, whether it is set in any process; the result is the same in all processes."""
        if self.size == 1:
            return flags
        return [bool(flag) for flag in self.sum(torch.tensor(flags, dtype=torch.int32)).tolist()]

    @torch.no_grad()
    def broadcast_buffers(self, model: nn.Module) -> None:
        """Copy the main process's buffers to all: without synchronisation, BatchNorm statistics differ by process."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)


PROCESSES = DistributedContext()  # a single process, except within distributed_context


@contextmanager
def distributed_context(device: str) -> Iterator[DistributedContext]:
    """Join the process group that torchrun started, and leave it at the end; without torchrun do nothing.

    Args:
        device: as ``train.device``.

    Raises:
        ConfigError: an environment variable of torchrun is missing or wrong, or the caller has joined a process group.
        TrainingError: another process ended or cannot be reached.
    """
    if "MASTER_ADDR" not in os.environ or "RANK" not in os.environ or os.environ.get("WORLD_SIZE") == "1":
        yield PROCESSES
        return
    chosen = pick_device(device)
    try:
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
        backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
        try:
            store, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
            store = PrefixStore(_attempt(store, rank, size), store)
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
        except ValueError as error:
            advice = "start several processes with torchrun, or unset RANK for a single one"
            raise ConfigError(f"{error}; {advice}") from error
        with as_process(rank, size):
            yield PROCESSES
        dist.barrier()  # not after an error: it could wait for a process that has ended
    except RuntimeError as error:
        if not _is_connection_error(error):
            raise
        reason = next(iter(str(error).splitlines()), "")
        raise TrainingError(f"another process of the run ended or cannot be reached: {reason}") from error
    # gloo's threads end with the last object that holds the group, such as DistributedDataParallel, which only the
    # garbage collector frees; a thread that still works when Python exits aborts the process
    gc.collect()
    dist.destroy_process_group()
    gc.collect()


@contextmanager
def _during(**values: Any) -> Iterator[None]:
    """Set attributes of :data:`PROCESSES` for a block."""
    before = {name: getattr(PROCESSES, name) for name in values}
    vars(PROCESSES).update(values)
    try:
        yield
    finally:
        vars(PROCESSES).update(before)


def as_process(rank: int, size: int) -> AbstractContextManager[None]:
    """Set rank and size of :data:`PROCESSES` for a block; with 0 and 1 nothing in it waits for other processes."""
    return _during(rank=rank, size=size)


def _attempt(store: Store, rank: int, size: int) -> str:
    """Agree on a name for this start of the processes, a prefix for the addresses that they store.

    torchrun keeps its store over restarts, with the addresses of processes that have ended. Its restart count cannot be
    the name because it may differ between machines. The main process answers every question, including those of an
    earlier start, until all others have confirmed its name.

    Raises:
        TrainingError: a process has not confirmed the name within TIMEOUT.
    """
    name = uuid4().hex
    if rank > 0:
        store.set(f"question {rank}", name)
        answer: str = store.get(name).decode()  # waits
        store.set(f"{answer} {rank}", "")
        return answer
    missing, end = set(range(1, size)), time.monotonic() + TIMEOUT.total_seconds()
    while missing:
        if time.monotonic() > end:
            raise TrainingError(f"of {size} processes, {sorted(missing)} did not start within {TIMEOUT}")
        for other in missing:
            if store.check([f"question {other}"]):
                store.set(store.get(f"question {other}").decode(), name)
        missing = {other for other in missing if not store.check([f"{name} {other}"])}
        time.sleep(0.02)
    return name


def _is_connection_error(error: Exception) -> bool:
    """Whether the error says that another process has ended or cannot be reached."""
    return isinstance(error, dist.DistError) or any(word in str(error) for word in _CONNECTION)


def launcher() -> str:
    """Identify the torchrun launch of this process by its --rdzv-id or its agent; "" without torchrun."""
    run = os.environ.get("TORCHELASTIC_RUN_ID", "")
    return f"{platform.node()} {os.getppid()}" if run == "none" else run


class MicroBatch(NamedTuple):
    """One of the parts that ``train.accumulate`` splits a batch into.

    Attributes:
        target: int64 ``[B,H,W]`` of all micro-batches of this process.
        share: factor of this micro-batch's loss: its share of the batch's labelled pixels, over all processes.
    """

    target: Tensor
    share: Tensor


def global_batch(micro_batch: MicroBatch | None = None) -> AbstractContextManager[None]:
    """Mark a block in which all processes share a batch, so that the functions below reduce over all of them.

    Args:
        micro_batch: the result of :func:`current_micro_batch` in the block.
    """
    return _during(sharing=PROCESSES.size > 1, micro_batch=micro_batch)


def current_micro_batch() -> MicroBatch | None:
    """The micro-batch for which a loss is being computed; None for a whole batch, and while torch.compile traces."""
    return None if torch.compiler.is_compiling() else PROCESSES.micro_batch


def global_sum(values: Tensor) -> Tensor:
    """Sum ``values`` over all processes that share a batch; in a single process, return them unchanged.

    If a loss passes all its sums through this function, its value and gradient are those of the whole batch: each
    process gets the gradient of its own images times the number of processes, and DistributedDataParallel averages
    these. In evaluation every process computes the loss of its own batches.
    """
    if torch.compiler.is_compiling() or not PROCESSES.sharing:
        return values
    total: Tensor = _Sum.apply(values)
    return total


def global_rows(rows: Tensor) -> Tensor:
    """Concatenate the rows ``[N,...]`` of all processes in each process; for a loss that sorts the pixels of a batch.

    The gradient is computed as in :func:`global_sum`.
    """
    if torch.compiler.is_compiling() or not PROCESSES.sharing:
        return rows
    lengths = PROCESSES.gather(len(rows))  # they may have different numbers of rows
    start = sum(lengths[: PROCESSES.rank])
    every = rows.new_zeros(sum(lengths), *rows.shape[1:])
    every[start : start + len(rows)] = rows
    return global_sum(every)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        return PROCESSES.sum(values.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient * PROCESSES.size
