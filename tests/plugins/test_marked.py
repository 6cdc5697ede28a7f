"""Which files a command may write over: its own earlier ones, and no others."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from segkit.errors import ConfigError
from segkit_samples.marked import MARK, refuse_foreign
from segkit_samples.sheets import save_palette_png


def refused(path: Path, mark: str = MARK) -> bool:
    with suppress(ConfigError):
        refuse_foreign([path], "--out out", mark)
        return False
    return True


@pytest.mark.timeout(100)
def test_what_no_command_has_written_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0) + bytes(4)
    (tmp_path / "bomb.png").write_bytes(header)
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to("nowhere.png")
    for name in ("pipe", "bomb", "empty", "folder", "link"):
        assert refused(tmp_path / f"{name}.png"), name
    assert not refused(tmp_path / "none.png")


def test_what_a_command_has_written_is_not(tmp_path: Path) -> None:
    save_palette_png(np.zeros((20, 20), np.uint8), [(0, 0, 0)], tmp_path / "mask.png")
    assert not refused(tmp_path / "mask.png")
    assert refused(tmp_path / "mask.png", "another mark")
    (tmp_path / "link.png").symlink_to("mask.png")
    assert refused(tmp_path / "link.png")  # a file of somebody's may be behind it
