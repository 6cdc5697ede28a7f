"""Read every image and mask once before training: collect statistics of each sample, and all issues by file name.

Class weights and floors are computed from the label counts.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segkit.data import issues as rules
from segkit.data.cache import ScanCache, reading_of, stamps_of
from segkit.data.normalise import moments
from segkit.data.parallel import read_ahead
from segkit.data.read import with_holes
from segkit.data.sample import RGB, Dataset, checked
from segkit.data.statistics import LabelCounts, SampleStatistics
from segkit.data.subset import Subset, as_dataset
from segkit.errors import DataError, Issue, LabelError, PluginError, SegkitError, first_few
from segkit.metric.scores import floor
from segkit.settings import DataSettings

SPOTS = 8  # samples of a split that are re-read to verify cached results with data.scan = "once"


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
    issues: Mapping[str, Sequence[Issue]] | None = None,
    checks: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Scan:
    """Read every sample of every split, or its cached statistics.

    Args:
        splits: datasets by name.
        settings: the table ``[data]``.
        issues: the issues found while building the datasets, by split.
        checks: the plugins' checks by name (see :func:`segkit.hookspecs.segkit_checks`).
        progress: whether to show a progress bar.

    Raises:
        PluginError: a check raises an error.
    """
    settings, checks = settings or DataSettings(), checks or {}
    splits = {name: as_dataset(dataset, name) for name, dataset in splits.items()}
    skip, once = settings.on_bad == "skip", settings.scan == "once"
    build_issues = [replace(issue, split=name) for name, values in (issues or {}).items() for issue in values]
    stamps = {name: stamps_of(dataset) for name, dataset in splits.items()}
    uses = Counter(stamp for values in stamps.values() for stamp in values)  # samples that share files are not cached
    kept: dict[str, Dataset] = {}
    samples: dict[str, list[SampleStatistics]] = {}
    unreadable: list[Issue] = []
    reported: list[Issue] = []
    for name, dataset in splits.items():
        unique_stamps = [None if uses[stamp] > 1 else stamp for stamp in stamps[name]]
        results, read = _read_split(dataset, name, unique_stamps, once, checks, progress)
        usable = {index: each for index, each in enumerate(results) if isinstance(each, SampleStatistics)}
        samples[name] = [*usable.values()]
        unreadable += [each for each in results if isinstance(each, Issue)]
        kept[name] = dataset if len(usable) == len(results) else Subset(dataset, [*usable])
        if once and not read and dataset.reading is None:
            text = f'only {SPOTS} of {len(dataset)} samples were read again, because data.scan = "once"'
            reported.append(Issue("believed", what=text, severity="warning", split=name))
        if not usable and (skip or not results) and name not in {issue.split for issue in build_issues}:
            reported.append(Issue("empty_split", what="there is no image that can be used", split=name))
    reported += _issues(kept, samples, build_issues, unreadable, skip)
    return Scan(kept, samples, [*reported, *_check_issues(checks, samples)])


def _issues(
    kept: Mapping[str, Dataset],
    samples: Mapping[str, Sequence[SampleStatistics]],
    build_issues: Sequence[Issue],
    unreadable: Sequence[Issue],
    skip: bool,
) -> Iterator[Issue]:
    """Yield issues of files, merged over all splits, and issues of labels; ``skip``: unusable files are left out."""
    # an image without a mask is never skipped: the division into splits would depend on it
    yield from rules.merged(build_issues)
    for issue in rules.merged(unreadable):
        issue = replace(issue, skippable=True)
        yield replace(issue, what=f"left out: {issue.what}", severity="warning") if skip else issue
    first, *others = kept
    for name in others:
        one, another = kept[first].channels, kept[name].channels
        if len(one) != len(another):
            what = f"its channels differ from {first}: {first_few(another, 12)} instead of {first_few(one, 12)}"
            yield Issue("channels", what=what, advice="select common channels with data.bands", split=name)
    files = {
        name: [(tuple(kept[name].files(index)), each) for index, each in enumerate(statistics)]
        for name, statistics in samples.items()
    }
    misread = list(next(iter(kept.values())).judge(files, unreadable))
    yield from misread
    if not any(issue.severity == "error" for issue in misread):  # else issues of the classes follow from the misreading
        whole = skip or not (unreadable or build_issues)
        for name, statistics in samples.items():
            yield from rules.label_issues(statistics, kept[name], name, whole) if statistics else ()


def _check_issues(checks: Mapping[str, Any], samples: Mapping[str, Sequence[SampleStatistics]]) -> Iterator[Issue]:
    """Yield the issues that the plugins' checks report."""
    for name, check in checks.items():
        with _check_errors(name):
            measured = {split: [(each, each.measured[name]) for each in part] for split, part in samples.items()}
            for issue in check.judge(measured):
                if not isinstance(issue, Issue):
                    raise TypeError(f"judge returned {issue!r:.60}; it must return segkit.errors.Issue")
                yield issue


def _read_split(
    dataset: Dataset,
    split: str,
    stamps: Sequence[bytes | None],
    once: bool,
    checks: Mapping[str, Any],
    progress: bool,
) -> tuple[list[SampleStatistics | Issue], int]:
    """Return the statistics or the issue of each sample, and how many samples were not in the cache."""
    measures = [(name, type(check).__module__, getattr(check, "version", 0)) for name, check in checks.items()]
    reading = f"{reading_of(dataset, split)} {measures}"
    if dataset.reading is None:
        stamps = [b"%d" % index if once else None for index in range(len(dataset))]
        spots = {round(part * (len(dataset) - 1) / (SPOTS - 1)) for part in range(SPOTS) if once and len(dataset)}
        reading += repr([measure(dataset, index, split) for index in sorted(spots)])
    cache, results = ScanCache(reading), dict[int, SampleStatistics | Issue]()
    for index, stamp in enumerate(stamps):
        if stamp and (known := cache.get(stamp)):
            results[index] = SampleStatistics(*known)._replace(size=tuple(known[1]))
    unread = [index for index in range(len(dataset)) if index not in results]
    threads = 1 if dataset.reading is None else None  # without `reading` it may share one open file between samples
    description = f"labels of {split}" if progress else ""
    read = read_ahead(lambda index: measure(dataset, index, split, checks), unread, description, threads)
    try:
        for index, result in zip(unread, read, strict=True):
            results[index] = result
            if (stamp := stamps[index]) and isinstance(result, SampleStatistics):
                cache.add(stamp, result)
    finally:
        cache.save()  # also after Ctrl-C
    for index, name in enumerate(dataset.names or ()):  # cached names may come from another list of files
        if isinstance(result := results[index], SampleStatistics):
            results[index] = result._replace(name=name)
    return [results[index] for index in range(len(dataset))], len(unread)


def measure(
    dataset: Dataset, index: int, split: str, checks: Mapping[str, Any] | None = None
) -> SampleStatistics | Issue:
    """Read one sample as training will; return its statistics, or the issue that makes it unusable."""
    files = dataset.files(index)
    try:
        sample, inspected = dataset.inspect(index)
        sample, place = checked(sample, dataset.channels), f"{split}/{sample.name}"
        image, mask = sample.image.numpy(), sample.mask.numpy()
        if dataset.no_data == "stop":
            with_holes(image.transpose(1, 2, 0), None, "stop", str(files[0]) if files else place)
    except (Exception, SystemExit) as error:  # third-party datasets may raise anything
        if isinstance(error, DataError) and error.issue:
            file = str(files[0]) if files and error.issue.kind == "channels" else error.issue.file
            return replace(error.issue, split=split, file=file)
        place = str(files[0]) if files else f"{split}: {dataset.kind.rpartition('.')[2]}[{index}]"
        detail = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
        return Issue("unusable", place, "its dataset cannot read it", detail=detail, split=split)
    classes, void = len(dataset.classes), dataset.ignore_index
    pixels = Image.fromarray(mask).histogram()  # [256]; five times faster than bincount
    stored = {label: count for label, count in enumerate(pixels) if count}
    if wrong := {label: count for label, count in stored.items() if label >= classes and label != void}:
        advice = f"allowed are 0 to {classes - 1} and {void} (void)"
        return Issue("values", place, "labels that are not allowed", advice, "", wrong, stored, split=split)
    measured = {}
    for name, check in (checks or {}).items():
        with _check_errors(name):
            measured[name] = json.loads(json.dumps(check.measure(sample)))  # in the form that the cache returns
    digest = hashlib.blake2b(f"{image.dtype} {image.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    return SampleStatistics(
        name=sample.name,
        size=(mask.shape[0], mask.shape[1]),
        counts=[*pixels[:classes], pixels[void]],
        digest=digest.hexdigest(),
        dtype=str(image.dtype),
        channels=[] if image.dtype == np.uint8 and tuple(dataset.channels) == RGB else moments(image).tolist(),
        inspected=json.loads(json.dumps(inspected)),  # in the form that the cache returns
        measured=measured,
    )


@contextmanager
def _check_errors(check: str) -> Iterator[None]:
    """Convert errors in the body to a PluginError that names the check."""
    try:
        yield
    except SegkitError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"the check '{check}' failed: {type(error).__name__}: {error}") from error
