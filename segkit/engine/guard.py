"""A step whose loss or gradient is no finite number is skipped, on the device, without waiting for it.

A fused optimizer leaves weights and moments as they are where its ``found_inf`` is 1, as it does for a GradScaler; what
the forward pass has left in the buffers (BatchNorm's running statistics) is undone here.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segkit.errors import TrainingError, first_few

FROM_THE_START = "No step has worked yet, so train.lr is not the cause: look at these images, and at the loss"


class Guard:
    """Counts the steps that were skipped, and knows which images they were of.

    Args:
        model: whose buffers are restored.
        limit: skipped steps in a row after which a run ends.
        device: where everything is counted.
        reading: :meth:`check` is called at least once in so many steps.
        advice: what to do about steps that are skipped after others were not.
    """

    def __init__(self, model: nn.Module, limit: int, device: torch.device, reading: int, advice: str) -> None:
        self.limit, self.advice = limit, advice
        self.skipped = torch.zeros(2, dtype=torch.int64, device=device)
        """In all, and in a row up to now."""
        self._failed_at = torch.full((), -1, dtype=torch.int64, device=device)
        self.model = model
        self._before: dict[torch.dtype, Tensor] = {}
        self._names: deque[tuple[int, list[str]]] = deque(maxlen=limit + reading)

    @torch.no_grad()
    def before(self, step: int, names: list[str]) -> None:
        """Note the buffers before a step, and the images it is of."""
        self._names.append((step, names))
        self._before = {dtype: _joined(buffers) for dtype, buffers in self._buffers().items()}

    @torch.no_grad()
    def after(self, step: int, bad: Tensor) -> None:
        """Put the buffers back where ``bad``, a bool on the device, is true, and count."""
        for dtype, buffers in self._buffers().items():
            before, now = self._before.get(dtype), _joined(buffers)
            if before is None or before.shape != now.shape:  # a layer that makes itself new ones
                continue
            kept = torch.where(bad, before, now)
            parts = torch.split(kept, [buffer.numel() for buffer in buffers])
            torch._foreach_copy_(buffers, [part.view(each.shape) for part, each in zip(parts, buffers, strict=True)])
        total, row = self.skipped.unbind()
        self.skipped = torch.stack([total + bad, (row + 1) * bad])
        failed = (self.skipped[1] >= self.limit) & (self._failed_at < 0)
        self._failed_at = torch.where(failed, step, self._failed_at)

    def check(self) -> int:
        """How many steps were skipped in all; waits for the device.

        Raises:
            TrainingError: as many in a row as the limit says; with the steps and their images.
        """
        total, failed_at = torch.stack([self.skipped[0], self._failed_at]).tolist()
        if failed_at >= 0:
            first = failed_at - self.limit + 1
            names = [name for step, those in self._names if first <= step <= failed_at for name in those]
            raise TrainingError(
                f"the loss or its gradient was no finite number in {self.limit} steps in a row, {first + 1} to "
                f"{failed_at + 1}, whose images were {first_few(list(dict.fromkeys(names)), 8)}; these steps changed "
                f"no weight. {self.advice if first else FROM_THE_START}"
            )
        return int(total)

    def _buffers(self) -> dict[torch.dtype, list[Tensor]]:
        """Looked up at each step: a layer may put another tensor in the place of one."""
        found: dict[torch.dtype, list[Tensor]] = defaultdict(list)
        for buffer in self.model.buffers():
            found[buffer.dtype].append(buffer)
        return found

    def state_dict(self) -> dict[str, Tensor]:
        """What was counted."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on counting."""
        self.skipped = state["skipped"].to(self.skipped.device)


def _joined(buffers: Sequence[Tensor]) -> Tensor:
    return torch.cat([buffer.flatten() for buffer in buffers])  # always a copy
