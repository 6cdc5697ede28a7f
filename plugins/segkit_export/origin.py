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
        place: a run folder or a file of its weights, if it is known; the scores are not those of ``last.pt``.

    Attributes:
        config: ``config.json``, as the predictor has it.
        record: ``run.json``.
        settings: the tables of the run's config.
        splits: the scores by split; the last one is test, or val where there is none.
        model: how the model is built; empty where it was given as an object.
        model_name: as a config names it, else the name of its class.
        options: of the model, but for ``weights``: what it began with was replaced, and may be a path of somebody's.
        dataset: its name, or nothing.

    Raises:
        RunFolderError: a file of the run is damaged.
    """

    def __init__(self, predictor: Predictor, place: Path | None) -> None:
        run = segkit.read_run(place if place.is_dir() else place.parent) if place else None
        self.record: dict[str, Any] = run.run if run else {}
        self.settings: dict[str, Any] = run.config if run else {}
        self.splits: dict[str, Any] = table(run.result, "splits") if run and place and place.name != "last.pt" else {}
        known: dict[str, Any] = run.model if run else {}
        self.model = table(known, "model")
        self.options = {name: value for name, value in table(self.model, "options").items() if name != "weights"}
        self.model_name = str(self.model.get("name") or type(predictor.model).__name__)
        self.dataset = str(table(self.settings, "dataset").get("name", ""))
        same = ("ignore_index", "classes", "palette", "resize", "crop", "stored")
        self.config: dict[str, Any] = {
            **known,
            **{name: getattr(predictor, name) for name in same},
            "model": {**self.model, "options": self.options} if self.model else None,
            "num_classes": len(predictor.classes),
            "normalisation": predictor.normalisation.record(),
            "images": asdict(predictor.images),
            "written_by": MARK,
        }


def table(content: dict[str, Any], name: str) -> dict[str, Any]:
    """A table of a JSON file, empty where there is none."""
    found = content.get(name)
    return found if isinstance(found, dict) else {}
