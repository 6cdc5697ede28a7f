"""Read every image and mask once before training: what is wrong, by file name, and what is in them.

The counts give the class weights and the floors, the places of the classes what crops are centred on. All problems of
all splits are found before any is told.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from segkit.data import findings
from segkit.data.facts import Facts, look_at
from segkit.data.findings import Finding
from segkit.data.labels import LabelCounts
from segkit.data.places import Places
from segkit.data.sample import Dataset
from segkit.data.scan_cache import ScanCache, stamp
from segkit.data.subset import Subset
from segkit.errors import Fault, LabelError
from segkit.settings import DataSettings


@dataclass(frozen=True)
class Scan:
    """What was found in the splits.

    Attributes:
        splits: the datasets, without the samples that ``data.on_bad = "skip"`` leaves out.
        facts: per split, of each sample of ``splits``.
        findings: what is wrong or odd.
    """

    splits: Mapping[str, Dataset]
    facts: Mapping[str, Sequence[Facts]]
    findings: Sequence[Finding]

    @property
    def errors(self) -> list[Finding]:
        """What no run can go on with."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """What a run goes on with, and tells."""
        return [finding for finding in self.findings if finding.severity == "warning"]

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

    def refuse_errors(self) -> None:
        """Go on only where there is no error.

        Raises:
            LabelError: with all that is wrong.
        """
        if self.errors:
            raise LabelError("\n".join(str(finding) for finding in self.errors))


def scan_splits(
    splits: Mapping[str, Dataset],
    settings: DataSettings | None = None,
    faults: Mapping[str, Sequence[Fault]] | None = None,
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
    kept: dict[str, Dataset] = {}
    facts: dict[str, list[Facts]] = {}
    wrong: dict[str, list[Fault]] = {}
    for name, dataset in splits.items():
        noted = _noted(dataset, name, progress)
        wrong[name] = [*(faults or {}).get(name, ()), *(x for each in noted if isinstance(each, list) for x in each)]
        usable = {index: each for index, each in enumerate(noted) if isinstance(each, Facts)}
        facts[name] = list(usable.values())
        kept[name] = dataset if len(usable) == len(noted) else Subset(dataset, list(usable))
    found = findings.of_faults(wrong, facts, splits, settings.on_bad)
    for name, dataset in kept.items():
        found += findings.of_facts(facts[name], dataset, name)
    found += findings.of_leaks(facts, settings.allow_leaks)
    return Scan(kept, facts, found)


def _noted(dataset: Dataset, split: str, progress: bool) -> list[Facts | list[Fault]]:
    """Of each sample the facts, or what is wrong; in threads, as decoding releases the interpreter."""
    stamps = _stamps(dataset)
    cache = ScanCache(dataset.reading) if hasattr(dataset, "reading") and any(stamps) else None
    known = cache.load() if cache else {}
    noted: dict[int, Facts | list[Fault]] = {
        index: known[each] for index, each in enumerate(stamps) if each is not None and each in known
    }
    unread = [index for index in range(len(dataset)) if index not in noted]
    if not unread:
        return [noted[index] for index in range(len(dataset))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            results = pool.map(lambda index: look_at(dataset, index), unread)
            shown = tqdm(results, f"labels of {split}", len(unread), leave=False, disable=None if progress else True)
            for index, result in zip(unread, shown, strict=True):
                noted[index] = result
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C need not wait for the rest
            raise
        finally:  # what was read before Ctrl-C need not be read again
            if cache:
                stamped = ((stamps[index], each) for index, each in noted.items())
                cache.save({stamp: each for stamp, each in stamped if stamp and isinstance(each, Facts)}, known)
    return [noted[index] for index in range(len(dataset))]


def _stamps(dataset: Dataset) -> list[bytes | None]:
    """For each sample what changes with its files; None where that cannot be told."""
    if not hasattr(dataset, "files"):
        return [None] * len(dataset)
    stamps: list[bytes | None] = []
    for index in range(len(dataset)):
        try:
            stamps.append(stamp(dataset.files(index)))
        except OSError:  # missing: reading it will say so
            stamps.append(None)
    return stamps
