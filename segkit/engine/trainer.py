"""The life of a run, from datasets and a model to a run folder with its result."""

from __future__ import annotations

import math
import shlex
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from segkit.data.loader import shut_down
from segkit.data.normalise import Normalisation
from segkit.data.parallel import refuse_unguarded
from segkit.data.scan import Scan, scan_splits
from segkit.engine import checkpoint, run_folder
from segkit.engine.checkpoint import CheckpointManager, samples_of
from segkit.engine.console import Console, duration, epoch_heading, epoch_line, final_table
from segkit.engine.data_source import open_sources, training_batches
from segkit.engine.distributed import PROCESSES, as_process, distributed_context
from segkit.engine.evaluate import Evaluator
from segkit.engine.events import Notify, read_only
from segkit.engine.events import Run as Run
from segkit.engine.history import History, learned_nothing, verdict
from segkit.engine.init_from import init_from, read_donor
from segkit.engine.inputs import TrainerInputs as TrainerInputs
from segkit.engine.inputs import begun_with, check, explained, less_is_better
from segkit.engine.non_finite import NO_STEP_WORKED
from segkit.engine.pace import Pace, rehearse
from segkit.engine.precision import (
    DTYPES,
    Precision,
    device_name,
    peak_memory,
    pick_device,
    resolve_precision,
    use_cores,
)
from segkit.engine.run_folder import RESULTS, RunRecord, after_restart, check_folder, clear, locked
from segkit.engine.run_folder import Result as Result
from segkit.engine.step import TrainingLoop
from segkit.errors import ConfigError, NotFiniteError, RunFolderError, TrainingError, WriteError
from segkit.files import write_lines
from segkit.inference.sliding_window import Inferer
from segkit.settings import AUTO, TrainSettings
from segkit.signals import STOP, Interrupted


def train_and_evaluate(inputs: TrainerInputs, **how: Any) -> Result:
    """As :func:`launch`, for inputs that are there already."""
    return launch(lambda _: inputs, inputs.train, inputs.folder, **how)


def launch(
    build: Callable[[bool], TrainerInputs],
    train: TrainSettings,
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    notify: Notify | None = None,
    quiet: bool = False,
) -> Result:
    """Train, keep the best weights, score them on every split.

    Args:
        build: returns what is trained, on what; it is called with whether the run goes on, once the processes that
            train together have met, and folder and device are known to be usable.
        train: the inputs' settings.
        folder: the run folder.
        resume: go on with the run in it.
        overwrite: replace it.
        notify: is called with the events; the texts that it returns are reasons to stop after an epoch, and lines to
            print after the end.
        quiet: print warnings and what the run came to, and nothing of how it goes.

    Raises:
        ConfigError, DataError, LabelError, RunFolderError, CheckpointError, TrainingError: see :mod:`segkit.errors`;
            before the first step nothing is written.
        Interrupted: by SIGTERM or Ctrl-C, which is a KeyboardInterrupt; the state is saved.
    """
    refuse_unguarded(train.workers)
    with ExitStack() as stack:
        stack.enter_context(STOP)
        stack.enter_context(distributed_context(train.device))
        folder = folder.resolve()  # a link is followed once: what changes it later changes nothing
        resume, overwrite = PROCESSES.broadcast_from_main(lambda: after_restart(folder, resume, overwrite))
        PROCESSES.broadcast_from_main(lambda: check_folder(folder, resume=resume, overwrite=overwrite))
        resolve_precision(train.precision, pick_device(train.device))  # refused before the data is read
        console = Console(PROCESSES.is_main_process, quiet)
        inputs = replace(build(resume), folder=folder)
        inputs, scan, precision = prepare(inputs, console, resume)
        trainer: Trainer | None = None
        with explained(inputs, precision.device, lambda: trainer.keep() if trainer else "no step was taken"):
            trainer = Trainer(inputs, scan, precision, notify, console)
            PROCESSES.broadcast_from_main(lambda: stack.enter_context(locked(folder)) or ())
            stack.callback(shut_down, trainer.batches)
            return trainer.run(resume)


def prepare(
    inputs: TrainerInputs, console: Console | None = None, resume: bool = False
) -> tuple[TrainerInputs, Scan, Precision]:
    """The inputs with the normalisation of their images and settings that fit, the data, and the precision.

    Args:
        inputs: are checked; their model is given the weights of ``train.init_from``.
        console: prints warnings, and what of the model is begun anew.
        resume: whether normalisation, precision and settings are those that the run in the inputs' folder has begun
            with; its checkpoint has the weights.

    Raises:
        ConfigError, DataError, LabelError, ModelError: see :mod:`segkit.errors`.
    """
    console = console or Console(active=False)
    check(inputs)
    device = pick_device(inputs.train.device)
    peak_memory(device, restart=True)
    main, place = PROCESSES.broadcast_from_main, "" if resume else inputs.train.init_from
    donor = main(lambda: read_donor(place)) if place else None  # refused before the data is read
    how: dict[str, Any] = {"checks": inputs.checks, "progress": PROCESSES.is_main_process}
    scan = inputs.scan or PROCESSES.main_process_first(
        lambda: scan_splits(inputs.splits, inputs.data, **how).refuse_errors()
    )
    for issue in scan.warnings:
        console.warn(str(issue))
    # the main process tells all what the run has begun with, and what depends on its machine
    past = RunRecord(inputs.folder)
    before, begun = main(lambda: (past.model, begun_with(inputs, past)) if resume else ({}, {}))
    name = main(lambda: resolve_precision(inputs.train.precision, device, str(before.get("precision", "bf16"))).name)
    if before.get("precision") in DTYPES and name != before["precision"]:
        console.warn(f"the run began in {before['precision']} and goes on in {name}, which this device has")
    known = Normalisation.of_record(before.get("normalisation"))
    no_data, statistics = scan.splits["train"].no_data != "stop", scan.statistics["train"]
    measured = main(lambda: known if resume else Normalisation.of(inputs.model, statistics, no_data))
    if donor:
        measured = init_from(inputs.model, str(place), donor, measured, console)
    use_cores()
    inputs, precision = replace(inputs, normalisation=measured), Precision(name, device)
    inputs = inputs.with_settings(begun)
    asked = {"inputs": inputs, "scan": scan, "precision": precision, "processes": PROCESSES.size}
    chosen = main(lambda: inputs.prepared(**asked))  # by a run that goes on too: there may be less memory
    inputs = inputs if resume else inputs.with_settings(chosen)
    if AUTO in (inputs.augment.crop, inputs.train.batch_size):
        raise ConfigError('augment.crop, train.batch_size: no plugin chooses a number for "auto"; give one')
    return inputs, scan, precision


def forecast(inputs: TrainerInputs) -> str:
    """What a run would take, in words, by a step and scores that are timed and thrown away; nothing is written.

    Raises:
        SegkitError: as the run would.
    """
    with STOP:
        inputs, scan, precision = prepare(inputs)
        with explained(inputs, precision.device, lambda: "no step was taken"), ExitStack() as stack:
            trainer = Trainer(inputs, scan, precision, None, Console(active=False))
            stack.callback(shut_down, trainer.batches)
            trainer.plan()
        return trainer.expected()


class Trainer:
    """One run in its folder: epochs of training, each evaluated and saved, and the scores of the best weights."""

    def __init__(
        self,
        inputs: TrainerInputs,
        scan: Scan,
        precision: Precision,
        notify: Notify | None,
        console: Console,
    ) -> None:
        self.inputs, self.scan, self.precision, self.notify = inputs, scan, precision, notify
        self.console, self.main = console, PROCESSES.is_main_process
        device, train = precision.device, inputs.train
        self.floors = {name: scan.floor(name) for name in scan.splits}
        self.sources = open_sources(inputs, scan, device)
        self.batches, self.order = training_batches(inputs, scan, self.sources["train"], device)
        self.loop = TrainingLoop(inputs, precision, 1)
        self.pace = Pace(train, self.loop, self.order, STOP.began)
        resize, crop = inputs.data.resize, inputs.augment.crop
        how = Inferer(self.loop.evaluated, precision, self.loop.classes, resize, crop, inputs.normalisation)
        self.evaluators = {}
        for name, data in scan.splits.items():
            own = inputs.criterion, inputs.metrics, self.floors[name], train.batch_size, train.workers
            self.evaluators[name] = Evaluator(how, data, *own, self.sources[name])
        self.history = History(train, less_is_better(inputs))
        self.checkpoints = CheckpointManager(
            inputs.folder, self.loop, self.history, self.pace, samples_of(scan), console
        )
        self.begun = self.finished = False
        self._floors_by_metrics = not inputs.metrics.keys() <= self.floors["val"].keys()  # in the first evaluation
        self._pixels = {name: [math.prod(each.size) for each in rows] for name, rows in scan.statistics.items()}

    @property
    def epochs(self) -> int:
        """Of the whole run, as planned; the last one may be shorter."""
        return len(self.history) + self.pace.epochs_left

    @property
    def stopped_early(self) -> str:
        """Why no further epoch is trained, where more are planned; else empty."""
        return self.history.reason_to_stop(self.epochs) if len(self.history) < self.epochs else ""

    @property
    def ended(self) -> bool:
        """Whether no further epoch is trained."""
        return len(self.history) >= self.epochs or bool(self.stopped_early)

    def run(self, resume: bool) -> Result:
        """Train to the end, or go on with what was saved, and score the best weights."""
        if resume:
            self._resume()
        else:
            self.plan()
        train = self.scan.splits["train"]
        self.observed = Run(
            folder=self.inputs.folder,
            config=read_only(self.inputs.record.get("config", {})),
            splits=MappingProxyType(dict(self.scan.splits)),
            classes=tuple(train.classes),
            palette=train.palette,
            floors=MappingProxyType({name: MappingProxyType(each) for name, each in self.floors.items()}),
            first_epoch=len(self.history) + 1,
            predict=lambda split, index: self.evaluators[split].predict(index),
            warn=self.console.warn,
        )
        try:
            with STOP.held():
                self._begin(resume)
            self._introduce()
            self._notify("segkit_run_started")
            while not self.ended:
                self._epoch(len(self.history) + 1)
            if self.stopped_early:
                self.console.say(f"stopped early: {self.stopped_early}")
            result = self._finish()
            texts = self._notify("segkit_run_ended", result=result)
            if texts:
                self.console.result("\n" + "\n\n".join(texts))
            self.console.say(("" if texts else "\n") + self._next())
        except Interrupted as interruption:
            interruption.kept = self.keep()
            raise
        except WriteError as error:
            raise WriteError(f"{error}; resume=True goes on from what was saved") from error
        return result

    def _next(self) -> str:
        """How the model is used, the last line of a run."""
        folder, here = self.inputs.folder, Path.cwd()
        shown = str(folder.relative_to(here) if folder.is_relative_to(here) else folder)
        if "model" in self.observed.config:
            return f"next:   segkit predict {shlex.quote(shown)} photo.jpg --out masks"
        return f"next:   segkit.load({shown!r}, model=...).predict('photo.jpg')"

    def plan(self) -> None:
        """Measure what the run will take, and with ``train.minutes`` how long it is to be."""
        costs = rehearse(self.loop, self.batches, self.order, self.evaluators, self._pixels)
        PROCESSES.broadcast_from_main(lambda: self.pace.begin(costs))
        self._follow_plan()

    def _follow_plan(self) -> None:
        """Do as the main process has planned."""
        main = PROCESSES.broadcast_from_main
        self.loop.steps, self.order.repeat = main(lambda: (self.loop.steps, self.order.repeat))

    def _resume(self) -> None:
        config, asked = self.inputs.record.get("config", {}), self.epochs
        state, notes = PROCESSES.broadcast_from_main(lambda: self.checkpoints.load(config, self.inputs.train))
        self.checkpoints.restore(state)
        self._follow_plan()
        folder, done = self.inputs.folder, len(self.history)
        if done > asked and not self.pace.minutes:
            raise RunFolderError(f"{folder} has done {done} epochs, more than the {asked} that are asked for")
        for note in notes:
            self.console.warn(note)
        if done < self.epochs and self.main:  # they are no longer the run's result
            clear(folder, RESULTS)
        self.console.say(f"resumed after {self._progress()}")

    def _begin(self, resume: bool) -> None:
        """Write what stands in the folder before the first step."""
        self.begun = True
        if not self.main:
            return
        if not resume:
            clear(self.inputs.folder)
        plan = {"id": self.checkpoints.identity, "plan": self.pace.state_dict()}
        kept = RunRecord(self.inputs.folder).model if self.ended else {}  # a temperature, as the weights stay
        run_folder.write_beginning(self.inputs, self.scan, self.floors, self.precision, plan, kept)
        if resume:  # a kill may have come between the two files
            write_lines(self.inputs.folder / "metrics.jsonl", self.history.lines)
        else:
            self.checkpoints.save()  # so that a kill at any later moment can be resumed

    def _introduce(self) -> None:
        """Print what is trained, on what, and what val's scores will have to beat."""
        model, floor, together = self.inputs.model, self.floors["val"], PROCESSES.size
        parameters = sum(each.numel() for each in model.parameters()) / 1e6
        images = ", ".join(f"{len(data)} {name}" for name, data in self.scan.splits.items())
        processes = f", in {together} processes" if together > 1 else ""
        self.console.say(
            f"{type(model).__name__}, {parameters:.2f} M parameters, {device_name(self.precision.device)}, "
            f"{self.precision.name}\nimages: {images}; {self.loop.classes} classes; "
            f"{self.loop.steps} steps, {len(self.order)} an epoch{processes}\n"
            f"floor of val, all '{floor['class']}': mean_iou {floor['mean_iou']:.3f}, pixel_accuracy "
            f"{floor['pixel_accuracy']:.3f}"
        )
        if on_device := [name for name, source in self.sources.items() if source.on_device]:
            self.console.say(f"data: {', '.join(on_device)} on the device")
        if not self.ended:
            self.console.say(f"{self.expected()}\n{epoch_heading(self.epochs)}")

    def expected(self) -> str:
        """What this command takes from its beginning to its end, in words."""
        seconds = time.monotonic() - STOP.began + self.pace.left
        memory, disk = peak_memory(self.precision.device) / (1 << 30), self.pace.costs.disk / (1 << 20)
        return f"expected: about {duration(seconds)}, {memory:.1f} GiB of memory, {disk:,.0f} MiB on the disk"

    def _epoch(self, epoch: int) -> None:
        """Train, score val and save; then tell the observers."""
        self._check_stop()
        loop, history = self.loop, self.history
        self.order.epoch, self.order.start = epoch, loop.progress.steps
        text = f"epoch {epoch}/{self.epochs}"
        trained = loop.run_epoch(self.batches, len(self.order), self.order.images, text, self._between)
        PROCESSES.broadcast_buffers(loop.evaluated)
        if self.main and self.checkpoints.due(self.pace.costs.epoch):  # the next one is behind the scores
            with STOP.held():
                self.checkpoints.save()
        began, problem = time.monotonic(), ""
        try:
            scores = self.evaluators["val"].evaluate("scores on val").scores
            problem = "" if math.isfinite(scores["loss"]) else f"the loss on val is {scores['loss']}"
        except NotFiniteError as error:
            problem = f"val: {error}"
        scored = time.monotonic() - began
        self._check_stop()
        if problem:
            cause = (
                f"where the training loss, {trained['loss']:.3g}, is too high, training diverged: lower train.lr, "
                f"which is {self.inputs.train.lr:g}; else look at the images of val"
            )
            if int(loop.non_finite.skipped[0]) == loop.step:
                cause = NO_STEP_WORKED
            raise TrainingError(f"after epoch {epoch}, {problem}; {cause}")
        with STOP.held():  # all of it or nothing
            epochs = self.epochs
            line = history.add(loop.step, trained, scores, epochs)
            loop.end_epoch()
            if self.main:
                self.checkpoints.save()
            self.console.say(epoch_line(line, epochs))
        if trained["skipped"]:
            self.console.warn(f"{trained['skipped']} steps were skipped, as the loss or its gradient was not finite")
        if line.get("collapsed"):
            self.console.warn(f"{verdict(scores, 'val')}, for {history.stuck_epochs()} epochs")
        saved = time.monotonic()
        if reasons := self._notify("segkit_epoch_ended", epoch=epoch, metrics=line):
            with STOP.held():
                history.stop = reasons[0]
                self.checkpoints.save()
        share = sum(map(sum, self._pixels.values())) / sum(self._pixels["val"])
        # all splits are scored as val was in the first epoch, where metrics are shown the floor too
        scoring = share * scored if epoch == 1 or not self._floors_by_metrics else self.pace.costs.scores
        ended = time.monotonic()
        PROCESSES.broadcast_from_main(lambda: self.pace.epoch_ended(ended - began, scoring, ended - saved))
        self._follow_plan()

    def _between(self) -> str:
        """Between two steps: save, stop or plan anew, where any process wants to; how long the run goes on."""
        loop, planned = self.loop, self.loop.steps
        if self.main and loop.is_synchronised:
            earlier = sum(line["train"]["seconds"] for line in self.history.lines)
            self.pace.trained(earlier + loop.progress.seconds)
            planned = self.pace.planned()
        wanted = [bool(STOP.received), self.main and self.checkpoints.due(), planned != loop.steps]
        stop, save, replan = PROCESSES.any_process(wanted)
        if replan:
            loop.steps = planned
            self._follow_plan()
        if stop or save:
            PROCESSES.broadcast_from_main(self.checkpoints.save)
        if stop:  # several stop together; alone, a signal has been raised already, and somebody may have swallowed it
            STOP.end(signal.SIGTERM)
        return f", {duration(self.pace.left)} left of the run"

    def _notify(self, event: str, **arguments: Any) -> Sequence[str]:
        """Call the observers, in the main process alone; what they answer is the same in all."""
        notify = self.notify
        if not notify:
            return ()

        def call() -> Sequence[str]:
            with as_process(0, 1):  # what an observer does waits for no other process
                return notify(event, run=self.observed, **arguments) or ()

        return PROCESSES.broadcast_from_main(call)

    def _check_stop(self) -> None:
        if PROCESSES.size == 1:  # several agree on it, in a step
            STOP.check()

    def keep(self) -> str:
        """Save what there is, between two steps, and say how to go on."""
        folder = self.inputs.folder
        if not self.begun:
            return "no step was taken"
        if self.finished:
            return f"the run was complete, and is in {folder}"
        saved = self.main and self.checkpoints.save()
        kept = f"saved in {folder} after {self._progress()}" if saved else f"{folder} holds what was saved before"
        return f"{kept}; resume=True goes on from there"

    def _progress(self) -> str:
        """How far the run is: whole epochs, and steps of the next one."""
        steps = self.loop.progress.steps
        more = f" and {steps} of {len(self.order)} steps" if steps else ""
        return f"epoch {len(self.history)} of {self.epochs}{more}"

    def _finish(self) -> Result:
        """Score the best weights on every split and write what the run came to."""
        self._check_stop()
        folder, model, history = self.inputs.folder, self.loop.evaluated, self.history
        weights = PROCESSES.broadcast_from_main(lambda: self.checkpoints.best)
        checkpoint.load_weights(model, weights, f"{folder}: the best epoch")
        best, by = history.best_epoch, self.inputs.train.best
        # before the scores of all splits, which can take minutes
        self.console.result(f"\nbest epoch: {best} of {len(history)}, by {by} on val; {folder}")
        if self.main:
            checkpoint.write_model(model, folder)
        evaluations = {
            name: evaluator.evaluate(f"scores on {name}", [sample.name for sample in self.scan.statistics[name]])
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
            peak_memory_bytes=peak_memory(self.precision.device),
            precision=self.precision.name,
            device=device_name(self.precision.device),
        )
        if self.main:
            run_folder.write_result(result, evaluations)
        if model is not self.loop.model:  # an average: what the caller holds becomes the best weights all the same
            self.loop.model.load_state_dict(model.state_dict())
        self.finished = True
        shares = {name: self.scan.counts(name).shares for name in splits}
        told = f"\n\n{verdict(splits[last], last)}" if result.collapsed else ""
        self.console.result(f"\n{final_table(splits, self.observed.classes, shares)}{told}")
        return result
