"""What the device reaches at its best: FLOP/s in a large matmul, bytes/s in a large copy; both of random data.

Zeros would be faster than anything real: they take less power, and a card is slowed down by its power.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from segkit_bench.arithmetic import arithmetic, precision_of
from segkit_bench.clock import synchronise

TIMINGS = 5


def ceilings(name: str, device: torch.device) -> dict[str, Any]:
    """``matmul_flops_per_second`` in a precision, with its ``matmul_size``, and ``copy_bytes_per_second``."""
    size = 8192 if device.type == "cuda" else 1024  # a second at most on a CPU without bf16 of its own
    return {
        "matmul_flops_per_second": 2 * size**3 / _matmul(name, device, size),
        "matmul_size": size,
        "copy_bytes_per_second": _copy(device),
    }


def _matmul(name: str, device: torch.device, size: int) -> float:
    """Seconds."""
    dtype = precision_of(name, device).dtype
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    result = torch.empty_like(left)
    with arithmetic(name):
        return fastest(lambda: torch.mm(left, right, out=result), device)


def _copy(device: torch.device) -> float:
    """Bytes per second, read and written."""
    count = 1 << (30 if device.type == "cuda" else 28)  # more than any cache holds
    source = torch.randint(256, (count,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * count / fastest(lambda: target.copy_(source), device)


def fastest(function: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, in the fastest of a few timings: it is a ceiling."""
    count = 20 if device.type == "cuda" else 1
    taken = []
    for _ in range(1 + TIMINGS):
        synchronise(device)
        began = time.perf_counter()
        for _ in range(count):
            function()
        synchronise(device)
        taken.append((time.perf_counter() - began) / count)
    return min(taken[1:])
