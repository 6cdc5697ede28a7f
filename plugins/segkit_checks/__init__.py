"""Checks of a dataset before training: four checks of every scan, and the command ``check``."""

from __future__ import annotations

import segkit


@segkit.hookimpl
def segkit_checks() -> dict[str, str]:
    """Offer the checks."""
    return {
        "classes": "segkit_checks.classes:Classes",
        "interpolated": "segkit_checks.interpolated:Interpolated",
        "images": "segkit_checks.images:Images",
        "duplicates": "segkit_checks.duplicates:Duplicates",
    }


@segkit.hookimpl
def segkit_commands() -> dict[str, str]:
    """Offer the command."""
    return {"check": "segkit_checks.command:Check"}
