"""What a training step has to do at the least: FLOPs, and bytes that it cannot help reading and writing."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from segkit.data.sample import Batch
from segkit.engine.step import TrainingLoop

COUNTS = (
    "each tensor kept for the backward pass written and read once; weights read twice,\n"
    "gradients written and read, weights and optimizer state read and written"
)


def work(loop: TrainingLoop, batch: Batch) -> dict[str, Any]:
    """Count one step of a plain loop, neither compiled nor a graph; of its matrix products and convolutions alone.

    Returns:
        ``forward_flops_per_image``, ``step_flops_per_image`` (a multiplication with its addition is two; what
        is computed again for the backward pass counts again), and ``least_bytes_per_step``: what :data:`COUNTS` says.
    """
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
        if part == "backward":  # the next part of the batch is given the same memory again
            known.clear()
            known.update(seen)
        last = total

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
        "least_bytes_per_step": 2 * saved + 2 * size + 2 * size + 2 * size + 2 * state,
    }
