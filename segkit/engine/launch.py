"""How a run begins: its parts are checked, what depends on its data and device is chosen, and it is trained."""

from __future__ import annotations

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
from segkit.data.sample import check_splits
from segkit.engine.console import Console
from segkit.engine.distributed import PROCESSES, distributed_context
from segkit.engine.events import Notify, unobserved
from segkit.engine.history import less_is_better
from segkit.engine.init_from import init_from, read_normalisation
from segkit.engine.inputs import TrainerInputs, explained
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
    with ExitStack() as stack, torch.enable_grad():  # a notebook that predicts may have turned it off
        stack.enter_context(STOP)
        stack.enter_context(distributed_context(train.device))
        folder = folder.expanduser().resolve()  # a link is followed once: what changes it later changes nothing
        resume = PROCESSES.broadcast_from_main(lambda: check_folder(folder, resume=resume, overwrite=overwrite))
        resolve_precision(train.precision, pick_device(train.device))  # refused before the data is read
        console = Console(PROCESSES.is_main_process, quiet)
        how: dict[str, Any] = {"console": console, "notify": notify, "resume": resume}
        with open_trainer(replace(build(resume), folder=folder), **how) as trainer:
            # checked once more: since then another process may have written a run there, and let go of it
            use = {"resume": resume, "overwrite": overwrite}
            PROCESSES.broadcast_from_main(lambda: stack.enter_context(locked(folder)) or check_folder(folder, **use))
            return trainer.run(resume)


@contextmanager
def open_trainer(
    inputs: TrainerInputs, console: Console | None = None, notify: Notify = unobserved, resume: bool = False
) -> Iterator[Trainer]:
    """The trainer of inputs that are prepared as for a run, in whose folder nothing is written before it runs.

    Errors within the block are told as those of a run; at its end, processes that load data end too.

    Args:
        inputs: as a config names them, :func:`segkit.compose.build_inputs`.
        console: prints how it goes; left out: nothing is printed.
        notify: is called with the events.
        resume: whether the run in the inputs' folder is gone on with.

    Raises:
        SegkitError: as a run would.
    """
    trainer: Trainer | None = None
    with STOP:
        console = console or Console(active=False)
        inputs = prepare(inputs, console, resume)
        try:
            with explained(inputs, lambda: trainer.keep() if trainer else "no step was taken"):
                trainer = Trainer(inputs, notify, console)
                yield trainer
        finally:
            if trainer:
                shut_down(trainer.batches)


def prepare(inputs: TrainerInputs, console: Console, resume: bool) -> TrainerInputs:
    """The inputs with a precision, the normalisation of their images, and settings that fit.

    Args:
        inputs: are checked; their model is given the weights of ``train.init_from``.
        console: prints warnings, and what of the model is begun anew.
        resume: whether normalisation, precision and settings are those that the run in the inputs' folder has begun
            with; its checkpoint has the weights.

    Raises:
        ConfigError, DataError, ModelError, RunFolderError: see :mod:`segkit.errors`.
    """
    main = PROCESSES.broadcast_from_main
    check(inputs)
    scan, asked, device = inputs.scan, inputs.train.precision, pick_device(inputs.train.device)
    peak_memory(device, restart=True)
    for issue in scan.warnings:
        console.warn(str(issue))
    # the main process tells all what the run has begun with, and what depends on its machine
    past, file = RunRecord(inputs.folder), inputs.folder / "config.json"
    before, begun = main(lambda: (read_json(file), begun_with(inputs, past)) if resume else ({}, {}))
    name = main(lambda: resolve_precision(asked, device, str(before.get("precision", "bf16"))).name)
    if before.get("precision") in DTYPES and name != before["precision"]:
        console.warn(f"the run began in {before['precision']} and continues in {name}, which this device supports")
    no_data, statistics = scan.splits["train"].no_data != "stop", scan.statistics["train"]
    new = partial(Normalisation.of, inputs.model, statistics, no_data)
    measured = main(lambda: (read_normalisation(file) or IMAGENET) if resume else new())
    if inputs.train.init_from and not resume:
        measured = init_from(inputs.model, inputs.train.init_from, measured, console)
    use_cpu()
    inputs = replace(inputs, normalisation=measured, precision=Precision(name, device)).with_settings(begun)
    chosen = main(lambda: inputs.prepared(inputs, PROCESSES.size))  # of a run that goes on too: memory may be short
    inputs = inputs if resume else inputs.with_settings(chosen)
    if AUTO in (inputs.augment.crop, inputs.train.batch_size):
        raise ConfigError('augment.crop, train.batch_size: no plugin chooses a number for "auto"; give one')
    return inputs


def check(inputs: TrainerInputs) -> None:
    """Refuse what does not fit together.

    Raises:
        DataError: a split is missing, or the splits are of different classes.
        ModelError: the model is none, or has no weights of float32 to train.
        ConfigError: ``train.best`` is no score of the run or has no direction, a metric or transform is
            none, or ``train.encoder_lr_mult`` is for no part of the model.
    """
    model, kind = inputs.model, type(inputs.model).__name__
    if not isinstance(model, nn.Module):
        raise ModelError(f"model is {kind}; a model is a torch.nn.Module, [B,3,H,W] -> logits [B,C,H,W]")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError(f"{kind} has no weights that require gradients, so nothing can be trained")
    if other := {p.dtype for p in model.parameters() if p.is_floating_point()} - {torch.float32}:
        raise ModelError(
            f"the weights of {kind} are {other.pop()}; they stay float32, and train.precision is what the network "
            "computes in: pass model.float()"
        )
    for needed in {"train", "val"} - inputs.splits.keys():
        raise DataError(f"there is no {needed} split; there are {', '.join(inputs.splits)}")
    check_splits(inputs.splits)
    if not isinstance(inputs.metrics, Mapping):
        raise ConfigError(f"metrics is {type(inputs.metrics).__name__}; metrics go by name: metrics={{'f1': metric}}")
    asked = ("update", "compute", "reset")
    for name, metric in inputs.metrics.items():
        if isinstance(metric, type) or not all(callable(getattr(metric, each, None)) for each in asked):
            raise ConfigError(f"metrics: {name} = {metric!r:.80}; a metric is an object with {', '.join(asked)}")
    if callable(inputs.transforms) or not all(map(callable, inputs.transforms)):
        raise ConfigError(
            f"transforms = {inputs.transforms!r:.80}: a list of functions (image, mask, random) is needed"
        )
    less_is_better(inputs.train, inputs.metrics)
    if inputs.train.encoder_lr_mult != 1:
        encoder_of(model)


def begun_with(inputs: TrainerInputs, past: RunRecord) -> dict[str, Any]:
    """The settings that a run has begun with, where they are left to it now or are asked for as they were then.

    Raises:
        RunFolderError: they do not fit together, or ``run.json`` is damaged.
    """
    found = {}
    try:
        for key in ("augment.crop", "train.batch_size", *past.replaced):
            name, _, setting = key.partition(".")
            asked, before = inputs.table(name), past.config.get(name, {})
            if setting in before and asked[setting] in ("auto", past.replaced.get(key, "auto")):
                found[key] = before[setting]
        inputs.with_settings(found)
    except (ValueError, TypeError, KeyError) as error:
        raise RunFolderError(f"{past.folder}/run.json holds settings that cannot be gone on with: {error}") from error
    return found
