"""What a run folder tells of its run: from ``run.json``, ``result.json`` and ``metrics.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from segkit.engine.run_folder import no_run, read_json
from segkit.errors import RunFolderError

COSTS = ("best_epoch", "seconds", "images_per_second", "peak_memory_bytes", "precision", "device")


@dataclass(frozen=True)
class RunFacts:
    """One run.

    Attributes:
        name: its folder, as it was given.
        finished: whether it has a result.
        settings: its config with every default written out, the versions of its packages among them.
        splits: per split the scores and their ``floor``, as in ``result.json``.
        costs: the rest of the result: seconds, images a second, bytes, precision, device; what is not known is None.
    """

    name: str
    finished: bool
    settings: Mapping[str, Any]
    splits: Mapping[str, Mapping[str, Any]]
    costs: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


def read_run(place: str) -> RunFacts:
    """A run that is finished, or has had an epoch at least.

    Raises:
        RunFolderError: no run folder, one whose files are damaged, or no epoch has ended yet.
    """
    folder = Path(place)
    if not folder.is_dir():
        raise RunFolderError(no_run(folder))
    record = read_json(folder / "run.json")
    config = record.get("config")
    if not isinstance(config, dict):
        raise RunFolderError(f"{folder}/run.json is damaged: it holds no config")
    settings = {**config, "version": {"segkit": record.get("segkit"), **(record.get("packages") or {})}}
    finished = (folder / "result.json").exists()
    result = read_json(folder / "result.json") if finished else _best_so_far(folder)
    splits = result.get("splits")
    if not isinstance(splits, dict) or not all(isinstance(each, dict) and "floor" in each for each in splits.values()):
        raise RunFolderError(f"{folder}/result.json is damaged: it holds no splits with scores and floors")
    return RunFacts(place.rstrip("/") or place, finished, settings, splits, {name: result.get(name) for name in COSTS})


def same_data(scores: Sequence[Mapping[str, Any]]) -> bool:
    """Whether scores of one split may be set side by side: those of other images or classes have other floors."""
    floors = [(each["floor"].get("class"), each["floor"].get("mean_iou")) for each in scores]
    return all(floor == floors[0] for floor in floors)


def _best_so_far(folder: Path) -> dict[str, Any]:
    path = folder / "metrics.jsonl"
    try:
        epochs = [json.loads(line) for line in path.read_text().splitlines()]
        best = [each for each in epochs if each["best"]][-1]
        seconds = sum(each["train"]["seconds"] for each in epochs)
        trained = {"images_per_second": best["train"]["images_per_second"], "seconds": seconds}
        precision = read_json(folder / "config.json").get("precision")
        return {"splits": {"val": best["val"]}, "best_epoch": best["epoch"], "precision": precision, **trained}
    except (OSError, IndexError):
        raise RunFolderError(f"{folder}: no epoch of this run has ended yet") from None
    except (ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{path} is damaged: {type(error).__name__} {error}") from error
