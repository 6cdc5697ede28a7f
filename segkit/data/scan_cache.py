"""What a scan noted, kept on disk by the files' names, sizes and times, so that the next start need not read them.

The folder is ``SEGKIT_CACHE``, or ``segkit`` in the user's cache folder; it may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import numpy as np

from segkit.data.facts import Facts

FORMAT = 2  # another number where a field of Facts means something else; a file that lacks one is not used
UNUSED = 30 * 24 * 3600  # seconds after which a file of the cache that nobody has used is deleted
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

    def forget(self) -> None:
        """Know nothing any more."""
        self._known = {}

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
            for other in self.path.parent.glob("scan-*.npz"):
                if time.time() - other.stat().st_mtime > UNUSED:
                    other.unlink()
            handle, temporary = tempfile.mkstemp(dir=self.path.parent, suffix=".tmp")
            try:
                with os.fdopen(handle, "wb") as file:
                    stamps = np.frombuffer(b"".join(facts), np.uint8).reshape(-1, 16)
                    np.savez(file, allow_pickle=False, stamps=stamps, **_packed(Facts, list(facts.values())))
                Path(temporary).replace(self.path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise

    def _load(self) -> dict[bytes, Facts]:
        with contextlib.suppress(OSError):
            os.utime(self.path)
        try:
            with self.path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                stamps = [each.tobytes() for each in file["stamps"]]
                arrays = {name: file[name] for name in file.files}
            return dict(zip(stamps, _unpacked(Facts, arrays, len(stamps)), strict=True))
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


def _packed(kind: Any, values: Sequence[Any], name: str = "") -> dict[str, np.ndarray]:
    """Values of one type as arrays: a named tuple's fields apart, arrays of any size end to end.

    A field may be a named tuple, an array, a mapping of whole numbers to arrays, a text, bytes of one length, a number
    or a tuple of numbers.
    """
    if hasattr(kind, "_fields"):
        fields = get_type_hints(kind).items()
        parts = [_packed(own, [getattr(each, field) for each in values], f"{name}.{field}") for field, own in fields]
        return {key: array for part in parts for key, array in part.items()}
    if get_origin(kind) is dict:
        rows = [(row, key, array) for row, each in enumerate(values) for key, array in each.items()]
        keys = np.array([(row, key) for row, key, _ in rows], np.int32).reshape(-1, 2)
        return {f"{name}.keys": keys, **_packed(np.ndarray, [array for _, _, array in rows], name)}
    if get_origin(kind) is np.ndarray or kind is np.ndarray:
        flat = np.concatenate([each.reshape(-1) for each in values]) if values else np.empty(0, np.int32)
        shapes = np.array([each.shape for each in values], np.int32)
        return {name: flat, f"{name}.shapes": shapes.reshape(len(values), -1 if values else 1)}
    if kind is bytes:
        return {name: np.frombuffer(b"".join(values), np.uint8).reshape(len(values), -1)}
    return {name: np.array(values)}


def _unpacked(kind: Any, arrays: Mapping[str, np.ndarray], count: int, name: str = "") -> list[Any]:
    """The ``count`` values that :func:`_packed` has packed."""
    if hasattr(kind, "_fields"):
        fields = get_type_hints(kind).items()
        columns = [_unpacked(own, arrays, count, f"{name}.{field}") for field, own in fields]
        return [kind(*row) for row in zip(*columns, strict=True)]
    if get_origin(kind) is dict:
        found: list[dict[int, np.ndarray]] = [{} for _ in range(count)]
        keys = arrays[f"{name}.keys"].tolist()
        for (row, key), array in zip(keys, _unpacked(np.ndarray, arrays, len(keys), name), strict=True):
            found[row][key] = array
        return found
    if kind is np.ndarray or get_origin(kind) is np.ndarray:
        shapes = arrays[f"{name}.shapes"]
        parts = np.split(arrays[name], np.cumsum(shapes.prod(axis=1))[:-1])
        pairs = zip(parts, shapes.tolist(), strict=False)  # of nothing, split makes one part
        return [part.reshape(shape) for part, shape in pairs]
    if kind is bytes:
        return [row.tobytes() for row in arrays[name]]
    return [tuple(each) if isinstance(each, list) else each for each in arrays[name].tolist()]
