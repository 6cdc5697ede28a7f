"""segkit: semantic segmentation that cannot hide behind its background.

Every public name is imported on first use, so that ``import segkit`` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segkit.compose import fit, run
    from segkit.data.sample import Sample
    from segkit.engine.run_folder import read_run
    from segkit.errors import SegkitError
    from segkit.hookspecs import hookimpl
    from segkit.loading import load
    from segkit.registry import datasets, losses, metrics, models

__version__ = "0.1.0"

_PLACES = {
    "SegkitError": "segkit.errors",
    "Sample": "segkit.data.sample",
    "datasets": "segkit.registry",
    "fit": "segkit.compose",
    "hookimpl": "segkit.hookspecs",
    "load": "segkit.loading",
    "losses": "segkit.registry",
    "metrics": "segkit.registry",
    "models": "segkit.registry",
    "read_run": "segkit.engine.run_folder",
    "run": "segkit.compose",
}

__all__ = [
    "Sample",
    "SegkitError",
    "datasets",
    "fit",
    "hookimpl",
    "load",
    "losses",
    "metrics",
    "models",
    "read_run",
    "run",
]


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'segkit' has no attribute {name!r}")
    value = getattr(importlib.import_module(place), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
