"""The forward pass in training: compiled, as a CUDA graph, or eager."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from segkit.engine.criterion import Criterion
from segkit.engine.precision import Precision
from segkit.settings import TrainSettings


class ForwardPass:
    """Model and criterion in training: compiled, as a CUDA graph, or eager, which is the fallback of both.

    Args:
        model: is called; DistributedDataParallel's wrapper where there are several processes.
        criterion: is minimised.
        settings: ``compile`` and ``cuda_graph``.
        precision: of the forward pass.

    Attributes:
        loss: the criterion, as it is called.
        proven: whether a whole step has succeeded in the chosen way, or it is eager.
    """

    def __init__(self, model: nn.Module, criterion: Criterion, settings: TrainSettings, precision: Precision) -> None:
        self.model, self.criterion, self.precision = model, criterion, precision
        alone = not isinstance(model, DistributedDataParallel)
        graph = settings.cuda_graph and precision.device.type == "cuda" and alone
        self._graph = graph and not settings.compile
        # with micro-batches, a graph would write its next gradient where the last one still is
        mode = "reduce-overhead" if graph and settings.accumulate == 1 else None
        self._call: Any = torch.compile(model, dynamic=False, mode=mode) if settings.compile else model
        # the criterion of a shared batch or a micro-batch stays eager: global_sum does nothing in compiled code
        whole = alone and settings.accumulate == 1
        self.loss: Any = torch.compile(criterion, dynamic=False) if settings.compile and whole else criterion
        self._shape: torch.Size | None = None
        self.proven = not (settings.compile or self._graph)

    def __call__(self, images: Tensor) -> object:
        """The model's output for ``[B,3,H,W]``."""
        if self._graph and self._shape is None:
            self._capture(images)
        with self.precision.autocast():
            if self._graph and images.shape != self._shape:  # a graph has one shape
                return self.model(images)
            return self._call(images)

    def fall_back(self, error: Exception) -> None:
        """Continue in eager mode, and print that in one line."""
        option = "train.cuda_graph" if self._graph else "train.compile"
        lines = str(error).strip().splitlines() or [""]
        print(f"{option} failed, going on without it: {type(error).__name__}: {lines[0]}", file=sys.stderr)
        self._call, self.loss, self._graph, self.proven = self.model, self.criterion, False, True

    def _capture(self, images: Tensor) -> None:
        """Record forward and backward for images of this shape; the warm-up steps change nothing."""
        before = [buffer.clone() for buffer in self.model.buffers()]
        whole = nn.Sequential(self.model)  # the graph replaces its forward, and leaves the model's own
        # weights change, so each replay casts them anew
        with torch.autocast("cuda", self.precision.dtype, self.precision.name != "fp32", cache_enabled=False):
            # captured on a stream of its own, to which the gradients of the weights belong from then on
            getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", id)(False)
            self._call = torch.cuda.make_graphed_callables(whole, (images.detach().clone(),))
        with torch.no_grad():
            for buffer, old in zip(self.model.buffers(), before, strict=True):
                buffer.copy_(old)
        self._shape = images.shape
