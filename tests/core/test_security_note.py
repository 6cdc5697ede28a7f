"""The security note: what it says is held by tests that are there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTE = (ROOT / "SECURITY.md").read_text("utf-8")


def test_the_tests_that_it_names_are_there() -> None:
    named = re.findall(r"`(tests/[^`]+)`", NOTE)
    assert len(named) > 8
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_its_limits_are_those_of_the_code() -> None:
    from segkit.data import read
    from segkit_folder import splits
    from segkit_readers import pillow

    assert (read.MAX_PIXELS, pillow.MAX_BYTES, splits.MAX_TEXT_BYTES) == (100_000_000, 4 << 30, 16 << 20)
    assert len(pillow.FORMATS) == 7
    for words in ("100 million pixels", "4 GiB", "16 MiB", "Seven decoders"):
        assert words in " ".join(NOTE.split())


def test_it_is_found_and_travels_with_the_source() -> None:
    assert "[SECURITY.md](SECURITY.md)" in (ROOT / "README.md").read_text("utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert "/SECURITY.md" in project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
