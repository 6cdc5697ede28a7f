"""The training criterion: the scaled sum of the losses; each loss is logged under its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from segkit.errors import ConfigError, ModelError

Loss = Callable[[Tensor, Tensor], Tensor]


class Criterion(nn.Module):
    """``sum of scale x loss(logits, target)`` over named terms.

    Args:
        terms: ``(name, scale, loss)``; a name that repeats gets a number: ``dice, dice_2``.
    """

    def __init__(self, terms: Sequence[tuple[str, float, Loss]]) -> None:
        super().__init__()
        self.scales = [scale for _, scale, _ in terms]
        self.losses = [loss for _, _, loss in terms]
        self.names = numbered([name for name, _, _ in terms])
        # register the losses that are modules, so that ``to`` moves them to the device
        self.loss_modules = nn.ModuleList([loss for loss in self.losses if isinstance(loss, nn.Module)])

    def forward(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the sum (scalar) and the unscaled terms ``[T]``: logits ``[B,C,H,W]``, target int64 ``[B,H,W]``.

        Raises:
            ModelError: a loss failed, or did not return a scalar tensor.
        """
        values = [_value(*term, logits, target) for term in zip(self.names, self.losses, strict=True)]
        total = sum(
            (scale * value for scale, value in zip(self.scales, values, strict=True)), torch.zeros_like(values[0])
        )
        return total, torch.stack([value.detach() for value in values])


def _value(name: str, loss: Loss, logits: Tensor, target: Tensor) -> Tensor:
    try:
        value: object = loss(logits, target)
    except (IndexError, TypeError, ValueError) as error:
        raise ModelError(
            f"the loss '{name}' failed: {type(error).__name__}: {error}; it was given logits {list(logits.shape)} and "
            f"class indices {list(target.shape)}; void pixels hold ignore_index there, which a loss must leave out, as "
            "torch.nn.CrossEntropyLoss(ignore_index=255) does"
        ) from error
    if isinstance(value, Tensor) and not value.ndim and not value.is_complex():
        return value.float()
    kind = f"a tensor {list(value.shape)}, {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
    raise ModelError(f"the loss '{name}' returned {kind}; a loss must return a scalar tensor")


def numbered(names: Sequence[str]) -> list[str]:
    """Make names unique by numbering repeated ones: ``dice, dice_2``."""
    counts = [names[: index + 1].count(name) for index, name in enumerate(names)]
    return [name if count == 1 else f"{name}_{count}" for name, count in zip(names, counts, strict=True)]


def as_criterion(loss: Loss | Mapping[str, Loss]) -> Criterion:
    """Make a criterion from one loss, or from several by name, each with scale 1.

    Raises:
        ConfigError: a loss cannot be called.
    """
    losses = loss if isinstance(loss, Mapping) else {getattr(loss, "__name__", type(loss).__name__): loss}
    if not losses or not all(map(callable, losses.values())):
        raise ConfigError(
            f"loss = {loss!r:.80}: a loss is called with logits and target, as torch.nn.CrossEntropyLoss() or "
            "segkit.losses['dice'](num_classes=2); give several by name: loss={'dice': ..., 'ce': ...}"
        )
    return Criterion([(name, 1.0, each) for name, each in losses.items()])
