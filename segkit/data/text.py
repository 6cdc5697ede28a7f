"""Names, and small text files beside the images: lists of names and of classes."""

from __future__ import annotations

import stat
import unicodedata
from pathlib import Path

from segkit.errors import DataError, reason

MAX_BYTES = 16 << 20
"""Half a million names of 32 letters; what is larger is another file, or a device that never ends."""


def composed(name: str) -> str:
    """A file's name in the one form (NFC) in which names are compared, sorted and hashed.

    What a person types as one name is stored in several forms: a Mac, and an archive made on it, write an umlaut as two
    characters. The same folder must give the same split on every system.
    """
    return unicodedata.normalize("NFC", name)


def read_text(path: Path) -> str:
    """The text of a file, UTF-8.

    Raises:
        DataError: no regular file, larger than 16 MiB, or no text.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe would wait for ever
            raise DataError(f"{path} is no regular file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise DataError(f"{path} is larger than {MAX_BYTES:,} bytes; a list of names is not")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path} cannot be read as text: line {place} is not UTF-8; save it as UTF-8") from None
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a zero byte in the name
        raise DataError(f"{path} cannot be read as text: {reason(error)}") from error
