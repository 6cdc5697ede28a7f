"""Part of a dataset: what is left of it when samples that cannot be used are skipped."""

from __future__ import annotations

from collections.abc import Sequence

from segkit.data.sample import Dataset, Sample


class Subset:
    """The samples of a dataset at ``indices``, in that order, with the dataset's classes, palette and void."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, list(indices)
        self.classes, self.palette, self.ignore_index = dataset.classes, dataset.palette, dataset.ignore_index

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.indices[index]]
