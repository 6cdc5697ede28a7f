"""The command ``export``: write a trained model as ONNX, torch.export program or safetensors, checked against PyTorch.

In Python: ``segkit_export.export(predictor, to="onnx", output="folder")``, also for models passed as objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import segkit

if TYPE_CHECKING:
    from segkit_export.exporting import export

__all__ = ["export"]


@segkit.hookimpl
def segkit_commands() -> Mapping[str, str]:
    """Offer the command."""
    return {"export": "segkit_export.command:Export"}


def __getattr__(name: str) -> Any:
    if name != "export":
        raise AttributeError(f"module 'segkit_export' has no attribute {name!r}")
    from segkit_export.exporting import export

    return export
