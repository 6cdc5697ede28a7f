"""The origin of an exported model: the model, data, training and scores recorded in its run folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import segkit
from segkit.inference.predictor import Predictor
from segkit_export.place import MARK


class Origin:
    """Facts about a model, from its run folder if there is one; types are unchecked, as others may have written it.

    Args:
        predictor: provides the model and its classes.
        place: the run folder or a file of weights in it, if known; for ``last.pt`` there are no scores.

    Attributes:
        config: content of the exported ``config.json``, with the predictor's own values.
        record: content of ``run.json``.
        settings: the tables of the run's config.
        splits: scores by split; the last split is test, or val if there is no test.
        model: the entry from which the model is built; empty for a model passed as an object.
        model_name: name of the model in a config, else the name of its class.
        options: the model's options except ``weights``: training replaced them, and the value may be a private path.
        dataset: name of the dataset, or empty.

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
    """Return a table of a JSON file, or an empty one if it is missing or not a table."""
    found = content.get(name)
    return found if isinstance(found, dict) else {}
