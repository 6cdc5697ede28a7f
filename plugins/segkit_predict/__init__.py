"""The commands ``predict``, masks and overlays of image files by a trained model, and ``evaluate``."""

from __future__ import annotations

import segkit


@segkit.hookimpl
def segkit_commands() -> dict[str, str]:
    """Offer the commands."""
    return {"predict": "segkit_predict.command:Predict", "evaluate": "segkit_predict.evaluate_command:Evaluate"}
