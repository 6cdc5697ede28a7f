"""Muon: the weights inside a network move by orthogonal matrices, so that no direction of a layer is left behind.

K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", kellerjordan.github.io/posts/muon, 2024.
The length of a step is that of J. Liu et al., "Muon is Scalable for LLM Training", arXiv 2502.16982, so that learning
rate and weight decay of AdamW fit. torch.optim.Muon takes matrices alone, and convolutions have four dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from segkit.engine.optim import parameter_groups

MOMENTUM = 0.95
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic that brings singular values near 1 fastest
_ITERATIONS = 5


class Muon(torch.optim.AdamW):
    """Muon for the kernels between the first and the last layer, AdamW for all else; learns in far fewer steps.

    Each kernel ``[O,...]`` is a matrix of O rows. As with fused AdamW, a step whose ``found_inf`` is 1 changes nothing.

    Args:
        model: whose parameters are trained.
        settings: the table ``[train]``: ``lr`` and ``weight_decay``.
    """

    default_lr = 6e-3

    def __init__(self, model: nn.Module, settings: Any) -> None:
        hidden = hidden_weights(model)
        inside = {id(p) for p in hidden}
        groups: list[dict[str, Any]] = [
            group | {"params": [p for p in group["params"] if id(p) not in inside], "orthogonal": False}
            for group in parameter_groups(model, settings.weight_decay)
        ]
        groups.append({"params": hidden, "weight_decay": settings.weight_decay, "orthogonal": True})
        super().__init__([group for group in groups if group["params"]], lr=settings.lr, fused=True)

    def __setstate__(self, state: dict[str, Any]) -> None:
        torch.optim.Optimizer.__setstate__(self, state)  # Adam's wants a count of steps of every weight

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step; there is no closure."""
        groups = [group for group in self.param_groups if group["orthogonal"]]
        held = [(weight, weight.grad, group) for group in groups for weight in group["params"]]
        for weight, _, _ in held:
            weight.grad = None  # AdamW passes over it
        super().step(closure)
        found: Tensor | None = getattr(self, "found_inf", None)
        for weight, gradient, group in held:
            weight.grad = gradient
            if gradient is not None:
                self._move(weight, gradient, group, found)

    def _move(self, weight: Tensor, gradient: Tensor, group: dict[str, Any], found: Tensor | None) -> None:
        state = self.state[weight]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        momentum = torch.lerp(state["momentum_buffer"], gradient, 1 - MOMENTUM)
        matrix = torch.lerp(gradient, momentum, MOMENTUM).flatten(1)  # Nesterov's
        length = group["lr"] * 0.2 * math.sqrt(max(matrix.shape))  # the root mean square of AdamW's steps is about 0.2
        moved = weight * (1 - group["lr"] * group["weight_decay"]) - length * orthogonal(matrix).view(weight.shape)
        for old, new in ((state["momentum_buffer"], momentum), (weight, moved)):
            old.copy_(new if found is None else torch.where(found > 0, old, new))


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest half-orthogonal matrix, nearly: singular values of 0.7 to 1.2, by Newton-Schulz iteration."""
    a, b, c = _COEFFICIENTS
    x = matrix.to(torch.bfloat16 if matrix.is_cuda else torch.float32)
    x = x / (torch.linalg.matrix_norm(x) + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x  # the smaller square is the cheaper one
    if x.is_cuda:
        for _ in range(_ITERATIONS):
            square = x @ x.T
            x = a * x + (b * square + c * square @ square) @ x
    else:  # the same with half the work, as only small squares are multiplied; coarser floats than fp32 would diverge
        square, product = x @ x.T, (one := torch.eye(len(x), device=x.device))
        for _ in range(_ITERATIONS):
            step = a * one + b * square + c * square @ square
            square, product = step @ square @ step, step @ product
        x = product @ x
    result: Tensor = (x.T if tall else x).to(matrix.dtype).contiguous()
    return result


def hidden_weights(model: nn.Module) -> list[nn.Parameter]:
    """The kernels between the first and the last layer, which see images and classes, where AdamW is the better one.

    Depthwise convolutions and others in groups are no one matrix, and are left out too.
    """
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    layers = [layer for layer in model.modules() if isinstance(layer, kinds) and layer.weight.requires_grad]
    ends = {id(layer.weight) for layer in (*layers[:1], *layers[-1:])}
    # by their identity, as layers may share one; a kernel that is no parameter is made of others, as by weight_norm
    kernels = {id(layer.weight): layer.weight for layer in layers if getattr(layer, "groups", 1) == 1}
    return [each for key, each in kernels.items() if key not in ends and isinstance(each, nn.Parameter)]
