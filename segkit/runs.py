"""Runs: train from a config or from plain objects, and evaluate a finished run again.

``segkit.run`` reads a config, ``segkit.fit`` takes plain objects; both use the same engine. (The file is not named
``run.py`` because importing the module ``segkit.run`` would hide the function ``segkit.run``.)
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import nn

from segkit import plugins
from segkit.compose import build_criterion, build_inputs, build_metrics, plain_inputs, scan_dataset
from segkit.config import Config, Overrides, read_config, settings_from
from segkit.data.augment import Transform
from segkit.data.sample import Dataset
from segkit.data.subset import Subset, as_dataset
from segkit.engine.criterion import Loss, as_criterion
from segkit.engine.evaluate import Evaluator
from segkit.engine.inputs import TrainerInputs
from segkit.engine.launch import launch
from segkit.engine.precision import seed_everything
from segkit.engine.run_folder import Result, read_json
from segkit.errors import ConfigError, RunFolderError
from segkit.settings import TABLES, AugmentSettings


def run(
    config: str | Path | Mapping[str, Any] | Config,
    overrides: Overrides = (),
    *,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Result:
    """Train and evaluate as a config describes.

    Args:
        config: a TOML file, or its tables as a mapping; or a :class:`Config`, whose overrides are applied already.
        overrides: ``["train.epochs=3"]`` or ``{"train.epochs": 3}``.
        resume: continue the run in the config's folder.
        overwrite: replace the run in the config's folder.
        quiet: print results and warnings only.

    Returns:
        The content of ``result.json``.

    Raises:
        SegkitError: see :mod:`segkit.errors`; before the first step nothing is written.
    """
    if isinstance(config, Config) and overrides:
        raise ConfigError("overrides: this config was read already; give them to read_config")
    settings = config if isinstance(config, Config) else read_config(config, overrides)

    def build(resume: bool) -> TrainerInputs:
        return build_inputs(settings, pretrained=not resume)

    how: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "quiet": quiet}
    return launch(build, settings.train, settings.folder, notify=plugins.Observers(), **how)


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
    how: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "quiet": quiet, "notify": plugins.Observers()}
    return launch(lambda _: plain_inputs(splits, tables, **objects), tables["train"], folder, **how)


@dataclass(frozen=True)
class Scores:
    """Result of :func:`evaluate_run`: scores by split, the classes, and each class's share of a split's pixels."""

    splits: dict[str, dict[str, Any]]
    classes: tuple[str, ...]
    shares: dict[str, NDArray[Any]]


def evaluate_run(
    folder: str | Path | Sequence[str | Path],
    names: Sequence[str] = (),
    overrides: Overrides = (),
    more_metrics: Mapping[str, Any] | None = None,
) -> Scores:
    """Evaluate a finished run's best weights with its own config and class weights, which reproduces its scores.

    Args:
        folder: the run folder; for several the probabilities are averaged, and the config is that of the first.
        names: the splits to evaluate; default: all, or for several runs the splits that are the same in all of them.
        overrides: overrides of the run's config, for example where its data is now.
        more_metrics: metrics by name, in addition to those of the config.

    Raises:
        SegkitError: see :mod:`segkit.errors`.
    """
    from segkit.loading import load  # a run that trains needs no predictor

    folders = [folder] if isinstance(folder, str | Path) else list(folder)
    record, *others = [read_json(Path(each) / "run.json") for each in folders]
    folder, tables = folders[0], record.get("config")
    if not isinstance(tables, dict) or "dataset" not in tables:
        raise RunFolderError(f"{folder} was trained on plain objects, so it has no config to build the data from")
    config = read_config(tables, overrides, where=f"{folder}/run.json")
    seed_everything(config.train.seed, config.train.deterministic)
    predictor = load(folders if others else folder, device=config.train.device, precision=config.train.precision)
    if others:
        names = _common_splits(record, others, names)
    leaky = config.data.model_copy(update={"allow_leaks": True})  # if there are leaks, the run was trained despite them
    scan = scan_dataset(replace(config, data=leaky, augment=AugmentSettings()), names)
    scan.refuse_errors()
    for issue in scan.warnings:
        if issue.skippable:  # this image is not evaluated
            print(f"warning: {issue}", file=sys.stderr)
    weights = record.get("class_weights") or [None] * len(config.loss)
    if not isinstance(weights, list) or len(weights) != len(config.loss):
        raise RunFolderError(f"{folder}/run.json is damaged: class_weights must have one entry per loss")
    first, device = next(iter(scan.splits.values())), predictor.precision.device
    metrics = build_metrics(config.metric, first) | dict(more_metrics or {})
    criterion = build_criterion(config.loss, weights, first).to(device)
    inferer = predictor.inferer
    inferer.resize, inferer.crop = config.data.resize, config.augment.crop
    scores = {}
    for name, dataset in scan.splits.items():
        predictor.refuse_other_depth(scan.statistics[name][0].dtype, f"{name}: {scan.statistics[name][0].name}")
        if len(dataset.channels) == 1 and len(predictor.normalisation.mean) == 3:  # older runs repeated grey as RGB
            dataset = Subset(dataset, bands=(1, 1, 1), no_data=dataset.no_data)
        lowest, batch = scan.floor(name), config.train.batch_size
        evaluator = Evaluator(inferer, dataset, criterion, metrics, lowest, batch, config.train.workers)
        scores[name] = evaluator.evaluate(f"scores on {name}").scores
    return Scores(scores, tuple(first.classes), {name: scan.counts(name).shares for name in scan.splits})


def _common_splits(first: Mapping[str, Any], others: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """The splits that are the same in all runs; with folds, val of one is in train of another and proves nothing.

    Raises:
        RunFolderError: no split is the same in all runs, or one of ``names`` is not.
    """
    data = [record.get("data") or {} for record in (first, *others)]  # images and labels by split
    same = [split for split in data[0] if all(each.get(split) == data[0][split] for each in data)]
    if not same or set(names) - set(same):
        raise RunFolderError(
            f"these runs can be scored together on {', '.join(same) or 'no split'}: the other splits differ between "
            "them, so one may be trained on val images of another, as with folds; `compare` gives their mean scores"
        )
    return [name for name in same if not names or name in names]
