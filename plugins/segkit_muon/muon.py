"""Muon: updates hidden weights by orthogonalised momentum, so that all directions of a layer are trained equally.

K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", kellerjordan.github.io/posts/muon, 2024.
The update is scaled as in J. Liu et al., "Muon is Scalable for LLM Training", arXiv 2502.16982, to match the learning
rate and weight decay of AdamW. torch.optim.Muon accepts only matrices, and convolution kernels have four dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from segkit.engine.optim import parameter_groups

MOMENTUM = 0.95
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration that brings singular values near 1 fastest
_ITERATIONS = 5


class Muon(torch.optim.AdamW):
    """Muon for the kernels between the first and last layer, AdamW for all other weights; needs far fewer steps.

    A kernel ``[O,...]`` is treated as a matrix of O rows. As in fused AdamW, a step with ``found_inf`` = 1 is skipped.

    Args:
        model: the model to train.
        settings: the table ``[train]``, of which ``lr`` and ``weight_decay`` are used.
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
        torch.optim.Optimizer.__setstate__(self, state)  # Adam's version needs a step count for every weight

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step; closures are not supported."""
        groups = [group for group in self.param_groups if group["orthogonal"]]
        held = [(weight, weight.grad, group) for group in groups for weight in group["params"]]
        for weight, _, _ in held:
            weight.grad = None  # so AdamW skips it
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
        matrix = torch.lerp(gradient, momentum, MOMENTUM).flatten(1)  # Nesterov momentum
        length = group["lr"] * 0.2 * math.sqrt(max(matrix.shape))  # 0.2 is about the root mean square of AdamW's steps
        moved = weight * (1 - group["lr"] * group["weight_decay"]) - length * orthogonal(matrix).view(weight.shape)
        for old, new in ((state["momentum_buffer"], momentum), (weight, moved)):
            old.copy_(new if found is None else torch.where(found > 0, old, new))


def orthogonal(matrix: Tensor) -> Tensor:
    """Approximate the nearest semi-orthogonal matrix by Newton-Schulz iteration: singular values of 0.7 to 1.2."""
    a, b, c = _COEFFICIENTS
    x = matrix.to(torch.bfloat16 if matrix.is_cuda else torch.float32)
    x = x / (torch.linalg.matrix_norm(x) + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x  # so that x @ x.T is the smaller product
    if x.is_cuda:
        for _ in range(_ITERATIONS):
            square = x @ x.T
            x = a * x + (b * square + c * square @ square) @ x
    else:  # the same result with half the work: multiply only the small squares; 16-bit floats would diverge
        square = x @ x.T
        product = step = _quintic(square)
        for _ in range(_ITERATIONS - 1):
            square = step @ square @ step
            step = _quintic(square)
            product = step @ product
        x = product @ x
    result: Tensor = (x.T if tall else x).to(matrix.dtype).contiguous()
    return result


def _quintic(square: Tensor) -> Tensor:
    """Return the matrix by which one iteration multiplies x, from ``square = x @ x.T``."""
    a, b, c = _COEFFICIENTS
    step = torch.addmm(square, square, square, beta=b, alpha=c)
    step.diagonal().add_(a)
    return step


def hidden_weights(model: nn.Module) -> list[nn.Parameter]:
    """Return the kernels between the first and last layer; those two see images and classes, where AdamW is better.

    Depthwise and other grouped convolutions are left out too, because they are not one matrix.
    """
    layers = [each for each in model.modules() if isinstance(each, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
    layers = [layer for layer in layers if layer.weight.requires_grad]
    ends = {id(layer.weight) for layer in (*layers[:1], *layers[-1:])}
    kernels = dict.fromkeys(layer.weight for layer in layers if getattr(layer, "groups", 1) == 1)  # some are shared
    # a weight that is not a Parameter is computed, as by weight_norm
    return [each for each in kernels if id(each) not in ends and isinstance(each, nn.Parameter)]
