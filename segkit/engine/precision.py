"""The device a run uses and the precision in which a network computes on it."""

from __future__ import annotations

import ctypes
import os
import random
import sys
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segkit.data.batch_sampler import Stream
from segkit.data.parallel import cores
from segkit.errors import ConfigError


def pick_device(name: str, *, together: bool = False) -> torch.device:
    """The device of a name; ``auto`` is CUDA where there is a card, else the CPU. Each process takes a card of its own.

    ``mps``, a GPU of Apple, has never been measured, so that ``auto`` does not choose it.

    Args:
        name: as ``train.device``.
        together: whether several processes train one model.

    Raises:
        ConfigError: there is no such device, torch cannot use it, or it is one card for several processes.
    """
    number_here = os.environ.get("LOCAL_RANK", "")  # by torchrun
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and number_here.isdecimal():
        cards = torch.cuda.device_count()
        # a scheduler may show each process its own card only
        name = f"cuda:{0 if cards == 1 and 'LOCAL_WORLD_SIZE' not in os.environ else number_here}"
    kind, _, number = name.partition(":")
    if together and number and number_here != number and torch.cuda.device_count() > 1:
        raise ConfigError(
            f'train.device = "{name}" is one card, and there are several processes; "cuda" gives each its own'
        )
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if kind not in there or (number and (kind == "mps" or not number.isdigit())):
        raise ConfigError(f'train.device = "{name}"; allowed are auto, cpu, cuda, cuda:N and mps')
    if int(number or 0) >= there[kind]:
        raise ConfigError(f'train.device = "{name}": of {kind} devices torch sees {there[kind]} here; use "cpu"')
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
    """Seed by the step and the process: a resumed run draws the same numbers, and no generator state is saved."""
    words = Stream.STEP.sequence(seed, step, rank).generate_state(3)
    torch.manual_seed(int(words[0]))
    np.random.seed(int(words[1]))
    random.seed(int(words[2]))


def use_cpu() -> None:
    """Have this process use at most a thread per core, and keep the memory of its tensors for the next ones.

    torch counts the machine's cores, not the container's. glibc returns each large block to the system as soon as it is
    freed, and the system clears every page of the next one: of a training step or a prediction on a CPU a sixth.
    """
    if torch.get_num_threads() > cores() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(cores())
    with suppress(OSError, AttributeError, TypeError):  # Windows, macOS and musl do not have it
        mallopt = ctypes.CDLL(None).mallopt
        # larger ones are few, and kept they would cost more memory; before 2.35 glibc refuses more than 32 MiB
        if any(mallopt(_MMAP_THRESHOLD, size << 20) for size in (64, 32)):
            mallopt(_TRIM_THRESHOLD, 1 << 30)  # alone it would end that glibc itself raises the former


def device_name(device: torch.device) -> str:
    """The name of the card, or ``cpu`` or ``mps``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def widest_float(device: torch.device) -> torch.dtype:
    """float64, which Apple's GPUs lack."""
    return torch.float32 if device.type == "mps" else torch.float64


def peak_memory(device: torch.device, *, restart: bool = False) -> int:
    """The most bytes held since the last ``restart``, of a CPU on Linux only: by tensors on a card, or the process."""
    if device.type == "cuda":
        # before that nothing was allocated, and torch knows no such device
        if restart and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device)
    if restart:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    with suppress(OSError, StopIteration):  # getrusage may report the parent process's figure
        status = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) << 10
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of malloc.h
_CGROUP, _OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """The precision of a forward pass on a device: ``fp32``, ``bf16`` or ``fp16``; all else stays float32."""

    name: str
    device: torch.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the forward pass."""
        return DTYPES[self.name]

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which a forward pass runs, whatever a program has chosen around it."""
        return torch.autocast(self.device.type, self.dtype, self.name != "fp32")

    @property
    def needs_scaler(self) -> bool:
        """Whether gradients underflow without a GradScaler: in fp16 only, as bf16 has the range of float32."""
        return self.name == "fp16" and self.device.type == "cuda"


def resolve_precision(precision: str, device: torch.device, on_cpu: str = "bf16") -> Precision:
    """The precision of a name; ``auto`` is bf16 where the device has instructions for it, else fp16 (CUDA), fp32 (CPU).

    On two cores with AVX-512 BF16 a step of ``unet`` or of a ResNet-18 takes 0.5 to 0.65 of that in fp32.

    Args:
        precision: as ``train.precision``.
        device: of the forward pass.
        on_cpu: ``auto`` on a CPU that has bf16: a resumed run keeps the precision that it began with.

    Raises:
        ConfigError: the device does not support it.
    """
    if precision == "auto":
        if device.type == "cuda":
            return Precision("bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16", device)
        on_cpu = on_cpu if device.type == "cpu" and cpu_has_bf16() else "fp32"
        return Precision("bf16" if on_cpu == "bf16" else "fp32", device)
    if precision not in DTYPES:
        raise ConfigError(f'train.precision = "{precision}"; allowed are auto, {", ".join(DTYPES)}')
    if precision == "fp16" and device.type != "cuda":
        raise ConfigError('train.precision = "fp16" needs CUDA; on the CPU use "bf16" or "fp32"')
    return Precision(precision, device)


def cpu_has_bf16() -> bool:
    """Whether the CPU has instructions for bf16, AMX or AVX-512 BF16; elsewhere it is emulated, slower than fp32."""
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # torch has no public ones
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in names)


def free_memory(device: torch.device) -> int | None:
    """The bytes that are free on a card, or for a CPU on the machine or in its container; None where unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        known = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines if line.endswith("kB")}
        free = known["MemAvailable"] + known.get("SwapFree", 0)
    except (OSError, ValueError, KeyError):  # no Linux
        return None
    own = _CGROUP
    with suppress(OSError, StopIteration):  # a scheduler limits a group of its jobs' own
        lines = _OWN_CGROUP.read_text().splitlines()
        own /= next(line[4:] for line in lines if line.startswith("0::/"))
    for folder in [each for each in (own, *own.parents) if each.is_relative_to(_CGROUP)]:
        with suppress(OSError, ValueError, StopIteration):  # no container, or one without a limit
            limit, used = (int((folder / name).read_text()) for name in ("memory.max", "memory.current"))
            stat = (folder / "memory.stat").read_text().splitlines()
            cached = next(int(line.split()[1]) for line in stat if line.startswith("inactive_file "))  # given back
            free = min(free, limit - used + cached)
    return free
