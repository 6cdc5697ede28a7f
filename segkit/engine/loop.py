"""The training loop: one epoch of steps, the same on a CPU and on CUDA.

Nothing in a step waits for the device: the loss is summed there and read every ``log_every`` steps.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from segkit.data.loader import Batch
from segkit.data.normalise import normalise
from segkit.engine.average import MovingAverage
from segkit.engine.checkpoint import load_weights
from segkit.engine.evaluate import logits_of
from segkit.engine.objective import Objective
from segkit.engine.optimizer import build_optimizer, learning_rate, set_learning_rate
from segkit.engine.precision import Precision
from segkit.errors import TrainingError
from segkit.settings import TrainSettings


class Loop:
    """A model in training: everything that changes from step to step, and how one step changes it.

    Attributes:
        model: the weights that are trained.
        step: optimizer steps taken so far.
        steps: optimizer steps of the whole run, which the learning rate is planned for.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, settings: TrainSettings, precision: Precision, steps: int
    ) -> None:
        device = precision.device
        if settings.channels_last:
            model = model.to(memory_format=torch.channels_last)
        self.model = model.to(device).train()
        self.objective = objective.to(device)
        self.settings, self.precision, self.steps = settings, precision, steps
        self.step = 0
        self.optimizer = build_optimizer(self.model, settings)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision.needs_scaler)
        self.average = MovingAverage(self.model, settings.ema) if settings.ema else None
        self._forward: Any = torch.compile(self.model, dynamic=False) if settings.compile else self.model
        self._proven = not settings.compile

    @property
    def evaluated(self) -> nn.Module:
        """The weights that are evaluated and kept: the average where there is one."""
        return self.average.model if self.average else self.model

    def run_epoch(self, batches: Iterable[Batch], length: int, description: str) -> dict[str, Any]:
        """Train on the batches; returns the mean ``loss``, the ``losses`` by name, ``lr`` and ``images_per_second``.

        Raises:
            TrainingError: the loss is no longer a finite number.
        """
        self.model.train()
        torch.backends.cudnn.benchmark = not self.settings.deterministic  # off in evaluation: sizes differ there
        device = self.precision.device
        length = min(length, self.steps - self.step)
        sums = torch.zeros(1 + len(self.objective.names), device=device)
        images = count = 0
        start = time.perf_counter()
        # tqdm shows images rather than steps: they compare between batch sizes
        total = length * self.settings.batch_size
        with tqdm(desc=description, total=total, unit=" images", leave=False, disable=None) as progress:
            for batch in batches:
                if count == length:
                    break
                sums += self.train_step(batch.to(device))
                count += 1
                images += len(batch.names)
                if count % self.settings.log_every == 0 or count == length:
                    progress.set_postfix_str(f"step {count}/{length}, loss {self._read(sums)[0] / count:.4f}", False)
                progress.update(len(batch.names))
        means = [value / max(1, count) for value in self._read(sums)]  # waits for the device
        seconds = time.perf_counter() - start
        return {
            "loss": means[0],
            "losses": dict(zip(self.objective.names, means[1:], strict=True)),
            "lr": self.optimizer.param_groups[0]["lr"],
            "images": images,
            "seconds": seconds,
            "images_per_second": images / seconds,
        }

    def train_step(self, batch: Batch) -> Tensor:
        """One optimizer step on a batch on the device; the loss and its terms ``[1 + T]``, still on the device."""
        set_learning_rate(self.optimizer, learning_rate(self.settings, self.step, self.steps))
        values = self._gradients(batch)
        if self.settings.clip_norm:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.average:
            self.average.update(self.model)
        return values

    def _gradients(self, batch: Batch) -> Tensor:
        if self._proven:
            return self._forward_backward(batch)
        try:
            values = self._forward_backward(batch)
        except Exception as error:  # whatever the compiler could not do, eager can
            if self.precision.device.type == "cuda" and isinstance(error, torch.cuda.OutOfMemoryError):
                raise
            lines = str(error).strip().splitlines() or [""]
            print(f"train.compile failed, going on without it: {type(error).__name__}: {lines[0]}", file=sys.stderr)
            self._forward = self.model
            self.optimizer.zero_grad(set_to_none=True)
            values = self._forward_backward(batch)
        self._proven = True
        return values

    def _forward_backward(self, batch: Batch) -> Tensor:
        """Leave the mean gradient over the batch's images in the parameters."""
        sums = torch.zeros(1 + len(self.objective.names), device=self.precision.device)
        for part in batch.parts(self.settings.accumulate):
            share = len(part.names) / len(batch.names)
            images = normalise(part.image, part.colour)  # [B,3,H,W], as channels_last as the batch
            if not self.settings.channels_last:
                images = images.contiguous()
            with self.precision.autocast():
                logits = logits_of(self._forward(images))  # [B,C,H,W]
            loss, terms = self.objective(logits, part.mask)  # outside autocast: float32
            self.scaler.scale(loss * share).backward()
            sums += torch.cat([loss.detach().view(1), terms]) * share
        return sums

    def _read(self, sums: Tensor) -> list[float]:
        values: list[float] = sums.tolist()
        if not math.isfinite(values[0]):
            raise TrainingError(
                f"the loss is {values[0]} within the steps up to {self.step}; lower train.lr, set train.clip_norm = 1.0"
                + (', or use train.precision = "fp32"' if self.precision.name != "fp32" else "")
            )
        return values

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on: tensors and plain values only."""
        cuda = self.precision.device.type == "cuda"
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.precision.device) if cuda else None,
        }

    def load_state_dict(self, state: dict[str, Any], place: str) -> None:
        """Go on from a checkpoint.

        Raises:
            CheckpointError: it belongs to another model.
        """
        load_weights(self.model, state["model"], place)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average and state["average"]:
            self.average.load_state_dict(state["average"])
        self.step = state["step"]
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None and self.precision.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"], self.precision.device)
