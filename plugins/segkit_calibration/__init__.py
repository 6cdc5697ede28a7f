"""Calibration of probabilities: the metric ``calibration_error`` and the command ``calibrate``."""

from __future__ import annotations

import segkit


@segkit.hookimpl
def segkit_metrics() -> dict[str, str]:
    """Offer the metric."""
    return {"calibration_error": "segkit_calibration.metric:CalibrationError"}


@segkit.hookimpl
def segkit_commands() -> dict[str, str]:
    """Offer the command."""
    return {"calibrate": "segkit_calibration.command:Calibrate"}
