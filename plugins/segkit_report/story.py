"""One run read from its folder, finished or not: settings, scores, costs, classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import segkit
from segkit.errors import RunFolderError

COSTS = ("best_epoch", "seconds", "images_per_second", "peak_memory_bytes", "precision", "device")


class Story:
    """A run that is finished or has at least one epoch.

    Attributes:
        name: the run folder as it was given.
        record: the files of the folder.
        finished: whether the run has a result.
        settings: the config with all defaults, and the versions of packages.
        splits: the scores of each split with their ``floor``; of an unfinished run, val's in the best epoch.
        last_split: the split whose scores are reported first: test, or val if there is no test.
        costs: the values of :data:`COSTS`; unknown ones are None.

    Raises:
        RunFolderError: the folder is not a run folder, its files are damaged, or no epoch has ended yet.
    """

    def __init__(self, place: str) -> None:
        self.name = place.rstrip("/") or place
        self.record = record = segkit.read_run(place)
        self.folder, run, self.finished = record.folder, record.run, bool(record.result)
        if not isinstance(run.get("config"), dict):
            raise RunFolderError(f"{self.folder}/run.json is damaged: it holds no config")
        self.settings = {**run["config"], "version": {"segkit": run.get("segkit"), **(run.get("packages") or {})}}
        self.splits = record.splits
        self.last_split = list(self.splits)[-1]
        self.costs: dict[str, Any] = {name: record.result.get(name) for name in COSTS}
        if not self.finished:
            try:
                self.costs["best_epoch"] = record.best["epoch"]
                self.costs["images_per_second"] = record.best["train"]["images_per_second"]
                self.costs["seconds"] = sum(each["train"]["seconds"] for each in record.epochs)
            except (KeyError, TypeError) as error:
                place = f"{self.folder / 'metrics.jsonl'}"
                raise RunFolderError(f"{place} is damaged: {type(error).__name__} {error}") from error
            self.costs["precision"] = record.model.get("precision")

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        return [str(name) for name in self.record.model["classes"]]

    @cached_property
    def details(self) -> dict[str, Any]:
        """``confusion`` of the last split (rows are true classes) and scores of its ``images``; empty if unfinished."""
        found: dict[str, Any] = self.record.details.get(self.last_split, {}) if self.finished else {}
        return {"confusion": found.get("confusion"), "images": found.get("images", [])}

    @property
    def advice(self) -> str:
        """The text that segkit_advice has written, or ""."""
        path = self.folder / "advice.txt"
        return path.read_text("utf-8").strip() if path.is_file() else ""

    def share(self, name: str) -> float | None:
        """A class's share of the last split's labelled pixels, which is the IoU of predicting it everywhere."""
        found = (self.record.run.get("data") or {}).get(self.last_split)
        total = sum(found["pixels"].values()) if found else 0
        return found["pixels"][name] / total if found and total else None


def same_data(scores: Sequence[Mapping[str, Any]]) -> bool:
    """Whether scores of a split are comparable: with other images or classes the floors would differ."""
    floors = [(each["floor"].get("class"), each["floor"].get("mean_iou")) for each in scores]
    return all(floor == floors[0] for floor in floors)
