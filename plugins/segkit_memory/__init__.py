"""Fits a run into memory: chooses "auto" crop and batch sizes, and refuses runs too large for a CPU's memory."""

from __future__ import annotations

from typing import Any

import segkit


@segkit.hookimpl
def segkit_run_prepared(inputs: Any, processes: int) -> dict[str, int]:
    """Choose "auto" crop and batch sizes, and refuse a run that needs more memory than a CPU has free."""
    from segkit_memory.memory import Memory

    return Memory(inputs, processes).settings()
