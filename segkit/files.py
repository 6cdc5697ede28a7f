"""Files that are written whole or not at all, and values as JSON holds them."""

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
    """A value as JSON can hold it: what is no finite number, as the score of an absent class, becomes null.

    Tensors and NumPy's numbers become Python's own; an object that a program has put into a config becomes its text.
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
    """Write JSON objects, one after the other, atomically; ``durable`` as in :func:`write_atomically`."""
    text = "".join(json.dumps(to_jsonable(each), indent=indent, ensure_ascii=False) + "\n" for each in objects)
    # a name that is no UTF-8 holds a lone surrogate, whose escape JSON knows too
    write_atomically(path, lambda file: file.write(text.encode(errors="backslashreplace")), durable=durable)


def write_atomically(
    path: Path,
    write: Callable[[BinaryIO], Any],
    *,
    durable: bool = True,
    check: Callable[[Path], None] | None = None,
    needed: int = 0,
) -> None:
    """Call ``write(binary file)`` on a temporary file and put it in the place of ``path``.

    Args:
        path: of the file.
        write: what writes it.
        durable: whether to wait until it is on the disk; not needed for what can be written again.
        check: raises an OSError where the temporary file, read again, is not what was written.
        needed: bytes, for the message where they could not be written.

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
            with contextlib.suppress(OSError):  # Windows opens no folders, and some file systems cannot
                descriptor = os.open(path.parent, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk by a RuntimeError, in words of its own
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):
            raise  # of a card that has failed, whose weights cannot be read
        why, room = "not all of it was taken" if isinstance(error, RuntimeError) else reason(error), ""
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(path.parent).free
            room = f" ({f'{needed:,} bytes are needed, ' if needed else ''}{free:,} bytes are free on the disk)"
        raise WriteError(f"{path} could not be written: {why}{room}; what was there is intact") from error
    finally:  # after Ctrl-C too
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
