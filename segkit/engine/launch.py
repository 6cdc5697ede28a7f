"""Starts a run: checks its inputs, chooses what depends on data and device, and trains."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segkit.data.loader import shut_down
from segkit.data.normalise import IMAGENET, Normalisation
from segkit.data.parallel import refuse_unguarded
from segkit.data.read import ODD_METADATA
from segkit.data.sample import check_splits
from segkit.engine.checkpoint import by_key
from segkit.engine.console import Console
from segkit.engine.distributed import PROCESSES, distributed_context
from segkit.engine.history import less_is_better
from segkit.engine.init_from import init_from, read_normalisation
from segkit.engine.inputs import TrainerInputs, explain_errors
from segkit.engine.precision import DTYPES, Precision, peak_memory, pick_device, resolve_precision, use_cpu
from segkit.engine.run_folder import Result, RunRecord, check_folder, locked, read_json
from segkit.engine.trainer import Notify, Trainer
from segkit.errors import ConfigError, DataError, ModelError, RunFolderError
from segkit.settings import TrainSettings
from segkit.signals import STOP


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
    """Train a model, keep the best weights, and evaluate them on every split.

    Args:
        build: ``build(resume)`` returns the trainer's inputs; it is called once all processes are connected, and folder
            and device are known to be usable.
        train: the inputs' settings.
        folder: the run folder.
        resume: continue the run in the folder.
        overwrite: replace the run in the folder.
        notify: called with each event; the texts that it returns are reasons to stop after an epoch, or lines to print
            after the end.
        quiet: print warnings and results only, no progress.

    Raises:
        ConfigError, DataError, LabelError, RunFolderError, CheckpointError, TrainingError: see :mod:`segkit.errors`;
            before the first step nothing is written.
        Interrupted: SIGTERM or Ctrl-C was received; a KeyboardInterrupt. The state is saved.
    """
    refuse_unguarded(train.workers)
    with ExitStack() as stack, torch.enable_grad():  # a notebook that predicts may have turned it off
        stack.enter_context(STOP)
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", module=ODD_METADATA)
        stack.enter_context(distributed_context(train.device))
        # links are followed once, so that changing one later has no effect
        folder = Path(os.path.realpath(folder.expanduser()))
        resume = PROCESSES.broadcast_from_main(lambda: check_folder(folder, resume=resume, overwrite=overwrite))
        resolve_precision(train.precision, pick_device(train.device))  # errors are raised before the data is read
        console = Console(PROCESSES.is_main_process, quiet)
        how: dict[str, Any] = {"console": console, "notify": notify, "resume": resume}
        with open_trainer(replace(build(resume), folder=folder), **how) as trainer:
            # check again: meanwhile another process may have written a run there and released the lock
            use = {"resume": resume, "overwrite": overwrite}
            PROCESSES.broadcast_from_main(lambda: stack.enter_context(locked(folder)) or check_folder(folder, **use))
            return trainer.run(resume)


@contextmanager
def open_trainer(
    inputs: TrainerInputs, console: Console | None = None, notify: Notify | None = None, resume: bool = False
) -> Iterator[Trainer]:
    """Open a trainer with inputs prepared as for a run; nothing is written to the folder before the trainer runs.

    Errors within the block are reported as in a run; processes that load data end with the block.

    Args:
        inputs: the inputs, for example from :func:`segkit.compose.build_inputs`.
        console: prints progress; default: nothing is printed.
        notify: called with each event.
        resume: whether to continue the run in the inputs' folder.

    Raises:
        SegkitError: as in a run.
    """
    trainer: Trainer | None = None
    with STOP:
        console = console or Console(active=False)
        inputs = prepare(inputs, console, resume)
        try:
            with explain_errors(inputs, lambda: trainer.keep() if trainer else "no step was taken"):
                trainer = Trainer(inputs, notify, console)
                yield trainer
        finally:
            if trainer:
                shut_down(trainer.batches)


def prepare(inputs: TrainerInputs, console: Console, resume: bool) -> TrainerInputs:
    """Check the inputs, and determine their precision, normalisation and the numbers that plugins choose for "auto".

    Args:
        inputs: the inputs; the weights of ``train.init_from`` are loaded into their model.
        console: prints warnings, and which weights were not loaded.
        resume: whether to use normalisation, precision and the numbers for "auto" of the run in the inputs' folder; its
            weights are loaded later, from its checkpoint.

    Raises:
        ConfigError, DataError, ModelError, RunFolderError: see :mod:`segkit.errors`.
    """
    main = PROCESSES.broadcast_from_main
    check(inputs)
    scan, precision, device = inputs.scan, inputs.train.precision, pick_device(inputs.train.device)
    peak_memory(device, restart=True)
    for issue in scan.warnings:
        console.warn(str(issue))
    # the main process reads the earlier state of the run and decides what depends on its machine, for all processes
    past, file = RunRecord(inputs.folder), inputs.folder / "config.json"
    past_model, past_config = main(lambda: (read_json(file), by_key(past.config)) if resume else ({}, {}))
    name = main(lambda: resolve_precision(precision, device, str(past_model.get("precision", "bf16"))).name)
    if past_model.get("precision") in DTYPES and name != past_model["precision"]:
        console.warn(f"the run began in {past_model['precision']} and continues in {name}, which this device supports")
    no_data, statistics = scan.splits["train"].no_data != "stop", scan.statistics["train"]
    new = partial(Normalisation.of, inputs.model, statistics, no_data)
    measured = main(lambda: (read_normalisation(file) or IMAGENET) if resume else new())
    if inputs.train.init_from and not resume:
        measured = init_from(inputs.model, inputs.train.init_from, measured, console)
    use_cpu()
    inputs = replace(inputs, normalisation=measured, precision=Precision(name, device))
    try:
        inputs = inputs.with_auto({key: past_config[key] for key in inputs.auto if key in past_config})
    except ValueError as error:
        raise RunFolderError(f"{past.folder}/run.json holds settings that cannot be resumed: {error}") from error
    chosen = main(lambda: inputs.prepared(inputs, PROCESSES.size))  # also when resuming: it may refuse a lack of memory
    inputs = inputs if resume else inputs.with_auto(chosen)
    if inputs.auto:
        raise ConfigError('augment.crop, train.batch_size: no plugin chooses a number for "auto"; give a number')
    return inputs


def check(inputs: TrainerInputs) -> None:
    """Refuse inputs that are invalid or do not fit together.

    Raises:
        DataError: a split is missing, or the splits have different classes.
        ModelError: the model is not a torch.nn.Module, or its weights are not float32.
        ConfigError: ``train.best`` is not a score of the run or has no direction, or a metric is invalid.
    """
    model, kind = inputs.model, type(inputs.model).__name__
    if not isinstance(model, nn.Module):
        raise ModelError(f"model is {kind}; a model is a torch.nn.Module, [B,3,H,W] -> logits [B,C,H,W]")
    if other := {p.dtype for p in model.parameters() if p.is_floating_point()} - {torch.float32}:
        raise ModelError(
            f"the weights of {kind} are {other.pop()}; they must be float32, whatever train.precision the forward pass "
            "has: pass model.float()"
        )
    for needed in {"train", "val"} - inputs.splits.keys():
        raise DataError(f"there is no {needed} split; there are {', '.join(inputs.splits)}")
    check_splits(inputs.splits)
    members = ("update", "compute", "reset")
    for name, metric in inputs.metrics.items():
        if isinstance(metric, type) or not all(callable(getattr(metric, each, None)) for each in members):
            raise ConfigError(f"metrics: {name} = {metric!r:.80}; a metric is an object with {', '.join(members)}")
    less_is_better(inputs.train, inputs.metrics)
