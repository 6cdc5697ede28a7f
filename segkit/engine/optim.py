"""The optimizer and the learning rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from segkit.errors import ConfigError
from segkit.settings import TrainSettings

OptimizerClass = Callable[[nn.Module, TrainSettings], torch.optim.Optimizer]  # see segkit.hookspecs.segkit_optimizers


def build_optimizer(
    model: nn.Module, settings: TrainSettings, optimizer_class: OptimizerClass
) -> torch.optim.Optimizer:
    """Build the optimizer of a run; with ``encoder_lr_mult``, the encoder's parameters are separate groups.

    Args:
        model: the model to train.
        settings: the table ``[train]``.
        optimizer_class: the optimizer that ``train.optimizer`` names.

    Raises:
        ConfigError: ``encoder_lr_mult`` is set, and the model has no ``encoder``.
    """
    optimizer = optimizer_class(model, settings)
    if settings.encoder_lr_mult != 1:
        inside = {id(parameter) for parameter in encoder_of(model).parameters()}
        split: list[dict[str, Any]] = []  # the encoder's groups come last because the first group's rate is logged
        for own in ({}, {"factor": settings.encoder_lr_mult}):
            for group in optimizer.param_groups:
                parameters = [p for p in group["params"] if (id(p) in inside) == bool(own)]
                split += [{**group, **own, "params": parameters}] if parameters else []
        optimizer.param_groups[:] = split
    return optimizer


def adamw(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """AdamW in one fused kernel, without weight decay of biases and normalisation layers.

    I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", arXiv 1711.05101.
    """
    return torch.optim.AdamW(parameter_groups(model, settings.weight_decay), lr=settings.lr, fused=True)


def sgd(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum in one fused kernel, without weight decay of biases and normalisation layers."""
    groups, momentum = parameter_groups(model, settings.weight_decay), settings.momentum
    optimizer = torch.optim.SGD(groups, lr=settings.lr, momentum=momentum, nesterov=momentum > 0, fused=True)
    for parameter in [p for group in groups for p in group["params"]] if momentum else []:
        # if the first step were skipped, torch would leave this buffer uninitialised
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


sgd.default_lr = 1e-2  # type: ignore[attr-defined]  # adamw uses the default of [train], 1e-3


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The trained parameters in two groups: kernels with weight decay; biases and normalisation layers without."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def encoder_of(model: nn.Module) -> nn.Module:
    """The submodule ``encoder`` of a model, whose learning rate is multiplied by ``train.encoder_lr_mult``.

    Raises:
        ConfigError: the model has no ``encoder``.
    """
    encoder = getattr(model, "encoder", None)
    if isinstance(encoder, nn.Module):
        return encoder
    raise ConfigError(
        f"train.encoder_lr_mult is for models with a submodule named encoder, such as smp; {type(model).__name__} has "
        "none; leave it out"
    )


def set_training(model: nn.Module, settings: TrainSettings) -> nn.Module:
    """Put a model into training mode; normalisation layers of a frozen encoder keep using their statistics."""
    frozen = encoder_of(model).modules() if settings.encoder_lr_mult == 0 else ()
    model.train()
    for layer in frozen:
        if isinstance(layer, nn.modules.batchnorm._NormBase):
            layer.eval()
    return model


def learning_rate(settings: TrainSettings, step: int, steps: int) -> float:
    """The learning rate of step ``step`` (from 0) of ``steps``; it has no state that a checkpoint would have to store.

    ``poly`` falls as ``(1 - t) ** 0.9`` (DeepLab, arXiv 1606.00915), ``cosine`` as half a cosine (arXiv 1608.03983);
    both would reach 0 one step after the last. ``one_cycle`` (arXiv 1708.07120) rises from lr / 25 during 30 % of the
    steps, or during ``warmup`` if that is larger, and falls to lr / 10,000 at the last step, both as half a cosine:
    torch's OneCycleLR with ``final_div_factor=400``.
    """
    if settings.schedule == "one_cycle":
        peak = max(settings.warmup, 0.3) * steps - 1  # it may lie between two steps
        if step <= peak:
            start, end, done = 1 / 25, 1.0, step / peak if peak else 1.0
        else:
            start, end, done = 1.0, 1e-4, (step - peak) / (steps - 1 - peak)
        return settings.lr * (end + (start - end) * (1 + math.cos(math.pi * done)) / 2)
    rising = round(settings.warmup * steps)
    if step < rising:
        return settings.lr * (step + 1) / rising
    done = (step - rising) / max(1, steps - rising)
    if settings.schedule == "poly":
        return settings.lr * math.pow(1 - done, 0.9)
    if settings.schedule == "cosine":
        return settings.lr * (1 + math.cos(math.pi * done)) / 2
    return settings.lr


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group, multiplied by the group's ``factor`` if it has one."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("factor", 1.0)
