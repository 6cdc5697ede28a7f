"""The life of a run, from datasets and a model to a run folder with its result."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as safetensors_bytes
from torch import nn

from segkit.data.findings import of_crops
from segkit.data.loader import resized_size, training_loader, worker_count
from segkit.data.scan import Scan, scan_splits
from segkit.engine import checkpoint, collapse
from segkit.engine.console import epoch_line, final_table, introduction
from segkit.engine.device import device_name, peak_memory, pick_device, seed_everything
from segkit.engine.evaluate import evaluate
from segkit.engine.events import Notify, Result, Run, undisturbed
from segkit.engine.floors import Constant, beside, floor
from segkit.engine.folder import check_folder, clear, locked, read_json, remove_temporary, write_json, write_lines
from segkit.engine.job import Job, check
from segkit.engine.loop import Loop
from segkit.engine.precision import Precision, resolve
from segkit.engine.resume import refuse_changes
from segkit.engine.samples import write_samples
from segkit.errors import CheckpointError, ConfigError, TrainingError

PENDING = "best.next.pt"
"""The best weights of an epoch whose ``last.pt`` is still to be written."""


def train_and_evaluate(
    job: Job, *, resume: bool = False, overwrite: bool = False, notify: Notify | None = None
) -> Result:
    """Train, keep the best weights, score them on every split.

    Raises:
        ConfigError, DataError, LabelError, RunFolderError, CheckpointError, TrainingError: see :mod:`segkit.errors`;
            before the first step nothing is written.
    """
    check_folder(job.folder, resume=resume, overwrite=overwrite)
    check(job)
    device = pick_device(job.train.device)
    precision = resolve(job.train.precision, device)
    scan = job.scan or scan_splits(job.splits, job.data)
    scan.refuse_errors()
    scan = replace(scan, findings=[*scan.findings, *of_crops(scan.facts["train"], job.augment, job.data.resize)])
    for finding in scan.warnings:
        print(f"warning: {finding}", file=sys.stderr)
    lowest = {name: floor(scan.counts(name), dataset, job.metrics) for name, dataset in scan.splits.items()}
    seed_everything(job.train.seed, job.train.deterministic)
    with locked(job.folder):
        return _Fit(job, scan, lowest, precision, undisturbed(notify or _nobody, precision.device)).run(resume)


class _Fit:
    """One run in its folder; exists only to keep the parts of :func:`train_and_evaluate` short."""

    def __init__(
        self,
        job: Job,
        scan: Scan,
        floors: dict[str, dict[str, Any]],
        precision: Precision,
        notify: Notify,
    ) -> None:
        self.job, self.scan, self.floors, self.precision, self.notify = job, scan, floors, precision, notify
        self.splits, self.config = scan.splits, job.record.get("config", {})
        first = self.splits["train"]
        self.classes, self.ignore_index = tuple(first.classes), first.ignore_index
        self.workers = worker_count(job.train.workers, precision.device)
        self.batches, self.order = training_loader(
            first,
            job.augment,
            batch_size=job.train.batch_size,
            seed=job.train.seed,
            repeat=job.train.repeat,
            resize=job.data.resize,
            workers=self.workers,
            device=precision.device,
            places=scan.places("train"),
        )
        planned = job.train.epochs * len(self.order)
        self.steps = min(planned, job.train.max_steps or planned)
        self.epochs = -(-self.steps // len(self.order))
        self.loop = Loop(job.model, job.objective, job.train, precision, self.steps)
        self.constants = {name: Constant(job.metrics, data, floors[name]) for name, data in self.splits.items()}
        self.history: list[dict[str, Any]] = []
        self.best_epoch, self.waited, self.stopped_early = 0, 0, ""
        self.began = time.perf_counter()  # moved back by what a resumed run took before

    def run(self, resume: bool) -> Result:
        folder = self.job.folder
        if resume:
            self._resume()
        else:
            clear(folder)
        palette = self.splits["train"].palette
        self.info = Run(folder, self.config, self.classes, palette, self.floors, len(self.history) + 1)
        warnings = [asdict(finding) for finding in self.scan.warnings]
        write_json(folder / "run.json", {**self.job.record, "floors": self.floors, "warnings": warnings})
        write_json(folder / "config.json", {**self.job.model_record, **self._facts()})
        sizes = {name: len(data) for name, data in self.splits.items()}
        steps = f"{self.steps} steps, {len(self.order)} an epoch"
        print(
            introduction(self.job.model, self.precision, sizes, self.floors["val"], len(self.classes), steps),
            flush=True,
        )
        self.notify("segkit_run_started", run=self.info)
        for epoch in range(len(self.history) + 1, self.epochs + 1):
            self.stopped_early = self._reason_to_stop()
            if self.stopped_early:
                print(f"stopped early: {self.stopped_early}")
                break
            self._epoch(epoch)
        result = self._finish()
        self.notify("segkit_run_ended", run=self.info, result=result)
        return result

    def _epoch(self, epoch: int) -> None:
        self.order.epoch = epoch
        trained = self.loop.run_epoch(self.batches, len(self.order), f"epoch {epoch}/{self.epochs}")
        scores = self._evaluate(self.loop.evaluated, "val")
        if not math.isfinite(scores["loss"]):
            raise TrainingError(f"the loss on val is {scores['loss']} after epoch {epoch}; lower train.lr")
        best = self._is_best(scores)
        if best:
            self.best_epoch, self.waited = epoch, 0
        else:
            self.waited += 1
        self.history.append({"epoch": epoch, "step": self.loop.step, "train": trained, "val": scores, "best": best})
        warning = collapse.warning(self.history, self.epochs, self.config, self._side())
        if warning:
            self.history[-1]["collapsed"] = True
        self._save(best)
        self._draw(self.loop.evaluated, f"epoch_{epoch:04d}")
        print(epoch_line(epoch, self.epochs, trained, scores, self.floors["val"], best), flush=True)
        if warning:
            print(f"warning: {warning}", file=sys.stderr, flush=True)
        self.notify("segkit_epoch_ended", run=self.info, epoch=epoch, metrics=self.history[-1])

    def _reason_to_stop(self) -> str:
        train = self.job.train
        if train.stop_on_collapse and collapse.collapsed(self.history, self.epochs):
            return f"at the floor for {collapse.stuck_epochs(self.history)} epochs"
        if train.patience and self.waited >= train.patience:
            return f"no better {train.best} for {self.waited} epochs"
        return ""

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
        )
        if constant:
            self.floors[split] |= constant.compute()
        return beside(scores, self.floors[split])

    def _draw(self, model: nn.Module, name: str) -> None:
        if self.job.output.samples:
            write_samples(
                model,
                self.splits["val"],
                self.job.folder / "samples" / f"{name}.png",
                count=self.job.output.samples,
                precision=self.precision,
                resize=self.job.data.resize,
            )

    def _is_best(self, scores: Mapping[str, Any]) -> bool:
        name = self.job.train.best
        if not isinstance(scores.get(name), int | float):
            raise ConfigError(f'train.best = "{name}": this metric gives no single number; choose another')
        if not self.best_epoch:
            return True
        before = self.history[self.best_epoch - 1]["val"][name]
        if not math.isfinite(before):
            return True
        return bool(scores[name] < before if name == "loss" else scores[name] > before)

    def _save(self, best: bool) -> None:
        """Both or neither: the best weights take their place once ``last.pt`` knows of them (see :meth:`_resume`)."""
        folder = self.job.folder
        pending = folder / PENDING
        if best:
            weights = {"model": self.loop.evaluated.state_dict(), "epoch": self.best_epoch}
            checkpoint.write_atomically(
                pending, lambda file: torch.save({"format": checkpoint.FORMAT, **weights}, file)
            )
        state = self.loop.state_dict()
        state |= {"history": self.history, "best_epoch": self.best_epoch, "waited": self.waited}
        checkpoint.save(folder / "last.pt", {**state, "seconds": time.perf_counter() - self.began})
        if best:
            pending.replace(folder / "best.pt")
        write_lines(folder / "metrics.jsonl", self.history)

    def _resume(self) -> None:
        folder = self.job.folder
        refuse_changes(read_json(folder / "run.json").get("config", {}), self.job.record.get("config", {}), folder)
        state, note = checkpoint.load_last(folder)
        if note:
            print(note, file=sys.stderr)
        self.loop.load_state_dict(state, f"the checkpoint in {folder}")
        self.history, self.best_epoch = state["history"], state["best_epoch"]
        self.waited = state["waited"]
        self.began -= state["seconds"]
        remove_temporary(folder)
        if _epoch_of(folder / PENDING) == self.best_epoch:
            (folder / PENDING).replace(folder / "best.pt")
        (folder / PENDING).unlink(missing_ok=True)
        if _epoch_of(folder / "best.pt") != self.best_epoch:  # damaged, or newer than the checkpoint that was left
            self.best_epoch, self.waited = 0, 0
        if len(self.history) < self.epochs:  # what an earlier end wrote is no longer the run's result
            for name in ("model.safetensors", "result.json"):
                (folder / name).unlink(missing_ok=True)
        print(f"resumed after epoch {len(self.history)} of {self.epochs}")

    def _finish(self) -> Result:
        """Score the best weights on every split and write what the run came to."""
        folder = self.job.folder
        best = checkpoint.load(folder / "best.pt")
        model = self.loop.evaluated
        checkpoint.load_weights(model, best["model"], str(folder / "best.pt"))
        # safetensors takes neither channels_last nor weights that two layers share
        weights = {key: value.clone(memory_format=torch.contiguous_format) for key, value in model.state_dict().items()}
        checkpoint.write_atomically(
            folder / "model.safetensors", lambda file: file.write(safetensors_bytes(weights, {"format": "pt"}))
        )
        splits = {name: self._evaluate(model, name) for name in self.splits}
        self._draw(model, "best")
        trained = [line["train"] for line in self.history]
        last = list(splits)[-1]
        collapsed, memorised = collapse.at_the_end(splits["train"], splits[last])
        result = Result(
            folder=folder,
            splits=splits,
            collapsed=collapsed,
            stopped_early=self.stopped_early,
            best_epoch=self.best_epoch,
            seconds=time.perf_counter() - self.began,
            images_per_second=sum(t["images"] for t in trained) / sum(t["seconds"] for t in trained),
            peak_memory_bytes=peak_memory(self.precision.device),
            precision=self.precision.name,
            device=device_name(self.precision.device),
        )
        write_json(folder / "result.json", {k: v for k, v in asdict(result).items() if k != "folder"})
        shares = {name: self.scan.counts(name).shares for name in self.splits}
        print(f"\nbest epoch: {self.best_epoch} of {len(self.history)}, by {self.job.train.best} on val; {folder}\n")
        print(final_table(splits, self.classes, shares), flush=True)
        if collapsed:
            told = any(line.get("collapsed") for line in self.history)  # the advice too
            advice = "" if told else "\n" + collapse.advice(self.config, self.history, self._side())
            print(f"\n{collapse.verdict(splits[last], last)}{advice}", flush=True)
        elif memorised:
            print(f"\n{collapse.memorised(splits['train'], splits[last], last)}", flush=True)
        return result

    def _side(self) -> int:
        """The shorter side of a training image, pixels."""
        height, width = self.scan.facts["train"][0].size
        return min(resized_size(height, width, self.job.data.resize))

    def _facts(self) -> dict[str, Any]:
        palette = [list(colour) for colour in self.splits["train"].palette]
        return {
            "num_classes": len(self.classes),
            "ignore_index": self.ignore_index,
            "classes": list(self.classes),
            "palette": palette,
            "resize": self.job.data.resize,
            "precision": self.precision.name,
        }


def _epoch_of(path: Path) -> int | None:
    """The epoch whose weights a file holds; None where there are none that can be used."""
    try:
        return int(checkpoint.load(path)["epoch"])
    except CheckpointError:
        return None


def _nobody(_event: str, **_arguments: Any) -> None:
    """No observers."""
