"""From a folder of images and masks to a config that runs: the command ``init``."""

from __future__ import annotations

import segkit


@segkit.hookimpl
def segkit_commands() -> dict[str, str]:
    """Offer the command."""
    return {"init": "segkit_init.command:Init"}
