"""How network and losses run in training: as they are, compiled, or as a CUDA graph; where that fails, as they are."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from segkit.engine.objective import Objective
from segkit.engine.precision import Precision
from segkit.errors import printable
from segkit.settings import TrainSettings


class Forward:
    """The forward pass of a training step.

    Args:
        model: that is called, DistributedDataParallel's where there are several processes.
        objective: that is minimised.
        settings: ``compile`` and ``cuda_graph``.
        precision: of the forward pass.

    Attributes:
        proven: whether a whole step was done in the way that was asked for, or in the plain one.
    """

    def __init__(self, model: nn.Module, objective: Objective, settings: TrainSettings, precision: Precision) -> None:
        self.model, self.objective, self.precision = model, objective, precision
        alone = not isinstance(model, DistributedDataParallel)
        graph = settings.cuda_graph and precision.device.type == "cuda" and alone
        self._graph = graph and not settings.compile
        # where parts of a batch are added up, a graph's next gradient would lie where the last one does
        mode = "reduce-overhead" if graph and settings.accumulate == 1 else None
        self._call: Any = torch.compile(model, dynamic=False, mode=mode) if settings.compile else model
        # losses of a batch that is shared or in parts are not compiled: their sums reach over it only where Python runs
        whole = alone and settings.accumulate == 1
        self._loss: Any = torch.compile(objective, dynamic=False) if settings.compile and whole else objective
        self._shape: torch.Size | None = None
        self.proven = not (settings.compile or self._graph)

    def __call__(self, images: Tensor) -> object:
        """The model's output for ``[B,3,H,W]``."""
        if self._graph and self._shape is None:
            self._capture(images)
        with self.precision.autocast():
            if self._graph and images.shape != self._shape:  # a graph is of one shape
                return self.model(images)
            return self._call(images)

    def loss(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`segkit.engine.objective.Objective.forward`."""
        total: tuple[Tensor, Tensor] = self._loss(logits, target)
        return total

    def give_up(self, error: Exception) -> None:
        """Go on as it is, and say so in one line."""
        option = "train.cuda_graph" if self._graph else "train.compile"
        lines = str(error).strip().splitlines() or [""]
        print(f"{option} failed, going on without it: {type(error).__name__}: {printable(lines[0])}", file=sys.stderr)
        self._call, self._loss, self._graph, self.proven = self.model, self.objective, False, True

    def _capture(self, images: Tensor) -> None:
        """Record forward and backward for images of this shape; the warm-up steps change nothing."""
        before = [buffer.clone() for buffer in self.model.buffers()]
        whole = _Whole(self.model)
        # weights are cast anew in each replay, as they change
        with torch.autocast("cuda", self.precision.dtype, self.precision.name != "fp32", cache_enabled=False):
            # captured on a stream of its own, which the gradients of the weights belong to from then on
            getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", id)(False)
            self._call = torch.cuda.make_graphed_callables(whole, (images.detach().clone(),))
        with torch.no_grad():
            for buffer, old in zip(self.model.buffers(), before, strict=True):
                buffer.copy_(old)
        self._shape = images.shape


class _Whole(nn.Module):
    """Its ``forward`` is replaced by the graph, and the model's own is left as it is."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.model(images)
        return output
