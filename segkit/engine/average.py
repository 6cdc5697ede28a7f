"""The moving average of the weights (EMA), which is evaluated and kept in place of the last weights."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage:
    """``average = d x average + (1 - d) x weights`` after each step, of weights and floating-point buffers.

    ``d = min(decay, (1 + n) / (10 + n))`` at update n, so that a short run is not held back by its random start
    (as TensorFlow's ExponentialMovingAverage; Polyak & Juditsky, SIAM J. Control Optim. 1992). torch's own
    AveragedModel has no such start and reads its counter from the device at every step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.model = copy.deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take one step's weights in."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        states = zip(self.model.state_dict().values(), model.state_dict().values(), strict=True)
        pairs = list({average.data_ptr(): (average, value) for average, value in states}.values())  # shared ones once
        floating = [pair for pair in pairs if pair[0].is_floating_point()]
        get_ema_multi_avg_fn(decay)(  # type: ignore[no-untyped-call]
            tuple(a for a, _ in floating), tuple(b for _, b in floating), 0
        )
        for average, value in pairs:
            if not average.is_floating_point():  # BatchNorm's counters
                average.copy_(value)

    def state_dict(self) -> dict[str, object]:
        """The average and how many steps are in it."""
        return {"model": self.model.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.model.load_state_dict(cast(dict[str, torch.Tensor], state["model"]))
        self.updates = cast(int, state["updates"])
