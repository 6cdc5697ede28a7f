"""Skip training steps whose loss or gradient is NaN or infinite."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segkit.errors import TrainingError, first_few
from segkit.settings import TrainSettings

DIVERGED = (
    "if the training loss rose before, training diverged: lower train.lr or set train.clip_norm=1.0; otherwise check "
    "these images and the loss"
)


class NonFiniteSteps:
    """Skips steps whose loss or gradient is NaN or infinite, on the device, without waiting for it.

    A fused optimizer changes nothing while its ``found_inf`` is 1, as with a GradScaler; this class restores the
    buffers that the forward pass has changed (BatchNorm's running statistics) and counts the skipped steps.

    Args:
        model: the model whose buffers are restored.
        settings: ``max_skipped`` is the number of skipped steps in a row that ends a run.
        device: the device on which the steps are counted.

    Attributes:
        skipped: int64 ``[2]`` on the device: all skipped steps of the run, and the latest ones in a row.
    """

    def __init__(self, model: nn.Module, settings: TrainSettings, device: torch.device) -> None:
        self.model, self.settings = model, settings
        self.skipped = torch.zeros(2, dtype=torch.int64, device=device)
        self._before: dict[torch.dtype, Tensor] = {}
        # for each of the latest steps: its number, the names of its images, and ``skipped`` after it
        self._steps: deque[tuple[int, list[str], Tensor]] = deque(maxlen=settings.max_skipped + settings.log_every)

    @torch.no_grad()
    def before(self) -> None:
        """Save a copy of the buffers before a step."""
        self._before = {dtype: _concatenated(buffers) for dtype, buffers in self._buffers().items()}

    @torch.no_grad()
    def after(self, step: int, names: list[str], bad: Tensor) -> None:
        """Restore the buffers if ``bad``, a bool on the device, is true; count the step and store its images' names."""
        for dtype, buffers in self._buffers().items():  # concatenated by dtype, to launch few kernels
            before, now = self._before.get(dtype), _concatenated(buffers)
            if before is None or before.shape != now.shape:  # a layer has created new buffers
                continue
            parts = torch.where(bad, before, now).split([buffer.numel() for buffer in buffers])  # type: ignore[no-untyped-call]
            torch._foreach_copy_(buffers, [part.view(each.shape) for part, each in zip(parts, buffers, strict=True)])
        total, row = self.skipped.unbind()
        self.skipped = torch.stack([total + bad, (row + 1) * bad])
        self._steps.append((step, names, self.skipped))

    def check(self) -> int:
        """Return the number of skipped steps, waiting for the device; call this at least every ``log_every`` steps.

        Raises:
            TrainingError: ``max_skipped`` steps in a row were skipped; the message names the steps and their images.
        """
        (total, _), *rows = torch.stack([self.skipped, *(skipped for *_, skipped in self._steps)]).tolist()
        limit = self.settings.max_skipped
        for (last, *_), (_, row) in zip(self._steps, rows, strict=True):
            if row >= limit:
                first = last - limit + 1
                names = [name for step, those, _ in self._steps if first <= step <= last for name in those]
                raise TrainingError(
                    f"the loss or its gradient was NaN or infinite in {limit} steps in a row, {first + 1} to "
                    f"{last + 1}, whose images were {first_few(list(dict.fromkeys(names)), 8)}; these steps changed "
                    f"no weight; {DIVERGED}"
                )
        return int(total)

    def _buffers(self) -> dict[torch.dtype, list[Tensor]]:
        """The buffers by dtype; collected in each step because a layer may replace them."""
        found: dict[torch.dtype, list[Tensor]] = defaultdict(list)
        for buffer in self.model.buffers():
            found[buffer.dtype].append(buffer)
        return found


def _concatenated(buffers: Sequence[Tensor]) -> Tensor:
    return torch.cat([buffer.flatten() for buffer in buffers])  # always a copy
