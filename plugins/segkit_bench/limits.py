"""The minimum work of a training step, and the peak performance that the device reaches."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from segkit_bench.clock import synchronise

COUNTS = (
    "each tensor kept for the backward pass written and read once; weights read twice, gradients written and read, "
    "weights and optimizer state read and written"
)
TIMINGS = 5


def least_work(trainer: Any, batch: Any) -> dict[str, Any]:
    """Count the FLOPs of matrix products and convolutions, and the bytes, of one step without compile or CUDA graph.

    The trainer's later steps are without them too.

    Returns:
        ``forward_flops_per_image``, ``step_flops_per_image`` (a multiply-add is two FLOPs; recomputation in the
        backward pass counts too), and ``least_bytes_per_step``, see :data:`COUNTS`.
    """
    loop = trainer.loop
    weights = [parameter for parameter in loop.model.parameters() if parameter.requires_grad]
    seen = {each.untyped_storage().data_ptr() for each in loop.model.parameters()}
    known, saved, forward, last = set(seen), 0, 0, 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal saved
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            known.add(storage.data_ptr())
            saved += storage.nbytes()
        return tensor.detach()

    def mark(part: str) -> None:
        nonlocal forward, last
        total = counter.get_total_flops()
        if part == "forward":
            forward += total - last
        if part == "backward":  # the next micro-batch reuses the same memory
            known.clear()
            known.update(seen)
        last = total

    plain = loop.settings.model_copy(update={"compile": False, "cuda_graph": False})
    loop.forward = type(loop.forward)(loop.model, loop.criterion, plain, loop.precision)
    loop.mark = mark
    with FlopCounterMode(display=False) as counter, saved_tensors_hooks(keep, lambda tensor: tensor):
        loop.train_step(batch)
    loop.mark = lambda part: None
    size = sum(each.nbytes for each in weights)
    state = sum(
        each.nbytes for row in loop.optimizer.state.values() for each in row.values() if isinstance(each, Tensor)
    )
    return {
        "forward_flops_per_image": forward / len(batch.names),
        "step_flops_per_image": counter.get_total_flops() / len(batch.names),
        "least_bytes_per_step": 2 * saved + 6 * size + 2 * state,
    }


def arithmetic_of(inputs: Any) -> str:
    """Return the arithmetic of a run's convolutions: TF32 for float32 if the GPU has it and torch allows it."""
    precision = inputs.precision
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the deprecated flag, which torch keeps in sync with the new one
        allowed = torch.backends.cudnn.allow_tf32
    cuda = precision.device.type == "cuda"
    has_tf32 = cuda and torch.cuda.get_device_capability(precision.device) >= (8, 0)  # from Ampere on
    return "tf32" if precision.name == "fp32" and allowed and has_tf32 else precision.name


def ceilings(inputs: Any) -> dict[str, Any]:
    """Measure ``matmul_flops_per_second`` with its ``matmul_size``, and ``copy_bytes_per_second``.

    Operands are random: zeros draw less power, so a power-limited GPU would run faster than with real data.
    """
    device = inputs.precision.device
    cuda = device.type == "cuda"
    size = 8192 if cuda else 1024  # at most a second on a CPU without native bf16
    left, right = (torch.randn(size, size, device=device).to(inputs.precision.dtype) for _ in range(2))
    result = torch.empty_like(left)
    source = torch.randint(256, (1 << (30 if cuda else 28),), dtype=torch.uint8, device=device)  # more than any cache
    target = torch.empty_like(source)

    def fastest(function: Callable[[], object]) -> float:
        """Return the seconds of one call in the fastest of a few timings."""
        count, taken = 20 if cuda else 1, []
        for _ in range(1 + TIMINGS):
            synchronise(device)
            began = time.perf_counter()
            for _ in range(count):
                function()
            synchronise(device)
            taken.append((time.perf_counter() - began) / count)
        return min(taken[1:])

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if arithmetic_of(inputs) == "tf32" else "highest")
    try:
        matmul = fastest(lambda: torch.mm(left, right, out=result))
    finally:
        torch.set_float32_matmul_precision(before)
    copied = 2 * len(source) / fastest(lambda: target.copy_(source))  # each byte is read and written
    flops = 2 * size**3 / matmul
    return {"matmul_flops_per_second": flops, "matmul_size": size, "copy_bytes_per_second": copied}
