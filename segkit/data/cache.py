"""The cache of scan results, keyed by the names, sizes and modification times of each sample's files.

The folder is ``SEGKIT_CACHE``, or ``segkit`` in the user's cache folder; it may be deleted at any time. One compressed
file per way of reading holds JSON values by file stamp; gzip's checksum detects damage.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segkit.data.read import file_of
from segkit.data.sample import Dataset
from segkit.errors import WriteError
from segkit.files import write_atomically

FORMAT = 9  # increase when the meaning of cached values changes
_UNUSED = 30 * 24 * 3600  # seconds after which an unused cache file is deleted


def cache_file(reading: str) -> Path:
    """Return the cache file of a way of reading: everything except the files that determines the values, as text.

    Raises:
        RuntimeError: there is no home folder, as in some containers.
    """
    name = hashlib.sha256(f"{FORMAT} {reading}".encode(errors="surrogateescape")).hexdigest()[:24]
    shared = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "segkit")
    return Path(os.environ.get("SEGKIT_CACHE") or shared).expanduser() / f"scan-{name}.gz"


def load_values(reading: str) -> dict[str, Any]:
    """Return the cached values by stamp; empty if there is no file, or a damaged one."""
    values: dict[str, Any] = {}
    with contextlib.suppress(OSError, EOFError, ValueError, zlib.error, RuntimeError):
        path = cache_file(reading)
        values = json.loads(gzip.decompress(path.read_bytes()))
        os.utime(path)
    return values


def save_values(reading: str, values: Mapping[str, Any]) -> None:
    """Write values by stamp atomically; if the folder cannot be written, nothing is cached."""
    content = gzip.compress(json.dumps(values, separators=(",", ":")).encode("ascii"), 1)
    with contextlib.suppress(OSError, WriteError, RuntimeError):
        path = cache_file(reading)
        path.parent.mkdir(parents=True, exist_ok=True)
        for other in path.parent.glob("scan-*"):
            if time.time() - other.stat().st_mtime > _UNUSED:
                other.unlink()
        write_atomically(path, lambda file: file.write(content), durable=False)


def stamps_of(dataset: Dataset) -> list[str | None]:
    """Return for each sample a digest of the names, sizes and modification times of its files, hexadecimal.

    None if the files or the dataset's ``reading`` are unknown, or a file is missing; reading it then reports the error.
    """
    stamps: list[str | None] = []
    for index in range(len(dataset)):
        files, digest = dataset.files(index), hashlib.blake2b(digest_size=16)
        try:
            for path in files:
                state = os.stat(file_of(path)[0])  # noqa: PTH116  (pathlib takes twice as long, of 50,000 files; so below)
                version = f"{os.path.abspath(path)}\0{state.st_size}\0{state.st_mtime_ns}\0{state.st_ctime_ns}\0"  # noqa: PTH100
                digest.update(version.encode(errors="surrogateescape"))
            stamps.append(digest.hexdigest() if files and dataset.reading is not None else None)
        except Exception:  # a missing file, or not a path
            stamps.append(None)
    return stamps
