"""In which precision a network computes on a device."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from segkit.errors import ConfigError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """A precision on a device: ``fp32``, ``bf16`` or ``fp16``; weights, losses and metrics stay float32."""

    name: str
    device: torch.device

    @property
    def dtype(self) -> torch.dtype:
        """That the forward pass computes in."""
        return DTYPES[self.name]

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which a forward pass runs."""
        if self.name == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    @property
    def needs_scaler(self) -> bool:
        """fp16 alone: its gradients underflow; bf16 has the range of float32."""
        return self.name == "fp16" and self.device.type == "cuda"


def resolve(precision: str, device: torch.device) -> Precision:
    """``auto`` is bf16 on CUDA cards that have it and on CPUs with AMX, else fp16 on CUDA and fp32 on the CPU.

    Raises:
        ConfigError: the device cannot do it.
    """
    if precision == "auto":
        if device.type == "cuda":
            return Precision("bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16", device)
        return Precision("bf16" if device.type == "cpu" and _cpu_has_amx() else "fp32", device)
    if precision not in DTYPES:
        raise ConfigError(f'train.precision = "{precision}"; allowed are auto, {", ".join(DTYPES)}')
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError('train.precision = "fp16" needs CUDA; on the CPU use "bf16" or "fp32"')
    return Precision(precision, device)


def _cpu_has_amx() -> bool:
    # torch has no public name for it; without AMX bf16 on a CPU is slower than fp32
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())
