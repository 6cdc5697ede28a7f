"""The epochs of a run so far: which was the best, and whether more of them are worth it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from segkit.engine import collapse
from segkit.errors import ConfigError
from segkit.settings import TrainSettings


class History:
    """What each epoch came to, as in ``metrics.jsonl``.

    Attributes:
        lines: one an epoch.
        best_epoch: from 1; 0 before any.
        waited: epochs since the best one.

    Args:
        settings: ``best``, and when to stop.
        epochs: of the whole run.
        less_is_better: whether the best epoch has the least of it.
    """

    def __init__(self, settings: TrainSettings, epochs: int, less_is_better: bool) -> None:
        self.settings, self.epochs, self.less_is_better = settings, epochs, less_is_better
        self.lines: list[dict[str, Any]] = []
        self.best_epoch, self.waited = 0, 0

    def __len__(self) -> int:
        return len(self.lines)

    def add(self, step: int, trained: Mapping[str, Any], scores: Mapping[str, Any]) -> dict[str, Any]:
        """The line of one more epoch."""
        epoch, best = len(self.lines) + 1, self._is_best(scores)
        if best:
            self.best_epoch, self.waited = epoch, 0
        else:
            self.waited += 1
        self.lines.append({"epoch": epoch, "step": step, "train": dict(trained), "val": dict(scores), "best": best})
        return self.lines[-1]

    def _is_best(self, scores: Mapping[str, Any]) -> bool:
        """Whether these scores are the best so far.

        Raises:
            ConfigError: ``train.best`` is a metric that gives no single number.
        """
        name = self.settings.best
        if not isinstance(scores.get(name), int | float):
            raise ConfigError(f'train.best = "{name}": this metric gives no single number; choose another')
        if not self.best_epoch:
            return True
        before = self.lines[self.best_epoch - 1]["val"][name]
        if not math.isfinite(before):
            return True
        return bool(scores[name] < before if self.less_is_better else scores[name] > before)

    def reason_to_stop(self) -> str:
        """Why no further epoch is worth it; nothing where one is."""
        if self.settings.stop_on_collapse and collapse.collapsed(self.lines, self.epochs):
            return f"at the floor for {collapse.stuck_epochs(self.lines)} epochs"
        if self.settings.patience and self.waited >= self.settings.patience:
            return f"no better {self.settings.best} for {self.waited} epochs"
        return ""

    def state_dict(self) -> dict[str, Any]:
        """All of it, as plain values."""
        return {"lines": self.lines, "best_epoch": self.best_epoch, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.lines, self.best_epoch, self.waited = state["lines"], state["best_epoch"], state["waited"]
