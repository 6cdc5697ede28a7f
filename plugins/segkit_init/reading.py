"""A data set with options that may read a folder, and what it finds there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from zlib import crc32

import segkit
from segkit.compose import build_splits
from segkit.config import Config, read_config
from segkit.data.sample import Dataset
from segkit.options import options_of
from segkit_init.stored import Labels
from segkit_init.text import options_text


@dataclass(frozen=True, eq=False)
class Reading:
    """A data set that may read a folder.

    Attributes:
        dataset: its name.
        options: that it is given.
        asks_for_classes: whether it has to be told the classes.
        looked: some of its masks, once they were looked at.
    """

    dataset: str
    options: Mapping[str, Any]
    asks_for_classes: bool
    looked: Sequence[Labels] = ()

    def _splits(self, **options: Any) -> dict[str, Dataset]:
        needed: dict[str, Any] = {"classes": ["?", "??"]} if self.asks_for_classes else {}
        if "skip_unpaired" in {each.name for each in options_of(segkit.datasets.find(self.dataset))}:
            needed["skip_unpaired"] = True  # else patterns are looked for that pair more
        return build_splits(config_of(self.dataset, {**self.options, **needed, **options}))[0]

    @cached_property
    def splits(self) -> dict[str, Dataset]:
        """The data set, with classes that do not matter where it has to be told them."""
        return self._splits()

    @cached_property
    def files(self) -> dict[str, list[tuple[Path, ...]]]:
        """By split those of each image, the image first and a mask last."""
        return {name: [data.files(index) for index in range(len(data))] for name, data in self.splits.items()}

    @cached_property
    def is_dealt(self) -> bool:
        """Whether chance has divided the pictures: another seed, another division."""
        train = self._splits(split_seed=1)["train"]
        return [train.files(index) for index in range(len(train))] != self.files["train"]

    def with_looked(self, looked: Sequence[Labels], **options: Any) -> Reading:
        """The same of the same files, with masks that were looked at and further options."""
        other = replace(self, options={**self.options, **options}, looked=looked)
        vars(other)["files"] = self.files
        return other

    @property
    def images(self) -> list[Path]:
        """Those of all splits, in an order of their names that is the same however they are divided, and no 1, 2, 3."""
        return [files[0] for files in self._every]

    @property
    def masks(self) -> list[Path]:
        """Likewise."""
        return [files[-1] for files in self._every]

    @cached_property
    def _every(self) -> list[tuple[Path, ...]]:
        every = [files for those in self.files.values() for files in those]
        return sorted(every, key=lambda files: (crc32(files[0].stem.encode(errors="surrogateescape")), files[0]))


def said(reading: Reading, others: Sequence[Reading]) -> str:
    """What sets a reading apart from the others."""
    own = {key: value for key, value in reading.options.items() if any(o.options.get(key) != value for o in others)}
    name = "" if len({each.dataset for each in others}) == 1 else f"the data set {reading.dataset} "
    return f"{name}{options_text(own)}"


def config_of(dataset: str, options: Mapping[str, Any]) -> Config:
    """A config with these options of ``[dataset]`` and ``[data]``, and a model and a loss that do not matter."""
    tables: dict[str, Any] = {"dataset": {"name": dataset}, "model": {"name": "unet"}, "data": {}}
    for key, value in options.items():
        tables["data" if key.startswith("data.") else "dataset"][key.removeprefix("data.")] = value
    return read_config({**tables, "loss": [{"name": "cross_entropy"}]})
