"""The command ``export``: a trained model as ONNX, a torch.export program or safetensors, compared before it is done.

In Python, for models that were given as objects too: ``segkit_export.export(predictor, to="onnx", output="folder")``.
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
