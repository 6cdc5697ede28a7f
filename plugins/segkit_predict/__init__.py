"""The command ``predict``: masks and overlays of image files, by a trained model."""

from __future__ import annotations

import segkit


@segkit.hookimpl
def segkit_commands() -> dict[str, str]:
    """Offer the command."""
    return {"predict": "segkit_predict.command:Predict"}
