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
from segkit.engine.criterion import Objective
from segkit.engine.data_source import prefetched
from segkit.engine.distributed import Part, World, one_batch
from segkit.engine.optim import MovingAverage, build_optimizer, learning_rate, set_learning_rate
from segkit.engine.precision import Precision, seed_step
from segkit.engine.remedies import slower
from segkit.engine.sync_batch_norm import synchronised
from segkit.errors import CheckpointError, ModelError, TrainingError, first_few, printable
from segkit.inference.sliding_window import check_logits
from segkit.settings import TrainSettings
from segkit.signals import StopSignals

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
        """As :meth:`segkit.engine.criterion.Objective.forward`."""
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


INDEPENDENT = (
    "the loss does not depend on the model's weights, so nothing can be learned: it is to be computed from the logits "
    "themselves, not from their argmax, nor from what was detached, and the logits from weights that require gradients"
)


@dataclass
class Position:
    """How far an epoch is.

    Attributes:
        steps: that were taken of it.
        skipped: of these, on the device.
        sums: of the loss and its terms over the steps that counted, ``[1 + T]`` on the device.
        seconds: that they took.
    """

    steps: int
    skipped: Tensor
    sums: Tensor
    seconds: float = 0.0


class Loop:
    """A model in training: everything that changes from step to step, and how one step changes it.

    Attributes:
        model: the weights that are trained.
        step: optimizer steps taken so far, those among them that were skipped.
        steps: optimizer steps of the whole run, which the learning rate is planned for.
        position: in the epoch that goes on.
        mark: called at the end of each part of a step: ``forward``, ``backward``, ``optimizer``; a benchmark's clock.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        settings: TrainSettings,
        precision: Precision,
        steps: int,
        *,
        normalisation: Normalisation = IMAGENET,
        world: World | None = None,
        stop: StopSignals | None = None,
        ignore_index: int = 255,
        classes: int | None = None,
    ) -> None:
        device = precision.device
        self.ignore_index, self.classes = ignore_index, classes
        self.settings, self.precision, self.steps = settings, precision, steps
        self.normalisation = normalisation
        self.world, self.stop = world or World(), stop or StopSignals()
        if settings.sync_batch_norm:
            model, left = synchronised(model, device, self.world)
            if left and self.world.first:
                print(f"warning: {', '.join(left)}: statistics of each process's own images", file=sys.stderr)
        if settings.channels_last:
            model = model.to(memory_format=torch.channels_last)
        self.model = model.to(device).train()
        self.objective = objective.to(device)
        self.step = 0
        self.optimizer = build_optimizer(self.model, settings)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision.needs_scaler)
        self.average = MovingAverage(self.model, settings.ema) if settings.ema else None
        clip = "" if settings.clip_norm else ", or set train.clip_norm=1.0"
        advice = f"Training diverged: {slower({'train': settings.model_dump()})}{clip}"
        self.guard = Guard(self.model, settings.max_skipped, device, settings.log_every, advice)
        self.position = self._begin()
        self._parallel = _parallel(self.model, device) if self.world.size > 1 else None
        self._forward = Forward(self._parallel or self.model, self.objective, settings, precision)
        self.mark: Callable[[str], None] = lambda part: None

    @property
    def evaluated(self) -> nn.Module:
        """The weights that are evaluated and kept: the average where there is one."""
        return self.average.model if self.average else self.model

    def run_epoch(
        self,
        batches: Iterable[Batch],
        length: int,
        images: int,
        description: str,
        between: Callable[[list[bool]], None] | None = None,
        wishes: Callable[[], list[bool]] = list,
    ) -> dict[str, Any]:
        """Train on what is left of an epoch.

        Args:
            batches: from the loop's position on.
            length: of the epoch, steps.
            images: in a batch, over all processes.
            description: of the progress bar.
            between: called between any two steps, where the loop's state is whole, with what was agreed on.
            wishes: of this process, on which all agree during a step.

        Returns:
            Of the whole epoch the mean ``loss``, the ``losses`` by name, the last ``lr``, how many steps were
            ``skipped``, ``images``, ``seconds`` and ``images_per_second``.

        Raises:
            TrainingError: too many steps in a row were skipped.
            Interrupted: between two steps; the state is whole.
        """
        self.model.train()
        torch.backends.cudnn.benchmark = not self.settings.deterministic  # off in evaluation: sizes differ there
        length = min(length, self.steps - self.step + self.position.steps)
        every = self.settings.log_every if self.precision.device.type == "cuda" else 1  # a CPU is not waited for
        began = time.perf_counter() - self.position.seconds
        # tqdm shows images rather than steps: they compare between batch sizes
        bar: tqdm[Any] = tqdm(
            desc=description,
            total=length * images,
            initial=self.position.steps * images,
            unit=" images",
            leave=False,
            disable=None if self.world.first else True,
        )
        with self.stop.held():  # processes may be forked
            waiting = iter(batches) if self.position.steps < length else iter(())
        source = prefetched(([batch] for batch in waiting), self.precision.device)
        # alone, a process may stop while it waits for a batch; of several all must take the same steps
        with bar, self.stop.held() if self.world.size > 1 else nullcontext():
            while self.position.steps < length:
                (batch,) = next(source)
                with self._whole():
                    agreed = self.world.agreement(wishes())
                    self.position.sums += self.train_step(batch)
                    self.position.steps += 1
                    self.position.seconds = time.perf_counter() - began
                steps = self.position.steps
                if steps % every == 0 or steps == length:
                    self.guard.check()
                if steps % self.settings.log_every == 0 or steps == length:
                    bar.set_postfix_str(f"step {steps}/{length}, loss {self._means()[0]:.4f}", False)
                bar.update(images)
                if between:
                    between(agreed())
        means = self._means()  # waits for the device
        seconds = self.position.seconds = time.perf_counter() - began
        return {
            "loss": means[0],
            "losses": dict(zip(self.objective.names, means[1:], strict=True)),
            "lr": self.optimizer.param_groups[0]["lr"],
            "skipped": int(self.guard.skipped[0] - self.position.skipped),
            "images": self.position.steps * images,
            "seconds": seconds,
            "images_per_second": self.position.steps * images / seconds,
        }

    def end_epoch(self) -> None:
        """Begin to count anew."""
        self.position = self._begin()

    def train_step(self, batch: Batch) -> Tensor:
        """One optimizer step on a batch on the device; the loss and its terms ``[1 + T]``, still on the device.

        They are those of all processes, and 0 where the step was skipped, as loss or gradient were no finite numbers.
        """
        seed_step(self.settings.seed, self.step, self.world.rank)
        set_learning_rate(self.optimizer, learning_rate(self.settings, self.step, self.steps))
        self.guard.before(self.step, batch.names)
        values = self._gradients(batch)
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        if not parameters:
            raise ModelError(INDEPENDENT)
        if self._parallel:
            self._refuse_unused()
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        bad = ~torch.isfinite(values[0]) | ~torch.isfinite(norm)
        if self.world.size > 1:
            told = self.world.total(torch.cat([bad.view(1).float(), values]))
            bad, values = told[0] > 0, told[1:] / self.world.size
        if self.settings.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.settings.clip_norm, norm)
        self.optimizer.found_inf = bad.float()  # type: ignore[attr-defined]  # the fused ones do nothing where it is 1
        self.optimizer.step()
        self.scaler.update()
        self.guard.after(self.step, bad)
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.average:
            self.average.update(self.model)
        self.mark("optimizer")
        return torch.where(bad, 0.0, values)

    def _refuse_unused(self) -> None:
        """DistributedDataParallel waits for the gradients of all weights, and tells of one that has none by number."""
        unused = [name for name, p in self.model.named_parameters() if p.requires_grad and p.grad is None]
        if unused:
            raise ModelError(
                f"the loss does not depend on {first_few(unused, 3)}; with several processes every weight must take "
                "part: leave such layers out, or set requires_grad=False on their weights"
            )

    def _whole(self) -> AbstractContextManager[Any]:
        """A step that is not stopped half-way; but for the first one of a compiler, which takes minutes.

        Nothing is lost then: what was there before it is in the checkpoint that the run began with.
        """
        return self.stop.held() if self._forward.proven else nullcontext()

    def _gradients(self, batch: Batch) -> Tensor:
        if self._forward.proven:
            return self._forward_backward(batch)
        try:
            values = self._forward_backward(batch)
        except Exception as error:  # whatever the compiler could not do, eager can
            if self.precision.device.type == "cuda" and isinstance(error, torch.cuda.OutOfMemoryError):
                raise
            self._forward.give_up(error)
            self.optimizer.zero_grad(set_to_none=True)
            values = self._forward_backward(batch)
        self._forward.proven = True
        return values

    def _forward_backward(self, batch: Batch) -> Tensor:
        """Leave the mean gradient over the batch's images in the parameters."""
        sums = torch.zeros(1 + len(self.objective.names), device=self.precision.device)
        whole = batch.mask.long()  # [B,H,W]; what losses of others ask for, once for all of them
        parts = batch.parts(self.settings.accumulate)
        targets = whole.split(len(parts[0].names))  # type: ignore[no-untyped-call]
        shares = self._shares(targets) if len(parts) > 1 else [None]
        for part, target, share in zip(parts, targets, shares, strict=True):
            images = normalise(part.image, part.colour, self.normalisation)  # [B,3,H,W], as channels_last as the batch
            if not self.settings.channels_last:
                images = images.contiguous()
            # gradients travel once a step
            alone = self._parallel.no_sync() if self._parallel and part is not parts[-1] else nullcontext()
            with alone:
                logits = check_logits(self._forward(images), images, self.classes)  # [B,C,H,W]
                with one_batch(self.world, None if share is None else Part(whole, share)):
                    loss, terms = self._forward.loss(logits, target)  # outside autocast: float32
                if not loss.requires_grad:
                    if (target != self.ignore_index).any():
                        raise ModelError(INDEPENDENT)
                    loss = loss + logits.flatten()[:0].sum()  # a constant, where all is void: its gradient is 0
                values = torch.cat([loss.view(1), terms])
                if share is not None:
                    values = torch.where(share > 0, values * share, 0.0)  # NaN, where a loss cannot do without labels
                    logits.register_hook(partial(_unless_void, share))  # type: ignore[no-untyped-call]
                self.mark("forward")
                self.scaler.scale(values[0]).backward()  # type: ignore[no-untyped-call]
                self.mark("backward")
            sums += values.detach()
        return sums

    def _shares(self, targets: Sequence[Tensor]) -> list[Tensor]:
        """Of each part's labelled pixels in the batch, over all processes; a mean over pixels is then that of it."""
        counts = torch.stack([(target != self.ignore_index).sum(dtype=torch.float64) for target in targets])
        counts = self.world.total(counts)
        return list((counts / counts.sum().clamp_min(1)).float().unbind())

    def _begin(self) -> Position:
        zeros = torch.zeros(1 + len(self.objective.names), device=self.precision.device)
        return Position(0, self.guard.skipped[0].clone(), zeros)

    def _means(self) -> list[float]:
        counted = self.position.steps - (self.guard.skipped[0] - self.position.skipped)
        means: list[float] = (self.position.sums / counted).tolist()  # NaN where every step was skipped
        return means

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on: tensors and plain values only."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "guard": self.guard.state_dict(),
            "position": vars(self.position),
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any], place: str) -> None:
        """Go on from a checkpoint.

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
        if bool(self.average) != bool(state["average"]):
            raise CheckpointError(f"{place} belongs to another train.ema: one has a moving average, the other none")
        if self.average:
            self.average.load_state_dict(state["average"])
        self.guard.load_state_dict(state["guard"])
        at, device = state["position"], self.precision.device
        self.position = Position(at["steps"], at["skipped"].to(device), at["sums"].to(device), at["seconds"])
        self.step = state["step"]


def _unless_void(share: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of a part's logits: 0, not 0 times infinity, where the part has no labelled pixel."""
    return torch.where(share > 0, gradient, 0.0)


def _parallel(model: nn.Module, device: torch.device) -> DistributedDataParallel:
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)
