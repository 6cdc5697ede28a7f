"""The device a run uses: picked, seeded, named and measured."""

from __future__ import annotations

import os
import random
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from segkit.data.cores import cores
from segkit.data.order import Stream
from segkit.errors import ConfigError


def pick_device(name: str, *, together: bool = False) -> torch.device:
    """``auto`` is CUDA where there is a card, else the CPU; of several processes each takes the card of its number.

    Args:
        name: as ``train.device``.
        together: whether several processes train one model.

    Raises:
        ConfigError: no such device, or none that torch can use, or one card for several processes.
    """
    number_here = os.environ.get("LOCAL_RANK", "")  # by torchrun
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and number_here.isdecimal():
        cards = torch.cuda.device_count()
        # a scheduler may show each process its own card alone
        name = f"cuda:{0 if cards == 1 and 'LOCAL_WORLD_SIZE' not in os.environ else number_here}"
    kind, _, number = name.partition(":")
    if together and number and number_here != number and torch.cuda.device_count() > 1:
        raise ConfigError(
            f'train.device = "{name}" is one card, and there are several processes; "cuda" gives each its own'
        )
    if kind not in {"cpu", "cuda"} or (number and not number.isdigit()):
        raise ConfigError(f'train.device = "{name}"; allowed are auto, cpu, cuda and cuda:N')
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ConfigError(f'train.device = "{name}": torch sees {torch.cuda.device_count()} CUDA devices; use "cpu"')
    return torch.device(name)


def seed_everything(seed: int, deterministic: bool = False) -> None:
    """Seed Python, numpy and torch; ``deterministic`` also picks CUDA algorithms that repeat."""
    random.seed(seed)
    np.random.seed(seed)  # third-party components may still use it
    torch.manual_seed(seed)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats itself only with a fixed workspace
    if deterministic != torch.are_deterministic_algorithms_enabled():  # the call alone imports torch's compiler: 2 s
        torch.use_deterministic_algorithms(deterministic)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Random numbers that are a function of the step: a resumed run draws what it would have, and nothing is kept."""
    words = Stream.STEP.sequence(seed, step, rank).generate_state(3)
    torch.manual_seed(int(words[0]))
    np.random.seed(int(words[1]))
    random.seed(int(words[2]))


def use_cores() -> None:
    """At most one thread a core that this process may use: torch counts those of the machine, not of the container."""
    if torch.get_num_threads() > cores() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(cores())


def device_name(device: torch.device) -> str:
    """The name of the card, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def reset_peak_memory(device: torch.device) -> None:
    """From here on :func:`peak_memory` begins anew; of a CPU's process where the system can do that (Linux)."""
    if device.type == "cuda":
        # before that nothing was taken, and torch knows no device by that number
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int:
    """The most bytes held since :func:`reset_peak_memory`: by tensors on the card, or by this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError, StopIteration):  # getrusage's figure may be that of the process which started this one
        status = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) << 10
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
