"""Starts a run: checks its inputs, chooses what depends on data and device, and trains."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
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
from segkit.engine.console import Console
from segkit.engine.distributed import PROCESSES, distributed_context
from segkit.engine.events import Notify, unobserved
from segkit.engine.history import less_is_better
from segkit.engine.init_from import init_from, read_normalisation
from segkit.engine.inputs import TrainerInputs, explain_errors
from segkit.engine.optim import encoder_of
from segkit.engine.precision import DTYPES, Precision, peak_memory, pick_device, resolve_precision, use_cpu
from segkit.engine.run_folder import Result, RunRecord, check_folder, locked, read_json
from segkit.engine.trainer import Trainer
from segkit.errors import ConfigError, DataError, ModelError, RunFolderError
from segkit.settings import AUTO, TrainSettings
from segkit.signals import STOP


def launch(
    build: Callable[[bool], TrainerInputs],
    train: TrainSettings,
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    notify: Notify = unobserved,
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
        try:
            folder = folder.expanduser().resolve()  # links are followed once, so that changing one later has no effect
        except RuntimeError as error:  # "~name" of no user, or links in a circle
            raise RunFolderError(f"output.dir = '{folder}': {error}") from error
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
    inputs: TrainerInputs, console: Console | None = None, notify: Notify = unobserved, resume: bool = False
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
    """Check the inputs, and determine their precision, normalisation and the settings that plugins choose.

    Args:
        inputs: the inputs; the weights of ``train.init_from`` are loaded into their model.
        console: prints warnings, and which weights were not loaded.
        resume: whether to use normalisation, precision and settings of the run in the inputs' folder; its weights are
            loaded later, from its checkpoint.

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
    past_model, past_settings = main(lambda: (read_json(file), initial_settings(inputs, past)) if resume else ({}, {}))
    name = main(lambda: resolve_precision(precision, device, str(past_model.get("precision", "bf16"))).name)
    if past_model.get("precision") in DTYPES and name != past_model["precision"]:
        console.warn(f"the run began in {past_model['precision']} and continues in {name}, which this device supports")
    no_data, statistics = scan.splits["train"].no_data != "stop", scan.statistics["train"]
    new = partial(Normalisation.of, inputs.model, statistics, no_data)
    measured = main(lambda: (read_normalisation(file) or IMAGENET) if resume else new())
    if inputs.train.init_from and not resume:
        measured = init_from(inputs.model, inputs.train.init_from, measured, console)
    use_cpu()
    inputs = replace(inputs, normalisation=measured, precision=Precision(name, device)).with_settings(past_settings)
    chosen = main(lambda: inputs.prepared(inputs, PROCESSES.size))  # also when resuming: it may refuse a lack of memory
    inputs = inputs if resume else inputs.with_settings(chosen)
    if AUTO in (inputs.augment.crop, inputs.train.batch_size):
        raise ConfigError('augment.crop, train.batch_size: no plugin chooses a number for "auto"; give a number')
    return inputs


def check(inputs: TrainerInputs) -> None:
    """Refuse inputs that are invalid or do not fit together.

    Raises:
        DataError: a split is missing, or the splits have different classes.
        ModelError: the model is not a torch.nn.Module, or has no trainable float32 weights.
        ConfigError: ``train.best`` is not a score of the run or has no direction, a metric or transform is invalid, or
            ``train.encoder_lr_mult`` is set for a model without an encoder.
    """
    model, kind = inputs.model, type(inputs.model).__name__
    if not isinstance(model, nn.Module):
        raise ModelError(f"model is {kind}; a model is a torch.nn.Module, [B,3,H,W] -> logits [B,C,H,W]")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError(f"{kind} has no weights that require gradients, so nothing can be trained")
    if other := {p.dtype for p in model.parameters() if p.is_floating_point()} - {torch.float32}:
        raise ModelError(
            f"the weights of {kind} are {other.pop()}; they must be float32, whatever train.precision the forward pass "
            "has: pass model.float()"
        )
    for needed in {"train", "val"} - inputs.splits.keys():
        raise DataError(f"there is no {needed} split; there are {', '.join(inputs.splits)}")
    check_splits(inputs.splits)
    if not isinstance(inputs.metrics, Mapping):
        raise ConfigError(f"metrics is {type(inputs.metrics).__name__}; give metrics by name: metrics={{'f1': metric}}")
    members = ("update", "compute", "reset")
    for name, metric in inputs.metrics.items():
        if isinstance(metric, type) or not all(callable(getattr(metric, each, None)) for each in members):
            raise ConfigError(f"metrics: {name} = {metric!r:.80}; a metric is an object with {', '.join(members)}")
    if callable(inputs.transforms) or not all(map(callable, inputs.transforms)):
        raise ConfigError(
            f"transforms = {inputs.transforms!r:.80}: a list of functions (image, mask, random) is needed"
        )
    less_is_better(inputs.train, inputs.metrics)
    if inputs.train.encoder_lr_mult != 1:
        encoder_of(model)


def initial_settings(inputs: TrainerInputs, past: RunRecord) -> dict[str, Any]:
    """The settings that a run began with, for all keys that the config now leaves to the run or gives as before.

    Raises:
        RunFolderError: the settings do not fit together, or ``run.json`` is damaged.
    """
    settings = {}
    try:
        for key in ("augment.crop", "train.batch_size", *past.replaced):
            name, _, setting = key.partition(".")
            table, past_table = inputs.table(name), past.config.get(name, {})
            if setting in past_table and table[setting] in ("auto", past.replaced.get(key, "auto")):
                settings[key] = past_table[setting]
        inputs.with_settings(settings)
    except (ValueError, TypeError, KeyError) as error:
        raise RunFolderError(f"{past.folder}/run.json holds settings that cannot be resumed: {error}") from error
    return settings
