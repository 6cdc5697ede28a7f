"""The trainer: takes a run from datasets and a model to a run folder with its result."""

from __future__ import annotations

import copy
import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segkit.data.sample import Colour, Dataset
from segkit.engine import checkpoint, run_folder
from segkit.engine.checkpoint import CheckpointManager
from segkit.engine.console import Console, duration, epoch_heading, epoch_line, final_table, how_to_use
from segkit.engine.data_source import open_sources, training_batches
from segkit.engine.distributed import PROCESSES, as_process
from segkit.engine.evaluate import Evaluator
from segkit.engine.history import History, learned_nothing, verdict
from segkit.engine.non_finite import DIVERGED
from segkit.engine.pace import Pace
from segkit.engine.precision import device_name, peak_memory
from segkit.engine.run_folder import RESULTS, Result, RunRecord, clear
from segkit.engine.step import TrainingLoop
from segkit.errors import NotFiniteError, TrainingError
from segkit.inference.sliding_window import Inferer
from segkit.signals import STOP, Interrupted

if TYPE_CHECKING:
    from segkit.engine.inputs import TrainerInputs

Notify = Callable[..., Sequence[str] | None]  # notify("segkit_epoch_ended", run=..., epoch=..., metrics=...)


@dataclass(frozen=True)
class Run:
    """A run as its observers see it; read-only.

    Attributes:
        folder: the run folder.
        config: the settings with every default written out, as under ``config`` in ``run.json``.
        splits: datasets by name.
        classes: names of the classes.
        palette: an RGB triple per class.
        floors: for each split, the scores of the best constant prediction.
        first_epoch: the next epoch at the start: 1, or for a resumed run the epoch after the completed ones.
        predict: ``predict(split, index)`` returns the labels uint8 ``[H,W]`` of a sample, at the size of its mask, as
            the most recently evaluated weights predict them.
        warn: ``warn(text)`` prints a warning.
    """

    folder: Path
    config: Mapping[str, Any]
    splits: Mapping[str, Dataset]
    classes: Sequence[str]
    palette: tuple[Colour, ...]
    floors: Mapping[str, Mapping[str, Any]]
    first_epoch: int
    predict: Callable[[str, int], NDArray[np.uint8]]
    warn: Callable[[str], None]


class Trainer:
    """Trains one run in its folder: evaluates and saves every epoch, and finally evaluates the best weights."""

    def __init__(self, inputs: TrainerInputs, notify: Notify | None, console: Console) -> None:
        self.inputs, self.notify, self.console, self.main = inputs, notify, console, PROCESSES.is_main_process
        scan, train = inputs.scan, inputs.train
        self.floors = {name: scan.floor(name) for name in scan.splits}
        self.sources = open_sources(inputs)
        self.batches, self.order = training_batches(inputs, self.sources["train"])
        self.loop = TrainingLoop(inputs, 1)
        image_options = inputs.data.resize, inputs.augment.crop, inputs.normalisation
        inferer = Inferer(self.loop.evaluated, inputs.precision, self.loop.classes, *image_options)
        self.evaluators = {}
        for name, source in self.sources.items():
            options = inputs.criterion, inputs.metrics, self.floors[name], train.batch_size, train.workers
            self.evaluators[name] = Evaluator(inferer, source.dataset, *options, source)
        self.pace = Pace(self)
        self.history = History(train, inputs.metrics)
        self.checkpoints = CheckpointManager(inputs, self.loop, self.history, self.pace, console)
        self.begun = self.finished = False

    @property
    def epochs(self) -> int:
        """The planned epochs of the whole run; the last may be shorter."""
        return len(self.history) + self.pace.epochs_left

    @property
    def stopped_early(self) -> str:
        """The reason to stop before all planned epochs are done; "" if there is none."""
        return self.history.reason_to_stop(self.epochs) if self.pace.epochs_left else ""

    @property
    def ended(self) -> bool:
        """Whether training is over: no epochs are left, or there is a reason to stop."""
        return not self.pace.epochs_left or bool(self.stopped_early)

    def run(self, resume: bool) -> Result:
        """Train to the end, from the start or from the saved state, and evaluate the best weights."""
        if resume:
            self._resume()
        else:
            self.plan()
        train = self.inputs.splits["train"]
        self.observed = Run(
            folder=self.inputs.folder,
            config=MappingProxyType(copy.deepcopy(dict(self.inputs.record.get("config", {})))),
            splits=MappingProxyType(dict(self.inputs.splits)),
            classes=tuple(train.classes),
            palette=train.palette,
            floors=MappingProxyType({name: MappingProxyType(each) for name, each in self.floors.items()}),
            first_epoch=len(self.history) + 1,
            predict=lambda split, index: self.evaluators[split].predict(index),
            warn=self.console.warn,
        )
        try:
            with STOP.held():
                PROCESSES.broadcast_from_main(lambda: self._begin(resume))
                self.begun = True
            self._introduce()
            self._notify("segkit_run_started")
            while not self.ended:
                self._epoch(len(self.history) + 1)
            result = self._finish()
            texts = self._notify("segkit_run_ended", result=result)
            if texts:
                self.console.result("\n" + "\n\n".join(texts))
            self.console.say(("" if texts else "\n") + how_to_use(self.inputs.folder, self.observed.config))
        except Interrupted as interruption:
            interruption.kept = self.keep()
            raise
        return result

    def plan(self) -> None:
        """Measure the costs of the run, and with ``train.minutes`` plan its length."""
        costs = self.pace.rehearse()
        self._agree(lambda: self.pace.begin(costs))

    def _agree(self, plan: Callable[[], object] = lambda: None) -> None:
        """Compute the plan on the main process and broadcast it."""
        planned = PROCESSES.broadcast_from_main(lambda: (plan(), self.loop.steps, self.order.steps))
        _, self.loop.steps, self.order.steps = planned

    def _resume(self) -> None:
        state, notes = PROCESSES.broadcast_from_main(self.checkpoints.load)
        self.checkpoints.restore(state)
        self._agree()
        for note in notes:
            self.console.warn(note)
        if self.main:  # if training continues, the earlier results are no longer the run's
            clear(self.inputs.folder, () if self.ended else RESULTS)
        self.console.say(f"resumed after {self._progress()}")

    def _begin(self, resume: bool) -> None:
        """Write the files that a run has before its first step; raises WriteError if the disk has no room for them."""
        if not resume:
            clear(self.inputs.folder)
        samples = checkpoint.samples_of(self.inputs.scan)
        plan = {"id": self.checkpoints.identity, "samples": samples, "plan": self.pace.state_dict()}
        kept = RunRecord(self.inputs.folder).model if self.ended else {}  # the weights, and their temperature, stay
        run_folder.write_beginning(self.inputs, self.floors, plan, kept)
        if resume:  # the run may have been killed between writing metrics.jsonl and the checkpoint
            self.checkpoints.write_history()
        else:
            self.checkpoints.write_state()  # from now on a killed run can be resumed

    def _introduce(self) -> None:
        """Print the model, the data, and the floor of the scores on val."""
        model, floor, together = self.inputs.model, self.floors["val"], PROCESSES.size
        parameters = sum(each.numel() for each in model.parameters()) / 1e6
        images = ", ".join(f"{len(data)} {name}" for name, data in self.inputs.splits.items())
        self.console.say(
            f"{type(model).__name__}, {parameters:.2f} M parameters, {device_name(self.inputs.precision.device)}, "
            f"{self.inputs.precision.name}\nimages: {images}; {self.loop.classes} classes; {self.loop.steps} steps, "
            f"{len(self.order)} per epoch{f', in {together} processes' if together > 1 else ''}\n"
            f"floor of val, all '{floor['class']}': mean_iou {floor['mean_iou']:.3f}, pixel_accuracy "
            f"{floor['pixel_accuracy']:.3f}"
        )
        if not self.ended:
            self.console.say(f"{self.expected()}\n{epoch_heading(self.epochs)}")

    def expected(self) -> str:
        """Describe the expected total time, memory and disk space of this command."""
        seconds = time.monotonic() - STOP.began + self.pace.left
        memory, disk = peak_memory(self.inputs.precision.device) / (1 << 30), self.pace.costs.disk / (1 << 20)
        return f"expected: about {duration(seconds)}, {memory:.1f} GiB of memory, {disk:,.0f} MiB on the disk"

    def _epoch(self, epoch: int) -> None:
        """Train one epoch, evaluate on val and save; then call the observers."""
        self._check_stop()
        loop, history, epochs = self.loop, self.history, self.epochs
        self.order.epoch, self.order.start = epoch, loop.progress.steps
        text = f"epoch {epoch}/{epochs}"
        trained = loop.run_epoch(self.batches, len(self.order), self.order.images, text, self._between)
        PROCESSES.broadcast_buffers(loop.evaluated)
        if self.checkpoints.due(self.pace.costs.epoch):  # the next chance is after the evaluation
            self.checkpoints.save()
        began = time.monotonic()
        scores = self._score(epoch, trained)
        scored = time.monotonic()
        with STOP.held():  # no signal between adding the line and saving it
            epochs = self.epochs
            line = history.add(loop.step, trained, scores, epochs)
            loop.end_epoch()
            self.checkpoints.save()
            self.console.say(epoch_line(line, epochs))
        if trained["skipped"]:
            self.console.warn(f"{trained['skipped']} steps were skipped: the loss or its gradient was NaN or infinite")
        if line.get("collapsed"):
            self.console.warn(f"{verdict(scores, 'val')}, for {history.collapsed(epochs)} epochs")
        saved = time.monotonic()
        reasons = self._notify("segkit_epoch_ended", epoch=epoch, metrics=line)
        with STOP.held():
            history.stop = next(iter(reasons), "")
            self._agree(lambda: self.pace.epoch_ended(began, scored, saved))
            if history.stop or self.pace.minutes:  # the plan now includes the observers' time
                self.checkpoints.save()

    def _score(self, epoch: int, trained: Mapping[str, Any]) -> dict[str, Any]:
        """Evaluate on val; raises TrainingError if the output or the loss is not finite."""
        try:
            scores = self.evaluators["val"].evaluate("scores on val").scores
            problem = "" if math.isfinite(scores["loss"]) else f"the loss on val is {scores['loss']}"
        except NotFiniteError as error:
            problem = f"val: {error}"
        self._check_stop()
        if not problem:
            return scores
        raise TrainingError(f"after epoch {epoch}, {problem}; the training loss is {trained['loss']:.3g}: {DIVERGED}")

    def _between(self) -> str:
        """Between two steps, save, stop or change the plan if any process needs to; return the time left as a text."""
        loop, planned = self.loop, self.loop.steps
        if self.main and loop.is_synchronised:
            self.pace.stepped()
            planned = self.pace.planned()
        wanted = [bool(STOP.received), self.main and self.checkpoints.due(), planned != loop.steps]
        stop, save, replan = PROCESSES.any_process(wanted)
        if replan:
            before, loop.steps = loop.steps, planned
            self._agree()
            if 2 * loop.steps < before:
                text = f"the machine has become slower: {loop.steps} steps fit into train.minutes, not {before}"
                self.console.warn(f"{text}; close other programs, or train again with more time")
        if stop or save:
            PROCESSES.broadcast_from_main(self.checkpoints.save)
        if stop:  # several processes stop together; in a single one, a component may have swallowed the Interrupted
            STOP.end(signal.SIGTERM)
        return f", {duration(self.pace.left)} left of the run"

    def _notify(self, event: str, **arguments: Any) -> Sequence[str]:
        """Call the observers in the main process only; return their answers in all processes."""

        def call() -> Sequence[str]:
            with as_process(0, 1):  # an observer must not wait for other processes
                return (self.notify and self.notify(event, run=self.observed, **arguments)) or ()

        return PROCESSES.broadcast_from_main(call)

    def _check_stop(self) -> None:
        if PROCESSES.size == 1:  # several processes agree on stopping between two steps
            STOP.check()

    def keep(self) -> str:
        """Save the state, between two steps; return a text on what was saved and how to continue."""
        folder = self.inputs.folder
        if not self.begun:
            return "no step was taken"
        if self.finished:
            return f"the run was complete, and is in {folder}"
        saved = self.checkpoints.save()
        kept = f"saved in {folder} after {self._progress()}" if saved else f"{folder} holds what was saved before"
        return f"{kept}; resume=True continues from there"

    def _progress(self) -> str:
        """The progress of the run as a text: complete epochs, and steps of the next one."""
        steps = self.loop.progress.steps
        more = f" and {steps} of {len(self.order)} steps" if steps else ""
        return f"epoch {len(self.history)} of {self.epochs}{more}"

    def _finish(self) -> Result:
        """Evaluate the best weights on every split, and write the result."""
        self._check_stop()
        folder, model, history, scan = self.inputs.folder, self.loop.evaluated, self.history, self.inputs.scan
        if self.stopped_early:
            self.console.say(f"stopped early: {self.stopped_early}")
        self.checkpoints.save()  # a second attempt, if the last one failed
        self.checkpoints.closed = True
        weights = PROCESSES.broadcast_from_main(lambda: self.checkpoints.best)
        checkpoint.load_weights(model, weights, f"{folder}: the best epoch")
        best, by = history.best_epoch, self.inputs.train.best
        # printed before the evaluation of all splits, which can take minutes
        self.console.result(f"\nbest epoch: {best} of {len(history)}, by {by} on val; {folder}")
        if self.main:
            checkpoint.write_model(model, folder)
        evaluations = {
            name: evaluator.evaluate(f"scores on {name}", [sample.name for sample in scan.statistics[name]])
            for name, evaluator in self.evaluators.items()
        }
        splits = {name: evaluation.scores for name, evaluation in evaluations.items()}
        last, trained = list(splits)[-1], [line["train"] for line in history.lines]
        result = Result(
            folder=folder,
            splits=splits,
            collapsed=learned_nothing(splits["train"], splits[last]),
            stopped_early=self.stopped_early,
            best_epoch=best,
            seconds=self.pace.elapsed,
            images_per_second=sum(t["images"] for t in trained) / sum(t["seconds"] for t in trained),
            peak_memory_bytes=peak_memory(self.inputs.precision.device),
            precision=self.inputs.precision.name,
            device=device_name(self.inputs.precision.device),
        )
        if self.main:
            run_folder.write_result(result, evaluations)
        if model is not self.loop.model:  # the average was evaluated; give the caller's model the best weights too
            self.loop.model.eval().load_state_dict(model.state_dict())
        self.finished = True
        shares = {name: scan.counts(name).shares for name in splits}
        warning = f"\n\n{verdict(splits[last], last)}" if result.collapsed else ""
        self.console.result(f"\n{final_table(splits, self.observed.classes, shares)}{warning}")
        return result
