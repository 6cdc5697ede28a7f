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
    """Calls model and criterion in training: compiled, as a CUDA graph, or in eager mode, the fallback of both.

    Args:
        model: the model; with several processes, its DistributedDataParallel wrapper.
        criterion: the training criterion.
        settings: ``compile`` and ``cuda_graph``.
        precision: precision of the forward pass.

    Attributes:
        loss: the criterion to call, compiled or not.
        proven: whether a complete step has succeeded in this mode; always true in eager mode.
    """

    def __init__(self, model: nn.Module, criterion: Criterion, settings: TrainSettings, precision: Precision) -> None:
        self.model, self.criterion, self.precision = model, criterion, precision
        alone = not isinstance(model, DistributedDataParallel)
        graph = settings.cuda_graph and precision.device.type == "cuda" and alone
        self._graph = graph and not settings.compile
        # with micro-batches, a graph would overwrite the gradient of the previous one
        mode = "reduce-overhead" if graph and settings.accumulate == 1 else None
        self._call: Any = torch.compile(model, dynamic=False, mode=mode) if settings.compile else model
        # for several processes or micro-batches the criterion stays eager: global_sum does nothing in compiled code
        whole = alone and settings.accumulate == 1
        self.loss: Any = torch.compile(criterion, dynamic=False) if settings.compile and whole else criterion
        self._shape: torch.Size | None = None
        self.proven = not (settings.compile or self._graph)

    def __call__(self, images: Tensor) -> object:
        """Return the model's output for images ``[B,I,H,W]``."""
        if self._graph and self._shape is None:
            self._capture(images)
        with self.precision.autocast():
            if self._graph and images.shape != self._shape:  # the graph was captured for one shape
                return self.model(images)
            return self._call(images)

    def fall_back(self, error: Exception) -> None:
        """Continue in eager mode, and report that in one line."""
        option = "train.cuda_graph" if self._graph else "train.compile"
        lines = str(error).strip().splitlines() or [""]
        print(f"{option} failed; continuing without it: {type(error).__name__}: {lines[0]}", file=sys.stderr)
        self._call, self.loss, self._graph, self.proven = self.model, self.criterion, False, True

    def _capture(self, images: Tensor) -> None:
        """Record forward and backward for images of this shape; the warm-up steps do not change the buffers."""
        before = [buffer.clone() for buffer in self.model.buffers()]
        whole = nn.Sequential(self.model)  # the graph replaces the forward of this wrapper, not the model's
        # weights change, so each replay must cast them again
        with torch.autocast("cuda", self.precision.dtype, self.precision.name != "fp32", cache_enabled=False):
            # capturing uses a separate stream, and the gradients of the weights belong to that stream afterwards
            getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", id)(False)
            self._call = torch.cuda.make_graphed_callables(whole, (images.detach().clone(),))
        with torch.no_grad():
            for buffer, old in zip(self.model.buffers(), before, strict=True):
                buffer.copy_(old)
        self._shape = images.shape
