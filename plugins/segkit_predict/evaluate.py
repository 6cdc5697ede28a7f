"""Evaluates a finished run again, or several together, with the config and the class weights of the run."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import segkit
from segkit.compose import build_criterion, build_metrics, scan_dataset
from segkit.config import Overrides, read_config
from segkit.data.scan import Scan
from segkit.engine.evaluate import Evaluator
from segkit.engine.precision import seed_everything
from segkit.errors import ConfigError, RunFolderError


def evaluate_run(
    folder: str | Path | Sequence[str | Path],
    names: Sequence[str] = (),
    overrides: Overrides = (),
    more_metrics: Mapping[str, Any] | None = None,
    temperature: float | None = None,
) -> tuple[dict[str, dict[str, Any]], Scan]:
    """Evaluate a finished run's best weights with its own config and class weights; return the scores and the data.

    Args:
        folder: the run folder; for several the probabilities are averaged, and the config is that of the first.
        names: the splits to evaluate; default: all, or for several runs the splits that are the same in all of them.
        overrides: overrides of the run's config, for example where its data is now.
        more_metrics: metrics by name, in addition to those of the config.
        temperature: replaces the temperature of a single run.

    Raises:
        SegkitError: see :mod:`segkit.errors`.
    """
    folders = [folder] if isinstance(folder, str | Path) else list(folder)
    record, *others = [segkit.read_run(each) for each in folders]
    folder = folders[0]
    if "dataset" not in record.config:
        what = "a run of plain objects, or an exported one"
        raise RunFolderError(f"{folder} is {what}: it has no config to build the data from")
    try:
        config = read_config(record.config, overrides)
    except ConfigError as error:
        raise ConfigError(error.problems, f"{folder}/run.json") from error
    seed_everything(config.train.seed, config.train.deterministic)
    where: Any = {"device": config.train.device, "precision": config.train.precision}
    predictor = segkit.load(folders if others else folder, **where)
    if others:
        names = _common_splits([record.run, *(other.run for other in others)], names)
    leaky = config.data.model_copy(update={"allow_leaks": True})  # if there are leaks, the run was trained despite them
    scan = scan_dataset(replace(config, data=leaky, augment=type(config.augment)()), names).refuse_errors()
    for issue in scan.warnings:
        if issue.skippable:  # this image is not evaluated
            print(f"warning: {issue}", file=sys.stderr)
    weights = record.run.get("class_weights") or [None] * len(config.loss)
    if not isinstance(weights, list) or len(weights) != len(config.loss):
        raise RunFolderError(f"{folder}/run.json is damaged: class_weights must have one entry per loss")
    first, device = next(iter(scan.splits.values())), predictor.precision.device
    metrics = build_metrics(config.metric, first) | dict(more_metrics or {})
    criterion = build_criterion(config.loss, weights, first).to(device)
    inferer = predictor.inferer
    inferer.resize, inferer.crop = config.data.resize, config.augment.crop
    inferer.temperature = inferer.temperature if temperature is None else temperature
    scores = {}
    for name, dataset in scan.splits.items():
        predictor.refuse_other_depth(scan.statistics[name][0].dtype, f"{name}: {scan.statistics[name][0].name}")
        if len(dataset.channels) == 1 and len(predictor.normalisation.mean) == 3:  # older runs repeated grey as RGB
            dataset.set_bands((1, 1, 1), dataset.no_data)
        lowest, batch = scan.floor(name), config.train.batch_size
        evaluator = Evaluator(inferer, dataset, criterion, metrics, lowest, batch, config.train.workers)
        scores[name] = evaluator.evaluate(f"scores on {name}").scores
    return scores, scan


def _common_splits(runs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """The splits that are the same in all runs; with folds, val of one is in train of another and proves nothing.

    Raises:
        RunFolderError: no split is the same in all runs, or one of ``names`` is not.
    """
    data = [run.get("data") or {} for run in runs]  # images and labels by split
    same = [split for split in data[0] if all(each.get(split) == data[0][split] for each in data)]
    if not same or set(names) - set(same):
        raise RunFolderError(
            f"these runs can be scored together on {', '.join(same) or 'no split'}: the other splits differ between "
            "them, so one may be trained on val images of another, as with folds; `compare` gives their mean scores"
        )
    return [name for name in same if not names or name in names]
