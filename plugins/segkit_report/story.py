"""One run as its folder tells it, finished or not: settings, scores, costs, classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import segkit
from segkit.errors import RunFolderError

COSTS = ("best_epoch", "seconds", "images_per_second", "peak_memory_bytes", "precision", "device")


class Story:
    """One run that is finished, or has had an epoch at least.

    Attributes:
        name: its folder, as it was given.
        record: the files of that folder.
        splits: per split the scores and their ``floor``; of a run that is not finished, val's in the best epoch.

    Raises:
        RunFolderError: no run folder, one whose files are damaged, or no epoch has ended yet.
    """

    def __init__(self, place: str) -> None:
        self.name = place.rstrip("/") or place
        self.record = segkit.read_run(place)
        self.folder = self.record.folder
        if not isinstance(self.record.run.get("config"), dict):
            raise RunFolderError(f"{self.folder}/run.json is damaged: it holds no config")
        self.splits = self.record.splits

    @property
    def finished(self) -> bool:
        """Whether it has a result."""
        return bool(self.record.result)

    @property
    def settings(self) -> dict[str, Any]:
        """Its config with every default written out, the versions of its packages among them."""
        run = self.record.run
        return {**run["config"], "version": {"segkit": run.get("segkit"), **(run.get("packages") or {})}}

    @cached_property
    def costs(self) -> dict[str, Any]:
        """What it took, and the best epoch; what is not known is None."""
        if self.finished:
            return {name: self.record.result.get(name) for name in COSTS}
        best, epochs = self.record.best, self.record.epochs
        try:
            seconds = sum(each["train"]["seconds"] for each in epochs)
            known = {"best_epoch": best["epoch"], "images_per_second": best["train"]["images_per_second"]}
        except (KeyError, TypeError) as error:
            place = self.folder / "metrics.jsonl"
            raise RunFolderError(f"{place} is damaged: {type(error).__name__} {error}") from error
        known |= {"seconds": seconds, "precision": self.record.model.get("precision")}
        return dict.fromkeys(COSTS) | known

    def as_json(self) -> dict[str, Any]:
        """What ``compare --json`` prints of it."""
        facts = {"name": self.name, "finished": self.finished, "settings": self.settings}
        return {**facts, "splits": self.splits, "costs": self.costs}

    @property
    def last_split(self) -> str:
        """The one that counts: test, or val where there is none."""
        return list(self.splits)[-1]

    @property
    def classes(self) -> list[str]:
        """Their names."""
        return [str(name) for name in self.record.model["classes"]]

    @property
    def best_epoch(self) -> int:
        """The one whose weights are kept."""
        return int(self.costs["best_epoch"])

    @property
    def confusion(self) -> list[list[int]] | None:
        """Of the last split, rows the truth; None of a run that goes on, of which an older end may have left one."""
        return self.detail("confusion") or None

    def detail(self, name: str) -> Any:
        """Of the last split from ``details.json``: ``confusion`` or ``images``; empty of a run that goes on."""
        return self.record.details.get(self.last_split, {}).get(name, []) if self.finished else []

    @property
    def advice(self) -> str:
        """What to change, where segkit_advice has written it."""
        path = self.folder / "advice.txt"
        return path.read_text("utf-8").strip() if path.is_file() else ""

    def share(self, name: str) -> float | None:
        """A class's share of the labelled pixels of the last split, which is what predicting it everywhere scores."""
        found = (self.record.run.get("data") or {}).get(self.last_split)
        total = sum(found["pixels"].values()) if found else 0
        return found["pixels"][name] / total if found and total else None


def same_data(scores: Sequence[Mapping[str, Any]]) -> bool:
    """Whether scores of one split may be set side by side: those of other images or classes have other floors."""
    floors = [(each["floor"].get("class"), each["floor"].get("mean_iou")) for each in scores]
    return all(floor == floors[0] for floor in floors)
