"""The composition root: a config becomes objects, the objects become a run.

``segkit.run`` reads a config, ``segkit.fit`` takes plain objects; both end in the one engine.
"""

from __future__ import annotations

import platform
import subprocess
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

import segkit
from segkit import plugins
from segkit.config import Choice, Config, Overrides, read_config, settings_from
from segkit.data.class_weights import LabelCounts, class_weights
from segkit.data.issues import gathered
from segkit.data.main_guard import refuse_unguarded
from segkit.data.sample import Dataset, check_splits
from segkit.data.scan import Check, Scan, scan_splits
from segkit.data.subset import Subset, as_dataset
from segkit.engine.criterion import Criterion, Loss, as_criterion, numbered
from segkit.engine.distributed import DistributedContext, distributed_context, launcher, same_launch
from segkit.engine.inputs import Job
from segkit.engine.precision import pick_device, resolve, seed_everything
from segkit.engine.run_folder import check_folder, read_json
from segkit.engine.trainer import Result, train_and_evaluate
from segkit.errors import DataError, Issue
from segkit.options import create
from segkit.registry import checks, datasets, losses, metrics, models, optimizers
from segkit.settings import AugmentSettings, DataSettings, OutputSettings, TrainSettings
from segkit.signals import StopSignals

SPLITS = ("train", "val", "test")


def run(
    config: str | Path | Mapping[str, Any],
    overrides: Overrides = (),
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> Result:
    """Train and evaluate what a config describes.

    Args:
        config: a TOML file, or its tables as a mapping.
        overrides: ``["train.epochs=3"]`` or ``{"train.epochs": 3}``.
        resume: go on with the run in the config's folder.
        overwrite: replace the run in the config's folder.

    Returns:
        What ``result.json`` holds.

    Raises:
        SegkitError: see :mod:`segkit.errors`; before the first step nothing is written.
    """
    return run_config(read_config(config, overrides), resume=resume, overwrite=overwrite)


def run_config(
    settings: Config,
    *,
    resume: bool = False,
    overwrite: bool = False,
    stop: StopSignals | None = None,
    quiet: bool = False,
) -> Result:
    """As :func:`run`, for a config that was read already.

    ``stop`` are the signals that end it, if they are caught; ``quiet`` prints results and warnings only.
    """
    refuse_unguarded(settings.train.workers)
    with ExitStack() as stack:
        stop = stop or stack.enter_context(StopSignals())
        distributed = stack.enter_context(distributed_context(settings.train.device))
        folder = settings.folder
        resume, overwrite = distributed.broadcast_from_main(lambda: after_restart(folder, resume, overwrite))
        distributed.broadcast_from_main(lambda: check_folder(folder, resume=resume, overwrite=overwrite))
        resolve(settings.train.precision, pick_device(settings.train.device))  # refused before the data is read
        job = build_job(settings, distributed, pretrained=not resume)
        observers = plugins.Observers()
        return train_and_evaluate(
            job, resume=resume, overwrite=overwrite, notify=observers, distributed=distributed, stop=stop, quiet=quiet
        )


def build_job(settings: Config, distributed: DistributedContext, *, pretrained: bool) -> Job:
    """The objects that a config names, its data scanned; each process has its own, and the first one's scan."""
    scan = shared_scan(settings, distributed)
    splits = scan.splits
    chosen_losses = resolve_weights(settings.losses, scan.counts("train"))
    seed_everything(settings.train.seed, settings.train.deterministic)
    return Job(
        model=distributed.main_process_first(
            lambda: build_model(settings.model, splits["train"], pretrained=pretrained)
        ),
        criterion=build_criterion(chosen_losses, splits["train"]),
        splits=splits,
        folder=settings.folder,
        scan=scan,
        metrics=build_metrics(settings.metrics, splits["train"]),
        optimizer=optimizers[settings.train.optimizer],
        train=settings.train,
        data=settings.data,
        augment=settings.augment,
        output=settings.output,
        record=_record(settings, chosen_losses),
        model_record={"model": _model_record(settings.model)},
    )


def after_restart(folder: Path, resume: bool, overwrite: bool) -> tuple[bool, bool]:
    """Whether to resume and to overwrite: torchrun's restart of a run goes on with what the same launch began."""
    if launcher() and (folder / "run.json").is_file() and (folder / "last.pt").exists():
        given_up = overwrite or (folder / "result.json").exists()
        if same_launch(read_json(folder / "run.json").get("launcher"), given_up):
            return True, False
    return resume, overwrite


def shared_scan(settings: Config, distributed: DistributedContext) -> Scan:
    """What the first process finds in the labels, beside each process's own datasets.

    Raises:
        LabelError: with all that is wrong.
    """
    own: list[Scan] = []

    def read() -> tuple[Any, ...]:
        scan = scan_dataset(settings)
        scan.refuse_errors()
        own.append(scan)
        kept = {name: data.indices for name, data in scan.splits.items() if isinstance(data, Subset)}
        return list(scan.splits), kept, scan.statistics, scan.issues

    names, kept, facts, issues = distributed.broadcast_from_main(read)
    if own:
        return own[0]
    splits: dict[str, Dataset] = {}
    for name in names:
        with gathered():  # what is wrong was told
            splits[name] = create(datasets.find(settings.dataset.name), settings.dataset.options, {"split": name})
        if name in kept:
            splits[name] = Subset(splits[name], kept[name])
    return Scan(splits, facts, issues)


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
    resume: bool = False,
    overwrite: bool = False,
    **settings: Any,
) -> Result:
    """Train and evaluate plain objects.

    Args:
        model: ``[B,3,H,W]`` float -> logits ``[B,C,H,W]``.
        loss: (logits ``[B,C,H,W]``, target int64 ``[B,H,W]``) -> scalar; several by name are summed.
        train: see :class:`segkit.data.sample.Dataset`; ``val`` and ``test`` likewise. torch's Subset and ConcatDataset
            of such datasets will do.
        val: picks the best weights.
        test: scored once, at the end.
        classes: names, for datasets that give pairs (image uint8 ``[3,H,W]``, mask of integers ``[H,W]``), or Pillow's.
        palette: their colours, an RGB triple a class; left out: Pascal VOC's.
        ignore_index: their label of void pixels.
        metrics: beside the usual ones, by name.
        output: the run folder.
        samples: val images whose predictions are drawn each epoch.
        resize: as ``data.resize`` in a config.
        data: as ``[data]`` in a config, ``{"allow_leaks": True}``.
        augment: as ``[augment]`` in a config, ``{"crop": 64}``.
        resume: go on with the run in ``output``.
        overwrite: replace the run in ``output``.
        **settings: as ``[train]`` in a config, ``epochs=10``.

    Raises:
        SegkitError: see :mod:`segkit.errors`; before the first step nothing is written.
    """
    given = {"train": train, "val": val} | ({"test": test} if test is not None else {})
    splits = {name: as_dataset(each, name, classes, palette, ignore_index) for name, each in given.items()}
    tables: dict[str, Any] = {
        "train": settings_from(TrainSettings, "train", settings),
        "data": settings_from(DataSettings, "data", {"resize": resize, **(data or {})}),
        "augment": settings_from(AugmentSettings, "augment", augment or {}),
        "output": settings_from(OutputSettings, "output", {"dir": str(output), "samples": samples}),
    }
    job = Job(
        model=model,
        criterion=as_criterion(loss),
        splits=splits,
        folder=Path(output),
        metrics=metrics or {},
        record=environment() | {"config": {name: table.model_dump() for name, table in tables.items()}},
        model_record={"model": None},
        checks=build_checks(tables["data"]),
        optimizer=optimizers[tables["train"].optimizer],
        **tables,
    )
    return train_and_evaluate(job, resume=resume, overwrite=overwrite, notify=plugins.Observers())


def scan_dataset(settings: Config, names: Sequence[str] = ()) -> Scan:
    """Build the splits that the dataset has, or those named, and read every label once.

    Raises:
        ConfigError, DataError: the options are wrong, or there is nothing to read.
    """
    component = datasets.find(settings.dataset.name)
    splits: dict[str, Dataset] = {}
    faults: dict[str, list[Issue]] = {}

    problems: list[Issue] = []

    said: dict[str, set[str]] = {}  # warning -> splits

    def build(split: str) -> None:
        # what cannot be used, and what a dataset warns of, is told with all that the scan finds
        with gathered() as faults[split], warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            splits[split] = as_dataset(create(component, settings.dataset.options, {"split": split}), split)
        for each in caught:
            if each.category is UserWarning:
                said.setdefault(str(each.message), set()).add(split)
            else:
                warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)

    build("train")
    there = splits["train"].splits
    for split in SPLITS[1:]:
        if split == "val" or split in there:
            try:
                build(split)
            except DataError as error:
                problems.append(Issue("unusable_split", what=str(error), split=split))
    unknown = [name for name in names if name not in faults]
    if unknown:
        raise DataError(f"{settings.dataset.name} has no split '{unknown[0]}'; there are {', '.join(splits)}")
    check_splits(splits)
    chosen = {name: dataset for name, dataset in splits.items() if not names or name in names}
    scan = scan_splits(chosen, settings.data, faults, build_checks(settings.data))
    told = [problem for problem in problems if not names or problem.split in names]
    for text, those in said.items():
        where = (
            settings.dataset.name if len(those) == len(faults) else ", ".join(each for each in SPLITS if each in those)
        )
        told.append(Issue("dataset", what=text, severity="warning", split=where))
    return replace(scan, issues=[*told, *scan.issues])


def build_checks(data: DataSettings) -> dict[str, Check]:
    """All checks that plugins offer, by name.

    Raises:
        PluginError: one cannot be loaded; a run without it might go on where it should stop.
    """
    return {checks.shortest_name(each): create(each, {}, {"settings": data}) for each in checks.components()}


def facts(dataset: Dataset) -> dict[str, Any]:
    """What the dataset alone decides, for the components that ask for it."""
    classes = tuple(dataset.classes)
    return {"num_classes": len(classes), "ignore_index": dataset.ignore_index, "classes": classes, "in_channels": 3}


def build_model(choice: Choice, dataset: Dataset, *, pretrained: bool = True) -> nn.Module:
    """The model a config names; without its option ``weights`` where a checkpoint replaces them at once."""
    options = {name: value for name, value in choice.options.items() if pretrained or name != "weights"}
    model: nn.Module = create(models.find(choice.name), options, facts(dataset))
    return model


def resolve_weights(choices: Sequence[Choice], counts: LabelCounts) -> list[Choice]:
    """The losses with ``class_weights`` as numbers, computed from the training labels where a formula is named."""
    resolved = []
    for choice in choices:
        weights = choice.options.get("class_weights")
        if isinstance(weights, str):
            weights = class_weights(weights, counts.pixels.tolist(), counts.image_pixels.tolist())
            choice = replace(choice, options={**choice.options, "class_weights": weights})
        resolved.append(choice)
    return resolved


def build_criterion(choices: Sequence[Choice], dataset: Dataset) -> Criterion:
    """The sum of the losses a config names, their weights resolved."""
    given = facts(dataset)
    return Criterion([(_short_name(c), c.scale, create(losses.find(c.name), c.options, given)) for c in choices])


def build_metrics(choices: Sequence[Choice], dataset: Dataset) -> dict[str, Any]:
    """The metrics a config names."""
    built = [create(metrics.find(c.name), c.options, facts(dataset)) for c in choices]
    return dict(zip(numbered([_short_name(c) for c in choices]), built, strict=True))


def _short_name(choice: Choice) -> str:
    """A component's name without its plugin's."""
    return choice.name.rpartition("/")[2]


def environment() -> dict[str, Any]:
    """Versions, for ``run.json``."""
    packages = ("torch", "torchvision", "segmentation-models-pytorch", "timm", "numpy", "pillow")
    return {
        "segkit": segkit.__version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "cuda": torch.version.cuda,
        "commit": _commit(),
    }


def _model_record(choice: Choice) -> dict[str, Any]:
    """What ``config.json`` says of the model: how it is built again, and who provides it."""
    component = models.find(choice.name)
    provider = {"distribution": component.distribution, "version": component.version}
    return {"name": choice.name, "options": dict(choice.options), **provider}


def _record(config: Config, chosen_losses: Sequence[Choice]) -> dict[str, Any]:
    found = {
        "dataset": [datasets.find(config.dataset.name)],
        "model": [models.find(config.model.name)],
        "loss": [losses.find(choice.name) for choice in config.losses],
        "metric": [metrics.find(choice.name) for choice in config.metrics],
    }
    return environment() | {
        "config": config.record(),
        "components": {kind: [str(component) for component in those] for kind, those in found.items()},
        "class_weights": [choice.options.get("class_weights") for choice in chosen_losses],  # as numbers, a row a loss
    }


def _commit() -> str | None:
    """The commit of the project the run was started in, if it was one."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
