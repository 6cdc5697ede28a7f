"""Read every image and mask once before training: what is wrong, by file name, and what is in them.

The counts give the class weights and the floors, the places of the classes what crops are centred on. All problems of
all splits are found before any is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from segkit.data import findings
from segkit.data.cores import cores
from segkit.data.facts import Facts, look_at
from segkit.data.labels import LabelCounts
from segkit.data.places import Places
from segkit.data.read import quiet_pillow
from segkit.data.resize import Resize
from segkit.data.sample import Dataset
from segkit.data.scan_cache import ScanCache
from segkit.data.stamps import has_files, reading_of, stamps_of, unproven_stamps_of
from segkit.data.subset import Subset
from segkit.errors import Issue, LabelError
from segkit.settings import AugmentSettings, DataSettings

SPOTS = 8  # samples of a split that are read again where the others are believed to be as they were
SKIP = 'data.on_bad = "skip" goes on without the files that cannot be used'


@dataclass(frozen=True)
class Scan:
    """What was found in the splits.

    Attributes:
        splits: the datasets, without the samples that cannot be used.
        facts: per split, of each sample of ``splits``.
        issues: what is wrong or odd.
    """

    splits: Mapping[str, Dataset]
    facts: Mapping[str, Sequence[Facts]]
    issues: Sequence[Issue]

    @property
    def errors(self) -> list[Issue]:
        """What no run can go on with."""
        return [issue for issue in self.issues if issue.severity == "error"]

    @property
    def warnings(self) -> list[Issue]:
        """What a run goes on with, and tells."""
        return [issue for issue in self.issues if issue.severity == "warning"]

    def pixels(self, split: str) -> NDArray[np.int64]:
        """Pixels by image and class, the last column void, ``[N,C+1]``."""
        classes = len(self.splits[split].classes)
        return np.array([facts.counts for facts in self.facts[split]], np.int64).reshape(-1, classes + 1)

    def counts(self, split: str) -> LabelCounts:
        """The labels of a split."""
        return LabelCounts.of(self.pixels(split))

    def places(self, split: str) -> Places:
        """Where the classes are in each image of a split."""
        facts = self.facts[split]
        largest = int(self.counts(split).pixels.argmax())
        return Places([each.places for each in facts], [each.size for each in facts], largest)

    def with_augment(self, augment: AugmentSettings, resize: Resize) -> Scan:
        """The same with what is to be said of ``[augment]`` on these images."""
        found = findings.of_augment(self.facts.get("train", ()), augment, resize)
        return replace(self, issues=[*self.issues, *found])

    def refuse_errors(self) -> None:
        """Go on only where there is no error.

        Raises:
            LabelError: with all that is wrong.
        """
        if self.errors:
            hint = [SKIP] if any(issue.skippable for issue in self.errors) else []
            empty = any(issue.kind == "empty_split" for issue in self.errors)
            why = [issue for issue in self.warnings if issue.skippable and empty]  # what was left out
            raise LabelError("\n".join([*map(str, [*why, *self.errors]), *hint]))


def scan_splits(
    splits: Mapping[str, Dataset],
    settings: DataSettings | None = None,
    faults: Mapping[str, Sequence[Issue]] | None = None,
    progress: bool = True,
) -> Scan:
    """Read every sample of every split, or what the cache holds of it.

    Args:
        splits: datasets by name.
        settings: ``[data]``: what to do with samples that cannot be used, and with pictures in two splits.
        faults: what was wrong when the datasets were built, by split.
        progress: whether to show a bar.
    """
    settings = settings or DataSettings()
    caches: dict[str, ScanCache] = {}
    noted: dict[str, list[Facts | list[Issue]]] = {}
    believed: dict[str, str] = {}
    stamps = {name: stamps_of(dataset) for name, dataset in splits.items()}
    often = Counter(stamp for those in stamps.values() for stamp in those)  # several samples of one file
    try:
        for name, dataset in splits.items():
            own = [None if often[stamp] > 1 else stamp for stamp in stamps[name]]
            cache = _cache(dataset, caches)
            if cache is None and settings.scan == "once":
                own = unproven_stamps_of(dataset, name)
                cache = caches[name] = ScanCache(f"once {name} {type(dataset).__qualname__} {len(dataset)}")
                if _as_before(dataset, name, cache, own):
                    believed[name] = (
                        f'only {SPOTS} of {len(dataset)} samples were read anew, as data.scan = "once" has it'
                    )
                else:
                    cache.forget()
            noted[name] = _noted(dataset, name, cache, own, progress)
    finally:  # what was read before Ctrl-C need not be read again
        for cache in caches.values():
            cache.save()
    kept: dict[str, Dataset] = {}
    facts: dict[str, list[Facts]] = {}
    wrong: dict[str, list[Issue]] = {}
    for name, dataset in splits.items():
        usable = {index: each for index, each in enumerate(noted[name]) if isinstance(each, Facts)}
        facts[name] = list(usable.values())
        kept[name] = dataset if len(usable) == len(noted[name]) else Subset(dataset, list(usable))
        wrong[name] = [fault for each in noted[name] if not isinstance(each, Facts) for fault in each]
    # without its partner a file is never skipped: which images are dealt to which split would depend on it
    found = [Issue("believed", what=text, severity="warning", split=name) for name, text in believed.items()]
    found += findings.of_faults(faults or {}, facts, splits)
    found += findings.of_faults(wrong, facts, splits, settings.on_bad)
    empty = {name: dataset for name, dataset in splits.items() if not (faults or {}).get(name)}  # else it was told why
    found += findings.of_nothing(empty, facts, settings.on_bad)
    misread = findings.of_palettes(facts, kept)
    misread += findings.of_black_and_white(facts, kept, (fault for those in wrong.values() for fault in those))
    found += misread  # what is odd about the classes then follows from it
    for name, dataset in kept.items() if not any(each.severity == "error" for each in misread) else ():
        whole = settings.on_bad == "skip" or not any([*wrong.values(), *(faults or {}).values()])
        found += findings.of_facts(facts[name], dataset, name, whole)
    found += findings.of_images(facts, kept)
    found += findings.of_leaks(facts, settings.allow_leaks)
    return Scan(kept, facts, found)


def _noted(
    dataset: Dataset, split: str, cache: ScanCache | None, stamps: Sequence[bytes | None], progress: bool
) -> list[Facts | list[Issue]]:
    """Of each sample the facts, or what is wrong with it."""
    known = [cache.get(each) if cache and each else None for each in stamps]
    noted: dict[int, Facts | list[Issue]] = {index: each for index, each in enumerate(known) if each}
    unread = [index for index in range(len(dataset)) if index not in noted]
    # decoding releases the interpreter; a dataset that names no files may hold one that it reads on in
    pool = ThreadPoolExecutor(cores() if has_files(dataset) else 1)
    try:
        with quiet_pillow():
            results = pool.map(lambda index: look_at(dataset, index, split), unread)
            shown = tqdm(results, f"labels of {split}", len(unread), leave=False, disable=None if progress else True)
            for index, result in zip(unread, shown, strict=True):
                noted[index] = result
                stamp = stamps[index]
                if cache and stamp and isinstance(result, Facts):
                    cache.add(stamp, result)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C need not wait for the rest
    names = getattr(dataset, "names", None)  # those of another list of files may have been longer
    facts = [noted[index] for index in range(len(dataset))]
    return [
        each._replace(name=names[index]) if names and isinstance(each, Facts) else each
        for index, each in enumerate(facts)
    ]


def _as_before(dataset: Dataset, split: str, cache: ScanCache, stamps: Sequence[bytes | None]) -> bool:
    """Whether a split is known, and those of its samples that are read anew are as they were noted."""
    known = [cache.get(stamp) if stamp else None for stamp in stamps]
    for index in sorted({round(part * (len(known) - 1) / (SPOTS - 1)) for part in range(SPOTS)}) if known else ():
        was, now = known[index], look_at(dataset, index, split)
        if not (was and isinstance(now, Facts) and was.counts.tolist() == now.counts.tolist()):
            return False
        if was.fingerprint.digest != now.fingerprint.digest:
            return False
    return len(known) > SPOTS and all(known)


def _cache(dataset: Dataset, caches: dict[str, ScanCache]) -> ScanCache | None:
    """The cache of this way to read: by the class, its classes, and what it says itself; None where it says nothing."""
    if not has_files(dataset):
        return None
    key = reading_of(dataset)
    return caches.setdefault(key, ScanCache(key))
