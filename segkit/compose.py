"""The composition root: what a config names becomes objects, its data is scanned."""

from __future__ import annotations

import platform
import subprocess
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import segkit
from segkit import plugins
from segkit.config import Choice, Config
from segkit.data.issues import gathered
from segkit.data.sample import SPLITS, Dataset, check_splits
from segkit.data.scan import Scan, scan_splits
from segkit.data.subset import as_dataset, with_bands
from segkit.engine.criterion import Criterion, numbered
from segkit.engine.distributed import PROCESSES
from segkit.engine.inputs import TrainerInputs
from segkit.engine.launch import check
from segkit.engine.precision import seed_everything
from segkit.errors import DataError, Issue
from segkit.options import create, without_pretrained
from segkit.registry import checks, optimizers
from segkit.settings import AugmentSettings, DataSettings


def build_inputs(settings: Config, *, pretrained: bool = True) -> TrainerInputs:
    """The objects that a config names, its data scanned; of several processes each builds its own, the main one first.

    Args:
        settings: the config.
        pretrained: False where a checkpoint replaces the model's weights at once.

    Raises:
        SegkitError: see :mod:`segkit.errors`; a LabelError has all that is wrong with the data.
    """
    main = PROCESSES.is_main_process
    scan = PROCESSES.main_process_first(lambda: scan_dataset(settings, progress=main).refuse_errors())
    train, weights = scan.splits["train"], [_class_weights(choice, scan) for choice in settings.loss]
    seed_everything(settings.train.seed, settings.train.deterministic)
    model = settings.model
    about = {"name": model.name, "options": dict(model.options)}
    about |= {"distribution": model.component.distribution, "version": model.component.version}
    if not pretrained:
        model = replace(model, options=without_pretrained(model.component, model.options))
    chosen = {"dataset": [settings.dataset], "model": [model], "loss": settings.loss, "metric": settings.metric}
    components = {kind: [str(each.component) for each in those] for kind, those in chosen.items()}
    return _inputs(
        vars(settings),
        {"config": settings.record(), "components": components, "class_weights": weights},
        model=PROCESSES.main_process_first(lambda: model.build(train)),
        criterion=build_criterion(settings.loss, weights, train),
        scan=scan,
        folder=settings.folder,
        metrics=build_metrics(settings.metric, train),
        transforms=[each.build(train) for each in settings.transform],
        model_record={"model": about},
    )


def plain_inputs(splits: Mapping[str, Dataset], tables: Mapping[str, Any], **objects: Any) -> TrainerInputs:
    """The inputs of objects that no config names, their data scanned; ``tables`` are the settings.

    Raises:
        SegkitError: see :mod:`segkit.errors`; a LabelError has all that is wrong with the data.
    """
    data = tables["data"]
    bare = Scan({name: with_bands(dataset, data) for name, dataset in splits.items()}, {}, [])
    config = {name: table.model_dump() for name, table in tables.items()}
    inputs = _inputs(tables, {"config": config}, scan=bare, model_record={"model": None}, **objects)
    check(inputs)  # what is wrong with these objects is refused before the data is read
    how: dict[str, Any] = {"checks": build_checks(data, inputs.augment), "progress": PROCESSES.is_main_process}
    scan = PROCESSES.main_process_first(lambda: scan_splits(inputs.splits, data, **how).refuse_errors())
    return replace(inputs, scan=scan)


def _inputs(tables: Mapping[str, Any], record: dict[str, Any], **objects: Any) -> TrainerInputs:
    """Inputs with what does not depend on whether a config or a program has made the objects."""
    own = {name: tables[name] for name in ("data", "augment", "train")}
    own |= {"optimizer": optimizers[own["train"].optimizer], "prepared": plugins.prepared}
    return TrainerInputs(record=environment() | record, **own, **objects)


def scan_dataset(settings: Config, names: Sequence[str] = (), progress: bool = True) -> Scan:
    """Build the splits that the dataset has, or those named, and read every sample once; ``progress`` shows a bar.

    Raises:
        ConfigError, DataError: the options are wrong, or there is nothing to read.
    """
    splits, found, issues = build_splits(settings)
    unknown = [name for name in names if name not in found]
    if unknown:
        raise DataError(f"{settings.dataset.name} has no split '{unknown[0]}'; there are {', '.join(splits)}")
    check_splits(splits)
    chosen = {name: dataset for name, dataset in splits.items() if not names or name in names}
    scan = scan_splits(chosen, settings.data, found, build_checks(settings.data, settings.augment), progress)
    # what a dataset warns of has no kind of its own, and is of the whole dataset
    of_splits = [issue for issue in issues if not names or issue.kind == "dataset" or issue.split in names]
    return replace(scan, issues=[*of_splits, *scan.issues])


def build_splits(settings: Config) -> tuple[dict[str, Dataset], dict[str, list[Issue]], list[Issue]]:
    """The splits that the dataset has.

    What cannot be used, and what a dataset warns of while it is built, is not raised but handed back, to be
    reported with all that the scan finds: by split the issues of files, and those of whole splits.

    Raises:
        ConfigError, DataError: there is no train.
    """
    splits: dict[str, Dataset] = {}
    found: dict[str, list[Issue]] = {}
    issues: list[Issue] = []
    warned: dict[str, list[str]] = {}  # text -> splits
    for split in SPLITS:
        if split == "test" and split not in splits["train"].splits:
            continue
        try:
            with gathered() as found[split], warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                built = splits["train"].in_split(split) if splits else None
                is_read = built is not None  # together with train, so that what was warned of is of both
                if built is None:
                    new = create(settings.dataset.component, settings.dataset.options, {"split": split})
                    built = with_bands(as_dataset(new, split), settings.data)
                splits[split] = built
        except DataError as error:
            if split == "train":
                root = settings.dataset.options.get("root")
                if isinstance(root, str) and not Path(root).expanduser().exists() and not Path(root).is_absolute():
                    here = f"dataset.root=... is relative to the working directory, {Path.cwd()}"
                    raise DataError(f"{error}; {here}, which holds no {root}") from error
                raise
            issues.append(Issue("unusable_split", what=str(error), split=split))
            continue
        for those in warned.values() if is_read else ():
            those += [split] * ("train" in those)
        for each in caught:
            if each.category is UserWarning:
                warned.setdefault(str(each.message), []).append(split)
            else:
                warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    for text, those in warned.items():
        where = settings.dataset.name if len(set(those)) == len(found) else ", ".join(dict.fromkeys(those))
        issues.append(Issue("dataset", what=text, severity="warning", split=where))
    return splits, found, issues


def build_checks(data: DataSettings, augment: AugmentSettings) -> dict[str, Any]:
    """All checks that plugins offer, by name.

    Raises:
        PluginError: one cannot be loaded; a run without it might go on where it should stop.
    """
    given = {"settings": data, "augment": augment}
    return {checks.shortest_name(each): create(each, {}, given) for each in checks.components()}


def build_criterion(choices: Sequence[Choice], weights: Sequence[Any], dataset: Dataset) -> Criterion:
    """The sum of the losses a config names; ``weights`` are the class weights of each, or None."""
    own = [{} if row is None else {"class_weights": row} for row in weights]
    return Criterion(
        [(each.short, each.scale, each.build(dataset, **row)) for each, row in zip(choices, own, strict=True)]
    )


def build_metrics(choices: Sequence[Choice], dataset: Dataset) -> dict[str, Any]:
    """The metrics a config names."""
    names = numbered([choice.short for choice in choices])
    return {name: choice.build(dataset) for name, choice in zip(names, choices, strict=True)}


def environment() -> dict[str, Any]:
    """Versions, for ``run.json``, and the commit of the project the run was started in, if it was one."""
    packages = ("torch", "torchvision", "segmentation-models-pytorch", "timm", "numpy", "pillow")
    commit = ""
    with suppress(OSError, subprocess.TimeoutExpired):
        asked = ["git", "rev-parse", "HEAD"]
        commit = subprocess.run(asked, capture_output=True, text=True, timeout=5, check=False).stdout.strip()
    return {
        "segkit": segkit.__version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "cuda": torch.version.cuda,
        "commit": commit or None,
    }


def _class_weights(choice: Choice, scan: Scan) -> Any:
    """The class weights of a loss, if any; by the training labels where a config names a formula."""
    weights = choice.options.get("class_weights")
    return scan.counts("train").class_weights(weights) if isinstance(weights, str) else weights
