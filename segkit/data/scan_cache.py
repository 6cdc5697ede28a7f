"""What a scan noted, kept on disk by the files' names, sizes and times, so that the next start need not read them.

The folder is ``SEGKIT_CACHE``, or ``segkit`` in the user's cache folder; it may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from segkit.data.facts import Facts
from segkit.data.leaks import Fingerprint
from segkit.data.seams import Seams

FORMAT = 1  # another number for other facts, so that old files are not read
_SPARE = 10_000  # samples that are kept although they were not asked for: they may be of another split


class ScanCache:
    """The facts of samples by their stamps, in one file for each way of reading.

    Args:
        reading: all besides the files that decides the labels; another reading, another file.
    """

    def __init__(self, reading: str) -> None:
        self.path = folder() / f"scan-{hashlib.sha256(f'{FORMAT} {reading}'.encode()).hexdigest()[:24]}.npz"
        self._known: dict[bytes, Facts] | None = None
        self._asked: dict[bytes, Facts] = {}
        self._changed = False

    def get(self, stamp: bytes) -> Facts | None:
        """What is known of a sample."""
        if self._known is None:
            self._known = self._load()
        found = self._known.get(stamp)
        if found:
            self._asked[stamp] = found
        return found

    def add(self, stamp: bytes, facts: Facts) -> None:
        """Keep what was read."""
        self._asked[stamp] = facts
        self._changed = True

    def save(self) -> None:
        """Write what was asked for and what was known, atomically; an unwritable folder costs nothing but the cache.

        What was known is left out where it is far more than was asked for: mostly of files that are no more.
        """
        if not self._changed:
            return
        known = self._known or {}
        facts = self._asked if len(known) > 4 * len(self._asked) + _SPARE else {**known, **self._asked}
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self.path.parent, suffix=".tmp")
            try:
                with os.fdopen(handle, "wb") as file:
                    np.savez(file, allow_pickle=False, **_packed(facts))
                Path(temporary).replace(self.path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise

    def _load(self) -> dict[bytes, Facts]:
        try:
            with self.path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                return _unpacked({name: file[name] for name in file.files})
        except Exception:  # no file, or a damaged one: what zip and NumPy raise then is anything
            return {}


def folder() -> Path:
    """Where caches are kept."""
    own = os.environ.get("SEGKIT_CACHE")
    try:
        return (
            Path(own).expanduser()
            if own
            else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "segkit"
        )
    except RuntimeError:  # nobody's home is known, as in some containers: nothing is kept
        return Path(os.devnull)


def _packed(facts: Mapping[bytes, Facts]) -> dict[str, np.ndarray]:
    rows = list(facts.values())
    places = [(row, label, flat) for row, each in enumerate(rows) for label, flat in each.places.items()]
    return {
        "stamps": np.frombuffer(b"".join(facts), np.uint8).reshape(-1, 16),
        "names": np.array([each.name for each in rows]),
        "sizes": np.array([each.size for each in rows], np.int32),
        "counts": np.array([each.counts for each in rows], np.int64),
        "digests": np.frombuffer(b"".join(each.fingerprint.digest for each in rows), np.uint8).reshape(-1, 16),
        "thumbnails": np.array([each.fingerprint.thumbnail for each in rows], np.uint8),
        "seams": np.array([each.seams for each in rows], np.int64),
        "place_rows": np.array([row for row, _, _ in places], np.int32),
        "place_labels": np.array([label for _, label, _ in places], np.uint8),
        "place_lengths": np.array([len(flat) for _, _, flat in places], np.int32),
        "places": np.concatenate([flat for _, _, flat in places]) if places else np.empty(0, np.int32),
    }


def _unpacked(arrays: Mapping[str, np.ndarray]) -> dict[bytes, Facts]:
    places: list[dict[int, np.ndarray]] = [{} for _ in arrays["stamps"]]
    parts = np.split(arrays["places"], np.cumsum(arrays["place_lengths"])[:-1])
    rows, labels = arrays["place_rows"].tolist(), arrays["place_labels"].tolist()
    for row, label, flat in zip(rows, labels, parts, strict=False):  # of nothing, split makes one empty part
        places[row][label] = flat
    columns = [arrays[name] for name in ("stamps", "names", "sizes", "counts", "digests", "thumbnails", "seams")]
    return {
        stamp.tobytes(): Facts(
            name=str(name),
            size=(int(size[0]), int(size[1])),
            counts=counts,
            places=places[row],
            fingerprint=Fingerprint(digest.tobytes(), thumbnail),
            seams=Seams(int(seam[0]), int(seam[1])),
        )
        for row, (stamp, name, size, counts, digest, thumbnail, seam) in enumerate(zip(*columns, strict=True))
    }
