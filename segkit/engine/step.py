"""One training step, and the loop that repeats it for an epoch, on a CPU and on CUDA, in one process and in several.

Nothing in a step waits for the device: the loss is summed there and read every ``log_every`` steps.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from segkit.data.normalise import IMAGENET, Normalisation, normalise
from segkit.data.sample import Batch
from segkit.engine.checkpoint import load_weights
from segkit.engine.criterion import Criterion
from segkit.engine.data_source import prefetched
from segkit.engine.distributed import DistributedContext, MicroBatch, global_batch
from segkit.engine.history import lower_rate
from segkit.engine.optim import OptimizerClass, WeightAverage, build_optimizer, learning_rate, set_learning_rate
from segkit.engine.precision import Precision, seed_step
from segkit.errors import CheckpointError, ModelError, TrainingError, first_few
from segkit.inference.sliding_window import check_logits
from segkit.settings import TrainSettings
from segkit.signals import StopSignals

INDEPENDENT = (
    "the loss does not depend on the model's weights, so nothing can be learned: compute it from the logits, "
    "not from their argmax or a detached copy, and the logits from weights that require gradients"
)
NO_STEP_WORKED = "No step has worked yet, so train.lr is not the cause: look at these images, and at the loss"


class NonFiniteSteps:
    """Skips steps whose loss or gradient is NaN or infinite, on the device, without waiting for it.

    A fused optimizer changes nothing where its ``found_inf`` is 1, as with a GradScaler; this class restores the
    buffers that the forward pass has changed (BatchNorm's running statistics) and counts.

    Args:
        model: whose buffers are restored.
        settings: ``max_skipped`` is the number of skipped steps in a row that ends a run.
        device: where the steps are counted.

    Attributes:
        skipped: int64 ``[2]`` on the device: skipped steps of the run, and of these the last ones in a row.
    """

    def __init__(self, model: nn.Module, settings: TrainSettings, device: torch.device) -> None:
        self.model, self.settings = model, settings
        self.skipped = torch.zeros(2, dtype=torch.int64, device=device)
        self._failed_at = torch.full((), -1, dtype=torch.int64, device=device)
        self._before: dict[torch.dtype, Tensor] = {}
        self._names: deque[tuple[int, list[str]]] = deque(maxlen=settings.max_skipped + settings.log_every)

    @torch.no_grad()
    def before(self, step: int, names: list[str]) -> None:
        """Copy the buffers before a step, and note the names of its images."""
        self._names.append((step, names))
        self._before = {dtype: _concatenated(buffers) for dtype, buffers in self._buffers().items()}

    @torch.no_grad()
    def after(self, step: int, bad: Tensor) -> None:
        """Restore the buffers where ``bad``, a bool on the device, is true, and count."""
        for dtype, buffers in self._buffers().items():  # of one dtype together: few kernels
            before, now = self._before.get(dtype), _concatenated(buffers)
            if before is None or before.shape != now.shape:  # a layer has made new ones
                continue
            parts = torch.where(bad, before, now).split([buffer.numel() for buffer in buffers])  # type: ignore[no-untyped-call]
            torch._foreach_copy_(buffers, [part.view(each.shape) for part, each in zip(parts, buffers, strict=True)])
        total, row = self.skipped.unbind()
        self.skipped = torch.stack([total + bad, (row + 1) * bad])
        failed = (self.skipped[1] >= self.settings.max_skipped) & (self._failed_at < 0)
        self._failed_at = torch.where(failed, step, self._failed_at)

    def check(self) -> int:
        """The number of skipped steps; waits for the device. To be called at least every ``log_every`` steps.

        Raises:
            TrainingError: ``max_skipped`` steps in a row were skipped; names the steps and their images.
        """
        total, failed_at = torch.stack([self.skipped[0], self._failed_at]).tolist()
        if failed_at >= 0:
            limit = self.settings.max_skipped
            first = failed_at - limit + 1
            names = [name for step, those in self._names if first <= step <= failed_at for name in those]
            hint = f"Training diverged: {lower_rate({'train': self.settings.model_dump()})}"
            hint += "" if self.settings.clip_norm else ", or set train.clip_norm=1.0"
            raise TrainingError(
                f"the loss or its gradient was no finite number in {limit} steps in a row, {first + 1} to "
                f"{failed_at + 1}, whose images were {first_few(list(dict.fromkeys(names)), 8)}; these steps changed "
                f"no weight. {hint if first else NO_STEP_WORKED}"
            )
        return int(total)

    def _buffers(self) -> dict[torch.dtype, list[Tensor]]:
        """Looked up in each step: a layer may replace its buffers."""
        found: dict[torch.dtype, list[Tensor]] = defaultdict(list)
        for buffer in self.model.buffers():
            found[buffer.dtype].append(buffer)
        return found


def _concatenated(buffers: Sequence[Tensor]) -> Tensor:
    return torch.cat([buffer.flatten() for buffer in buffers])  # always a copy


class ForwardPass:
    """Model and criterion in training: compiled, as a CUDA graph, or eager, which is the fallback of both.

    Args:
        model: is called; DistributedDataParallel's wrapper where there are several processes.
        criterion: is minimised.
        settings: ``compile`` and ``cuda_graph``.
        precision: of the forward pass.

    Attributes:
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
        self._loss: Any = torch.compile(criterion, dynamic=False) if settings.compile and whole else criterion
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

    def loss(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`segkit.engine.criterion.Criterion.forward`."""
        total: tuple[Tensor, Tensor] = self._loss(logits, target)
        return total

    def fall_back(self, error: Exception) -> None:
        """Continue in eager mode, and print that in one line."""
        option = "train.cuda_graph" if self._graph else "train.compile"
        lines = str(error).strip().splitlines() or [""]
        print(f"{option} failed, going on without it: {type(error).__name__}: {lines[0]}", file=sys.stderr)
        self._call, self._loss, self._graph, self.proven = self.model, self.criterion, False, True

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


@dataclass
class EpochProgress:
    """Progress within the current epoch.

    Attributes:
        steps: optimizer steps taken so far.
        skipped: skipped steps of the run when the epoch began, a scalar on the device.
        sums: the loss and its terms, summed over the steps that were not skipped, ``[1 + T]`` on the device.
        seconds: time that the steps took.
    """

    steps: int
    skipped: Tensor
    sums: Tensor
    seconds: float = 0.0


class TrainingLoop:
    """A model in training: all state that changes from step to step, and the step that changes it.

    Args:
        model: is moved to the device and trained.
        criterion: is minimised.
        settings: the table ``[train]``.
        precision: of the forward pass, on the device.
        steps: optimizer steps of the whole run, for the learning rate's schedule.
        optimizer: left out, the core's own of the name ``train.optimizer``.
        normalisation: of the images.
        distributed: the processes that train together.
        stop: the signals that end the run.
        ignore_index: the label of void pixels.
        classes: C; None where it is not known.

    Attributes:
        step: optimizer steps taken so far, skipped ones included.
        progress: within the current epoch.
        mark: is called at the end of each part of a step, with ``forward``, ``backward`` or ``optimizer``; for timing.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: Criterion,
        settings: TrainSettings,
        precision: Precision,
        steps: int,
        *,
        optimizer: OptimizerClass | None = None,
        normalisation: Normalisation = IMAGENET,
        distributed: DistributedContext | None = None,
        stop: StopSignals | None = None,
        ignore_index: int = 255,
        classes: int | None = None,
    ) -> None:
        device = precision.device
        self.settings, self.precision, self.steps, self.normalisation = settings, precision, steps, normalisation
        self.ignore_index, self.classes = ignore_index, classes
        self.distributed, self.stop = distributed or DistributedContext(), stop or StopSignals()
        together = self.distributed.size > 1
        if together and settings.sync_batch_norm:
            model = self._sync_batch_norm(model)
        if settings.channels_last:
            model = model.to(memory_format=torch.channels_last)
        self.model = model.to(device).train()
        self.criterion = criterion.to(device)
        self.step = 0
        self.optimizer = build_optimizer(self.model, settings, optimizer)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision.needs_scaler)
        self.average = WeightAverage(self.model, settings.ema) if settings.ema else None
        self.non_finite = NonFiniteSteps(self.model, settings, device)
        self.end_epoch()
        ids = [device] if device.type == "cuda" else None
        self._parallel = DistributedDataParallel(self.model, device_ids=ids) if together else None
        self.forward = ForwardPass(self._parallel or self.model, self.criterion, settings, precision)
        self.mark: Callable[[str], None] = lambda part: None

    @property
    def evaluated(self) -> nn.Module:
        """The model that is evaluated and saved: the moving average of the weights where there is one."""
        return self.average.model if self.average else self.model

    def run_epoch(
        self,
        batches: Iterable[Batch],
        length: int,
        images: int,
        description: str,
        between: Callable[[list[bool]], None] | None = None,
        flags: Callable[[], list[bool]] = list,
    ) -> dict[str, Any]:
        """Train for the rest of an epoch.

        Args:
            batches: from :attr:`progress` on.
            length: steps of the epoch.
            images: in a batch, over all processes.
            description: of the progress bar.
            between: is called between two steps, when the state is complete, with ``flags`` over all processes.
            flags: of this process; a flag that is set in any process counts in all.

        Returns:
            Of the whole epoch the mean ``loss``, the ``losses`` by name, the last ``lr``, the number of ``skipped``
            steps, ``images``, ``seconds`` and ``images_per_second``.

        Raises:
            TrainingError: too many steps in a row were skipped.
            Interrupted: between two steps; the state is complete.
        """
        self.model.train()
        torch.backends.cudnn.benchmark = not self.settings.deterministic  # off in evaluation: sizes differ there
        length = min(length, self.steps - self.step + self.progress.steps)
        began = time.perf_counter() - self.progress.seconds
        bar = self._progress_bar(description, length, images)
        with self.stop.held():  # processes may be forked
            waiting = iter(batches) if self.progress.steps < length else iter(())
        source = prefetched(([batch] for batch in waiting), self.precision.device)
        # a single process may stop while it waits for a batch; several must take the same steps
        with bar, self.stop.held() if self.distributed.size > 1 else nullcontext():
            while self.progress.steps < length:
                (batch,) = next(source)
                with self._complete_step():
                    in_any = self.distributed.any_process(flags())
                    self.progress.sums += self.train_step(batch)
                    self.progress.steps += 1
                    self.progress.seconds = time.perf_counter() - began
                self._look(bar, length)
                bar.update(images)
                if between:
                    between(in_any())
        return self._epoch_result(images, began)

    def end_epoch(self) -> None:
        """Reset :attr:`progress` for the next epoch."""
        sums = torch.zeros(1 + len(self.criterion.names), device=self.precision.device)
        self.progress = EpochProgress(0, self.non_finite.skipped[0].clone(), sums)

    def train_step(self, batch: Batch) -> Tensor:
        """One optimizer step on a batch on the device; returns the loss and its terms ``[1 + T]``, on the device.

        They are those of all processes, and 0 where the step was skipped.
        """
        seed_step(self.settings.seed, self.step, self.distributed.rank)
        set_learning_rate(self.optimizer, learning_rate(self.settings, self.step, self.steps))
        self.non_finite.before(self.step, batch.names)
        values = self._gradients(batch)
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        if not parameters:
            raise ModelError(INDEPENDENT)
        if self._parallel:
            self._refuse_unused()
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        bad = ~torch.isfinite(values[0]) | ~torch.isfinite(norm)
        if self.distributed.size > 1:
            total = self.distributed.sum(torch.cat([bad.view(1).float(), values]))
            bad, values = total[0] > 0, total[1:] / self.distributed.size
        if self.settings.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.settings.clip_norm, norm)
        self.optimizer.found_inf = bad.float()  # type: ignore[attr-defined]  # fused optimizers do nothing where it is 1
        self.optimizer.step()
        self.scaler.update()
        self.non_finite.after(self.step, bad)
        self.optimizer.zero_grad(set_to_none=True)
        if self.average:
            self.average.update(self.model, self.step)
        self.step += 1
        self.mark("optimizer")
        return torch.where(bad, 0.0, values)

    def _sync_batch_norm(self, model: nn.Module) -> nn.Module:
        """Batch normalisation over the images of all processes, which torch has for CUDA only."""
        if self.precision.device.type == "cuda":
            from timm import layers  # torch's own conversion drops the activation of timm's layers

            converted: nn.Module = layers.convert_sync_batchnorm(model)  # type: ignore[attr-defined, no-untyped-call]
            return converted
        kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
        if self.distributed.is_main_process and any(isinstance(layer, kinds) for layer in model.modules()):
            print("warning: on a CPU, each process normalises batches over its own images alone", file=sys.stderr)
        return model

    def _progress_bar(self, description: str, length: int, images: int) -> tqdm[Any]:
        """It counts images rather than steps: they compare between batch sizes."""
        return tqdm(
            desc=description,
            total=length * images,
            initial=self.progress.steps * images,
            unit=" images",
            leave=False,
            disable=None if self.distributed.is_main_process else True,
        )

    def _epoch_result(self, images: int, began: float) -> dict[str, Any]:
        means = self._means()  # waits for the device
        seconds = self.progress.seconds = time.perf_counter() - began
        images *= self.progress.steps
        return {
            "loss": means[0],
            "losses": dict(zip(self.criterion.names, means[1:], strict=True)),
            "lr": self.optimizer.param_groups[0]["lr"],
            "skipped": int(self.non_finite.skipped[0] - self.progress.skipped),
            "images": images,
            "seconds": seconds,
            "images_per_second": images / seconds,
        }

    def _look(self, bar: tqdm[Any], length: int) -> None:
        """Check for skipped steps and show the loss, every ``log_every`` steps; a CPU is not waited for."""
        steps, every = self.progress.steps, self.settings.log_every
        due = steps % every == 0 or steps == length
        if due or self.precision.device.type == "cpu":
            self.non_finite.check()
        if due:
            bar.set_postfix_str(f"step {steps}/{length}, loss {self._means()[0]:.4f}", False)

    def _refuse_unused(self) -> None:
        """Name weights without a gradient; DistributedDataParallel would wait for them, and give their numbers only."""
        unused = [name for name, p in self.model.named_parameters() if p.requires_grad and p.grad is None]
        if unused:
            raise ModelError(
                f"the loss does not depend on {first_few(unused, 3)}; with several processes every weight must take "
                "part: leave such layers out, or set requires_grad=False on their weights"
            )

    def _complete_step(self) -> AbstractContextManager[Any]:
        """Defer signals to the end of a step, except for the first one of a compiler, which takes minutes.

        Nothing is lost then: the state before it is in the checkpoint that the run began with.
        """
        return self.stop.held() if self.forward.proven else nullcontext()

    def _gradients(self, batch: Batch) -> Tensor:
        if self.forward.proven:
            return self._forward_backward(batch)
        try:
            values = self._forward_backward(batch)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # whatever the compiler cannot do, eager mode can
            self.forward.fall_back(error)
            self.optimizer.zero_grad(set_to_none=True)
            values = self._forward_backward(batch)
        self.forward.proven = True
        return values

    def _forward_backward(self, batch: Batch) -> Tensor:
        """Leave the mean gradient over the batch's images in the parameters; returns the loss and its terms."""
        sums = torch.zeros(1 + len(self.criterion.names), device=self.precision.device)
        whole = batch.mask.long()  # [B,H,W]; converted once for all losses
        parts = batch.parts(self.settings.accumulate)
        targets = whole.split(len(parts[0].names))  # type: ignore[no-untyped-call]
        shares = self._shares(targets) if len(parts) > 1 else [None]
        for part, target, share in zip(parts, targets, shares, strict=True):
            images = normalise(part.image, part.colour, self.normalisation)  # [B,3,H,W], as channels_last as the batch
            if not self.settings.channels_last:
                images = images.contiguous()
            last = part is parts[-1]  # gradients travel once a step
            with self._parallel.no_sync() if self._parallel and not last else nullcontext():
                logits = check_logits(self.forward(images), images, self.classes)  # [B,C,H,W]
                with global_batch(self.distributed, None if share is None else MicroBatch(whole, share)):
                    loss, terms = self.forward.loss(logits, target)  # outside autocast: float32
                if not loss.requires_grad:
                    if (target != self.ignore_index).any():
                        raise ModelError(INDEPENDENT)
                    loss = loss + logits.flatten()[:0].sum()  # a constant, where all is void: its gradient is 0
                values = torch.cat([loss.view(1), terms])
                if share is not None:
                    values = torch.where(share > 0, values * share, 0.0)  # a mean over no pixel may be NaN
                    logits.register_hook(partial(_zero_where_void, share))  # type: ignore[no-untyped-call]
                self.mark("forward")
                self.scaler.scale(values[0]).backward()  # type: ignore[no-untyped-call]
                self.mark("backward")
            sums += values.detach()
        return sums

    def _shares(self, targets: Sequence[Tensor]) -> list[Tensor]:
        """Each micro-batch's share of the batch's labelled pixels, over all processes: the weight of its mean loss."""
        counts = torch.stack([(target != self.ignore_index).sum(dtype=torch.float64) for target in targets])
        counts = self.distributed.sum(counts)
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
            "ema": self.average.model.state_dict() if self.average else None,
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
            CheckpointError: it belongs to another model or optimizer.
        """
        load_weights(self.model, state["model"], place)
        try:
            mine, its = (each["param_groups"][0].keys() for each in (self.optimizer.state_dict(), state["optimizer"]))
            if mine != its:
                raise ValueError(f"its settings are {first_few(list(its))}")
            self.optimizer.load_state_dict(state["optimizer"])
            if state["scaler"]:  # none, where the run began on a device that needs no scaling
                self.scaler.load_state_dict(state["scaler"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{place} belongs to another optimizer: {error}") from error
        if bool(self.average) != bool(state["ema"]):
            raise CheckpointError(f"{place} belongs to another train.ema: one has a moving average, the other none")
        if self.average:
            self.average.model.load_state_dict(state["ema"])
        device, progress = self.precision.device, state["progress"]
        self.non_finite.skipped = state["non_finite"].to(device)
        tensors = {name: progress[name].to(device) for name in ("skipped", "sums")}
        self.progress = EpochProgress(progress["steps"], **tensors, seconds=progress["seconds"])
        self.step = state["step"]


def _zero_where_void(share: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of a micro-batch's logits: 0, rather than 0 times infinity, where it has no labelled pixel."""
    return torch.where(share > 0, gradient, 0.0)
