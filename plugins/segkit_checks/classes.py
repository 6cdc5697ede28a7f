"""The check ``classes``: labels that may mean other classes than assumed, and classes that are in no mask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

import segkit
from segkit.data.sample import Dataset
from segkit.data.statistics import SampleStatistics
from segkit.errors import Issue, first_few
from segkit_folder.files import PairedFiles

Facts = Mapping[str, Any]


class Classes:
    """Labels that may mean other classes than assumed, and classes that no mask of a split holds."""

    def __init__(self, settings: Any) -> None:
        self._skips = settings.on_bad == "skip"

    def measure(self, sample: segkit.Sample, dataset: Any, index: int) -> Facts:
        """Return facts about the files of a sample, see :meth:`PairedFiles.facts`."""
        return dataset.facts(sample, index) if isinstance(dataset, PairedFiles) else {}

    def judge(
        self,
        splits: Mapping[str, Sequence[tuple[SampleStatistics, Facts]]],
        datasets: Mapping[str, Dataset],
        left_out: Sequence[Issue],
    ) -> Iterator[Issue]:
        """Yield issues of misread labels, and of the classes, unless these follow from an error among the former."""
        misread: list[Issue] = []
        first = next(iter(datasets.values()))
        whole = first.whole
        if isinstance(whole, PairedFiles) and whole.classes == first.classes:
            files = {name: map(datasets[name].files, range(len(those))) for name, those in splits.items()}
            rows = {name: [(own, *each) for own, each in zip(files[name], splits[name], strict=True)] for name in files}
            misread = list(whole.judge(rows, left_out))
        yield from misread
        if not any(issue.severity == "error" for issue in misread):
            for name, those in splits.items():
                samples = [each for each, _ in those]
                yield from label_issues(samples, datasets[name], name, self._skips or not left_out) if samples else ()


def label_issues(samples: Sequence[SampleStatistics], dataset: Dataset, split: str, whole: bool) -> Iterator[Issue]:
    """Check the labels of a split; if it is not ``whole``, the samples left out may hold the absent classes."""

    def issue(kind: str, what: str, severity: Literal["error", "warning"], files: Iterable[str] = ()) -> Issue:
        return Issue(kind, what=what, severity=severity, split=split, files=tuple(files))

    counts = np.array([each.counts for each in samples])  # [N,C+1]
    pixels, images, classes = counts.sum(0).tolist(), (counts[:, :-1] > 0).sum(0), dataset.classes
    present = np.flatnonzero(images).tolist()
    if not present:
        text = "every pixel of every mask is void: there is nothing to learn or to score"
        yield issue("all_void", text, "error", [each.name for each in samples])
    elif split == "train" and len(present) == 1 and len(classes) > 1:
        void = f", and {pixels[-1] / sum(pixels):.1%} of all pixels are void" if pixels[-1] else ""
        hint = "does void belong to a class?" if pixels[-1] else "check which stored label is which class"
        text = f"every labelled pixel is '{classes[present[0]]}'{void}; nothing can be learned; {hint}"
        yield issue("one_class", text, "error" if whole else "warning")
    elif split == "train" and len(classes) == 1:
        text = f"'{classes[0]}' is the only class, so every prediction is right and nothing can be learned; "
        yield issue("one_class", text + "add a class for everything else, such as background", "warning")
    elif whole and len(present) < len(classes):
        absent = [name for name, count in zip(classes, images, strict=True) if not count]
        lacking = "no network can learn these" if split == "train" else "these have no score here"
        text = f"{len(absent)} of {len(classes)} classes in no image; {lacking}: {first_few(absent, 20)}"
        yield issue("absent_class", text, "warning", absent)
