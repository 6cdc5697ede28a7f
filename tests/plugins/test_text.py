"""Lists of names beside the images: read within limits, whatever stands in their place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from segkit.errors import DataError
from segkit_folder import splits
from segkit_folder.splits import read_text


def test_a_text_is_read_with_or_without_a_mark_at_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffüber\n".encode())
    assert read_text(tmp_path / "a.txt") == "über\n"


@pytest.mark.timeout(100)
def test_what_has_no_end_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(DataError, match=f"{place} is no regular file"):
            read_text(place)
    (tmp_path / "long.txt").write_bytes(b"")
    os.truncate(tmp_path / "long.txt", 1 << 40)
    with pytest.raises(DataError, match=r"long\.txt is larger than 16,777,216 bytes"):
        read_text(tmp_path / "long.txt")
    monkeypatch.setattr(splits, "MAX_TEXT_BYTES", 3)
    (tmp_path / "short.txt").write_text("abc")
    assert read_text(tmp_path / "short.txt") == "abc"


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\xff\xfe")
    for name, cause in (
        ("picture.png", "line 1 is not UTF-8; save it as UTF-8"),
        ("none", "No such file"),
        ("zero\0byte", "null byte"),
    ):
        with pytest.raises(DataError, match=f"cannot be read as text: .*{cause}"):
            read_text(tmp_path / name)
