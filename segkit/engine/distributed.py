"""The processes that train together: one, or those that torchrun started, and the sums that they share."""

from __future__ import annotations

import gc
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
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
from segkit.errors import ConfigError, SegkitError, TrainingError, first_few

_PAUSE = 0.02  # seconds
_SILENT = 10.0  # seconds in which everybody is expected to have come


def meet(patience: timedelta) -> tuple[Store, int, int]:
    """A part of the store that this attempt alone uses, the rank of this process, and how many there are.

    Raises:
        TrainingError: some did not come.
    """
    store, rank, size = next(rendezvous("env://", timeout=patience))
    name = _invite(store, size, patience) if rank == 0 else _accept(store, rank, patience)
    return PrefixStore(name, store), rank, size


def _invite(store: Store, size: int, patience: timedelta) -> str:
    """Tell a new name to whoever asks, until all have heard it."""
    name, missing = uuid4().hex, set(range(1, size))
    began, told = time.monotonic(), False
    while missing:
        for rank in sorted(missing):
            if store.check([f"asks/{rank}"]):  # what is there may be of an earlier attempt: to answer that does no harm
                store.set(f"answer/{store.get(f'asks/{rank}').decode()}", name)
            if store.check([f"came/{name}/{rank}"]):
                missing.remove(rank)
        waited = time.monotonic() - began
        if waited > patience.total_seconds():
            raise TrainingError(f"of {size} processes {sorted(missing)} did not come within {patience}")
        if waited > _SILENT and not told:
            told = True
            print(
                f"waiting for processes {first_few([str(rank) for rank in sorted(missing)])} of {size}",
                file=sys.stderr,
                flush=True,
            )
        time.sleep(_PAUSE)
    return name


def _accept(store: Store, rank: int, patience: timedelta) -> str:
    """Ask for the name, under a word that nobody has used before."""
    word = uuid4().hex
    store.set(f"asks/{rank}", word)
    store.wait([f"answer/{word}"], patience)
    name: str = store.get(f"answer/{word}").decode()
    store.set(f"came/{name}/{rank}", "")
    return name


T = TypeVar("T")
PATIENCE = timedelta(hours=2)  # for the first process, which downloads, reads labels or draws while the others wait
CPU = torch.device("cpu")
_LOST = ("gloo", "NCCL", "Connection closed", "Connection reset", "TCPStore")  # they have no class of their own for it
_NUMBERS = {"WORLD_SIZE": 1, "RANK": 0, "LOCAL_RANK": 0, "MASTER_PORT": 1}  # the least that is allowed


class Elsewhere(SegkitError):
    """The first process cannot go on, and has said why: the others leave with its status, in silence."""

    def __init__(self, status: int) -> None:
        super().__init__("the first process has said why")
        self.exit_status = status


@dataclass(frozen=True)
class World:
    """The processes of a run.

    Attributes:
        rank: of this process, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def on_first(self, function: Callable[[], T]) -> T:
        """What the function returns in the first process, which alone calls it; it also ends a wait for that.

        Raises:
            Exception: the function's, in the first process.
            Elsewhere: in the others then.
        """
        if self.size == 1:
            return function()
        if self.first:
            try:
                answer: list[Any] = [function(), None]
            except Exception as error:
                self._tell([None, getattr(error, "exit_status", 1)])
                raise
            self._tell(answer)
        else:
            answer = [None, None]
            self._tell(answer)
            if answer[1] is not None:
                raise Elsewhere(answer[1])
        result: T = answer[0]
        return result

    def first_before_others(self, function: Callable[[], T]) -> T:
        """What the function returns in each process; the first one is done, or has failed, before the others begin."""
        if self.size == 1:
            return function()
        own: list[T] = []
        self.on_first(lambda: own.append(function()))
        return own[0] if own else function()

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place; the device is not waited for."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def agreement(self, wishes: list[bool]) -> Callable[[], list[bool]]:
        """Ask, without waiting, which of the wishes any process has; the answer is the same in all."""
        if self.size == 1:
            return lambda: wishes
        flags = torch.tensor(wishes, dtype=torch.int32)
        work = dist.all_reduce(flags, dist.ReduceOp.MAX, async_op=True)

        def answer() -> list[bool]:
            work.wait()
            return [bool(flag) for flag in flags.tolist()]

        return answer

    @torch.no_grad()
    def same_buffers(self, model: nn.Module) -> None:
        """Give all processes the first one's buffers: a layer that is not synchronised counts its own part alone."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def _tell(self, values: list[Any]) -> None:
        dist.broadcast_object_list(values, 0, device=CPU)


@contextmanager
def joined(device: str) -> Iterator[World]:
    """The world of this process: that of torchrun, which is joined and left, that of the caller, or one of its own.

    Args:
        device: as ``train.device``.

    Raises:
        ConfigError: what torchrun, or whoever started this process, has set cannot be.
        TrainingError: the others could not be reached, or one of them ended.
    """
    if dist.is_available() and dist.is_initialized():  # by the caller, who leaves it too
        yield World(dist.get_rank(), dist.get_world_size())
        return
    if "MASTER_ADDR" not in os.environ or "RANK" not in os.environ or _numbers()["WORLD_SIZE"] == 1:
        yield World()
        return
    chosen = pick_device(device, together=True)
    try:
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
        store, rank, size = meet(PATIENCE)
        backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
        yield World(rank, size)
        # Not after an error: it may wait for a process that is no more.
        dist.barrier()
    except RuntimeError as error:
        if "EADDRINUSE" in str(error):
            port = os.environ.get("MASTER_PORT")
            raise TrainingError(f"MASTER_PORT={port} is in use; give torchrun another --master-port") from error
        if not is_lost(error):
            raise
        closed = re.search(r"Connection (closed|reset) by peer( \[[^]]*\])?", str(error))
        reason = closed.group() if closed else (str(error).splitlines() or [""])[0]
        raise TrainingError(f"another process of the run ended or cannot be reached: {reason}") from error
    # The threads of gloo end with the last object that holds the group, DistributedDataParallel among them, which only
    # the collector frees; one that is still at work when Python ends aborts the process.
    gc.collect()
    dist.destroy_process_group()
    gc.collect()


def is_lost(error: Exception) -> bool:
    """Whether it says that another process has ended or cannot be reached."""
    return isinstance(error, dist.DistError) or any(word in str(error) for word in _LOST)


def _numbers() -> dict[str, int]:
    """What torchrun has told this process of itself.

    Raises:
        ConfigError: a variable is missing or holds no number that can be.
    """
    found = {}
    for name, least in _NUMBERS.items():
        text = os.environ.get(name, "0" if name == "LOCAL_RANK" else "")
        if not text.isdecimal() or int(text) < least:
            raise ConfigError(
                f"{name}={text!r} in the environment: a whole number from {least} on is needed; start "
                "several processes with torchrun, or unset RANK for one"
            )
        found[name] = int(text)
    if found["RANK"] >= found["WORLD_SIZE"]:
        raise ConfigError(f"RANK={found['RANK']} with WORLD_SIZE={found['WORLD_SIZE']}: ranks count from 0")
    return found


def launcher() -> dict[str, str]:
    """Who started this process, the same when it is started anew after a failure; empty without torchrun."""
    run = os.environ.get("TORCHELASTIC_RUN_ID", "")
    return {"run": run, "agent": f"{platform.node()} {os.getppid()}"} if run else {}


def same_launch(before: Any, given_up: bool) -> bool:
    """Whether what was begun by ``before`` is to go on here, as it is the same launch that starts its processes anew.

    The same agent is. So is another one of a run whose id was given to torchrun (--rdzv-id), as of a job that its
    scheduler starts again; but not where that run is given up: finished, or to be overwritten.
    """
    now = launcher()
    if not now or not isinstance(before, dict):
        return False
    return before == now or (not given_up and now["run"] != "none" and before.get("run") == now["run"])


class Part(NamedTuple):
    """A part of a batch, as ``train.accumulate`` makes them.

    Attributes:
        target: int64 ``[B,H,W]``, of all parts of this process.
        share: of the batch's labelled pixels in this part, over all processes; what its loss is multiplied with.
    """

    target: Tensor
    share: Tensor


_sharing: ContextVar[World | None] = ContextVar("sharing", default=None)
_part: ContextVar[Part | None] = ContextVar("part", default=None)


@contextmanager
def one_batch(world: World, part: Part | None = None) -> Iterator[None]:
    """In this block :func:`global_sum` and :func:`global_rows` reach over all processes, which share a batch.

    Args:
        world: the processes.
        part: what :func:`current_part` answers in this block.
    """
    tokens = _sharing.set(world if world.size > 1 else None), _part.set(part)
    try:
        yield
    finally:
        _sharing.reset(tokens[0])
        _part.reset(tokens[1])


def current_part() -> Part | None:
    """The part of a batch that a loss is asked for; None where it is the whole one, or a compiler looks on."""
    return None if torch.compiler.is_compiling() else _part.get()


def global_sum(values: Tensor) -> Tensor:
    """The sum of ``values`` over the parts of a batch that several processes share; the values themselves elsewhere.

    A loss that sends all its sums through it is that of the whole batch, and so is its gradient: each process is
    given that of its own part times the number of processes, of which DistributedDataParallel takes the mean.
    """
    if torch.compiler.is_compiling() or (world := _sharing.get()) is None:
        return values
    total: Tensor = _Sum.apply(values, world)
    return total


def global_rows(rows: Tensor) -> Tensor:
    """The rows ``[N,...]`` of all parts of a batch, one below the other; for a loss that sorts the pixels of a batch.

    The gradient is as with :func:`global_sum`. All processes hold all rows then.
    """
    if torch.compiler.is_compiling() or (world := _sharing.get()) is None:
        return rows
    every: Tensor = _Rows.apply(rows, world)
    return every


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor, world: World) -> Tensor:
        context.size = world.size
        return world.total(values.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * context.size, None


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, rows: Tensor, world: World) -> Tensor:
        lengths = torch.tensor(world.gather(len(rows)))
        context.size, context.start, context.length = world.size, int(lengths[: world.rank].sum()), len(rows)
        every = rows.new_zeros(int(lengths.sum()), *rows.shape[1:])
        every[context.start : context.start + context.length] = rows
        return world.total(every)  # zeros elsewhere: parts may differ in length

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[context.start : context.start + context.length] * context.size, None
