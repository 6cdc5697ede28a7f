"""The composition root: builds the objects that a config names, and scans its data."""

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
from segkit.data.read import ODD_METADATA
from segkit.data.sample import SPLITS, Dataset, check_splits
from segkit.data.scan import Scan, scan_splits
from segkit.data.subset import as_dataset, with_bands
from segkit.engine.criterion import Criterion, numbered
from segkit.engine.distributed import PROCESSES
from segkit.engine.inputs import TrainerInputs, check
from segkit.engine.precision import seed_everything
from segkit.errors import DataError, Issue, gathered
from segkit.options import create, without_pretrained
from segkit.registry import checks, optimizers
from segkit.settings import DataSettings


def build_inputs(settings: Config, *, pretrained: bool = True) -> TrainerInputs:
    """Build the objects that a config names, and scan its data; every process does so, the main process first.

    Args:
        settings: the config.
        pretrained: whether to load pretrained weights; False where a checkpoint replaces them at once.

    Raises:
        SegkitError: see :mod:`segkit.errors`; a LabelError lists all problems of the data.
    """
    main = PROCESSES.is_main_process
    scan = PROCESSES.main_process_first(lambda: scan_dataset(settings, progress=main).refuse_errors())
    train, weights = scan.splits["train"], [_class_weights(choice, scan) for choice in settings.loss]
    seed_everything(settings.train.seed, settings.train.deterministic)
    model = settings.model
    model_record = {"name": model.name, "options": dict(model.options)}
    model_record |= {"distribution": model.component.distribution, "version": model.component.version}
    if not pretrained:
        model = replace(model, options=without_pretrained(model.component, model.options))
    chosen = {"dataset": [settings.dataset], "model": [model], "loss": settings.loss, "metric": settings.metric}
    components = {kind: [str(each.component) for each in choices] for kind, choices in chosen.items()}
    return _inputs(
        vars(settings),
        {"config": settings.record(), "components": components, "class_weights": weights},
        model=PROCESSES.main_process_first(lambda: model.build(train)),
        criterion=build_criterion(settings.loss, weights, train),
        scan=scan,
        folder=settings.folder,
        metrics=build_metrics(settings.metric, train),
        transforms=[each.build(train) for each in settings.transform],
        model_record={"model": model_record},
    )


def plain_inputs(splits: Mapping[str, Dataset], tables: Mapping[str, Any], **objects: Any) -> TrainerInputs:
    """Make the inputs from plain objects instead of a config, and scan their data; ``tables`` are the settings.

    Raises:
        SegkitError: see :mod:`segkit.errors`; a LabelError lists all problems of the data.
    """
    data = tables["data"]
    bare = Scan({name: with_bands(dataset, data) for name, dataset in splits.items()}, {}, [])
    config = {name: table.model_dump() for name, table in tables.items()}
    inputs = _inputs(tables, {"config": config}, scan=bare, model_record={"model": None}, **objects)
    check(inputs)  # refuses wrong objects before the data is read
    how: dict[str, Any] = {"checks": build_checks(data), "progress": PROCESSES.is_main_process}
    return replace(
        inputs, scan=PROCESSES.main_process_first(lambda: scan_splits(inputs.splits, data, **how).refuse_errors())
    )


def _inputs(tables: Mapping[str, Any], record: dict[str, Any], **objects: Any) -> TrainerInputs:
    """Make the inputs, with the parts that configs and plain objects have in common."""
    common = {name: tables[name] for name in ("data", "augment", "train")}
    common |= {"optimizer": optimizers[common["train"].optimizer], "prepared": plugins.prepared}
    return TrainerInputs(record=environment() | record, **common, **objects)


def scan_dataset(settings: Config, names: Sequence[str] = (), progress: bool = True) -> Scan:
    """Build the dataset's splits, or only those named, and read every sample once; ``progress`` shows a bar.

    Raises:
        ConfigError, DataError: the options are wrong, or there is nothing to read.
    """
    splits, issues = build_splits(settings)
    if unknown := [name for name in names if name not in {*splits, *(issue.split for issue in issues)}]:
        raise DataError(f"{settings.dataset.name} has no split '{unknown[0]}'; there are {', '.join(splits)}")
    check_splits(splits)
    chosen = {name: dataset for name, dataset in splits.items() if not names or name in names}
    asked = [issue for issue in issues if not names or issue.split in names]
    if not chosen:
        raise DataError("\n".join(map(str, asked)))
    return scan_splits(chosen, settings.data, asked, build_checks(settings.data), progress)


def build_splits(settings: Config) -> tuple[dict[str, Dataset], list[Issue]]:
    """Build all splits of the dataset; return them, and the problems and warnings to be reported with those of a scan.

    Raises:
        ConfigError, DataError: the split train cannot be built.
    """
    splits: dict[str, Dataset] = {}
    issues: list[Issue] = []
    for split in SPLITS:
        if split == "test" and split not in splits["train"].splits:
            continue
        try:
            with gathered() as found, warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UserWarning)
                warnings.filterwarnings("ignore", module=ODD_METADATA)
                built = create(settings.dataset.component, settings.dataset.options, {"split": split})
                splits[split] = with_bands(as_dataset(built, split), settings.data)
        except DataError as error:
            root = Path(str(settings.dataset.options.get("root", "."))).expanduser()
            if split == "train" and not root.is_absolute() and not root.exists():
                raise DataError(f"{error}; the working directory is {Path.cwd()}") from error
            if split == "train":
                raise
            issues.append(Issue("unusable_split", what=str(error), split=split))
        else:
            for each in caught:
                ways = getattr(each.message, "ways", {})
                issues.append(Issue("dataset", what=str(each.message), severity="warning", split=split, ways=ways))
        issues += [replace(each, split=split) for each in found]
    return splits, issues


def build_checks(data: DataSettings) -> dict[str, Any]:
    """Build all checks that plugins offer, by name.

    Raises:
        PluginError: a check cannot be loaded; without it, a run that should stop might continue.
    """
    given = {"settings": data}
    return {checks.shortest_name(each): create(each, {}, given) for each in checks.components()}


def build_criterion(choices: Sequence[Choice], weights: Sequence[Any], dataset: Dataset) -> Criterion:
    """Build the sum of the losses that a config names; ``weights`` holds the class weights of each, or None."""
    extra = [{} if row is None else {"class_weights": row} for row in weights]
    return Criterion(
        [(each.short, each.scale, each.build(dataset, **row)) for each, row in zip(choices, extra, strict=True)]
    )


def build_metrics(choices: Sequence[Choice], dataset: Dataset) -> dict[str, Any]:
    """Build the metrics that a config names."""
    names = numbered([choice.short for choice in choices])
    return {name: choice.build(dataset) for name, choice in zip(names, choices, strict=True)}


def environment() -> dict[str, Any]:
    """The versions for ``run.json``, and the git commit of the working directory, if any."""
    packages = ("torch", "torchvision", "segmentation-models-pytorch", "timm", "numpy", "pillow")
    commit = ""
    with suppress(OSError, subprocess.TimeoutExpired):
        command = ["git", "rev-parse", "HEAD"]
        commit = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout.strip()
    return {
        "segkit": segkit.__version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "cuda": torch.version.cuda,
        "commit": commit or None,
    }


def _class_weights(choice: Choice, scan: Scan) -> Any:
    """The class weights of a loss, if any; a formula's are computed from the training labels."""
    weights = choice.options.get("class_weights")
    return scan.counts("train").class_weights(weights) if isinstance(weights, str) else weights
