"""A data set with options that may read a folder, and the files that it finds there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from zlib import crc32

import segkit
from segkit.compose import build_splits
from segkit.config import Config, read_config
from segkit.data.sample import Dataset
from segkit.errors import LabelError, SegkitError
from segkit.options import options_of
from segkit_folder.lists import candidates
from segkit_init.counts import StoredLabels, stored_labels
from segkit_init.stored import Labels, read_labels, some_of, threshold_of
from segkit_init.text import options_text


@dataclass(frozen=True, eq=False)
class Reading:
    """A data set that may read a folder.

    Attributes:
        dataset: name of the data set.
        options: its options.
        asks_for_classes: whether it requires the option ``classes``.
        looked: image -> mask, for some images, once their masks are loaded.
    """

    dataset: str
    options: Mapping[str, Any]
    asks_for_classes: bool
    looked: Mapping[Path, Labels] = field(default_factory=dict)

    def _splits(self, **options: Any) -> dict[str, Dataset]:
        needed: dict[str, Any] = {"classes": ["?", "??"]} if self.asks_for_classes else {}
        if "skip_unpaired" in {each.name for each in options_of(segkit.datasets.find(self.dataset))}:
            needed["skip_unpaired"] = True  # otherwise it tries patterns that pair more files
        return build_splits(config_of(self.dataset, {**self.options, **needed, **options}))[0]

    @cached_property
    def splits(self) -> dict[str, Dataset]:
        """The splits, with placeholder classes where the data set requires classes."""
        return self._splits()

    @cached_property
    def files(self) -> dict[str, list[tuple[Path, ...]]]:
        """Split -> the files of each image, the image first and a mask last."""
        return {name: [data.files(index) for index in range(len(data))] for name, data in self.splits.items()}

    @cached_property
    def is_dealt(self) -> bool:
        """Whether pictures are split at random: another seed gives another train split."""
        train = self._splits(split_seed=1)["train"]
        return [train.files(index) for index in range(len(train))] != self.files["train"]

    def with_lists(self) -> Reading:
        """Return a copy with the lists that assign most images to splits, where nothing else does; else itself."""
        known = {each.name for each in options_of(segkit.datasets.find(self.dataset))}
        is_dealt = {"lists", "split_seed"} <= known and self.is_dealt
        for lists in candidates(Path(self.options["root"]).expanduser()) if is_dealt else ():
            other = replace(self, options={**self.options, "lists": lists})
            with suppress(SegkitError):  # it lists other files
                if 2 * len(other.images) > len(self.images) and "train" in other.files and len(other.files) > 1:
                    return other
        return self

    def with_masks(self, number: int) -> Reading:
        """Return a copy with the same files, some of whose masks are loaded, with a threshold where they need one.

        Raises:
            DataError: the masks cannot be read.
        """
        some, options = some_of(self.masks[:number], number), {**self.options}
        try:
            looked = read_labels(some)
        except LabelError:
            if (threshold := threshold_of(some)) is None:
                raise
            looked, options["threshold"] = read_labels(some, threshold), threshold
        image_of = dict(zip(self.masks, self.images, strict=True))
        other = replace(self, options=options, looked={image_of[path]: mask for path, mask in looked.items()})
        vars(other)["files"] = self.files
        return other

    @cached_property
    def stored(self) -> StoredLabels:
        """What the loaded masks store."""
        return stored_labels(self.looked.values())

    @property
    def images(self) -> list[Path]:
        """Images of all splits, ordered by a hash of their names: independent of the split, and not by number."""
        return [files[0] for files in self._every]

    @property
    def masks(self) -> list[Path]:
        """Masks of all splits, in the same order as ``images``."""
        return [files[-1] for files in self._every]

    @cached_property
    def _every(self) -> list[tuple[Path, ...]]:
        every = [files for those in self.files.values() for files in those]
        return sorted(every, key=lambda files: (crc32(files[0].stem.encode(errors="surrogateescape")), files[0]))


def name_of(reading: Reading, others: Sequence[Reading]) -> str:
    """Return the options that distinguish a reading from the others, as text."""
    own = {key: value for key, value in reading.options.items() if any(o.options.get(key) != value for o in others)}
    name = "" if len({each.dataset for each in others}) == 1 else f"the data set {reading.dataset} "
    return f"{name}{options_text(own)}"


def config_of(dataset: str, options: Mapping[str, Any]) -> Config:
    """Return a config with these options of ``[dataset]`` and ``[data]``, and a placeholder model and loss."""
    tables: dict[str, Any] = {"dataset": {"name": dataset}, "model": {"name": "unet"}, "data": {}}
    for key, value in options.items():
        tables["data" if key.startswith("data.") else "dataset"][key.removeprefix("data.")] = value
    return read_config({**tables, "loss": [{"name": "cross_entropy"}]})
