"""The processes that train together: one, or those that torchrun started, with what they tell each other.

In a world of one process nothing here does anything. Otherwise objects travel by gloo, tensors of a card by NCCL.
"""

from __future__ import annotations

import gc
import os
import platform
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from segkit.engine.device import pick_device
from segkit.engine.meeting import meet
from segkit.errors import ConfigError, SegkitError, TrainingError

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
