"""The life of a run, from datasets and a model to a run folder with its result."""

from __future__ import annotations

import copy
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from segkit.data.loader import shut_down
from segkit.data.main_guard import refuse_unguarded
from segkit.data.normalise import Normalisation, normalisation_of
from segkit.data.resize import resized_size
from segkit.data.sample import Palette
from segkit.data.scan import Scan, scan_splits
from segkit.engine import checkpoint, run_folder
from segkit.engine import history as collapse
from segkit.engine.checkpoint import Store, load_checked, samples_of
from segkit.engine.console import Console, conclusion, epoch_heading, epoch_line, introduction, what_next
from segkit.engine.data_source import DataSource, open_data_source
from segkit.engine.distributed import DistributedContext, distributed_context
from segkit.engine.evaluate import ImageScores, floor
from segkit.engine.history import History
from segkit.engine.inputs import Job as Job
from segkit.engine.inputs import check, explained, less_is_better
from segkit.engine.memory import check_memory
from segkit.engine.precision import (
    DTYPES,
    Precision,
    device_name,
    peak_memory,
    pick_device,
    reset_peak_memory,
    resolve,
    seed_everything,
    use_cores,
)
from segkit.engine.remedies import slower, too_fast
from segkit.engine.run_folder import Result as Result
from segkit.engine.run_folder import check_folder, clear, locked, read_json, write_lines
from segkit.engine.scorer import Scorer
from segkit.engine.step import NO_STEP_WORKED, TrainingLoop
from segkit.errors import NotFiniteError, TrainingError, WriteError
from segkit.signals import Interrupted, StopSignals

Notify = Callable[..., Any]  # notify("segkit_epoch_ended", run=..., epoch=..., metrics=...)


def undisturbed(notify: Notify) -> Notify:
    """``notify``, after which the process is as if no observer had changed what belongs to all.

    Random numbers need no care: each step has its own.
    """

    def tell(event: str, **arguments: Any) -> None:
        folder, streams = Path.cwd(), (sys.stdout, sys.stderr)
        gradients, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
        try:
            notify(event, **arguments)
        finally:
            os.chdir(folder)
            sys.stdout, sys.stderr = streams
            torch.set_grad_enabled(gradients)
            torch.set_default_dtype(dtype)

    return tell


@dataclass(frozen=True)
class Run:
    """A run that goes on.

    Attributes:
        folder: where it writes; its name for observers.
        config: its settings with every default written out, as under ``config`` in ``run.json``.
        classes: names of the classes.
        palette: an RGB triple a class.
        floors: per split, what the best constant predictor scores there.
        first_epoch: the one it starts from: 1, or the one after those that a resumed run has done.
    """

    folder: Path
    config: Mapping[str, Any]
    classes: Sequence[str]
    palette: Palette
    floors: Mapping[str, Mapping[str, Any]]
    first_epoch: int


HEADING_EVERY = 40  # epochs; a terminal's height


def train_and_evaluate(
    job: Job,
    *,
    resume: bool = False,
    overwrite: bool = False,
    notify: Notify | None = None,
    distributed: DistributedContext | None = None,
    stop: StopSignals | None = None,
    quiet: bool = False,
) -> Result:
    """Train, keep the best weights, score them on every split.

    Args:
        job: what is trained, on what.
        resume: go on with the run in the job's folder.
        overwrite: replace it.
        notify: is told the events.
        distributed: the processes that train together, where they have met already.
        stop: the signals that end the run, where somebody catches them already.
        quiet: print warnings and what the run came to, and nothing of how it goes.

    Raises:
        ConfigError, DataError, LabelError, RunFolderError, CheckpointError, TrainingError: see :mod:`segkit.errors`;
            before the first step nothing is written.
        Interrupted: by SIGTERM or Ctrl-C, which is a KeyboardInterrupt; the state is saved.
    """
    refuse_unguarded(job.train.workers)
    with ExitStack() as stack:
        if stop is None:
            stop = stack.enter_context(StopSignals())
        if distributed is None:
            distributed = stack.enter_context(distributed_context(job.train.device))
        # a link is followed once: what changes it later changes nothing
        job = replace(job, folder=job.folder.resolve())
        distributed.broadcast_from_main(lambda: check_folder(job.folder, resume=resume, overwrite=overwrite))
        check(job)
        device = pick_device(job.train.device)
        resolve(job.train.precision, device)  # refused before the data is read
        reset_peak_memory(device)
        scan = job.scan or distributed.main_process_first(
            lambda: scan_splits(job.splits, job.data, checks=job.checks, progress=distributed.is_main_process)
        )
        scan = scan.with_augment(job.augment, job.data.resize)
        scan.refuse_errors()
        console = Console(distributed.is_main_process, quiet)
        for issue in scan.warnings:
            console.warn(str(issue))
        precision = distributed.broadcast_from_main(lambda: _precision(job, resume, console))
        precision = replace(precision, device=pick_device(job.train.device))
        job = replace(job, normalisation=distributed.broadcast_from_main(lambda: _normalisation(job, scan, resume)))
        floors = {name: floor(scan.counts(name), dataset, job.metrics) for name, dataset in scan.splits.items()}
        use_cores()
        distributed.broadcast_from_main(lambda: check_memory(job, scan, precision, distributed))
        begun: list[Trainer] = []
        with explained(job, precision.device, lambda: begun[0].keep() if begun else "no step was taken"):
            data_source = open_data_source(job, scan, precision.device, distributed)
            seed_everything(job.train.seed, job.train.deterministic)
            distributed.broadcast_from_main(lambda: stack.enter_context(locked(job.folder)) or ())
            told = undisturbed(notify) if notify and distributed.is_main_process else _nobody
            begun.append(Trainer(job, scan, data_source, floors, precision, told, distributed, stop, console))
            stack.callback(shut_down, begun[0].batches)
            return begun[0].run(resume)


class Trainer:
    """One run in its folder; exists only to keep the parts of :func:`train_and_evaluate` short."""

    def __init__(
        self,
        job: Job,
        scan: Scan,
        data_source: DataSource,
        floors: dict[str, dict[str, Any]],
        precision: Precision,
        notify: Notify,
        distributed: DistributedContext,
        stop: StopSignals,
        console: Console,
    ) -> None:
        self.job, self.scan, self.floors, self.precision, self.notify = job, scan, floors, precision, notify
        self.distributed, self.stop, self.console = distributed, stop, console
        self.splits, self.config = scan.splits, job.record.get("config", {})
        self.kinds = {issue.kind for issue in scan.warnings}
        self.data_source = data_source
        self.batches, self.order = data_source.training(job, scan, distributed)
        planned = job.train.epochs * len(self.order)
        self.steps = min(planned, job.train.max_steps or planned)
        self.epochs = -(-self.steps // len(self.order))
        self.loop = TrainingLoop(
            job.model,
            job.criterion,
            job.train,
            precision,
            self.steps,
            optimizer=job.optimizer,
            normalisation=job.normalisation,
            distributed=distributed,
            stop=stop,
            ignore_index=self.splits["train"].ignore_index,
            classes=len(self.splits["train"].classes),
        )
        self.scorer = Scorer(job, self.splits, floors, precision, data_source, distributed)
        self.history = History(job.train, self.epochs, less_is_better(job))
        self.store = Store(job.folder, self.loop, self.history, samples_of(scan), console)
        self.stopped_early, self.finished = "", False
        self._validated_in = 0.0  # seconds

    def run(self, resume: bool) -> Result:
        """Train to the end, or go on with what was saved, and score the best weights."""
        if resume:
            self._resume()
        self.info = Run(
            folder=self.job.folder,
            config=copy.deepcopy(self.config),
            classes=tuple(self.splits["train"].classes),
            palette=self.splits["train"].palette,
            floors=copy.deepcopy(self.floors),
            first_epoch=len(self.history) + 1,
        )
        try:
            with self.stop.held():
                self._begin(resume)
            self._introduce()
            self.notify("segkit_run_started", run=self.info)
            for epoch in range(len(self.history) + 1, self.epochs + 1):
                self.stopped_early = self.history.reason_to_stop()
                if self.stopped_early:
                    self.console.say(f"stopped early: {self.stopped_early}")
                    break
                self._epoch(epoch)
            result = self._finish()
            self.notify("segkit_run_ended", run=self.info, result=result)
            if self.distributed.is_main_process:  # a report is there when the observers were told
                self.console.say(what_next(self.job.folder, self.config))
        except Interrupted as interruption:
            interruption.kept = self.keep()
            raise
        except WriteError as error:
            raise WriteError(f"{error}; resume=True goes on from what was saved") from error
        return result

    def _begin(self, resume: bool) -> None:
        if not self.distributed.is_main_process:
            return
        if not resume:
            clear(self.job.folder)
        run_folder.begin(self.job, self.scan, self.floors, self.precision, self.store.identity)
        if resume:  # a kill may have come between the two files
            write_lines(self.job.folder / "metrics.jsonl", self.history.lines)
        else:
            self.store.save()  # so that a kill at any later moment can be resumed

    def _introduce(self) -> None:
        sizes = {name: len(data) for name, data in self.splits.items()}
        steps = f"{self.steps} steps, {len(self.order)} an epoch"
        if self.distributed.size > 1:
            steps += f", in {self.distributed.size} processes"
        floor, classes = self.floors["val"], len(self.info.classes)
        self.console.say(introduction(self.job.model, self.precision, sizes, floor, classes, steps))
        if self.data_source.told:
            self.console.say(self.data_source.told)

    def _epoch(self, epoch: int) -> None:
        self._check_stop()
        self.order.epoch, self.order.start = epoch, self.loop.progress.steps
        trained = self.loop.run_epoch(
            self.batches,
            len(self.order),
            self.order.images,
            f"epoch {epoch}/{self.epochs}",
            self._between,
            self._flags,
        )
        self.distributed.broadcast_buffers(self.loop.evaluated)
        if self.distributed.is_main_process and self.store.due(self._validated_in):  # the next one is behind the scores
            with self.stop.held():
                self.store.save()
        began = time.monotonic()
        try:
            scores = self.scorer.scores(self.loop.evaluated, "val")
        except NotFiniteError as error:
            raise TrainingError(f"after epoch {epoch}, val: {error}; {self._cause(trained)}") from error
        self._validated_in = time.monotonic() - began
        self._check_stop()
        if not math.isfinite(scores["loss"]):
            raise TrainingError(f"the loss on val is {scores['loss']} after epoch {epoch}; {self._cause(trained)}")
        with self.stop.held():  # all of it or nothing
            line = self.history.add(self.loop.step, trained, scores)
            warning = collapse.warning(self.history.lines, self.epochs, self.config, self._side(), self.kinds)
            if warning:
                line["collapsed"] = True
            self.loop.end_epoch()
            if self.distributed.is_main_process:
                self.store.save()
            if (epoch - self.info.first_epoch) % HEADING_EVERY == 0:
                self.console.say(epoch_heading(self.epochs))
            self.console.say(epoch_line(epoch, self.epochs, trained, scores, self.floors["val"], line["best"]))
        self._draw(lambda: self.scorer.draw(self.loop.evaluated, f"epoch_{epoch:04d}"))
        if trained["skipped"]:
            self.console.warn(f"{trained['skipped']} steps were skipped, as the loss or its gradient was no number")
        if warning:
            self.console.warn(warning)
        self.notify("segkit_epoch_ended", run=self.info, epoch=epoch, metrics=line)

    def _cause(self, trained: Mapping[str, Any]) -> str:
        """Why val has no scores that are numbers, as the epoch's training tells."""
        classes = {"class_iou": dict.fromkeys(self.info.classes)}
        if why := too_fast(self.config, [*self.history.lines, {"train": trained, "val": classes}]):
            return f"training diverged ({why}): {slower(self.config)}"
        return "look at the images of val" if math.isfinite(trained["loss"]) else NO_STEP_WORKED

    def _flags(self) -> list[bool]:
        """To stop, and to save: what this process would do after this step."""
        return [bool(self.stop.received), self.distributed.is_main_process and self.store.due()]

    def _between(self, agreed: list[bool]) -> None:
        stop, save = agreed
        if stop or save:
            self.distributed.broadcast_from_main(self.store.save)
        if stop:  # several stop together; alone, a signal has been raised already, and somebody may have swallowed it
            self.stop.end(signal.SIGTERM)

    def _check_stop(self) -> None:
        if self.distributed.size == 1:  # several agree on it, in a step
            self.stop.check()

    def _draw(self, draw: Callable[[], None]) -> None:
        try:
            draw()
        except WriteError as error:
            self.console.warn(f"{error}; training goes on")

    def keep(self) -> str:
        """Save what there is, between two steps, and say how to go on."""
        self.stop.no_more_children()
        if self.finished:
            return f"the run was complete, and is in {self.job.folder}"
        if not (self.distributed.is_main_process and self.store.save()):
            return f"{self.job.folder} holds what was saved before; resume=True goes on from there"
        return f"saved in {self.job.folder} after {self._place()}; resume=True goes on from there"

    def _place(self) -> str:
        """How far the run is: whole epochs, and steps of the next one."""
        steps = self.loop.progress.steps
        more = f" and {steps} of {len(self.order)} steps" if steps else ""
        return f"epoch {len(self.history)} of {self.epochs}{more}"

    def _resume(self) -> None:
        def load() -> dict[str, Any]:
            state, notes = load_checked(self.store, self.config, self.job.train, self.epochs)
            for note in notes:
                self.console.warn(note)
            return state

        state = self.distributed.broadcast_from_main(load)
        self.store.restore(state)
        if self.distributed.is_main_process and len(self.history) < self.epochs:
            run_folder.forget_the_end(self.job.folder)
        self.console.say(f"resumed after {self._place()}")
        if state["processes"] != self.distributed.size:
            self.console.warn(
                f"the run began in {state['processes']} processes and goes on in {self.distributed.size}: the same "
                "images and steps, but sums are rounded in another order"
            )

    def _finish(self) -> Result:
        """Score the best weights on every split and write what the run came to."""
        self._check_stop()
        folder, model = self.job.folder, self.loop.evaluated
        if self.history.best_epoch:
            checkpoint.load_weights(
                model, self.distributed.broadcast_from_main(self.store.best_weights), str(folder / "best.pt")
            )
        else:  # best.pt was lost, and no epoch came after it: the weights of the last one
            self.history.best_epoch = len(self.history)
        best, epochs = self.history.best_epoch, len(self.history)
        # before the scores of all splits, which can take minutes
        self.console.result(f"\nbest epoch: {best} of {epochs}, by {self.job.train.best} on val; {folder}")
        if self.distributed.is_main_process:
            checkpoint.write_model(model, folder)
        names = {name: [facts.name for facts in self.scan.statistics[name]] for name in self.splits}
        images = {name: ImageScores(names[name], len(self.info.classes)) for name in self.splits}
        splits = {name: self.scorer.scores(model, name, images[name]) for name in self.splits}
        last = list(splits)[-1]
        self._draw(lambda: self.scorer.draw(model, "best"))
        self._draw(lambda: self.scorer.draw_extremes(model, last, images[last].ranked()))
        trained = [line["train"] for line in self.history.lines]
        collapsed, _ = collapse.at_the_end(splits["train"], splits[last])
        result = Result(
            folder=folder,
            splits=splits,
            collapsed=collapsed,
            stopped_early=self.stopped_early,
            best_epoch=best,
            seconds=self.store.seconds,
            images_per_second=sum(t["images"] for t in trained) / sum(t["seconds"] for t in trained),
            peak_memory_bytes=peak_memory(self.precision.device),
            precision=self.precision.name,
            device=device_name(self.precision.device),
        )
        if self.distributed.is_main_process:
            run_folder.write_result(result, images)
        if model is not self.loop.model:  # an average: what the caller holds becomes the best weights all the same
            self.loop.model.load_state_dict(model.state_dict())
        self.finished = True
        shares = {name: self.scan.counts(name).shares for name in self.splits}
        self.console.result(
            conclusion(result, self.history, shares, self.config, self._side(), self.kinds, images[last].confusion)
        )
        return result

    def _side(self) -> int:
        """The shorter side of a training image, pixels."""
        height, width = self.scan.statistics["train"][0].size
        return min(resized_size(height, width, self.job.data.resize))


def _precision(job: Job, resume: bool, console: Console) -> Precision:
    """The precision of a run; on a CPU one that goes on keeps that which it began with."""
    device = pick_device(job.train.device)
    if not resume:
        return resolve(job.train.precision, device)
    before = str(read_json(job.folder / "config.json").get("precision"))
    found = resolve(job.train.precision, device, before)
    if before in DTYPES and found.name != before:
        console.warn(f"the run began in {before} and goes on in {found.name}: this device has no {before} of its own")
    return found


def _normalisation(job: Job, scan: Scan, resume: bool) -> Normalisation:
    """That of a run; one that goes on keeps that which it began with."""
    if resume:
        return Normalisation.of_record(read_json(job.folder / "config.json").get("normalisation"))
    return normalisation_of(job.model, scan.statistics["train"])


def _nobody(_event: str, **_arguments: Any) -> None:
    """No observers."""
