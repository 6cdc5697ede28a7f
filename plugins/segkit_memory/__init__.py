"""Fits a run into memory: chooses crop and batch where they are "auto", and refuses what a CPU has no room for."""

from __future__ import annotations

from typing import Any

import segkit


@segkit.hookimpl
def segkit_run_prepared(inputs: Any, processes: int) -> dict[str, int]:
    """Choose crop and batch, and refuse a run that a CPU has no memory for."""
    from segkit_memory.memory import Memory

    return Memory(inputs, processes).settings()
