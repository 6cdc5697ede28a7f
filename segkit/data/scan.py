"""Read every image and mask once before training: the statistics of each sample, and all issues by file name.

The counts give the class weights and the floors.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segkit.data import issues as rules
from segkit.data.cache import ScanCache, reading_of, stamps_of
from segkit.data.class_weights import LabelCounts
from segkit.data.normalise import moments
from segkit.data.parallel import cores, read_ahead
from segkit.data.read import are_turned_apart
from segkit.data.resize import Resize
from segkit.data.sample import Dataset, Sample, checked
from segkit.data.subset import Subset, as_dataset
from segkit.data.tiff import contents
from segkit.errors import DataError, Issue, LabelError, PluginError, SegkitError
from segkit.settings import AugmentSettings, DataSettings

SPOTS = 8  # samples of a split that are read again where data.scan = "once" believes the others
SKIP = 'data.on_bad = "skip" goes on without the files that cannot be used'


class SampleStatistics(NamedTuple):
    """What a scan keeps of one sample.

    Attributes:
        name: what the dataset calls it.
        size: height and width, pixels.
        counts: int64 ``[C+1]``, pixels of each class, then of void.
        digest: of the image's pixels and shape: equal for equal images.
        palette: stored label -> the colour in which the mask's palette draws it.
        dtype: of the image, ``uint8`` or ``float32``.
        channels: float64 ``[C,2]``, mean and variance of each channel of a float32 image; none of others.
        no_data: a value of a float32 image far from all its others, as -9999; NaN where there is none.
        constant: whether all pixels of the image are the same.
        turned: whether the files of image and mask, of the same shape, have different EXIF orientations.
        white_is_zero: whether the mask is a TIFF whose 0 viewers show as white.
        measured: check -> what it has measured.
    """

    name: str
    size: tuple[int, int]
    counts: NDArray[np.int64]
    digest: str
    palette: dict[int, tuple[int, int, int]]
    dtype: str
    channels: NDArray[np.float64]
    no_data: float
    constant: bool
    turned: bool
    white_is_zero: bool
    measured: dict[str, Any]

    def to_json(self) -> list[Any]:
        """The fields as JSON holds them, for the cache."""
        own = self._asdict() | {"counts": self.counts.tolist(), "channels": self.channels.tolist()}
        own["palette"] = [*self.palette.items()]
        return [*own.values()]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> SampleStatistics:
        """From what :meth:`to_json` has given."""
        own = dict(zip(cls._fields, values, strict=True))
        own["size"], own["counts"] = tuple(own["size"]), np.array(own["counts"], np.int64)
        own["channels"] = np.array(own["channels"], np.float64).reshape(-1, 2)
        own["palette"] = {label: tuple(colour) for label, colour in own["palette"]}
        return cls(**own)


class Check(Protocol):
    """A further check of every data set (see :func:`segkit.hookspecs.segkit_checks`)."""

    def measure(self, sample: Sample) -> Any:
        """What ``judge`` needs of a sample, as JSON holds it."""

    def judge(self, splits: Mapping[str, Sequence[tuple[SampleStatistics, Any]]]) -> Iterable[Issue]:
        """The issues, from the statistics and the measured value of each sample by split."""


@dataclass(frozen=True)
class Scan:
    """What was found in the splits.

    Attributes:
        splits: the datasets, without the samples that cannot be used.
        statistics: per split, of each sample of ``splits``.
        issues: what is wrong or odd.
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
        """The issues that a run prints and goes on with."""
        return [issue for issue in self.issues if issue.severity == "warning"]

    def pixels(self, split: str) -> NDArray[np.int64]:
        """Pixels by image and class, the last column void, ``[N,C+1]``."""
        classes = len(self.splits[split].classes)
        return np.array([each.counts for each in self.statistics[split]], np.int64).reshape(-1, classes + 1)

    def counts(self, split: str) -> LabelCounts:
        """How often the classes occur in a split."""
        return LabelCounts.of(self.pixels(split))

    def with_augment(self, augment: AugmentSettings, resize: Resize) -> Scan:
        """The same scan with the issues of ``[augment]`` on these images."""
        found = rules.augment_issues(self.statistics.get("train", ()), augment, resize)
        return replace(self, issues=[*self.issues, *found])

    def refuse_errors(self) -> None:
        """Go on only where there is no error.

        Raises:
            LabelError: with all errors.
        """
        if self.errors:
            hint = [SKIP] if any(issue.skippable for issue in self.errors) else []
            empty = any(issue.kind == "empty_split" for issue in self.errors)
            why = [issue for issue in self.warnings if issue.skippable and empty]  # what was left out
            raise LabelError("\n".join([*map(str, [*why, *self.errors]), *hint]))


def scan_splits(
    splits: Mapping[str, Dataset],
    settings: DataSettings | None = None,
    issues: Mapping[str, Sequence[Issue]] | None = None,
    checks: Mapping[str, Check] | None = None,
    progress: bool = True,
) -> Scan:
    """Read every sample of every split, or what the cache holds of it.

    Args:
        splits: datasets by name.
        settings: ``[data]``.
        issues: what was wrong when the datasets were built, by split.
        checks: further checks by name.
        progress: whether to show a bar.

    Raises:
        PluginError: a check fails.
    """
    settings, checks = settings or DataSettings(), checks or {}
    splits = {name: as_dataset(dataset, name) for name, dataset in splits.items()}
    built = {name: [replace(issue, split=name) for issue in those] for name, those in (issues or {}).items()}
    stamps = {name: stamps_of(dataset) for name, dataset in splits.items()}
    uses = Counter(stamp for those in stamps.values() for stamp in those)  # several samples of one file are not cached
    kept: dict[str, Dataset] = {}
    samples: dict[str, list[SampleStatistics]] = {}
    unreadable: list[Issue] = []
    found: list[Issue] = []
    for name, dataset in splits.items():
        own = [None if uses[stamp] > 1 else stamp for stamp in stamps[name]]
        results, believed = _read_split(dataset, name, own, settings, checks, progress)
        usable = [index for index, each in enumerate(results) if isinstance(each, SampleStatistics)]
        samples[name] = [each for each in results if isinstance(each, SampleStatistics)]
        unreadable += [issue for each in results if isinstance(each, list) for issue in each]
        kept[name] = dataset if len(usable) == len(results) else Subset(dataset, usable)
        found += believed
    skip = settings.on_bad == "skip"
    advise = rules.advice_of(next(iter(splits.values())), [each for those in samples.values() for each in those])
    # a file without its partner is never skipped: which images are dealt to which split would depend on it
    found += rules.merged((issue for those in built.values() for issue in those), advise)
    for issue in rules.merged(unreadable, advise):
        skipped = replace(issue, what=f"left out: {issue.what}", severity="warning", skippable=True)
        found.append(skipped if skip else replace(issue, skippable=True))
    for name, dataset in splits.items():
        if not built.get(name) and not samples[name] and (skip or not len(dataset)):
            found.append(Issue("empty_split", what="not one image that can be used", split=name))
    misread = list(rules.misread_issues(samples, kept, unreadable))
    found += misread  # what is odd about the classes then follows from it
    for name, dataset in kept.items() if not any(each.severity == "error" for each in misread) else ():
        if samples[name]:
            found += rules.label_issues(samples[name], dataset, name, skip or not (unreadable or any(built.values())))
    found += rules.image_issues(samples, kept)
    for name, check in checks.items():
        with _named(name):
            measured = {split: [(each, each.measured[name]) for each in those] for split, those in samples.items()}
            found += check.judge(measured)
    return Scan(kept, samples, found)


def _read_split(
    dataset: Dataset,
    split: str,
    stamps: Sequence[bytes | None],
    settings: DataSettings,
    checks: Mapping[str, Check],
    progress: bool,
) -> tuple[list[SampleStatistics | list[Issue]], list[Issue]]:
    """Of each sample the statistics or what is wrong with it; and a warning where most samples were not read."""
    once = settings.scan == "once" and dataset.reading is None
    if once:
        stamps = [b"%d" % index for index in range(len(dataset))]
    measures = [f"{name} {type(check).__module__} {getattr(check, 'version', 0)}" for name, check in checks.items()]
    cache = ScanCache(f"{reading_of(dataset, split)} {measures}") if once or dataset.reading is not None else None
    cached = [cache.get(stamp) if cache and stamp else None for stamp in stamps]
    results = {index: SampleStatistics.from_json(value) for index, value in enumerate(cached) if value}
    believed = []
    if once and results:
        if _as_before(dataset, split, results):
            text = f'only {SPOTS} of {len(dataset)} samples were read anew, as data.scan = "once" has it'
            believed = [Issue("believed", what=text, severity="warning", split=split)]
        else:
            results = {}
    unread = [index for index in range(len(dataset)) if index not in results]
    threads = 1 if dataset.reading is None else cores()  # one that names no files may hold one that it reads on in
    read = read_ahead(
        lambda index: measure(dataset, index, split, checks), unread, threads, f"labels of {split}", progress
    )
    found: dict[int, SampleStatistics | list[Issue]] = {**results}
    try:
        for index, result in zip(unread, read, strict=True):
            found[index] = result
            stamp = stamps[index]
            if cache and stamp and isinstance(result, SampleStatistics):
                cache.add(stamp, result.to_json())
    finally:
        if cache:
            cache.save()  # what was read before Ctrl-C need not be read again
    names = dataset.names  # those of another list of files may have been longer
    ordered = [found[index] for index in range(len(dataset))]
    if names:
        ordered = [
            e._replace(name=n) if isinstance(e, SampleStatistics) else e for e, n in zip(ordered, names, strict=True)
        ]
    return ordered, believed


def _as_before(dataset: Dataset, split: str, known: Mapping[int, SampleStatistics]) -> bool:
    """Whether all samples are known, and a few of them that are read anew are as they were."""
    last = len(dataset) - 1
    if not SPOTS <= last < len(known):
        return False
    for index in sorted({round(part * last / (SPOTS - 1)) for part in range(SPOTS)}):
        now, before = measure(dataset, index, split), known[index]
        if not isinstance(now, SampleStatistics) or now.digest != before.digest or (now.counts != before.counts).any():
            return False
    return True


def measure(
    dataset: Dataset, index: int, split: str, checks: Mapping[str, Check] | None = None
) -> SampleStatistics | list[Issue]:
    """Read one sample as training will, image and mask: its statistics, or what is wrong with it."""
    try:
        palette = dataset.check_mask_file(index)
        sample = checked(dataset[index])
    except (Exception, SystemExit) as error:  # a dataset of somebody else's may raise what it likes
        issues = [_reading_issue(dataset, index, split, error)]
        try:
            dataset.mask(index)  # it may be wrong too
        except (Exception, SystemExit) as second:
            issues += [issue for issue in [_reading_issue(dataset, index, split, second)] if issue != issues[0]]
        return issues
    image, mask, files = sample.image.numpy(), sample.mask.numpy(), dataset.files(index)
    place = f"{split}/{sample.name}"
    deep = image.dtype == np.float32
    if deep and not np.isfinite(image).all():
        what, advice = "pixels that are no numbers", "fill them with numbers, or leave the picture out"
        return [Issue("no_numbers", str(files[0]) if files else place, what, advice, split=split)]
    classes = len(dataset.classes)
    pixels = np.array(Image.fromarray(mask).histogram(), np.int64)  # [256]; five times as fast as bincount
    stored = {label: int(pixels[label]) for label in np.flatnonzero(pixels).tolist()}
    wrong = {label: count for label, count in stored.items() if label >= classes and label != dataset.ignore_index}
    if wrong:
        what, advice = (
            "labels that are not allowed",
            f"allowed are 0 to {classes - 1} and {dataset.ignore_index} (void)",
        )
        return [Issue("values", place, what, advice, wrong=wrong, stored=stored, split=split)]
    values = {}
    for name, check in (checks or {}).items():
        with _named(name):
            values[name] = json.loads(json.dumps(check.measure(sample)))  # as the cache will give it
    own_digest = hashlib.blake2b(f"{image.dtype} {image.shape}".encode(), digest_size=16)
    own_digest.update(np.ascontiguousarray(image).data)
    return SampleStatistics(
        name=sample.name,
        size=(mask.shape[0], mask.shape[1]),
        counts=np.append(pixels[:classes], pixels[dataset.ignore_index]),
        digest=own_digest.hexdigest(),
        palette=dict(palette),
        dtype=str(image.dtype),
        channels=moments(image) if deep else np.empty((0, 2)),
        no_data=_no_data(image[0]) if deep else math.nan,
        constant=bool((image == image[:, :1, :1]).all()),
        turned=len(files) == 2 and are_turned_apart(*files),
        white_is_zero=len(files) == 2 and bool((held := contents(files[1])) and held.white_is_zero),
        measured=values,
    )


@contextmanager
def _named(check: str) -> Iterator[None]:
    """Errors within are those of a check."""
    try:
        yield
    except SegkitError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"the check '{check}' failed: {type(error).__name__}: {error}") from error


def _no_data(channel: NDArray[Any]) -> float:
    """The least or the largest value where it is a thousandth of the pixels and further away than the others' range."""
    least, largest = channel.min(), channel.max()
    for value, others in ((least, channel[channel > least]), (largest, channel[channel < largest])):
        if 0.5 * channel.size < others.size < 0.999 * channel.size:
            low, high = float(others.min()), float(others.max())
            if max(low - float(value), float(value) - high) > high - low > 0:
                return float(value)
    return math.nan


def _reading_issue(dataset: Dataset, index: int, split: str, error: BaseException) -> Issue:
    if isinstance(error, DataError) and error.issue:
        return replace(error.issue, split=split)
    files = dataset.files(index)
    place = str(files[0]) if files else f"{split}: {dataset.kind.rpartition('.')[2]}[{index}]"
    detail = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
    return Issue("unusable", place, "cannot be read by its dataset", detail=detail, split=split)
