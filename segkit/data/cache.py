"""The cache folder, and in it what a scan has read of each sample, by the names, sizes and times of its files.

The folder is ``SEGKIT_CACHE``, or ``segkit`` in the user's cache folder; it may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import time
import zlib
from pathlib import Path
from typing import Any

from segkit.data.read import file_of
from segkit.data.sample import Dataset
from segkit.data.subset import Subset
from segkit.errors import WriteError
from segkit.files import write_atomically

FORMAT = 8  # raise it where what is cached changes its meaning
_UNUSED = 30 * 24 * 3600  # seconds after which a file of the cache that nobody has used is deleted
_SPARE = 200_000  # samples that are kept although they were not asked for: COCO's val is asked for beside its train


def cache_folder() -> Path:
    """Where caches are kept."""
    own, shared = os.environ.get("SEGKIT_CACHE"), os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(own).expanduser() if own else Path(shared).expanduser() / "segkit"
    except RuntimeError:  # no home folder is known, as in some containers: nothing is kept
        return Path(os.devnull)


class ScanCache:
    """JSON values by stamp, in one compressed file for each way of reading; gzip's checksum finds damage.

    Args:
        reading: all besides the files that decides the values.
    """

    def __init__(self, reading: str) -> None:
        name = hashlib.sha256(f"{FORMAT} {reading}".encode(errors="surrogateescape")).hexdigest()[:24]
        self.path, self._changed, self._asked = cache_folder() / f"scan-{name}.gz", False, set[str]()
        self._values: dict[str, Any] = {}
        with contextlib.suppress(OSError, EOFError, ValueError, zlib.error):  # no file, a damaged one, or read-only
            self._values = json.loads(gzip.decompress(self.path.read_bytes()))
            os.utime(self.path)

    def get(self, stamp: bytes) -> Any | None:
        """The value of a sample; None where it is not known."""
        self._asked.add(stamp.hex())
        return self._values.get(stamp.hex())

    def add(self, stamp: bytes, value: Any) -> None:
        """Keep the value of a sample that was asked for."""
        self._values[stamp.hex()] = value
        self._changed = True

    def save(self) -> None:
        """Write all values atomically; a folder that cannot be written costs nothing but the cache.

        Where they are far more than was asked for, they are mostly of files that are no more, and only these are kept.
        """
        if not self._changed:
            return
        if len(self._values) > 4 * len(self._asked) + _SPARE:
            self._values = {stamp: self._values[stamp] for stamp in self._asked & self._values.keys()}
        content = gzip.compress(json.dumps(self._values, separators=(",", ":")).encode("ascii"), 1)
        with contextlib.suppress(OSError, WriteError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # an older version has kept decoded images there too
            for other in (*self.path.parent.glob("*scan-*"), *self.path.parent.glob("decoded-*")):
                if time.time() - other.stat().st_mtime > _UNUSED:
                    other.unlink()
            write_atomically(self.path, lambda file: file.write(content), durable=False)


def reading_of(dataset: Dataset, split: str) -> str:
    """All besides the files that decides what is read.

    Of a dataset that names no files that is the split, the number of samples and those attributes that are texts,
    numbers or lists of these, as far as that goes.
    """
    kind = f"{dataset.kind} {len(dataset.classes)} {dataset.ignore_index}"
    if dataset.reading is not None:
        return f"{kind} {dataset.reading} {dataset.channels}"  # grey among colours has three, and alone it has one
    whole: Any = dataset
    rows = [len(dataset)]
    while isinstance(whole, Subset):
        rows += whole.indices
        whole = whole.dataset
    own = {}
    for name, value in sorted(getattr(whole, "__dict__", {}).items()):
        with contextlib.suppress(TypeError, ValueError):
            own[name] = json.dumps(str(value) if isinstance(value, Path) else value)
    return f"{kind} {split} {rows} {own}"


def stamps_of(dataset: Dataset) -> list[bytes | None]:
    """16 bytes for each sample that change when one of its files gets another name, size or time of modification.

    None where the files are not known or one is missing: reading the sample tells what is wrong.
    """
    found: list[bytes | None] = []
    for index in range(len(dataset)):
        files, digest = dataset.files(index), hashlib.blake2b(digest_size=16)
        try:
            for path in files:
                state = os.stat(file_of(path)[0])  # noqa: PTH116  (pathlib takes twice as long, of 50,000 files; so below)
                own = f"{os.path.abspath(path)}\0{state.st_size}\0{state.st_mtime_ns}\0{state.st_ctime_ns}\0"  # noqa: PTH100
                digest.update(own.encode(errors="surrogateescape"))
            found.append(digest.digest() if files else None)
        except Exception:  # a file that is missing, or no path
            found.append(None)
    return found
