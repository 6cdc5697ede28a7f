"""Where an exported model comes from: what its run folder says of the model, the data, the training and the scores."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import segkit
from segkit.inference.predictor import Predictor
from segkit_export.place import MARK


class Origin:
    """What is known of a model, from its run folder if there is one; of whatever type, as it may be a stranger's.

    Args:
        predictor: the model and its classes.
        folder: of the run, if it is known.
        scores: whether those in ``result.json`` are of these weights.

    Attributes:
        config: ``config.json``, as the predictor has it.
        record: ``run.json``.
        settings: the tables of the run's config.
        splits: the scores by split.
        last_split: the test split, or val where there is none.
        model: how the model is built, or None where it was given as an object.
        model_name: as a config names it, else the name of its class.
        options: of the model, but for ``weights``: what it began with was replaced, and may be a path of somebody's.
        dataset: its name, or nothing.

    Raises:
        RunFolderError: a file of the run is damaged.
    """

    def __init__(self, predictor: Predictor, folder: Path | None, *, scores: bool = True) -> None:
        run = segkit.read_run(folder) if folder else None
        self.record: dict[str, Any] = run.run if run else {}
        self.settings: dict[str, Any] = run.config if run else {}
        self.splits: dict[str, Any] = table(run.result, "splits") if run and scores else {}
        self.last_split = list(self.splits)[-1] if self.splits else ""
        known: dict[str, Any] = run.model if run else {}
        found = known.get("model")
        self.model: dict[str, Any] | None = found if isinstance(found, dict) else None
        given = table(self.model or {}, "options")
        self.options = {name: value for name, value in given.items() if name != "weights"}
        self.model_name = str((self.model or {}).get("name") or type(predictor.model).__name__)
        self.dataset = str(table(self.settings, "dataset").get("name", ""))
        self.config: dict[str, Any] = {
            **known,
            "model": None if self.model is None else {**self.model, "options": self.options},
            "num_classes": len(predictor.classes),
            "ignore_index": predictor.ignore_index,
            "classes": list(predictor.classes),
            "palette": [list(colour) for colour in predictor.palette],
            "resize": predictor.resize,
            "crop": predictor.crop,
            "stored": predictor.stored,
            "normalisation": predictor.normalisation.record(),
            "images": asdict(predictor.images),
            "written_by": MARK,
        }


def table(content: dict[str, Any], name: str) -> dict[str, Any]:
    """A table of a JSON file, empty where there is none."""
    found = content.get(name)
    return found if isinstance(found, dict) else {}
