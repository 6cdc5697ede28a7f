"""Where an exported model comes from: what its run folder says of the model, the data, the training and the scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segkit.engine.run_folder import read_json
from segkit.inference.predictor import Predictor
from segkit_export.place import MARK


@dataclass(frozen=True)
class Origin:
    """A run's files, as far as there are any; of whatever type, as they may be a stranger's.

    Attributes:
        config: ``config.json``.
        record: ``run.json``.
        splits: the scores by split in ``result.json``.
        class_name: of the model.
    """

    config: dict[str, Any]
    record: dict[str, Any] = field(default_factory=dict)
    splits: dict[str, Any] = field(default_factory=dict)
    class_name: str = ""

    @staticmethod
    def of_folder(folder: Path | None, predictor: Predictor, *, scores: bool = True) -> Origin:
        """Read what is there.

        Args:
            folder: of the run, if it is known.
            predictor: the model and its classes.
            scores: whether those in ``result.json`` are of these weights.

        Raises:
            RunFolderError: a file is damaged.
        """
        facts: dict[str, Any] = {
            "model": None,
            "num_classes": len(predictor.classes),
            "ignore_index": predictor.ignore_index,
            "classes": list(predictor.classes),
            "palette": [list(colour) for colour in predictor.palette],
            "resize": predictor.resize,
            "crop": predictor.crop,
            "stored": predictor.stored,
            "normalisation": predictor.normalisation.record(),
        }
        name = type(predictor.model).__name__
        if folder is None:
            return Origin(facts, class_name=name)
        config, record, result = (
            read_json(folder / file) if (folder / file).is_file() else {}
            for file in ("config.json", "run.json", "result.json")
        )
        return Origin({**config, **facts, "model": config.get("model")}, record, table(result, "splits", scores), name)

    @staticmethod
    def config_of(folder: Path) -> dict[str, Any]:
        """The ``config.json`` of a folder."""
        return read_json(folder / "config.json")

    @property
    def model(self) -> dict[str, Any] | None:
        """How the model is built, or None where it was given as an object."""
        found = self.config.get("model")
        return found if isinstance(found, dict) else None

    @property
    def model_name(self) -> str:
        """As a config names it, else the name of its class."""
        return str((self.model or {}).get("name") or self.class_name)

    @property
    def options(self) -> dict[str, Any]:
        """Of the model, but for ``weights``: what it began with was replaced, and may be a path of somebody's."""
        given = table(self.model or {}, "options")
        return {name: value for name, value in given.items() if name != "weights"}

    @property
    def settings(self) -> dict[str, Any]:
        """The tables of the run's config."""
        return table(self.record, "config")

    @property
    def dataset(self) -> str:
        """Its name, or nothing."""
        return str(table(self.settings, "dataset").get("name", ""))

    def model_facts(self) -> dict[str, Any]:
        """For the metadata of a file."""
        return {"model": self.model_name, "options": self.options, "dataset": self.dataset}

    def config_to_write(self) -> dict[str, Any]:
        """``config.json`` of an exported folder."""
        model = None if self.model is None else {**self.model, "options": self.options}
        return {**self.config, "model": model, "written_by": MARK}


def table(content: Mapping[str, Any], name: str, wanted: bool = True) -> dict[str, Any]:
    """A table in a JSON file, empty where there is none."""
    found = content.get(name) if wanted else None
    return found if isinstance(found, dict) else {}
