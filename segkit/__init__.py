"""segkit: semantic segmentation that cannot hide behind its background.

Every public name is imported on first use, so that ``import segkit`` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segkit.data.sample import Sample as Sample
    from segkit.engine.run_folder import Result as Result
    from segkit.engine.run_folder import read_run as read_run
    from segkit.engine.trainer import Run as Run
    from segkit.errors import SegkitError as SegkitError
    from segkit.hookspecs import hookimpl as hookimpl
    from segkit.loading import load as load
    from segkit.registry import datasets as datasets
    from segkit.registry import losses as losses
    from segkit.registry import metrics as metrics
    from segkit.registry import models as models
    from segkit.runs import fit as fit
    from segkit.runs import run as run

__version__ = "0.1.0"

_PLACES = {
    "Result": "segkit.engine.run_folder",
    "Run": "segkit.engine.trainer",
    "Sample": "segkit.data.sample",
    "SegkitError": "segkit.errors",
    "datasets": "segkit.registry",
    "fit": "segkit.runs",
    "hookimpl": "segkit.hookspecs",
    "load": "segkit.loading",
    "losses": "segkit.registry",
    "metrics": "segkit.registry",
    "models": "segkit.registry",
    "read_run": "segkit.engine.run_folder",
    "run": "segkit.runs",
}
__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'segkit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
