"""Where processes meet that torchrun started: a store, in which an attempt before this one may have left its words.

torchrun keeps its store when it starts the processes anew. Whoever comes first would then be told the addresses of
processes that are no more, and wait for them.
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from uuid import uuid4

from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from segkit.errors import TrainingError, first_few

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
