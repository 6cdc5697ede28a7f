"""The training criterion: the scaled sum of the losses, each of which is logged by its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from segkit.engine.distributed import is_lost
from segkit.errors import ConfigError, ModelError

Loss = Callable[[Tensor, Tensor], Tensor]


class Objective(nn.Module):
    """``sum of scale x loss(logits, target)`` over named terms.

    Args:
        terms: ``(name, scale, loss)``; names that repeat get a number.
    """

    def __init__(self, terms: Sequence[tuple[str, float, Loss]]) -> None:
        super().__init__()
        self.scales = [scale for _, scale, _ in terms]
        self.losses = [loss for _, _, loss in terms]
        self.names = numbered([name for name, _, _ in terms])
        # those that are modules move to the device and are saved with their buffers
        self.modules_among = nn.ModuleList([loss for loss in self.losses if isinstance(loss, nn.Module)])

    def forward(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """logits ``[B,C,H,W]``, target int64 ``[B,H,W]`` -> the sum (scalar) and the unscaled terms ``[T]``."""
        values = [self._value(*term, logits, target) for term in zip(self.names, self.losses, strict=True)]
        total = sum(
            (scale * value for scale, value in zip(self.scales, values, strict=True)), torch.zeros_like(values[0])
        )
        return total, torch.stack([value.detach() for value in values])

    @staticmethod
    def _value(name: str, loss: Loss, logits: Tensor, target: Tensor) -> Tensor:
        try:
            return _scalar(name, loss(logits, target))
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            if re.search(r"CUDA|CUBLAS|CUDNN|memory", str(error)) or is_lost(error):
                raise  # no fault of the loss: see segkit.engine.inputs, and world where its sums reach over processes
            advice = (
                "a dataset's ignore_index marks void pixels, which a loss leaves out: "
                "torch.nn.CrossEntropyLoss(ignore_index=255)"
                if isinstance(error, IndexError) and "Target" in str(error)  # torch's own, for a label that is no class
                else f"it was given logits {list(logits.shape)} and class indices {list(target.shape)}"
            )
            raise ModelError(f"the loss '{name}' failed: {type(error).__name__}: {error}; {advice}") from error


def _scalar(name: str, value: object) -> Tensor:
    if not isinstance(value, Tensor) or value.ndim or value.is_complex():
        shape = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        found = "a complex number" if isinstance(value, Tensor) and value.is_complex() else shape
        raise ModelError(f"the loss '{name}' returned {found}; a loss returns one number, a tensor without dimensions")
    return value.float()


def numbered(names: Sequence[str]) -> list[str]:
    """The names, those that repeat with a number: ``dice, dice_2``."""
    result: list[str] = []
    for name in names:
        count, unique = 1, name
        while unique in result:
            count += 1
            unique = f"{name}_{count}"
        result.append(unique)
    return result


def as_objective(loss: Loss | Mapping[str, Loss] | Objective) -> Objective:
    """An objective of one loss, or of several by name, each with scale 1.

    Raises:
        ConfigError: it is nothing that can be called.
    """
    if isinstance(loss, Objective):
        return loss
    if wrong := [each for each in (loss.values() if isinstance(loss, Mapping) else [loss]) if not callable(each)]:
        raise ConfigError(
            f"loss = {wrong[0]!r:.80}: a loss is called with logits and target, as torch.nn.CrossEntropyLoss() or "
            "segkit.losses['dice'](num_classes=2); several go by name: loss={'dice': ..., 'ce': ...}"
        )
    if isinstance(loss, Mapping):
        return Objective([(name, 1.0, each) for name, each in loss.items()])
    return Objective([(type(loss).__name__ if not hasattr(loss, "__name__") else loss.__name__, 1.0, loss)])
