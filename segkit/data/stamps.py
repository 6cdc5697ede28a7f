"""What tells that the files of a sample have changed: their names, sizes and times."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from segkit.data.subset import Subset, whole_of


def has_files(dataset: Any) -> bool:
    """Whether a dataset says which files its samples are read from, and how (see the contract of datasets)."""
    whole = whole_of(dataset)
    return hasattr(whole, "files") and hasattr(whole, "reading")


def reading_of(dataset: Any) -> str:
    """All besides the files that decides what is read; of a dataset that :func:`has_files`."""
    whole = whole_of(dataset)
    kind = f"{type(whole).__module__}.{type(whole).__qualname__}"
    return f"{kind} {len(whole.classes)} {whole.ignore_index} {whole.reading}"


def unproven_stamps_of(dataset: Any, split: str) -> list[bytes | None]:
    """For each sample of a dataset that names no files what tells it from those of others, as far as that can be told.

    That is the split, the number of samples and what attributes of the dataset are texts, numbers and lists of these.
    """
    whole = whole_of(dataset)
    own: dict[str, str] = {}
    for name, value in sorted(getattr(whole, "__dict__", {}).items()):
        with suppress(TypeError, ValueError):
            own[name] = json.dumps(str(value) if isinstance(value, Path) else value)
    indices = dataset.indices if isinstance(dataset, Subset) else len(dataset)
    kind = f"{type(whole).__module__}.{type(whole).__qualname__}"
    said = f"{kind} {list(whole.classes)} {whole.ignore_index} {split} {indices} {own}".encode(errors="surrogateescape")
    return [hashlib.blake2b(said + b"%d" % index, digest_size=16).digest() for index in range(len(dataset))]


def files_of(dataset: Any) -> list[tuple[Path, ...]]:
    """The files of each sample, as far as its dataset knows them."""
    return [files_at(dataset, index) for index in range(len(dataset))]


def files_at(dataset: Any, index: int) -> tuple[Path, ...]:
    """The files of a sample, likewise."""
    try:
        return tuple(whole_of(dataset).files(dataset.indices[index] if isinstance(dataset, Subset) else index))
    except Exception:  # a dataset that does not know
        return ()


def stamps_of(dataset: Any) -> list[bytes | None]:
    """For each sample what changes with its files; None where nothing is known of them, as reading them will tell."""
    return [_stamp(files) if files else None for files in files_of(dataset)]


def _stamp(files: Iterable[Path]) -> bytes | None:
    try:
        return stamp_of(files)
    except Exception:  # a file that is missing, or no path
        return None


def stamp_of(paths: Iterable[Path]) -> bytes:
    """16 bytes that change when a file gets another name, size or time of modification.

    Raises:
        OSError: a file is not there.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        state = os.stat(path)  # noqa: PTH116  (pathlib takes twice as long, of 50,000 files; so below)
        place = os.path.abspath(path)  # noqa: PTH100
        digest.update(
            f"{place}\0{state.st_size}\0{state.st_mtime_ns}\0{state.st_ctime_ns}\0".encode(errors="surrogateescape")
        )
    return digest.digest()
