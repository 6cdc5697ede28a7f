"""Score a finished run again: its config, its weights and its own class weights, so that its figures come out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from segkit.compose import build_criterion, build_metrics, scan_dataset
from segkit.config import Overrides, read_config
from segkit.data.loader import worker_count
from segkit.engine.evaluate import Evaluator, floor
from segkit.engine.precision import pick_device, seed_everything
from segkit.engine.run_folder import read_json
from segkit.errors import RunFolderError, printable
from segkit.loading import load


@dataclass(frozen=True)
class Scores:
    """What :func:`evaluate_run` found: scores by split, the classes, and their shares of each split's pixels."""

    splits: dict[str, dict[str, Any]]
    classes: tuple[str, ...]
    shares: dict[str, NDArray[Any]]


def evaluate_run(folder: str | Path, names: Sequence[str] = (), overrides: Overrides = ()) -> Scores:
    """Score a run's best weights again, as the run did.

    Args:
        folder: the run folder.
        names: of the splits; left out: all there are.
        overrides: of the run's config, as where its data lies now.

    Raises:
        SegkitError: see :mod:`segkit.errors`.
    """
    record = read_json(Path(folder) / "run.json")
    tables = record.get("config")
    if not isinstance(tables, dict) or "dataset" not in tables:
        raise RunFolderError(f"{folder} was trained on plain objects; there is no config to build its data from")
    config = read_config(tables, overrides, where=f"{folder}/run.json")
    leaky = config.data.model_copy(update={"allow_leaks": True})  # the run was trained with them, whatever is said now
    scan = scan_dataset(replace(config, data=leaky), names)
    scan.refuse_errors()
    for issue in scan.warnings:
        if issue.skippable:  # fewer images are scored than there are
            print(f"warning: {printable(issue)}", file=sys.stderr)
    weights = record.get("class_weights") or [None] * len(config.losses)
    if not isinstance(weights, list) or len(weights) != len(config.losses):
        raise RunFolderError(f"{folder}/run.json is damaged: class_weights needs an entry for each of the losses")
    losses = [
        replace(choice, options={**choice.options, "class_weights": row}) if row else choice
        for choice, row in zip(config.losses, weights, strict=True)
    ]
    device = pick_device(config.train.device)
    seed_everything(config.train.seed, config.train.deterministic)
    predictor = load(folder, device=str(device), precision=config.train.precision)
    model, precision = predictor.model, predictor.precision
    first = next(iter(scan.splits.values()))
    metrics = build_metrics(config.metrics, first)
    scores = {}
    for name, dataset in scan.splits.items():
        predictor.refuse_other_depth(scan.statistics[name][0].dtype, f"{name}: {scan.statistics[name][0].name}")
        evaluator = Evaluator(
            dataset,
            precision=precision,
            criterion=build_criterion(losses, dataset).to(device),
            metrics=metrics,
            floor=floor(scan.counts(name), dataset, metrics),
            batch_size=config.train.batch_size,
            resize=config.data.resize,
            crop=config.augment.crop,
            normalisation=predictor.normalisation,
            workers=worker_count(config.train.workers, device),
        )
        scores[name] = evaluator.evaluate(model, f"scores on {name}").scores
    return Scores(scores, tuple(first.classes), {name: scan.counts(name).shares for name in scan.splits})
