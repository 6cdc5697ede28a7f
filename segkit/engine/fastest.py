"""Which precision is the faster one on this CPU: measured by a few small steps of the network itself.

bf16 is 2 to 3 times as fast as fp32 on CPUs with AMX, about twice on those with AVX-512 BF16, for large networks; for
narrow ones, and on all other CPUs, it is slower.
"""

from __future__ import annotations

import copy
import time

import torch
from torch import nn

from segkit.engine.precision import Precision, cpu_has_bf16

_SIDE = 64  # pixels of the images it is measured on, two of them: what is slow on these is slow on more
_SHORT = 0.05  # seconds: a network whose step takes less is not worth a look
_GAIN = 0.85  # of the time; less is no gain that is worth its rounding
_STEPS = 3  # the fastest of them counts: others use the cores too


def faster_on_cpu(model: nn.Module) -> tuple[str, str]:
    """``bf16`` or ``fp32``, and what was measured, in a line; nothing where there was nothing to measure.

    The model is left as it is.
    """
    cpu = torch.device("cpu")
    if not cpu_has_bf16():
        return "fp32", ""
    state = torch.get_rng_state()
    try:
        trial = copy.deepcopy(model).to(memory_format=torch.channels_last).train()
        images = torch.rand(2, 3, _SIDE, _SIDE).contiguous(memory_format=torch.channels_last)
        full, half = Precision("fp32", cpu), Precision("bf16", cpu)
        _step(trial, images, full)  # the first one sets things up
        if _step(trial, images, full) < _SHORT:
            return "fp32", ""
        _step(trial, images, half)
        times = [(_step(trial, images, full), _step(trial, images, half)) for _ in range(_STEPS)]
    except Exception:  # a model that cannot be copied, or wants other images: its first step will tell
        return "fp32", ""
    finally:
        torch.set_rng_state(state)
    in_full, in_half = (min(those) for those in zip(*times, strict=True))
    name = "bf16" if in_half < _GAIN * in_full else "fp32"
    return name, f"a step in bf16 takes {in_half / in_full:.2f} of one in fp32 on this CPU: {name}"


def _step(model: nn.Module, images: torch.Tensor, precision: Precision) -> float:
    """Seconds of forward and backward."""
    began = time.perf_counter()
    with precision.autocast():
        logits = model(images)
    logits.float().square().mean().backward()
    model.zero_grad(set_to_none=True)
    return time.perf_counter() - began
