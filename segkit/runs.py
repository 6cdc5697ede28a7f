"""Runs: train from a config or from plain objects.

``segkit.run`` reads a config, ``segkit.fit`` takes plain objects; :func:`launch` trains both. (The file is not named
``run.py`` because importing the module ``segkit.run`` would hide the function ``segkit.run``.)
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segkit import plugins
from segkit.compose import build_inputs, plain_inputs
from segkit.config import Overrides, read_config, settings_from
from segkit.data.augment import Transform
from segkit.data.parallel import refuse_unguarded
from segkit.data.read import ODD_METADATA
from segkit.data.sample import Dataset
from segkit.data.subset import as_dataset
from segkit.engine.console import Console
from segkit.engine.criterion import Loss, as_criterion
from segkit.engine.distributed import PROCESSES, distributed_context
from segkit.engine.inputs import TrainerInputs, open_trainer
from segkit.engine.precision import pick_device, resolve_precision
from segkit.engine.run_folder import Result, check_folder, locked
from segkit.engine.trainer import Notify
from segkit.settings import TABLES, TrainSettings
from segkit.signals import STOP


def run(
    config: str | Path | Mapping[str, Any],
    overrides: Overrides = (),
    *,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Result:
    """Train and evaluate as a config describes.

    Args:
        config: a TOML file, or its tables as a mapping.
        overrides: ``["train.epochs=3"]`` or ``{"train.epochs": 3}``.
        resume: continue the run in the config's folder.
        overwrite: replace the run in the config's folder.
        quiet: print results and warnings only.

    Returns:
        The content of ``result.json``.

    Raises:
        SegkitError: see :mod:`segkit.errors`; before the first step nothing is written.
    """
    settings = read_config(config, overrides)

    def build(resume: bool) -> TrainerInputs:
        return build_inputs(settings, pretrained=not resume)

    how: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "quiet": quiet, "notify": plugins.notify}
    return launch(build, settings.train, settings.folder, **how)


def fit(
    *,
    model: nn.Module,
    loss: Loss | Mapping[str, Loss],
    train: Dataset,
    val: Dataset,
    test: Dataset | None = None,
    classes: Sequence[str] | None = None,
    palette: Sequence[Sequence[int]] | None = None,
    ignore_index: int = 255,
    metrics: Mapping[str, Any] | None = None,
    output: str | Path = "runs/fit",
    samples: int = 4,
    resize: float | list[int] | None = None,
    data: Mapping[str, Any] | None = None,
    augment: Mapping[str, Any] | None = None,
    transforms: Sequence[Transform] = (),
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Result:
    """Train and evaluate plain objects.

    Args:
        model: ``[B,3,H,W]`` float -> logits ``[B,C,H,W]``.
        loss: (logits ``[B,C,H,W]``, target int64 ``[B,H,W]``) -> scalar; a mapping of several by name is summed.
        train: training set, see :class:`segkit.data.sample.Dataset`; torch's Subset and ConcatDataset of such datasets
            are accepted, here and in ``val`` and ``test``.
        val: validation set, which selects the best weights.
        test: test set, evaluated once, at the end.
        classes: class names, for datasets of pairs (image uint8 ``[3,H,W]``, integer mask ``[H,W]``), or of PIL images.
        palette: colours for such datasets, an RGB triple per class; default: Pascal VOC's.
        ignore_index: label of void pixels in such datasets.
        metrics: additional metrics by name.
        output: the run folder.
        samples: number of val images whose predictions are drawn each epoch.
        resize: as ``data.resize`` in a config.
        data: as ``[data]`` in a config, for example ``{"allow_leaks": True}``.
        augment: as ``[augment]`` in a config, for example ``{"crop": 64}``.
        transforms: (image ``[C,H,W]``, mask ``[H,W]``, NumPy generator) -> (image, mask), for training, after augment.
        resume: continue the run in ``output``.
        overwrite: replace the run in ``output``.
        quiet: print results and warnings only.
        **settings: as ``[train]`` in a config, for example ``epochs=10``.

    Raises:
        SegkitError: see :mod:`segkit.errors`; before the first step nothing is written.
    """
    datasets = {"train": train, "val": val} | ({"test": test} if test is not None else {})
    values = {"train": settings, "data": {"resize": resize, **(data or {})}, "augment": augment or {}}
    values["output"] = {"dir": str(output), "samples": samples}
    tables: dict[str, Any] = {name: settings_from(TABLES[name], name, each) for name, each in values.items()}
    splits = {name: as_dataset(each, name, classes, palette, ignore_index) for name, each in datasets.items()}
    objects = {"model": model, "criterion": as_criterion(loss), "metrics": metrics or {}, "transforms": transforms}
    folder = objects["folder"] = Path(output)
    how: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "quiet": quiet, "notify": plugins.notify}
    return launch(lambda _: plain_inputs(splits, tables, **objects), tables["train"], folder, **how)


def launch(
    build: Callable[[bool], TrainerInputs],
    train: TrainSettings,
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    notify: Notify | None = None,
) -> Result:
    """Train a model, keep the best weights, and evaluate them on every split.

    Args:
        build: ``build(resume)`` returns the trainer's inputs; it is called once all processes are connected, and folder
            and device are known to be usable.
        train: the inputs' settings.
        folder, resume, overwrite, quiet: as for :func:`run`.
        notify: called with each event; the texts that it returns are reasons to stop after an epoch, or lines to print
            after the end.

    Raises:
        SegkitError: as :func:`run`.
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
        console, inputs = Console(PROCESSES.is_main_process, quiet), replace(build(resume), folder=folder)
        with open_trainer(inputs, console, notify, resume) as trainer:
            # check again: meanwhile another process may have written a run there and released the lock
            use = {"resume": resume, "overwrite": overwrite}
            PROCESSES.broadcast_from_main(lambda: stack.enter_context(locked(folder)) or check_folder(folder, **use))
            return trainer.run(resume)
