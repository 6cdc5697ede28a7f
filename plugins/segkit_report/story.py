"""All that a run folder tells of one run, for its report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segkit.engine.run_folder import read_json
from segkit.errors import RunFolderError, reason
from segkit_report.facts import RunFacts, read_run


@dataclass(frozen=True)
class Story:
    """One run, finished or not.

    Attributes:
        folder: of the run.
        facts: its settings, scores and costs.
        record: ``run.json``.
        model: ``config.json``, with the classes and their colours.
        epochs: the lines of ``metrics.jsonl``.
        result: ``result.json``, empty of a run that goes on.
        details: by split, the confusion matrix and the scores of its images; empty of a run that goes on.
    """

    folder: Path
    facts: RunFacts
    record: Mapping[str, Any]
    model: Mapping[str, Any]
    epochs: Sequence[Mapping[str, Any]]
    result: Mapping[str, Any]
    details: Mapping[str, Any]

    @property
    def last_split(self) -> str:
        """The one that counts: test, or val where there is none."""
        return list(self.facts.splits)[-1]

    @property
    def classes(self) -> list[str]:
        """Their names."""
        return [str(name) for name in self.model["classes"]]

    def share(self, split: str, name: str) -> float | None:
        """A class's share of the labelled pixels, where it is known: what predicting it everywhere scores."""
        found = (self.record.get("data") or {}).get(split)
        total = sum(found["pixels"].values()) if found else 0
        return found["pixels"][name] / total if found and total else None

    @property
    def advice(self) -> str:
        """What to change, where segkit_advice has written it."""
        path = self.folder / "advice.txt"
        return path.read_text("utf-8").strip() if path.is_file() else ""

    @property
    def best_epoch(self) -> int:
        """The one whose weights are kept."""
        return int(self.facts.costs["best_epoch"])


def read_story(place: str) -> Story:
    """A run that is finished, or has had an epoch at least.

    Raises:
        RunFolderError: no run folder, one whose files are damaged, or no epoch has ended yet.
    """
    facts, folder = read_run(place), Path(place)
    details = folder / "details.json"
    return Story(
        folder=folder,
        facts=facts,
        record=read_json(folder / "run.json"),
        model=read_json(folder / "config.json"),
        epochs=_epochs(folder / "metrics.jsonl"),
        result=read_json(folder / "result.json") if facts.finished else {},
        details=read_json(details).get("splits", {}) if facts.finished and details.exists() else {},
    )


def _epochs(path: Path) -> list[dict[str, Any]]:
    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path} cannot be read: {reason(error)}") from error
    if not all(isinstance(line, dict) for line in lines):
        raise RunFolderError(f"{path} is damaged: a line of it is no object")
    return lines
