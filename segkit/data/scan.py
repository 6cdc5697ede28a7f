"""Read every image and mask once before training: collect statistics of each sample, and all issues by file name.

Class weights and floors are computed from the label counts.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segkit.data.cache import load_values, save_values, stamps_of
from segkit.data.normalise import moments
from segkit.data.parallel import read_ahead
from segkit.data.read import with_holes
from segkit.data.sample import RGB, Dataset, checked
from segkit.data.statistics import LabelCounts, SampleStatistics
from segkit.data.subset import Subset, as_dataset
from segkit.errors import DataError, Issue, LabelError, first_few, merged
from segkit.metric.scores import floor
from segkit.settings import DataSettings


@dataclass(frozen=True)
class Scan:
    """The result of scanning the splits.

    Attributes:
        splits: the datasets without unusable samples.
        statistics: for each split, the statistics of each of its samples.
        issues: errors and warnings.
    """

    splits: Mapping[str, Dataset]
    statistics: Mapping[str, Sequence[SampleStatistics]]
    issues: Sequence[Issue]

    @property
    def errors(self) -> list[Issue]:
        """The issues that stop a run."""
        return [issue for issue in self.issues if issue.severity == "error"]

    @property
    def warnings(self) -> list[Issue]:
        """The issues that a run prints without stopping."""
        return [issue for issue in self.issues if issue.severity == "warning"]

    @property
    def hint(self) -> str:
        """Advice to skip unusable files, if every split would still have images; else ""."""
        skip_helps = any(issue.skippable for issue in self.errors) and all(self.statistics.values())
        return 'data.on_bad = "skip" continues without the files that cannot be used' if skip_helps else ""

    def pixels(self, split: str) -> NDArray[np.int64]:
        """Count pixels by image and class, ``[N,C+1]``; the last column is void."""
        classes = len(self.splits[split].classes)
        return np.array([each.counts for each in self.statistics[split]], np.int64).reshape(-1, classes + 1)

    def counts(self, split: str) -> LabelCounts:
        """Return how often each class occurs in a split."""
        return LabelCounts(self.pixels(split))

    def floor(self, split: str) -> dict[str, Any]:
        """Return the floor of a split's scores, see :func:`segkit.metric.scores.floor`."""
        return floor(self.counts(split).pixels.tolist(), self.splits[split].classes)

    def refuse_errors(self) -> Scan:
        """Return this scan if it has no errors.

        Raises:
            LabelError: there are errors; the message lists them all.
        """
        if self.errors:
            empty = any(issue.kind == "empty_split" for issue in self.errors)
            why = [issue for issue in self.warnings if issue.skippable and empty]  # the files that were left out
            raise LabelError("\n".join(filter(None, [*map(str, [*why, *self.errors]), self.hint])))
        return self


def scan_splits(
    splits: Mapping[str, Dataset],
    settings: DataSettings | None = None,
    issues: Sequence[Issue] = (),
    checks: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Scan:
    """Read every sample of every split, or its cached statistics.

    Args:
        splits: datasets by name.
        settings: the table ``[data]``.
        issues: the issues found while building the datasets.
        checks: the plugins' checks by name (see :func:`segkit.hookspecs.segkit_checks`).
        progress: whether to show a progress bar.
    """
    settings, checks = settings or DataSettings(), checks or {}
    splits = {name: as_dataset(dataset, name) for name, dataset in splits.items()}
    skip = settings.on_bad == "skip"
    stamps = {name: stamps_of(dataset) for name, dataset in splits.items()}
    uses = Counter(stamp for values in stamps.values() for stamp in values)  # samples that share files are not cached
    kept: dict[str, Dataset] = {}
    samples: dict[str, list[SampleStatistics]] = {}
    unreadable: list[Issue] = []
    empty: list[Issue] = []
    for name, dataset in splits.items():
        unique_stamps = [None if uses[stamp] > 1 else stamp for stamp in stamps[name]]
        results = _read_split(dataset, name, unique_stamps, checks, progress)
        usable = {index: each for index, each in enumerate(results) if isinstance(each, SampleStatistics)}
        samples[name] = [*usable.values()]
        unreadable += [each for each in results if isinstance(each, Issue)]
        kept[name] = dataset if len(usable) == len(results) else Subset(dataset, [*usable])
        if not usable and (skip or not results) and name not in {issue.split for issue in issues if issue.file}:
            empty.append(Issue("empty_split", what="there is no image that can be used", split=name))
    return Scan(kept, samples, [*empty, *_issues(kept, samples, issues, unreadable, skip, checks)])


def _issues(
    kept: Mapping[str, Dataset],
    samples: Mapping[str, Sequence[SampleStatistics]],
    issues: Sequence[Issue],
    unreadable: Sequence[Issue],
    skip: bool,
    checks: Mapping[str, Any],
) -> Iterator[Issue]:
    """Yield issues of files, merged over all splits, and those of the checks; ``skip``: unusable files are left out."""
    # an image without a mask is never skipped: the division into splits would depend on it
    yield from merged(issues)
    for issue in merged(unreadable):
        issue = replace(issue, skippable=True)
        yield replace(issue, what=f"left out: {issue.what}", severity="warning") if skip else issue
    first, *others = kept
    for name in others:
        one, another = kept[first].channels, kept[name].channels
        if len(one) != len(another):
            what = f"its channels differ from {first}: {first_few(another, 12)} instead of {first_few(one, 12)}"
            yield Issue("channels", what=what, advice="select common channels with data.bands", split=name)
    for name, check in checks.items():
        measured = {split: [(each, each.measured[name]) for each in part] for split, part in samples.items()}
        try:
            yield from check.judge(measured, kept, [*(each for each in issues if each.file), *unreadable])
        except Exception as error:
            error.add_note(f"in the check '{name}'")
            raise


def _read_split(
    dataset: Dataset, split: str, stamps: Sequence[str | None], checks: Mapping[str, Any], progress: bool
) -> list[SampleStatistics | Issue]:
    """Return the statistics or the issue of each sample."""
    versions = [(name, type(check).__module__, getattr(check, "version", 0)) for name, check in checks.items()]
    kind = type(dataset.whole)
    # a grey image is read as RGB if others are in colours, so the channels of the split matter
    meaning = f"{len(dataset.classes)} {dataset.ignore_index} {dataset.reading} {dataset.channels}"
    reading = f"{kind.__module__}.{kind.__qualname__} {meaning} {versions}"
    cached = load_values(reading) if any(stamps) else {}
    known = len(cached)
    results: dict[int, SampleStatistics | Issue] = {}
    for index, stamp in enumerate(stamps):
        if stamp and (values := cached.get(stamp)):
            results[index] = SampleStatistics(*values)._replace(size=tuple(values[1]))
    unread = [index for index in range(len(dataset)) if index not in results]
    threads = 1 if dataset.reading is None else None  # without `reading` it may share one open file between samples
    description = f"labels of {split}" if progress else ""
    read = read_ahead(lambda index: measure(dataset, index, split, checks), unread, description, threads)
    try:
        for index, result in zip(unread, read, strict=True):
            results[index] = result
            if (stamp := stamps[index]) and isinstance(result, SampleStatistics):
                cached[stamp] = result
    finally:  # also after Ctrl-C
        if len(cached) > known:
            save_values(reading, cached)
    for index, name in enumerate(dataset.names or ()):  # cached names may come from another list of files
        if isinstance(result := results[index], SampleStatistics):
            results[index] = result._replace(name=name)
    return [results[index] for index in range(len(dataset))]


def measure(dataset: Dataset, index: int, split: str, checks: Mapping[str, Any]) -> SampleStatistics | Issue:
    """Read one sample as training will; return its statistics, or the issue that makes it unusable."""
    files = dataset.files(index)
    try:
        dataset.verify(index)  # first, because a damaged file gives wrong labels
        sample = checked(dataset[index], dataset.channels)
        place, image, mask = f"{split}/{sample.name}", sample.image.numpy(), sample.mask.numpy()
        if dataset.no_data == "stop":
            with_holes(image.transpose(1, 2, 0), None, "stop", str(files[0]) if files else place)
    except (Exception, SystemExit) as error:  # third-party datasets may raise anything
        if isinstance(error, DataError) and error.issue:
            file = str(files[0]) if files and error.issue.kind == "channels" else error.issue.file
            return replace(error.issue, split=split, file=file)
        place = str(files[0]) if files else f"{split}: {type(dataset.whole).__name__}[{index}]"
        detail = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
        return Issue("unusable", place, "its dataset cannot read it", detail=detail, split=split)
    classes, void = len(dataset.classes), dataset.ignore_index
    pixels = Image.fromarray(mask).histogram()  # [256]; five times faster than bincount
    stored = {label: count for label, count in enumerate(pixels) if count}
    if wrong := {label: count for label, count in stored.items() if label >= classes and label != void}:
        advice = f"allowed are 0 to {classes - 1} and {void} (void)"
        return Issue("values", place, "labels that are not allowed", advice, "", wrong, stored, split=split)
    whole: Any = dataset
    at = index
    while isinstance(whole, Subset):
        whole, at = whole.dataset, whole.indices[at]
    measured = {}
    for name, check in checks.items():
        try:
            measured[name] = json.loads(json.dumps(check.measure(sample, whole, at)))  # in the form of the cache
        except DataError as error:
            return replace(error.issue or Issue("unusable", place, str(error)), split=split)
        except Exception as error:
            error.add_note(f"in the check '{name}'")
            raise
    digest = hashlib.blake2b(f"{image.dtype} {image.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    return SampleStatistics(
        name=sample.name,
        size=(mask.shape[0], mask.shape[1]),
        counts=[*pixels[:classes], pixels[void]],
        digest=digest.hexdigest(),
        dtype=str(image.dtype),
        channels=[] if image.dtype == np.uint8 and tuple(dataset.channels) == RGB else moments(image).tolist(),
        measured=measured,
    )
