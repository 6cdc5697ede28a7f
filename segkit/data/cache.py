"""The cache of scan results, keyed by the names, sizes and modification times of each sample's files.

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
from segkit.errors import WriteError
from segkit.files import write_atomically

FORMAT = 9  # increase when the meaning of cached values changes
_UNUSED = 30 * 24 * 3600  # seconds after which an unused cache file is deleted
_SPARE = 200_000  # unused entries to keep: they may belong to another split, such as COCO's train


def cache_folder() -> Path:
    """Return the cache folder."""
    configured, shared = os.environ.get("SEGKIT_CACHE"), os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(configured).expanduser() if configured else Path(shared).expanduser() / "segkit"
    except RuntimeError:  # no home folder, as in some containers: nothing is cached
        return Path(os.devnull)


class ScanCache:
    """JSON values by file stamp, in one compressed file per way of reading; gzip's checksum detects damage.

    Args:
        reading: everything except the files that determines the values, as text.
    """

    def __init__(self, reading: str) -> None:
        name = hashlib.sha256(f"{FORMAT} {reading}".encode(errors="surrogateescape")).hexdigest()[:24]
        self.path, self._changed, self._used = cache_folder() / f"scan-{name}.gz", False, set[str]()
        self._values: dict[str, Any] = {}
        with contextlib.suppress(OSError, EOFError, ValueError, zlib.error):  # no file, a damaged one, or read-only
            self._values = json.loads(gzip.decompress(self.path.read_bytes()))
            os.utime(self.path)

    def get(self, stamp: bytes) -> Any | None:
        """Return the value of a sample, or None if it is not cached."""
        self._used.add(stamp.hex())
        return self._values.get(stamp.hex())

    def add(self, stamp: bytes, value: Any) -> None:
        """Store the value of a sample."""
        self._values[stamp.hex()] = value
        self._changed = True

    def save(self) -> None:
        """Write all values atomically; if the folder cannot be written, nothing is cached.

        If most values were not used in this scan, they probably belong to deleted files and are dropped.
        """
        if not self._changed:
            return
        if len(self._values) > 4 * len(self._used) + _SPARE:
            self._values = {stamp: self._values[stamp] for stamp in self._used & self._values.keys()}
        content = gzip.compress(json.dumps(self._values, separators=(",", ":")).encode("ascii"), 1)
        with contextlib.suppress(OSError, WriteError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # older versions of segkit stored decoded images there too
            for other in (*self.path.parent.glob("*scan-*"), *self.path.parent.glob("decoded-*")):
                if time.time() - other.stat().st_mtime > _UNUSED:
                    other.unlink()
            write_atomically(self.path, lambda file: file.write(content), durable=False)


def stamps_of(dataset: Dataset) -> list[bytes | None]:
    """Return for each sample a 16-byte digest of the names, sizes and modification times of its files.

    None if the files are unknown or one is missing; reading the sample then reports the error.
    """
    stamps: list[bytes | None] = []
    for index in range(len(dataset)):
        files, digest = dataset.files(index), hashlib.blake2b(digest_size=16)
        try:
            for path in files:
                state = os.stat(file_of(path)[0])  # noqa: PTH116  (pathlib takes twice as long, of 50,000 files; so below)
                version = f"{os.path.abspath(path)}\0{state.st_size}\0{state.st_mtime_ns}\0{state.st_ctime_ns}\0"  # noqa: PTH100
                digest.update(version.encode(errors="surrogateescape"))
            stamps.append(digest.digest() if files else None)
        except Exception:  # a missing file, or not a path
            stamps.append(None)
    return stamps
