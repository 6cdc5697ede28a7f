"""Batch normalisation over the images of all processes, so that it is that of the whole batch.

Sergey Ioffe, Christian Szegedy: Batch Normalization, ICML 2015, arXiv 1502.03167; the mean and the variance are
those of all processes together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from segkit.engine.distributed import World

KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def synchronised(model: nn.Module, device: torch.device, world: World) -> tuple[nn.Module, list[str]]:
    """The model with batch normalisation over all processes, and the kinds of layers that keep to their own part.

    On CUDA these are torch's own layers, which are fused; they do not run on a CPU, where :class:`SyncBatchNorm` does.
    """
    if world.size == 1:
        return model, []
    if device.type == "cuda":
        from timm import layers  # torch's own way drops the activation that timm's layers have

        converted: nn.Module = layers.convert_sync_batchnorm(model)  # type: ignore[attr-defined, no-untyped-call]
        return converted, []
    left: set[str] = set()

    def convert(module: nn.Module) -> nn.Module:
        if type(module) in KINDS:
            return SyncBatchNorm(module, world)
        if isinstance(module, KINDS) and not isinstance(module, SyncBatchNorm):
            left.add(type(module).__name__)
        for name, child in module.named_children():
            module.add_module(name, convert(child))
        return module

    return convert(model), sorted(left)


class SyncBatchNorm(nn.BatchNorm2d):
    """A layer of batch normalisation on a CPU, its statistics over all processes; in evaluation as any other.

    ``[B,C,...] -> [B,C,...]``. Takes the parameters and the buffers of the layer that it replaces.
    """

    def __init__(self, layer: nn.Module, world: World) -> None:
        nn.Module.__init__(self)
        self.__dict__.update({key: value for key, value in layer.__dict__.items() if key != "_modules"})
        self.world = world

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions, as it replaces layers of 1, 2 and 3."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``[B,C,...]``."""
        if not self.training:
            return super().forward(input)
        values = input.to(torch.promote_types(input.dtype, torch.float32))  # [B,C,...]
        dims = [0, *range(2, values.ndim)]
        shape = [1, -1, *[1] * (values.ndim - 2)]
        count = self.world.total(torch.tensor(float(values.numel() // values.shape[1])))
        mean = _Total.apply(values.sum(dims), self.world) / count  # [C]
        centred = values - mean.view(shape)  # the variance in a second pass: a difference of squares loses digits
        variance = _Total.apply(centred.square().sum(dims), self.world) / count  # [C]
        self._remember(mean.detach(), variance.detach(), float(count))
        result: Tensor = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            result = result * self.weight.view(shape) + self.bias.view(shape)
        return result.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: float) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * count / max(1.0, count - 1), share)


class _Total(torch.autograd.Function):
    """The sum over all processes; every one of them depends on it, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(context: Any, values: Tensor, world: World) -> Tensor:
        context.world = world
        return world.total(values.clone())

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return context.world.total(gradient.clone()), None
