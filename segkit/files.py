"""Atomic writes of files, and conversion of values to JSON."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from segkit.errors import WriteError, reason


def to_jsonable(value: Any) -> Any:
    """Convert a value for JSON: NaN and infinity, such as the score of an absent class, become null.

    Tensors and NumPy numbers become Python numbers or lists; any other object, such as one in a config, becomes a text.
    """
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_jsonable(each) for each in value]
    return value if isinstance(value, str | int | None) else str(value)


def write_json(path: Path, *objects: Mapping[str, Any], indent: int | None = 2, durable: bool = True) -> None:
    """Write one or more JSON objects to a file atomically; ``durable`` as in :func:`write_atomically`."""
    text = "".join(json.dumps(to_jsonable(each), indent=indent, ensure_ascii=False) + "\n" for each in objects)
    # a file name that is not UTF-8 holds lone surrogates, which JSON can escape
    write_atomically(path, lambda file: file.write(text.encode(errors="backslashreplace")), durable=durable)


def write_atomically(
    path: Path,
    write: Callable[[BinaryIO], Any],
    *,
    durable: bool = True,
    check: Callable[[Path], None] | None = None,
    needed: int = 0,
) -> None:
    """Call ``write(binary file)`` on a temporary file, then rename it to ``path``.

    Args:
        path: the file to write.
        write: writes the content.
        durable: whether to wait until the content is on the disk; not needed for files that can be written again.
        check: reads the temporary file again and raises an OSError if it is not what was written.
        needed: size of the content in bytes, for the error message.

    Raises:
        WriteError: the disk is full or the folder cannot be written; the old file is intact.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if check:
            check(temporary)
        temporary.replace(path)
        if durable:
            with contextlib.suppress(OSError):  # Windows cannot open folders, and some file systems cannot fsync them
                descriptor = os.open(path.parent, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
    except (OSError, RuntimeError) as error:  # torch.save raises a RuntimeError of its own when the disk is full
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):
            raise  # another failure, for example of a GPU whose weights cannot be read
        why, room = "not all of it was taken" if isinstance(error, RuntimeError) else reason(error), ""
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(path.parent).free
            room = f" ({f'{needed:,} bytes are needed, ' if needed else ''}{free:,} bytes are free on the disk)"
        raise WriteError(f"{path} could not be written: {why}{room}; the previous file is intact") from error
    finally:  # after Ctrl-C too
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
