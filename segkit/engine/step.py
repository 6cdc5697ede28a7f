"""The training step, and the loop that repeats it for an epoch, on CPU and CUDA, with one process or several.

No step waits for the device: the loss is summed there and read every ``log_every`` steps.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from segkit.data.sample import Batch
from segkit.engine.checkpoint import load_weights
from segkit.engine.data_source import prefetched
from segkit.engine.distributed import PROCESSES, MicroBatch, global_batch
from segkit.engine.forward import ForwardPass
from segkit.engine.non_finite import NonFiniteSteps
from segkit.engine.optim import build_optimizer, learning_rate, set_learning_rate, set_training
from segkit.engine.precision import seed_everything, seed_step, widest_float
from segkit.errors import ModelError, first_few
from segkit.inference.sliding_window import check_logits
from segkit.signals import STOP

if TYPE_CHECKING:
    from segkit.engine.inputs import TrainerInputs

INDEPENDENT = (
    "the loss does not depend on the model's weights, so nothing can be learned: compute it from the logits, "
    "not from their argmax or a detached copy, and use weights that require gradients"
)


@dataclass
class EpochProgress:
    """Progress within the current epoch.

    Attributes:
        steps: optimizer steps taken so far.
        skipped: number of skipped steps in the run before this epoch, a scalar on the device.
        sums: the loss and its terms, summed over the steps that were not skipped, ``[1 + T]`` on the device.
        seconds: time spent in these steps.
    """

    steps: int
    skipped: Tensor
    sums: Tensor
    seconds: float = 0.0


class TrainingLoop:
    """A model in training: the state that changes with each step, and the step itself.

    Args:
        inputs: the run's inputs; their model is moved to the device and trained.
        steps: optimizer steps of the whole run, for the learning rate schedule.

    Attributes:
        step: optimizer steps taken so far, including skipped ones.
        progress: progress within the current epoch.
        mark: timing callback, called with ``forward``, ``backward`` or ``optimizer`` at the end of that part.
    """

    def __init__(self, inputs: TrainerInputs, steps: int) -> None:
        precision, model, settings = inputs.precision, inputs.model, inputs.train
        device = precision.device
        self.settings, self.precision, self.steps, self.normalisation = settings, precision, steps, inputs.normalisation
        self.ignore_index, self.classes = inputs.splits["train"].ignore_index, len(inputs.splits["train"].classes)
        seed_everything(settings.seed, settings.deterministic)
        together = PROCESSES.size > 1
        if together and settings.sync_batch_norm:
            model = self._sync_batch_norm(model)
        if settings.channels_last:
            model = model.to(memory_format=torch.channels_last)
        self.model = set_training(model.to(device), settings)
        self.criterion = inputs.criterion.to(device)
        self.step = 0
        self.optimizer = build_optimizer(self.model, settings, inputs.optimizer)
        # against underflow: bf16 has the range of float32
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision.name == "fp16")
        self.average: Any = None  # the moving average of the weights, which is evaluated instead of the last ones
        if settings.ema:
            from timm.utils.model_ema import ModelEmaV3  # slow to import

            # after step n the decay is min(ema, (1 + n) / (10 + n)), as in TensorFlow's ExponentialMovingAverage, so
            # that the initial weights have little effect on short runs; weights that layers share are averaged twice
            self.average = ModelEmaV3(self.model, settings.ema, use_warmup=True, warmup_gamma=9, warmup_power=1)
            self.average.module.requires_grad_(False)
        self.non_finite = NonFiniteSteps(self.model, settings, device)
        self.end_epoch()
        ids = [device] if device.type == "cuda" else None
        self._parallel = DistributedDataParallel(self.model, device_ids=ids) if together else None
        self.forward = ForwardPass(self._parallel or self.model, self.criterion, settings, precision)
        self.mark: Callable[[str], None] = lambda part: None

    @property
    def evaluated(self) -> nn.Module:
        """The model to evaluate and save: with the moving average of the weights, if there is one."""
        return self.average.module if self.average else self.model

    @property
    def is_synchronised(self) -> bool:
        """Whether the device has finished all steps: always on a CPU, elsewhere after every ``log_every`` steps."""
        return self.precision.device.type == "cpu" or self.progress.steps % self.settings.log_every == 0

    def run_epoch(
        self, batches: Iterable[Batch], length: int, images: int, description: str, between: Callable[[], str] = str
    ) -> dict[str, Any]:
        """Train for the rest of an epoch.

        Args:
            batches: the remaining batches of the epoch, from :attr:`progress` on.
            length: steps of the epoch; it ends earlier if :attr:`steps`, the run's total, is reached.
            images: images per batch, over all processes.
            description: text of the progress bar.
            between: called after each step, when the state is complete; its result is shown in the progress bar.

        Returns:
            For the whole epoch: the mean ``loss``, the ``losses`` by name, the last ``lr``, the number of ``skipped``
            steps, ``images``, ``seconds`` and ``images_per_second``.

        Raises:
            TrainingError: too many steps in a row were skipped.
            Interrupted: between two steps; the state is complete.
        """
        set_training(self.model, self.settings)
        torch.backends.cudnn.benchmark = not self.settings.deterministic  # off in evaluation, where sizes vary
        progress, began, suffix = self.progress, time.perf_counter() - self.progress.seconds, ""
        hidden = None if PROCESSES.is_main_process else True
        done, total = progress.steps * images, self._end(length) * images  # in images, comparable between batch sizes
        bar = tqdm(desc=description, total=total, initial=done, unit=" images", leave=False, disable=hidden)
        with STOP.held():  # processes may be forked
            iterator = iter(batches) if progress.steps < self._end(length) else iter(())
        source = prefetched(([batch] for batch in iterator), self.precision.device)
        # a single process may stop while it waits for a batch; several processes must take the same steps
        with bar, STOP.held() if PROCESSES.size > 1 else nullcontext():
            while progress.steps < (end := self._end(length)):
                (batch,) = next(source)
                # defer signals during a step, except the first compiled one: it takes minutes and may be interrupted
                with STOP.held() if self.forward.proven else nullcontext():
                    progress.sums += self.train_step(batch)
                    progress.steps += 1
                    progress.seconds = time.perf_counter() - began
                logged = progress.steps == end or progress.steps % self.settings.log_every == 0
                if logged or self.is_synchronised:
                    self.non_finite.check()
                if logged:
                    text = f"step {progress.steps}/{end}, loss {self._means()[0]:.4f}{suffix}"
                    bar.set_postfix_str(text, refresh=False)
                bar.total = end * images
                bar.update(images)
                suffix = between()
        means = self._means()  # waits for the device
        progress.seconds = time.perf_counter() - began
        return {
            "loss": means[0],
            "losses": dict(zip(self.criterion.names, means[1:], strict=True)),
            "lr": self.optimizer.param_groups[0]["lr"],
            "skipped": int(self.non_finite.skipped[0] - progress.skipped),
            "images": images * progress.steps,
            "seconds": progress.seconds,
            "images_per_second": images * progress.steps / progress.seconds,
        }

    def _end(self, length: int) -> int:
        """Steps of an epoch of ``length`` under the current plan, which may change between any two steps."""
        return min(length, self.steps - self.step + self.progress.steps)

    def end_epoch(self) -> None:
        """Reset :attr:`progress` for the next epoch."""
        sums = torch.zeros(1 + len(self.criterion.names), device=self.precision.device)
        self.progress = EpochProgress(0, self.non_finite.skipped[0].clone(), sums)

    def train_step(self, batch: Batch) -> Tensor:
        """Take one optimizer step on a batch on the device; return the loss and its terms ``[1 + T]``, on the device.

        The values are averaged over all processes, and 0 if the step was skipped.
        """
        seed_step(self.settings.seed, self.step, PROCESSES.rank)
        set_learning_rate(self.optimizer, learning_rate(self.settings, self.step, self.steps))
        self.non_finite.before()
        values = self._gradients(batch)
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        if not parameters:
            raise ModelError(INDEPENDENT)
        if self._parallel:  # DDP would wait for missing gradients, and report them by parameter number
            unused = [name for name, p in self.model.named_parameters() if p.requires_grad and p.grad is None]
            if unused:
                raise ModelError(
                    f"the loss does not depend on {first_few(unused, 3)}; with several processes every weight must "
                    "have a gradient: remove these layers, or set requires_grad=False on their weights"
                )
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        bad = ~torch.isfinite(values[0]) | ~torch.isfinite(norm)
        if PROCESSES.size > 1:
            total = PROCESSES.sum(torch.cat([bad.view(1).float(), values]))
            bad, values = total[0] > 0, total[1:] / PROCESSES.size
        if self.settings.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.settings.clip_norm, norm)
        self.optimizer.found_inf = bad.float()  # type: ignore[attr-defined]  # 1 makes fused optimizers skip the step
        self.optimizer.step()
        self.scaler.update()
        self.non_finite.after(self.step, batch.names, bad)
        self.optimizer.zero_grad(set_to_none=True)
        if self.average:
            self.average.update(self.model, self.step + 2)  # timm's warm-up begins at step 2
        self.step += 1
        self.mark("optimizer")
        return torch.where(bad, 0.0, values)

    def _sync_batch_norm(self, model: nn.Module) -> nn.Module:
        """Convert to batch normalisation over the images of all processes, which torch supports on CUDA only."""
        if self.precision.device.type == "cuda":
            from timm import layers  # torch's own conversion drops the activation of timm's layers

            return layers.convert_sync_batchnorm(model)  # type: ignore[attr-defined, no-any-return, no-untyped-call]
        kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
        if PROCESSES.is_main_process and any(isinstance(layer, kinds) for layer in model.modules()):
            print("warning: on a CPU, each process normalises batches over its own images only", file=sys.stderr)
        return model

    def _gradients(self, batch: Batch) -> Tensor:
        try:
            values = self._forward_backward(batch)
        except Exception as error:  # the compiler failed; eager mode may work
            if self.forward.proven or isinstance(error, torch.OutOfMemoryError):
                raise
            self.forward.fall_back(error)
            self.optimizer.zero_grad(set_to_none=True)
            values = self._forward_backward(batch)
        self.forward.proven = True
        return values

    def _forward_backward(self, batch: Batch) -> Tensor:
        """Accumulate the mean gradient over the batch in the parameters; return the loss and its terms."""
        sums = torch.zeros(1 + len(self.criterion.names), device=self.precision.device)
        whole = batch.mask.long()  # [B,H,W]; converted once for all losses
        parts = batch.parts(self.settings.accumulate)
        targets = whole.split(len(parts[0].names))  # type: ignore[no-untyped-call]
        shares = self._shares(targets) if len(parts) > 1 else [None]
        for part, target, share in zip(parts, targets, shares, strict=True):
            images = self.normalisation.normalise(part.image, part.colour)  # [B,I,H,W], in the batch's memory format
            if not self.settings.channels_last:
                images = images.contiguous()
            last = part is parts[-1]  # gradients are reduced over the processes once per step
            with self._parallel.no_sync() if self._parallel and not last else nullcontext():
                logits = check_logits(self.forward(images), images, self.classes)  # [B,C,H,W]
                with global_batch(None if share is None else MicroBatch(whole, share)):
                    loss, terms = self.forward.loss(logits, target)  # outside autocast: float32
                if not loss.requires_grad:
                    if (target != self.ignore_index).any():
                        raise ModelError(INDEPENDENT)
                    loss = loss + logits.flatten()[:0].sum()  # all void: give the constant loss a gradient of 0
                values = torch.cat([loss.view(1), terms])
                if share is not None:
                    # a mean over no pixel, and its gradient, may be NaN; replace both by 0, as multiplying keeps NaN
                    values = torch.where(share > 0, values * share, 0.0)
                    logits.register_hook(partial(torch.where, share > 0, other=0.0))  # type: ignore[no-untyped-call]
                self.mark("forward")
                self.scaler.scale(values[0]).backward()  # type: ignore[no-untyped-call]
                self.mark("backward")
            sums += values.detach()
        return sums

    def _shares(self, targets: Sequence[Tensor]) -> list[Tensor]:
        """The weight of each micro-batch's mean loss: its share of the batch's labelled pixels, over all processes."""
        wide = widest_float(self.precision.device)
        counts = torch.stack([(target != self.ignore_index).sum(dtype=wide) for target in targets])
        counts = PROCESSES.sum(counts)
        return list((counts / counts.sum().clamp_min(1)).float().unbind())

    def _means(self) -> list[float]:
        """The mean loss and its terms over the epoch's steps that were not skipped; waits for the device."""
        counted = self.progress.steps - (self.non_finite.skipped[0] - self.progress.skipped)
        means: list[float] = (self.progress.sums / counted).tolist()  # NaN where every step was skipped
        return means

    def state_dict(self) -> dict[str, Any]:
        """The whole state, as tensors and plain values only."""
        return {
            "model": self.model.state_dict(),
            "ema": self.average.module.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "non_finite": self.non_finite.skipped,
            "progress": vars(self.progress),
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any], place: str) -> None:
        """Continue from a checkpoint.

        Args:
            state: as :meth:`state_dict` returned it.
            place: name of the checkpoint, for messages.

        Raises:
            CheckpointError: the checkpoint belongs to another model.
        """
        load_weights(self.model, state["model"], place)
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty if the run began on a device that needs no scaling
            self.scaler.load_state_dict(state["scaler"])
        if self.average:
            self.average.module.load_state_dict(state["ema"])
        device, progress = self.precision.device, state["progress"]
        self.non_finite.skipped, self.step = state["non_finite"].to(device), state["step"]
        self.progress = EpochProgress(**progress | {name: progress[name].to(device) for name in ("skipped", "sums")})
