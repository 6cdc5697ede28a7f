"""Looks at the time at the same moments of every contestant: first step, trained, epoch ended."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn


class Clock:
    """Waits for the device at the end of a training pass and of an epoch, which all contestants do anyway.

    Args:
        began: ``time.perf_counter()`` before anything was imported.
    """

    def __init__(self, began: float) -> None:
        self.began = self._ended = began
        self.startup = 0.0  # seconds to the first forward pass in training
        self.trained_in: list[float] = []  # seconds an epoch, without validation
        self.epochs: list[float] = []  # seconds from the end of one epoch to the end of the next

    def watch(self, model: nn.Module) -> None:
        """Note when the model is first trained."""

        def note(module: nn.Module, _inputs: Any) -> None:
            if module.training:
                hook.remove()
                self.startup = _now() - self.began
                self._ended = _now()

        hook = model.register_forward_pre_hook(note)

    def trained(self) -> None:
        """A pass over train has ended, and validation begins."""
        self.trained_in.append(_now() - self._ended)

    def ended(self) -> None:
        """An epoch has ended, with all that belongs to it."""
        now = _now()
        self.epochs.append(now - self._ended)
        self._ended = now

    def seconds(self) -> dict[str, Any]:
        """All of it; the first epoch warms up and is not among those that count."""
        return {
            "startup_seconds": self.startup,
            "first_epoch_seconds": self.epochs[0],
            "epoch_seconds": self.epochs[1:],
            "train_seconds": self.trained_in[1:],
            "total_seconds": _now() - self.began,
        }


def _now() -> float:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()
