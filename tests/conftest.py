"""Shared by all tests: where real data lies, if it does, and a quiet, reproducible torch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data: ``SEGKIT_TEST_DATA``, or ``../shared/data`` beside the checkout."""
    folder = Path(os.environ.get("SEGKIT_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "camvid").is_dir():
        pytest.skip(f"no real data in {folder} (set SEGKIT_TEST_DATA)")
    return folder
