"""The life of a run, from datasets and a model to a run folder with its result."""

from __future__ import annotations

import math
import signal
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any

import torch
from safetensors.torch import save as safetensors_bytes
from torch import nn

from segkit.data.findings import of_crops
from segkit.data.loader import resized_size, shut_down, training_loader, worker_count
from segkit.data.scan import Scan, scan_splits
from segkit.engine import checkpoint, collapse
from segkit.engine.console import Console, epoch_line, final_table, introduction
from segkit.engine.device import device_name, peak_memory, pick_device, seed_everything
from segkit.engine.evaluate import evaluate
from segkit.engine.events import Notify, Result, Run, undisturbed
from segkit.engine.floors import Constant, beside, floor
from segkit.engine.folder import check_folder, clear, locked, read_json, write_json, write_lines
from segkit.engine.history import History
from segkit.engine.job import Job, check
from segkit.engine.loop import Loop
from segkit.engine.precision import Precision, resolve
from segkit.engine.resume import refuse_changes
from segkit.engine.samples import write_samples
from segkit.engine.store import Store, samples_of
from segkit.engine.trouble import explained
from segkit.engine.world import World, joined, launcher
from segkit.errors import TrainingError
from segkit.signals import Interrupted, StopSignals


def train_and_evaluate(
    job: Job,
    *,
    resume: bool = False,
    overwrite: bool = False,
    notify: Notify | None = None,
    world: World | None = None,
    stop: StopSignals | None = None,
) -> Result:
    """Train, keep the best weights, score them on every split.

    Args:
        job: what is trained, on what.
        resume: go on with the run in the job's folder.
        overwrite: replace it.
        notify: is told the events.
        world: the processes that train together, where they have met already.
        stop: the signals that end the run, where somebody catches them already.

    Raises:
        ConfigError, DataError, LabelError, RunFolderError, CheckpointError, TrainingError: see :mod:`segkit.errors`;
            before the first step nothing is written.
        Interrupted: by SIGTERM or Ctrl-C, which is a KeyboardInterrupt; the state is saved.
    """
    with ExitStack() as stack:
        if stop is None:
            stop = stack.enter_context(StopSignals())
        if world is None:
            world = stack.enter_context(joined())
        job = replace(
            job, folder=job.folder.resolve()
        )  # a link is followed once: what changes it later changes nothing
        world.on_first(lambda: check_folder(job.folder, resume=resume, overwrite=overwrite))
        check(job)
        precision = resolve(job.train.precision, pick_device(job.train.device))
        scan = job.scan or world.first_before_others(lambda: scan_splits(job.splits, job.data, progress=world.first))
        scan.refuse_errors()
        scan = replace(scan, findings=[*scan.findings, *of_crops(scan.facts["train"], job.augment, job.data.resize)])
        console = Console(world.first)
        for finding in scan.warnings:
            console.warn(str(finding))
        floors = {name: floor(scan.counts(name), dataset, job.metrics) for name, dataset in scan.splits.items()}
        seed_everything(job.train.seed, job.train.deterministic)
        world.on_first(lambda: stack.enter_context(locked(job.folder)) or ())
        run = _Fit(
            job,
            scan,
            floors,
            precision,
            undisturbed(notify) if notify and world.first else _nobody,
            world,
            stop,
            console,
        )
        stack.callback(shut_down, run.batches)
        with explained(job, precision.device):
            return run.run(resume)


class _Fit:
    """One run in its folder; exists only to keep the parts of :func:`train_and_evaluate` short."""

    def __init__(
        self,
        job: Job,
        scan: Scan,
        floors: dict[str, dict[str, Any]],
        precision: Precision,
        notify: Notify,
        world: World,
        stop: StopSignals,
        console: Console,
    ) -> None:
        self.job, self.scan, self.floors, self.precision, self.notify = job, scan, floors, precision, notify
        self.world, self.stop, self.console = world, stop, console
        self.splits, self.config = scan.splits, job.record.get("config", {})
        self.workers = worker_count(job.train.workers, precision.device)
        self.batches, self.order = training_loader(
            self.splits["train"],
            job.augment,
            batch_size=job.train.batch_size,
            seed=job.train.seed,
            repeat=job.train.repeat,
            resize=job.data.resize,
            workers=self.workers,
            device=precision.device,
            places=scan.places("train"),
            parts=job.train.accumulate,
            rank=world.rank,
            size=world.size,
        )
        planned = job.train.epochs * len(self.order)
        self.steps = min(planned, job.train.max_steps or planned)
        self.epochs = -(-self.steps // len(self.order))
        self.loop = Loop(job.model, job.objective, job.train, precision, self.steps, world=world, stop=stop)
        self.constants = {name: Constant(job.metrics, data, floors[name]) for name, data in self.splits.items()}
        self.history = History(job.train, self.epochs)
        self.store = Store(job.folder, self.loop, self.history, samples_of(scan), console)
        self.stopped_early = ""

    def run(self, resume: bool) -> Result:
        if resume:
            self._resume()
        self.info = Run(
            folder=self.job.folder,
            config=self.config,
            classes=tuple(self.splits["train"].classes),
            palette=self.splits["train"].palette,
            floors=self.floors,
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
        except Interrupted as interruption:
            interruption.kept = self._keep()
            raise
        self.notify("segkit_run_ended", run=self.info, result=result)
        return result

    def _begin(self, resume: bool) -> None:
        if not self.world.first:
            return
        folder, warnings = self.job.folder, [asdict(finding) for finding in self.scan.warnings]
        if not resume:
            clear(folder)
        told = {"floors": self.floors, "warnings": warnings, "launcher": launcher()}
        write_json(folder / "run.json", {**self.job.record, **told})
        write_json(folder / "config.json", {**self.job.model_record, **self._facts()})
        if resume:
            write_lines(folder / "metrics.jsonl", self.history.lines)  # a kill may have come between the two files
        else:
            self.store.save()  # so that a kill at any later moment can be resumed

    def _introduce(self) -> None:
        sizes = {name: len(data) for name, data in self.splits.items()}
        steps = f"{self.steps} steps, {len(self.order)} an epoch"
        if self.world.size > 1:
            steps += f", in {self.world.size} processes"
        floor, classes = self.floors["val"], len(self.info.classes)
        self.console.say(introduction(self.job.model, self.precision, sizes, floor, classes, steps))

    def _epoch(self, epoch: int) -> None:
        self.order.epoch, self.order.start = epoch, self.loop.position.steps
        trained = self.loop.run_epoch(
            self.batches,
            len(self.order),
            self.order.images,
            f"epoch {epoch}/{self.epochs}",
            self._between,
            self._wishes,
        )
        self.world.same_buffers(self.loop.evaluated)
        scores = self._evaluate(self.loop.evaluated, "val")
        if not math.isfinite(scores["loss"]):
            raise TrainingError(f"the loss on val is {scores['loss']} after epoch {epoch}; lower train.lr")
        self._draw(self.loop.evaluated, f"epoch_{epoch:04d}")
        with self.stop.held():  # all of it or nothing
            line = self.history.add(self.loop.step, trained, scores)
            warning = collapse.warning(self.history.lines, self.epochs, self.config, self._side())
            if warning:
                line["collapsed"] = True
            self.loop.end_epoch()
            if self.world.first:
                self.store.save()
            self.console.say(epoch_line(epoch, self.epochs, trained, scores, self.floors["val"], line["best"]))
        if trained["skipped"]:
            self.console.warn(f"{trained['skipped']} steps were skipped, as the loss or its gradient was no number")
        if warning:
            self.console.warn(warning)
        self.notify("segkit_epoch_ended", run=self.info, epoch=epoch, metrics=line)

    def _wishes(self) -> list[bool]:
        """To stop, and to save: what this process would do after this step."""
        return [bool(self.stop.received), self.world.first and self.store.due()]

    def _between(self, agreed: list[bool]) -> None:
        stop, save = agreed
        together = self.world.size > 1  # alone, a process is stopped where the signal finds it
        if (stop and together) or save:
            with self.stop.held():
                self.world.on_first(self.store.save)
        if stop and together:
            self.stop.end(signal.SIGTERM)

    def _keep(self) -> str:
        """Save what there is when a signal ends the run, and say how to go on."""
        done, steps = len(self.history), self.loop.position.steps
        place = f"epoch {done + 1}, {steps} of {len(self.order)} steps" if steps else f"epoch {done}"
        if self.world.first and not self.store.save():
            return f"{self.job.folder} holds what was saved before; --resume goes on from there"
        return f"saved in {self.job.folder} after {place}; --resume goes on from there"

    def _evaluate(self, model: nn.Module, split: str) -> dict[str, Any]:
        constant = self.constants.pop(split, None)  # once a split
        scores = evaluate(
            model,
            self.splits[split],
            precision=self.precision,
            objective=self.job.objective,
            metrics=self.job.metrics,
            batch_size=self.job.train.batch_size,
            resize=self.job.data.resize,
            workers=self.workers,
            description=f"scores on {split}",
            watcher=constant,
            world=self.world,
        )
        if constant:
            self.floors[split] |= constant.compute()
        return beside(scores, self.floors[split])

    def _draw(self, model: nn.Module, name: str) -> None:
        if self.job.output.samples and self.world.first:
            write_samples(
                model,
                self.splits["val"],
                self.job.folder / "samples" / f"{name}.png",
                count=self.job.output.samples,
                precision=self.precision,
                resize=self.job.data.resize,
            )

    def _resume(self) -> None:
        folder, config = self.job.folder, self.config

        def load() -> dict[str, Any]:
            refuse_changes(read_json(folder / "run.json").get("config", {}), config, folder)
            state, note = self.store.load()
            if note:
                self.console.warn(note)
            return state

        state = self.world.on_first(load)
        self.store.restore(state)
        if self.world.first and len(self.history) < self.epochs:  # what an earlier end wrote is no longer the result
            for name in ("model.safetensors", "result.json"):
                (folder / name).unlink(missing_ok=True)
        steps = f" and {self.loop.position.steps} of {len(self.order)} steps" if self.loop.position.steps else ""
        self.console.say(f"resumed after epoch {len(self.history)} of {self.epochs}{steps}")
        if state["processes"] != self.world.size:
            self.console.warn(
                f"the run began in {state['processes']} processes and goes on in {self.world.size}: the same images "
                "and steps, but sums are rounded in another order"
            )

    def _finish(self) -> Result:
        """Score the best weights on every split and write what the run came to."""
        folder, model = self.job.folder, self.loop.evaluated
        checkpoint.load_weights(model, self.world.on_first(self.store.best_weights), str(folder / "best.pt"))
        if self.world.first:
            # safetensors takes neither channels_last nor weights that two layers share
            weights = {k: value.clone(memory_format=torch.contiguous_format) for k, value in model.state_dict().items()}
            checkpoint.write_atomically(
                folder / "model.safetensors", lambda file: file.write(safetensors_bytes(weights, {"format": "pt"}))
            )
        splits = {name: self._evaluate(model, name) for name in self.splits}
        self._draw(model, "best")
        trained = [line["train"] for line in self.history.lines]
        last = list(splits)[-1]
        collapsed, memorised = collapse.at_the_end(splits["train"], splits[last])
        result = Result(
            folder=folder,
            splits=splits,
            collapsed=collapsed,
            stopped_early=self.stopped_early,
            best_epoch=self.history.best_epoch,
            seconds=self.store.seconds,
            images_per_second=sum(t["images"] for t in trained) / sum(t["seconds"] for t in trained),
            peak_memory_bytes=peak_memory(self.precision.device),
            precision=self.precision.name,
            device=device_name(self.precision.device),
        )
        if self.world.first:
            write_json(folder / "result.json", {k: v for k, v in asdict(result).items() if k != "folder"})
        self._conclude(result, last, memorised)
        return result

    def _conclude(self, result: Result, last: str, memorised: bool) -> None:
        splits, history = result.splits, self.history
        shares = {name: self.scan.counts(name).shares for name in self.splits}
        best = f"best epoch: {result.best_epoch} of {len(history)}, by {self.job.train.best} on val; {result.folder}"
        self.console.say(f"\n{best}\n\n{final_table(splits, self.info.classes, shares)}")
        if result.collapsed:
            told = any(line.get("collapsed") for line in history.lines)  # the advice too
            advice = "" if told else "\n" + collapse.advice(self.config, history.lines, self._side())
            self.console.say(f"\n{collapse.verdict(splits[last], last)}{advice}")
        elif memorised:
            self.console.say(f"\n{collapse.memorised(splits['train'], splits[last], last)}")

    def _side(self) -> int:
        """The shorter side of a training image, pixels."""
        height, width = self.scan.facts["train"][0].size
        return min(resized_size(height, width, self.job.data.resize))

    def _facts(self) -> Mapping[str, Any]:
        first = self.splits["train"]
        return {
            "num_classes": len(first.classes),
            "ignore_index": first.ignore_index,
            "classes": list(first.classes),
            "palette": [list(colour) for colour in first.palette],
            "resize": self.job.data.resize,
            "precision": self.precision.name,
        }


def _nobody(_event: str, **_arguments: Any) -> None:
    """No observers."""
