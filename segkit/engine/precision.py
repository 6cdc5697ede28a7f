"""The device of a run, its memory, random seeds, and the precision of the forward pass."""

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


def pick_device(name: str) -> torch.device:
    """Return the device with a name; ``auto`` is CUDA if there is a GPU, else the CPU. Each process uses its own GPU.

    ``auto`` never chooses ``mps``, an Apple GPU, because that has never been measured.

    Raises:
        ConfigError: the device does not exist, or torch cannot use it.
    """
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    number_here = os.environ.get("LOCAL_RANK", "")  # set by torchrun
    if name == "cuda" and number_here.isdecimal():
        name = f"cuda:{number_here}"
    kind, _, number = name.partition(":")
    if not (number or "0").isdecimal() or int(number or 0) >= counts.get(kind, 0):
        found = ", ".join(f"{count} {each}" for each, count in counts.items())
        raise ConfigError(f'train.device = "{name}": torch finds {found}; allowed are auto, cpu, cuda, cuda:N and mps')
    return torch.device(name)


def seed_everything(seed: int, deterministic: bool = False) -> None:
    """Seed Python, NumPy and torch; ``deterministic`` also selects deterministic CUDA algorithms."""
    random.seed(seed)
    np.random.seed(seed)  # third-party components may still use it
    torch.manual_seed(seed)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic with a fixed workspace
    if deterministic != torch.are_deterministic_algorithms_enabled():  # the call alone imports torch's compiler: 2 s
        torch.use_deterministic_algorithms(deterministic)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed by step and rank, so that a resumed run draws the same numbers without any saved generator state."""
    words = Stream.STEP.sequence(seed, step, rank).generate_state(3)
    torch.manual_seed(int(words[0]))
    np.random.seed(int(words[1]))
    random.seed(int(words[2]))


def use_cpu() -> None:
    """Limit torch to one thread per available core, and keep freed tensor memory for later tensors.

    torch counts the cores of the machine, not of the container. glibc normally returns each large block to the system
    when it is freed, and the system clears each page of the next, which takes a sixth of a step or prediction on a CPU.
    """
    if torch.get_num_threads() > cores() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(cores())
    with suppress(OSError, AttributeError, TypeError):  # Windows, macOS and musl do not have it
        mallopt = ctypes.CDLL(None).mallopt
        # larger blocks are rare, and keeping them costs more memory; glibc before 2.35 refuses more than 32 MiB
        if mallopt(_MMAP_THRESHOLD, 64 << 20):
            mallopt(_TRIM_THRESHOLD, 1 << 30)  # set alone, it would stop glibc from adapting the first threshold


def device_name(device: torch.device) -> str:
    """The name of the GPU, or ``cpu`` or ``mps``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def widest_float(device: torch.device) -> torch.dtype:
    """float64; float32 on Apple GPUs, which lack float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def peak_memory(device: torch.device, *, restart: bool = False) -> int:
    """Peak memory in bytes: tensors on a GPU, or the process; ``restart`` resets it (for the process: on Linux)."""
    if device.type == "cuda":
        # before CUDA is initialised nothing was allocated, and torch would raise an error
        if restart and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device)
    if restart:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    with suppress(OSError, StopIteration):  # getrusage may report the value of the parent process
        status = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) << 10
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # constants of malloc.h
_CGROUP, _OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """The precision of a forward pass on a device: ``fp32``, ``bf16`` or ``fp16``; everything else is float32."""

    name: str
    device: torch.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the forward pass."""
        return DTYPES[self.name]

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which a forward pass runs, whatever a program has chosen around it."""
        return torch.autocast(self.device.type, self.dtype, self.name != "fp32")


def resolve_precision(precision: str, device: torch.device, on_cpu: str = "bf16") -> Precision:
    """Resolve ``auto``: bf16 where the device has instructions for it, else fp16 (CUDA) or fp32 (CPU).

    On two cores with AVX-512 BF16, a step of ``unet`` or of a ResNet-18 takes 0.5 to 0.65 of the time in fp32.

    Args:
        precision: as ``train.precision``.
        device: the device of the forward pass.
        on_cpu: the meaning of ``auto`` on a CPU with bf16; a resumed run passes the precision that it began with.

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
    """Whether the CPU has bf16 instructions (AMX or AVX-512 BF16); without them bf16 is slower than fp32."""
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # torch has no public ones
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in names)


def free_memory(device: torch.device) -> int | None:
    """Free memory in bytes of a GPU, or for a CPU of the machine or its container; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        known = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines if line.endswith("kB")}
        free = known["MemAvailable"] + known.get("SwapFree", 0)
    except (OSError, ValueError, KeyError):  # not Linux
        return None
    own = _CGROUP
    with suppress(OSError, StopIteration):  # a scheduler may limit the cgroup of a job
        lines = _OWN_CGROUP.read_text().splitlines()
        own /= next(line[4:] for line in lines if line.startswith("0::/"))
    for folder in [each for each in (own, *own.parents) if each.is_relative_to(_CGROUP)]:
        with suppress(OSError, ValueError, StopIteration):  # not a container, or one without a limit
            limit, used = (int((folder / name).read_text()) for name in ("memory.max", "memory.current"))
            stat = (folder / "memory.stat").read_text().splitlines()
            cached = next(int(line.split()[1]) for line in stat if line.startswith("inactive_file "))  # reclaimable
            free = min(free, limit - used + cached)
    return free
