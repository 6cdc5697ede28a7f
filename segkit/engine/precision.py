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


def resolve(precision: str, device: torch.device, on_cpu: str = "bf16") -> Precision:
    """``auto`` is bf16 where there are instructions for it; elsewhere fp16 on CUDA cards and fp32 on CPUs.

    On two cores with AVX-512 BF16 a step of ``unet`` or of a ResNet-18 takes 0.5 to 0.65 of that in fp32.

    Args:
        precision: as ``train.precision``.
        device: that computes.
        on_cpu: what ``auto`` is on a CPU that has bf16, where a run has begun with another precision.

    Raises:
        ConfigError: the device cannot do it.
    """
    if precision == "auto":
        if device.type == "cuda":
            return Precision("bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16", device)
        return Precision("bf16" if on_cpu == "bf16" and cpu_has_bf16() else "fp32", device)
    if precision not in DTYPES:
        raise ConfigError(f'train.precision = "{precision}"; allowed are auto, {", ".join(DTYPES)}')
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError('train.precision = "fp16" needs CUDA; on the CPU use "bf16" or "fp32"')
    return Precision(precision, device)


def cpu_has_bf16() -> bool:
    """Whether the CPU has instructions for it, AMX or AVX-512 BF16; elsewhere it is emulated, and slower than fp32."""
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # torch has no public ones
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in names)
